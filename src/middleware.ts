// A request's way from the app to an upstream and back. Every step is a file: what is here is their order, and what
// happens when one of them says no.

import { randomBytes } from 'node:crypto'
import { EventEmitter } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import createDebug from 'debug'
import { SseProxyError, UpstreamError } from './errors.ts'
import { clientEventId } from './event-id.ts'
import { isEventStream, type OpenUpstream, type UpstreamResponse } from './open-upstream.ts'
import type { CloseReason } from './options.ts'
import { refuse } from './refusal.ts'
import type { ResolvedOptions } from './resolve-options.ts'
import { ClientWriter } from './stream/client-writer.ts'
import { decodedBody } from './stream/decode.ts'
import { relay } from './stream/relay.ts'
import { eventStreamHeaders } from './stream/response-headers.ts'
import { Session, type SessionObserver } from './stream/session.ts'
import { createAgents } from './upstream/agents.ts'
import { createHttpProxy, type HttpProxy } from './upstream/http-proxy.ts'
import { createOpener, type OpenerContext, type OpenerObserver } from './upstream/opener.ts'
import type { Member } from './upstream/pool.ts'
import { startProbes } from './upstream/probe.ts'
import { requestBody } from './upstream/request-body.ts'

type Next = (error?: unknown) => void

/** One request that is being served. */
interface Visit {
  readonly req: IncomingMessage
  readonly res: ServerResponse
  readonly next: Next
  readonly writer: ClientWriter
  readonly controller: AbortController
  open?: OpenUpstream
  /** Once it is, or is told to be, an event stream. */
  session?: Session
}

export class Middleware implements SessionObserver, OpenerObserver {
  readonly upgrade: HttpProxy['upgrade']
  readonly #options: ResolvedOptions
  readonly #proxy: HttpProxy
  readonly #opener: OpenerContext
  readonly #sessions = new Set<Session>()
  readonly #debug: createDebug.Debugger
  readonly #idPrefix = randomBytes(4).toString('hex')
  readonly #upgradedServers = new WeakSet<EventEmitter>()
  #ids = 0

  constructor(options: ResolvedOptions) {
    const { connectMs, responseMs } = options.timeouts
    this.#options = options
    this.#proxy = createHttpProxy(options.hpm, options.fallback)
    this.upgrade = this.#proxy.upgrade
    const { pool, retry, probe } = options.upstreams
    this.#opener = {
      proxy: this.#proxy,
      agents: createAgents(),
      pool,
      retry,
      observer: this,
      via: options.via,
      xfwd: options.hpm.xfwd === true,
      connectMs,
      responseMs,
    }
    this.#debug = createDebug(`sse-proxy:${options.name}`)
    if (pool && probe) startProbes(pool.members, probe, options.hpm, (member) => this.ejected(member))
  }

  handle(req: IncomingMessage, res: ServerResponse, next: Next = () => {}): void {
    const writer = new ClientWriter(req, res)
    // A client may have left while a middleware in front was waiting for something.
    if (writer.isOver) return
    if (this.#options.hpm.ws) this.#proxyUpgradesOf(req)
    const visit: Visit = { req, res, next, writer, controller: new AbortController() }
    const accepted = this.#proxy.accepts(req)
    if (accepted === true) void this.#serve(visit)
    else void accepted.then((yes) => (yes ? this.#serve(visit) : next()))
  }

  /** `ws: true`: the first request shows the server. */
  #proxyUpgradesOf(req: IncomingMessage): void {
    const server: unknown = Reflect.get(req.socket, 'server')
    if (!(server instanceof EventEmitter) || this.#upgradedServers.has(server)) return
    this.#upgradedServers.add(server)
    server.on('upgrade', this.upgrade)
  }

  opened(session: Session): void {
    this.#sessions.add(session)
  }

  closed(session: Session, reason: CloseReason): void {
    this.#sessions.delete(session)
    try {
      this.#options.onClose?.(session.handle, reason)
    } catch (error) {
      this.#debug('onClose threw: %o', error)
    }
  }

  retried(_req: IncomingMessage, upstream: string | undefined, error: Error, attempt: number, delayMs: number): void {
    this.#debug('retry %d in %d ms: %s: %s', attempt, delayMs, upstream, error.message)
  }

  ejected(member: Member): void {
    this.#debug('%s is left alone after %d failures', member.url, member.health.failures)
  }

  resuming(session: Session, upstream: string, attempt: number): void {
    this.#debug('%s: lost %s, try %d to go on', session.context.id, upstream, attempt)
  }

  resumed(session: Session): void {
    this.#debug('%s: goes on with %s', session.context.id, session.upstream)
  }

  failed(error: SseProxyError, session: Session): void {
    void this.#report(error, session.context)
  }

  async #serve(visit: Visit): Promise<void> {
    const { writer, controller } = visit
    if (writer.isOver) return
    writer.onGone(() => (visit.session ? visit.session.clientLeft() : controller.abort('client-left')))
    const early = this.#openEarlyLater(visit)
    try {
      visit.open = this.#createOpen(visit)
      this.#pass(visit, await visit.open({ signal: controller.signal }))
    } catch (error) {
      await this.#refuse(visit, toSseProxyError(error))
    } finally {
      clearTimeout(early)
    }
  }

  /** The function that gets this request an answer. */
  #createOpen({ req, res }: Visit): OpenUpstream {
    const keepBytes = this.#opener.retry ? this.#options.limits.bodyBytes : 0
    return createOpener(this.#opener, { req, res, body: requestBody(req, keepBytes) })
  }

  #openEarlyLater(visit: Visit): NodeJS.Timeout | undefined {
    const { keepalive } = this.#options
    if (!keepalive || keepalive.openAfterMs === 0 || visit.req.method === 'HEAD') return undefined
    return setTimeout(() => {
      if (visit.writer.isOver) return
      visit.session = this.#createSession(visit)
      visit.session.openEarly()
    }, keepalive.openAfterMs)
  }

  #pass(visit: Visit, response: UpstreamResponse): void {
    const { req, writer, controller } = visit
    if (writer.isOver) {
      // The app has answered in a handler of its own.
      response.body.destroy()
      return
    }
    const body = isEventStream(response) ? decodedBody(response) : undefined
    if (body && req.method !== 'HEAD') {
      visit.session ??= this.#createSession(visit)
      visit.session.start(response, body)
    } else if (visit.session) {
      // 200 and an event stream have been promised.
      response.body.destroy()
      throw new UpstreamError('ERR_SSE_PROXY_BAD_ANSWER', response.upstream)
    } else {
      const headers = body ? eventStreamHeaders(response.headers, writer.appHeaders) : response.headers
      relay({ ...response, headers }, writer, {
        writeMs: this.#options.timeouts.writeMs,
        onFailed: (error) => {
          controller.abort(error)
          void this.#report(error, visit)
        },
      })
    }
  }

  #createSession({ req, res, writer, controller, open }: Visit): Session {
    return new Session({
      open: open ?? (() => Promise.reject(new UpstreamError('ERR_SSE_PROXY_NO_UPSTREAM'))),
      id: `${this.#idPrefix}-${(this.#ids++).toString(36)}`,
      req,
      res,
      writer,
      controller,
      options: this.#options,
      lastEventId: clientEventId(req.headers, req.url ?? ''),
      observer: this,
    })
  }

  /** No answer of an upstream's is to be had. */
  async #refuse(visit: Visit, error: SseProxyError): Promise<void> {
    const { req, res, next, writer, session } = visit
    if (session) return session.fail(error, 'upstream-lost')
    if (writer.isOver) return
    if (error.code === 'ERR_SSE_PROXY_APP') return next(error.cause)
    await this.#report(error, visit)
    if (!writer.isOver) refuse(req, res, error, this.#options)
  }

  /** Tells those who watch. A handler that fails in turn changes nothing. */
  async #report(error: SseProxyError, { req, res }: Pick<Visit, 'req' | 'res'>): Promise<void> {
    this.#debug('%s: %s %o', error.code, error.message, error.cause)
    try {
      await this.#proxy.report(error, req, res, error instanceof UpstreamError ? error.upstream : undefined)
    } catch (thrown) {
      this.#debug('on.error threw: %o', thrown)
    }
  }
}

/** Anything else that is thrown here is a mistake, and still must not leave a client without an answer. */
function toSseProxyError(error: unknown): SseProxyError {
  return error instanceof SseProxyError ? error : new UpstreamError('ERR_SSE_PROXY_BAD_ANSWER', undefined, error)
}
