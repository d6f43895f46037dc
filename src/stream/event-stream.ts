// The one place that says what an event stream is, for a first answer and for one that a resume brings: a 200 of the
// media type whose content coding is known here, as a body in plain, watched for silence where that is bounded.

import { isEventStream, type UpstreamBody, type UpstreamResponse } from '../upstream-response.ts'
import { decodedBody } from './decode.ts'
import { IdleWatch } from './idle.ts'
import { WatchedBody } from './watched-body.ts'

/**
 * @param idleMs silence after which the upstream counts as lost; 0 for none. What is polled is silent between its answers, each
 * of which has a bound of its own.
 */
export function eventStreamOf(response: UpstreamResponse, idleMs: number): UpstreamBody | undefined {
  const body = isEventStream(response) ? decodedBody(response) : undefined
  return body && idleMs > 0 && !response.isPolled ? new WatchedBody(body, new IdleWatch(idleMs)) : body
}
