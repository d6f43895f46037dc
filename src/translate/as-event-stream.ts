// The head of an answer in another format, as that of the event stream it becomes.

import type { UpstreamBody, UpstreamResponse } from '../upstream-response.ts'

// They describe the bytes that came; what else is about them no event stream keeps.
const REPLACED = ['content-type', 'content-encoding', 'content-length']

/** @param body what came, in plain, as events */
export function asEventStream(response: UpstreamResponse, body: UpstreamBody): UpstreamResponse {
  const kept = response.headers.filter(([name]) => !REPLACED.includes(name.toLowerCase()))
  return { ...response, headers: [...kept, ['Content-Type', 'text/event-stream']], body }
}
