// What a proxy has beside the way of a single request: its parts, its books, and its end.

import { randomBytes } from 'node:crypto'
import { EventEmitter } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { Admission } from './admission.ts'
import { failureReport } from './app-callback.ts'
import { jittered } from './backoff.ts'
import { Drain, type DrainOptions, type DrainResult } from './drain.ts'
import { AdmissionError } from './errors.ts'
import type { SseStream } from './events/event.ts'
import { Observer } from './observe/observer.ts'
import type { ProxyStats, UpstreamStats } from './observe/stats.ts'
import { group, integer, MAX_MS, range } from './options/check.ts'
import type { ResolvedOptions } from './options/resolve-options.ts'
import { type Next, type ProxyContext, ProxyRequest } from './request.ts'
import { SharedStreams } from './share/shared-streams.ts'
import { createInspect } from './stream/commit-hold.ts'
import { KeepaliveClock } from './stream/keepalive.ts'
import { onTurn } from './turn.ts'
import { createAgents } from './upstream/agents.ts'
import { createHttpProxy, type HttpProxy } from './upstream/http-proxy.ts'
import { createPool } from './upstream/pool/create-pool.ts'
import type { Member } from './upstream/pool/pool.ts'
import { startProbes } from './upstream/pool/probe.ts'
import { createHttpxyTransport } from './upstream/transport-httpxy.ts'

const DEFAULT_DRAIN_MS = 10_000

export class Middleware {
  readonly #options: ResolvedOptions
  readonly #proxy: HttpProxy
  readonly #observer: Observer
  readonly #context: ProxyContext
  readonly #stopProbes: () => void
  readonly #upgradedServers = new WeakSet<EventEmitter>()
  readonly #idPrefix = randomBytes(4).toString('hex')
  #ids = 0
  #closing: Promise<DrainResult> | undefined

  constructor(options: ResolvedOptions) {
    const { retry, probe } = options.upstreams
    const pool = options.upstreams.pool && createPool(options.upstreams.pool)
    const { connectMs, responseMs } = options.timeouts
    this.#options = options
    const only = pool?.members.length === 1 ? pool.members[0] : undefined
    const stripped = new Set(options.stripHeaders)
    const callbackFailed = failureReport(options.hpm.logger)
    this.#proxy = createHttpProxy(options.hpm, only?.target ?? options.fallback, only !== undefined, callbackFailed, {
      stripped,
      own: pool?.members[0]?.headers,
    })
    this.#observer = new Observer(options, this.#proxy.report, callbackFailed)
    const observer = this.#observer
    const admission = new Admission(options.limits)
    this.#context = {
      options,
      observer,
      admission,
      shares: options.share
        ? new SharedStreams({ options, share: options.share, observer, admission, nextId: () => this.#nextId() })
        : undefined,
      requests: new Set(),
      keepalives: options.keepalive ? new KeepaliveClock(options.keepalive.intervalMs) : undefined,
      boundary: this.#proxy.boundary,
      opening: {
        transport: createHttpxyTransport({ proxy: this.#proxy, agents: createAgents(), fastLane: options.fastLane }),
        via: options.via,
        xfwd: options.hpm.xfwd === true,
        stripped,
        connectMs,
        responseMs,
        pool,
        retry,
        inspect: createInspect(options, callbackFailed),
        observer,
      },
    }
    this.#stopProbes =
      pool && probe ? startProbes(pool.members, probe, options.hpm, (member) => observer.ejected(member)) : () => {}
  }

  /** For servers that hand upgrades over; one that `ws: true` has subscribed to has done so already. */
  readonly upgrade: HttpProxy['upgrade'] = (req, socket, head) => {
    const server = serverOf(req)
    if (!server || !this.#upgradedServers.has(server)) this.#proxy.upgrade(req, socket, head)
  }

  /** Resolves when the response is over, or the app has the request back. */
  handle(req: IncomingMessage, res: ServerResponse, next?: Next): Promise<void> {
    return new Promise((resolve) => this.#handle(req, res, next, resolve))
  }

  #handle(req: IncomingMessage, res: ServerResponse, next: Next | undefined, onOver: () => void): void {
    if (this.#options.hpm.ws) this.#proxyUpgradesOf(req)
    const request = () => new ProxyRequest(this.#context, this.#nextId(), req, res, next, onOver)
    const serve = () => onTurn(req, res, () => request().enter(), onOver)
    const accepted = this.#proxy.accepts(req)
    if (accepted === true) return serve()
    void accepted.then(
      (yes) => (yes ? serve() : request().passBy()),
      (error) => request().fail(error),
    )
  }

  *streams(): Generator<SseStream> {
    for (const { handle } of this.#observer.sessions) yield handle
  }

  stats(): ProxyStats {
    const { opening, shares } = this.#context
    return this.#observer.snapshot({
      active: this.#observer.sessions.size,
      upstreams: (opening.pool?.members ?? []).map(upstreamStats),
      shared: shares?.stats ?? { streams: 0, clients: 0 },
    })
  }

  ready(): boolean {
    const { admission, opening } = this.#context
    return !admission.isDraining && (opening.pool?.hasHealthy ?? true)
  }

  async close(options: DrainOptions = {}): Promise<DrainResult> {
    const { withinMs, retryMs } = group('close', options, ['withinMs', 'retryMs'])
    const retryRange = drainRange(retryMs, this.#options.clientRetryMs)
    const ms = integer('close.withinMs', withinMs ?? DEFAULT_DRAIN_MS, 0, MAX_MS)
    this.#closing ??= this.#drain(ms, retryRange)
    return this.#closing
  }

  async #drain(ms: number, range: readonly [number, number]): Promise<DrainResult> {
    const { admission, requests, shares, opening } = this.#context
    const drain = new Drain({ withinMs: ms, retryMs: () => jittered(range) })
    const observer = this.#observer
    admission.drain()
    this.#stopProbes()
    drain.schedule([
      ...new Set([...observer.sessions, ...[...requests].flatMap(({ earlySession }) => earlySession ?? [])]),
    ])
    observer.onStart = (session) => drain.add(session)
    observer.onEnd = (session, reason) => drain.noteEnd(session, reason)
    await this.#untilNobodyIsLeft(ms)
    drain.abortRest()
    for (const request of [...requests]) {
      if (request.abort(new AdmissionError('ERR_SSE_PROXY_DRAINING')) === 'unread') drain.noteUnread()
    }
    shares?.close()
    opening.transport.close()
    return drain.result
  }

  /** Resolves when the last response is over, and the last stream that goes on without its client, or at the deadline. */
  #untilNobodyIsLeft(withinMs: number): Promise<void> {
    const { requests, observer } = this.#context
    const isEmpty = () => requests.size === 0 && observer.sessions.size === 0
    return new Promise((resolve) => {
      const deadline = setTimeout(done, withinMs)
      const look = setInterval(() => isEmpty() && done(), Math.min(20, Math.max(withinMs, 1)))
      function done(): void {
        clearTimeout(deadline)
        clearInterval(look)
        resolve()
      }
      if (isEmpty()) done()
    })
  }

  /** `ws: true`: the first request shows the server. */
  #proxyUpgradesOf(req: IncomingMessage): void {
    const server = serverOf(req)
    if (!server || this.#upgradedServers.has(server)) return
    this.#upgradedServers.add(server)
    server.on('upgrade', this.#proxy.upgrade)
  }

  #nextId(): string {
    return `${this.#idPrefix}-${(this.#ids++).toString(36)}`
  }
}

function serverOf({ socket }: IncomingMessage): EventEmitter | undefined {
  const server: unknown = Reflect.get(Object(socket), 'server')
  return server instanceof EventEmitter ? server : undefined
}

function drainRange(value: unknown, otherwise: readonly [number, number]): readonly [number, number] {
  if (value === undefined) return otherwise
  const [min, max] = range('close.retryMs', value)
  return typeof value === 'number' ? [Math.round(value / 2), Math.round(value * 1.5)] : [min, max]
}

function upstreamStats({ url, active, requests, weight, healthy, health, ejectedUntil }: Member): UpstreamStats {
  const { failures, ejections } = health
  const known = ejectedUntil > 0 && ejectedUntil !== Number.POSITIVE_INFINITY
  return { url, active, requests, weight, healthy, failures, ejections, ...(known && { ejectedUntil }) }
}
