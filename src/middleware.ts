// What a proxy has beside the way of a single request: its parts, its books, and its end.

import { randomBytes } from 'node:crypto'
import { EventEmitter } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { Admission } from './admission.ts'
import { failureReport } from './app-callback.ts'
import { jittered } from './backoff.ts'
import { Drain, type DrainResult } from './drain.ts'
import { AdmissionError, ConfigError } from './errors.ts'
import type { SseStream } from './events/event.ts'
import { Observer } from './observe/observer.ts'
import type { ProxyStats, UpstreamStats } from './observe/stats.ts'
import { group, integer, MAX_MS, range, unexpected } from './options/check.ts'
import type { ResolvedOptions } from './options/resolve-options.ts'
import type { ResolvedShare } from './options/resolve-share.ts'
import { resolveNewTargets } from './options/resolve-upstreams.ts'
import { type Next, type ProxyContext, ProxyRequest } from './request.ts'
import { SharedStreams } from './share/shared-streams.ts'
import { StoredStreams } from './share/stored-streams.ts'
import { createInspect } from './stream/commit-hold.ts'
import { KeepaliveClock } from './stream/keepalive.ts'
import { Moves } from './stream/moves.ts'
import { createTranslate } from './translate/from.ts'
import { onTurn } from './turn.ts'
import { type Agents, createAgents, http1Agents } from './upstream/agents.ts'
import { createHttpProxy, type HttpProxy } from './upstream/http-proxy.ts'
import { createHttp2Agents } from './upstream/http2/http2-agents.ts'
import { createPool } from './upstream/pool/create-pool.ts'
import type { Member } from './upstream/pool/pool.ts'
import { Probes } from './upstream/pool/probe.ts'
import { createHttpxyTransport } from './upstream/transport-httpxy.ts'

// See `DrainOptions`.
const DEFAULT_DRAIN_MS = 10_000

/** One proxy: what `sseProxy()` returns calls its methods. */
export class Middleware {
  readonly #options: ResolvedOptions
  // http-proxy-middleware, which says what is let in and proxies upgrades; requests reach it through the transport.
  readonly #proxy: HttpProxy
  // Counts and publishes, and knows which streams are open.
  readonly #observer: Observer
  // The parts, as each request gets them. Those that belong to an option that is off are absent.
  readonly #context: ProxyContext
  // Whose connections all requests go over, unless the app brings its own.
  readonly #agents: Agents
  // Absent where upstreams are not probed.
  readonly #probes: Probes | undefined
  // Servers whose upgrades are proxied since a first request has shown them: once each, although many requests do.
  readonly #upgradedServers = new WeakSet<EventEmitter>()
  // Ids of streams begin with it, so that those of several processes or proxies hardly ever meet.
  readonly #idPrefix = randomBytes(4).toString('hex')
  // How many requests and shared streams have got one.
  #ids = 0
  // Set by the first `close()`; the others get the same result.
  #closing: Promise<DrainResult> | undefined

  /** Live objects are made here, from options that are data. */
  constructor(options: ResolvedOptions) {
    const { retry, probe } = options.upstreams
    const pool = options.upstreams.pool && createPool(options.upstreams.pool)
    const { connectMs, responseMs } = options.timeouts
    this.#options = options
    const { fallback } = options
    // Upgrades are no attempts, for which an upstream is chosen: they go to the first one, or where the app's router says.
    const routed = fallback === undefined ? undefined : { target: fallback, headers: undefined }
    const stripped = new Set(options.stripHeaders)
    const callbackFailed = failureReport(options.hpm.logger, options.name)
    const upgraded = () => pool?.members[0] ?? routed
    this.#proxy = createHttpProxy(options.hpm, options.name, upgraded, stripped, callbackFailed)
    this.#observer = new Observer(options, this.#proxy.report, callbackFailed)
    const observer = this.#observer
    const admission = new Admission(options.limits)
    // A stream is moved by a resume, to another upstream of the pool.
    const moves = pool && options.resume ? new Moves((upstream) => !pool.has(upstream)) : undefined
    this.#agents = agentsOf(options)
    const transport = createHttpxyTransport({ proxy: this.#proxy, agents: this.#agents, fastLane: options.fastLane })
    const shares = options.share ? this.#createShares(options.share, admission, moves) : undefined
    this.#context = {
      options,
      observer,
      admission,
      shares,
      places: shares instanceof StoredStreams ? shares.places : undefined,
      moves,
      requests: new Set(),
      keepalives: options.keepalive ? new KeepaliveClock(options.keepalive.intervalMs) : undefined,
      boundary: this.#proxy.boundary,
      opening: {
        transport,
        via: options.via,
        xfwd: options.hpm.xfwd === true,
        stripped,
        connectMs,
        responseMs,
        pool,
        retry,
        judgesStreams: options.isEnd !== undefined,
        format: options.from?.format,
        translate: createTranslate(options, observer),
        inspect: createInspect(options, callbackFailed),
        observer,
      },
    }
    const onEjected = (member: Member) => observer.ejected(member)
    const agentFor = (secure: boolean, member: Member) => this.#agents.fresh(secure, member)
    this.#probes =
      pool &&
      probe &&
      new Probes({ policy: probe, hpm: options.hpm, onEjected, ...(options.http2 !== false && { agentFor }) })
    // A router's upstreams are not known before a request names one, so that they are neither probed nor replaced.
    if (!pool) return
    this.#probes?.watch(pool.members)
    pool.onGone = (member) => transport.retire(member)
  }

  /** Of this process alone, or of all that have the store in common. */
  #createShares(share: ResolvedShare, admission: Admission, moves: Moves | undefined): SharedStreams | StoredStreams {
    const { store } = share
    const nextId = () => this.#nextId()
    const context = { options: this.#options, share, observer: this.#observer, admission, moves, nextId }
    return store ? new StoredStreams({ ...context, store }) : new SharedStreams(context)
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

  /** Asks whether it is for this proxy, waits for its turn on the connection, and lets it in. */
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

  /** The handles of open streams, those without a client among them. One that ends meanwhile is left out. */
  *streams(): Generator<SseStream> {
    for (const { handle } of this.#observer.sessions) yield handle
  }

  /** A plain copy: it does not change afterwards. */
  stats(): ProxyStats {
    const { opening, shares } = this.#context
    const { pool } = opening
    return this.#observer.snapshot({
      active: this.#observer.sessions.size,
      upstreams: [
        ...(pool?.members ?? []).map((member) => this.#upstreamStats(member)),
        ...[...(pool?.leaving ?? [])].map((member) => ({ ...this.#upstreamStats(member), leaving: true as const })),
      ],
      shared: shares?.stats ?? { streams: 0, clients: 0, unread: 0, kept: 0 },
    })
  }

  /** What the app sees of a member of the pool; a time without end is no time to wait for. */
  #upstreamStats(member: Member): UpstreamStats {
    const { url, active, requests, weight, healthy, health, ejectedUntil } = member
    const { failures, ejections } = health
    const known = ejectedUntil > 0 && ejectedUntil !== Number.POSITIVE_INFINITY
    const http2Connections = this.#agents.http2Connections?.(member)
    return {
      ...{ url, active, requests, weight, healthy, failures, ejections },
      ...(known && { ejectedUntil }),
      ...(http2Connections !== undefined && { http2Connections }),
    }
  }

  /**
   * Ends the shared stream with this key, between events, for all its clients; false where there is none.
   * @throws ConfigError where no key is the app's
   */
  async stop(key: string): Promise<boolean> {
    const { share } = this.#options
    if (!share || share.key === undefined) throw new ConfigError('stop: cannot be used without the option share.key')
    if (typeof key !== 'string') unexpected('stop', 'what share.key returns, a string', key)
    return this.#context.shares?.stop(key) ?? false
  }

  /** False while it drains, and where no upstream is healthy. */
  ready(): boolean {
    const { admission, opening } = this.#context
    return !admission.isDraining && (opening.pool?.hasHealthy ?? true)
  }

  /**
   * Replaces the upstreams, at once or not at all.
   * @throws ConfigError
   */
  setTargets(targets: unknown): void {
    const { hpm, upstreams: given } = this.#options
    const { opening, moves } = this.#context
    const { upstreams, retry } = resolveNewTargets(given, hpm.forward, targets)
    if (this.#closing || !opening.pool || !given.pool) return
    opening.pool.replace(upstreams, given.pool.health)
    opening.retry = retry
    this.#probes?.watch(opening.pool.members)
    moves?.begin()
  }

  /**
   * Lets no more requests in, ends the open streams one after the other, and resolves when all are over.
   * @param options `DrainOptions`
   * @throws ConfigError when they are wrong
   */
  async close(options: unknown = {}): Promise<DrainResult> {
    const { withinMs, retryMs } = group('close', options, ['withinMs', 'retryMs'])
    const retryRange = drainRange(retryMs, this.#options.clientRetryMs)
    const ms = integer('close.withinMs', withinMs ?? DEFAULT_DRAIN_MS, 0, MAX_MS)
    this.#closing ??= this.#drain(ms, retryRange)
    return this.#closing
  }

  /** In this order: no new requests, each stream at its turn, then what is left, then what nothing hangs on any more. */
  async #drain(ms: number, range: readonly [number, number]): Promise<DrainResult> {
    const { admission, requests, shares, opening, moves } = this.#context
    const drain = new Drain({ withinMs: ms, retryMs: () => jittered(range) })
    const observer = this.#observer
    admission.drain()
    this.#probes?.watch([])
    moves?.stop()
    drain.schedule([
      ...new Set([...observer.sessions, ...[...requests].flatMap(({ earlySession }) => earlySession ?? [])]),
    ])
    // Requests that were let in before may get their answer yet, and are told to go at a turn of their own.
    observer.onStart = (session) => drain.add(session)
    observer.onEnd = (session, reason) => drain.noteEnd(session, reason)
    await this.#untilAllAreOver(ms)
    drain.abortRest()
    // Those that have no stream: answers that are relayed, held or waited for.
    for (const request of [...requests]) {
      if (request.abort(new AdmissionError('ERR_SSE_PROXY_DRAINING')) === 'unread') drain.noteUnread()
    }
    await shares?.close()
    opening.transport.close()
    return drain.result
  }

  /**
   * Resolves when the last response is over, and the last stream that goes on without its client, or at the deadline. It looks
   * every few milliseconds, since what is waited for ends in several places.
   */
  #untilAllAreOver(withinMs: number): Promise<void> {
    const { requests, observer, shares } = this.#context
    const isEmpty = () => requests.size === 0 && observer.sessions.size === 0 && !shares?.goesOn
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

  /** For a request or a shared stream: unlike those of other processes, and short, since each debug line has it. */
  #nextId(): string {
    return `${this.#idPrefix}-${(this.#ids++).toString(36)}`
  }
}

/** Over HTTP/2 a connection is opened to ask for the protocol, so its bound is `connectMs` too. */
function agentsOf({ fastLane, http2, limits, timeouts }: ResolvedOptions): Agents {
  const create = http1Agents(fastLane)
  if (!http2) return createAgents(create)
  return createHttp2Agents({ ...http2, connectMs: timeouts.connectMs }, limits.bufferBytes, create)
}

/** Undefined for a connection that no server of Node's has accepted. */
function serverOf({ socket }: IncomingMessage): EventEmitter | undefined {
  const server: unknown = Reflect.get(Object(socket), 'server')
  return server instanceof EventEmitter ? server : undefined
}

/** A single number is varied by half of it, so that clients do not come back together. */
function drainRange(value: unknown, otherwise: readonly [number, number]): readonly [number, number] {
  if (value === undefined) return otherwise
  const [min, max] = range('close.retryMs', value)
  return typeof value === 'number' ? [Math.round(value / 2), Math.round(value * 1.5)] : [min, max]
}
