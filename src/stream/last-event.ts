// The option `onLost`: an event of the app's own, the last of a stream that has lost its upstream, before its transfer breaks.
// It is sent like any event of the app's, at a boundary or not at all, and the transfer breaks a little later.

import { asError } from '../app-callback.ts'
import { type SseProxyError, StreamError } from '../errors.ts'
import type { SseStream, StreamEvent } from '../events/event.ts'
import type { SseProxyOptions } from '../options/options.ts'

/** How long a client can read it before the transfer breaks: a browser drops what a page has not read of an answer by then. */
export const LAST_EVENT_MS = 500

/** A client's session, or a shared stream, which sends it to all followers. */
export interface LastEventSender {
  readonly handle: SseStream
  send(event: StreamEvent): boolean
}

/** @param report takes what the app's function fails with; the stream is lost for another reason */
export function sendLastEvent(
  onLost: NonNullable<SseProxyOptions['onLost']>,
  error: SseProxyError,
  sender: LastEventSender,
  report: (failure: StreamError) => void,
): void {
  try {
    const event = onLost(error, sender.handle)
    if (event !== undefined && event !== null) sender.send(event)
  } catch (thrown) {
    report(new StreamError('ERR_SSE_PROXY_HOOK', asError('onLost', thrown)))
  }
}
