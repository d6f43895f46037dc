// The public function: options in, middleware out.

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import type { DrainOptions, DrainResult } from './drain.ts'
import type { SseStream } from './events/event.ts'
import { Middleware } from './middleware.ts'
import type { ProxyStats } from './observe/stats.ts'
import type { SseProxyOptions } from './options/options.ts'
import { resolveOptions } from './options/resolve-options.ts'
import type { Targets } from './options/upstream-options.ts'

type Next = (error?: unknown) => void

/** The middleware, for Express, Connect and bare `node:http` and `node:http2` servers. */
export interface SseProxy<
  TReq extends IncomingMessage = IncomingMessage,
  TRes extends ServerResponse = ServerResponse,
> {
  /** Resolves when the response is over, or when `next` has been called; it never rejects. */
  (req: TReq, res: TRes, next?: Next): Promise<void>
  /** The open streams, to find some and close them or send to them. */
  readonly streams: Iterable<SseStream<TReq>>
  /** What it has done and what is open, as plain numbers. */
  stats(): ProxyStats
  /** For the app's health route: false while draining, and when no upstream is healthy. */
  ready(): boolean
  /**
   * Ends the shared stream with this key, which is what `share.key` returns: all its clients get a clean end, between events.
   * Resolves to whether there was one.
   */
  stop(key: string): Promise<boolean>
  /**
   * Replaces the upstreams while streams are open, as when service discovery has news. It takes what the option `target` takes.
   *
   * An upstream that was there already is known by its URL: it keeps its counts, its health and its clients, and takes the new
   * weight and headers. One that is new may be chosen at once. One that has gone is not asked any more: requests without an answer
   * that may be sent again choose anew, streams with `resume` go over to another one between two events, spread over 10 s, and all
   * others stay until they end. One that could not go over, because no other upstream would have it, stays as well, and tries again.
   * With its last request it is out of `stats()`. Does nothing after `close()`.
   *
   * @throws ConfigError when the targets are wrong, or a `router` chooses; then nothing has changed.
   */
  setTargets(targets: Targets): void
  /**
   * Refuses new streams, ends the open ones one after the other, and resolves when all are over. It may be given to a
   * framework as a shutdown hook: `app.addHook('preClose', proxy.close)`.
   */
  close(options?: DrainOptions): Promise<DrainResult>
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
  // What the app is given back is its own request, of its own type.
  const streams = { [Symbol.iterator]: () => middleware.streams() as Iterator<SseStream<TReq>> }

  function close(this: void | SseProxy, drain?: DrainOptions): Promise<DrainResult>
  // No parameter is declared: Fastify waits for a callback to be called where there is one, else for the promise.
  function close(this: unknown, ...given: unknown[]): Promise<DrainResult | undefined>
  async function close(this: unknown, ...[given]: unknown[]): Promise<DrainResult | undefined> {
    const result = await middleware.close(isHandedByFramework(given) ? undefined : given)
    // A framework calls a hook on an object of its own, and Fastify takes whatever a hook resolves to for an error.
    return this === undefined || this === proxy ? result : undefined
  }

  const proxy: SseProxy<TReq, TRes> = Object.assign(
    (req: TReq, res: TRes, next?: Next) => middleware.handle(req, res, next),
    {
      streams,
      stats: () => middleware.stats(),
      ready: () => middleware.ready(),
      stop: (key: string) => middleware.stop(key),
      setTargets: (targets: Targets) => middleware.setTargets(targets),
      close,
      upgrade: middleware.upgrade,
    },
  )
  return proxy
}

/** What is called as a hook gets the framework, a callback or the name of a signal. */
function isHandedByFramework(given: unknown): boolean {
  if (typeof given !== 'object' || given === null) return typeof given === 'function' || typeof given === 'string'
  return Object.values(given).some((value) => typeof value === 'function')
}
