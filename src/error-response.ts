// The answers of the package's own, for when there is none of an upstream's to give. Their texts are fixed: nothing
// of the inside is told. Headers that the app has set, CORS among them, stay, so that a page can read the answer.

import type { IncomingMessage, ServerResponse } from 'node:http'
import { jittered } from './backoff.ts'
import type { SseProxyError } from './errors.ts'
import { serializeRetry } from './events/event-text.ts'
import type { ResolvedOptions } from './options/resolve-options.ts'
import { http2Stream } from './stream/client-connection.ts'

/** Writes the whole response; the client must have no headers yet. */
export function sendError(
  req: IncomingMessage,
  res: ServerResponse,
  error: SseProxyError,
  options: ResolvedOptions,
): void {
  res.setHeader('Cache-Control', 'no-store')
  const retryMs = jittered(options.clientRetryMs)
  if (error.status === 503 || error.status === 429) res.setHeader('Retry-After', Math.max(1, Math.ceil(retryMs / 1000)))
  if (error.code === 'ERR_SSE_PROXY_DRAINING' && req.httpVersionMajor < 2) res.setHeader('Connection', 'close')
  if (error.code === 'ERR_SSE_PROXY_BODY_TIMEOUT') endRequest(req, res)
  if (options.unavailable === 'reconnect' && wantsEventStream(req)) {
    // EventSource gives up for good on any other status, and comes back after the end of a stream.
    answer(res, 200, 'text/event-stream', serializeRetry(retryMs))
  } else {
    const { code, message, status } = error
    answer(res, status, 'application/json; charset=utf-8', JSON.stringify({ error: { code, message } }))
  }
}

/** RFC 9110, section 15.5.9: the rest of the body is not waited for, which could go on coming byte by byte. */
function endRequest(req: IncomingMessage, res: ServerResponse): void {
  if (req.httpVersionMajor < 2) res.setHeader('Connection', 'close')
  else res.once('finish', () => http2Stream(res)?.close())
}

/** In one write, with a length, so that it is whole without an end of the connection. */
function answer(res: ServerResponse, status: number, contentType: string, body: string): void {
  res.statusCode = status
  res.setHeader('Content-Type', contentType)
  res.setHeader('Content-Length', Buffer.byteLength(body))
  res.end(body)
}

/** As an EventSource asks. */
function wantsEventStream(req: IncomingMessage): boolean {
  return req.method === 'GET' && /\btext\/event-stream\b/i.test(req.headers.accept ?? '')
}
