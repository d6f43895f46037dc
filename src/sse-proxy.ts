// The public function: options in, middleware out.

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { Middleware } from './middleware.ts'
import type { SseProxyOptions } from './options.ts'
import { resolveOptions } from './resolve-options.ts'

type Next = (error?: unknown) => void

/** The middleware, for Express, Connect and bare `node:http` and `node:http2` servers. */
export interface SseProxy<
  TReq extends IncomingMessage = IncomingMessage,
  TRes extends ServerResponse = ServerResponse,
> {
  (req: TReq, res: TRes, next?: Next): void
  /** Proxies a WebSocket: `server.on('upgrade', proxy.upgrade)`. */
  readonly upgrade: (req: IncomingMessage, socket: Duplex, head: Buffer) => void
}

/**
 * Puts a backend's Server-Sent Events on a route of an existing app.
 *
 * @example
 * app.use('/events', requireUser, sseProxy({ target: 'http://localhost:8080/events' }))
 *
 * @throws ConfigError (a TypeError) when an option is wrong, naming it, what was expected and what was given.
 */
export function sseProxy<TReq extends IncomingMessage = IncomingMessage, TRes extends ServerResponse = ServerResponse>(
  options: SseProxyOptions<TReq, TRes>,
): SseProxy<TReq, TRes> {
  const middleware = new Middleware(resolveOptions(options))
  return Object.assign((req: TReq, res: TRes, next?: Next) => middleware.handle(req, res, next), {
    upgrade: middleware.upgrade,
  })
}
