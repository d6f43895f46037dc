// One attempt: one request to one upstream, up to the head of its answer. It watches the time and the client, settles once,
// with that answer or with an UpstreamError, and is forgotten then. How a request travels is the transport's affair.

import type { OutgoingHttpHeaders } from 'node:http'
import type { AbortState } from '../abort.ts'
import { UpstreamError, type UpstreamErrorCode } from '../errors.ts'
import type { OpenRequest, UpstreamResponse } from '../upstream-response.ts'
import { Watchdog } from '../watchdog.ts'
import { describeBody, isReplayable, isStreaming } from './request-body.ts'
import { type RequestFacts, requestHeaders } from './request-headers.ts'
import type { OnOver } from './response-body.ts'
import type { ProxiedRequest, Transport, TransportEvents, TransportRequest, Upstream } from './transport.ts'

/** Told of attempts. */
export interface AttemptObserver {
  /** One is about to be made; headers may be added to it. */
  attempting(request: ProxiedRequest, upstream: string, headers: OutgoingHttpHeaders): void
}

/** What all attempts of a proxy share. */
export interface AttemptContext {
  readonly observer: AttemptObserver
  readonly transport: Transport
  /** With `xfwd` and `stripped`, what becomes of the client's headers: see the options. */
  readonly via: RequestFacts['via']
  readonly xfwd: boolean
  readonly stripped: RequestFacts['stripped']
  readonly format?: RequestFacts['format']
  /** How long to wait for a connection; 0 waits for ever. */
  readonly connectMs: number
  /** How long to wait for the head of the answer from then on; 0 waits for ever. */
  readonly responseMs: number
}

/** What an attempt is made of; where the connection was dead, the next one is made of the same. */
export interface AttemptOrder {
  readonly context: AttemptContext
  readonly request: ProxiedRequest
  /** Undefined where a router chooses. */
  readonly upstream: Upstream | undefined
  /** Sent in place of the client's own. */
  readonly lastEventId: string | undefined
  /** See `OpenRequest.headers`. */
  readonly headers?: OpenRequest['headers']
  /** Gives the attempt up when the client leaves or the proxy stops. */
  readonly signal: AbortState
  /** Whether nothing is done twice when the request reaches an upstream twice. */
  readonly mayArriveTwice: boolean
  /** Told how the answer has ended, where there is one. */
  readonly onOver: OnOver | undefined
}

/** Failures are results too: what follows from them is decided by the one who has asked. */
export type AttemptResult = UpstreamResponse | UpstreamError

/** Asks an upstream; a pooled connection that turns out dead is no failure of the upstream's, and replaced once. */
export function makeAttempt(order: AttemptOrder): Promise<AttemptResult> {
  const { body, req } = order.request
  // What comes in chunks does not go where another request will follow: httpxy would have the upstream close.
  const isChunked = isStreaming(body) && req.headers['content-length'] === undefined
  // What can be sent once only does not go where the connection may turn out dead when it has been sent.
  const mayReuse = order.mayArriveTwice && body.kind !== 'stream' && !isChunked
  return new Promise((resolve) => {
    new Attempt(order, !mayReuse, (result, diedOnReuse) => {
      const mayRepeat = order.mayArriveTwice || (result instanceof UpstreamError && !result.mayHaveArrived)
      if (diedOnReuse && mayRepeat && isReplayable(body)) new Attempt(order, true, resolve).start()
      else resolve(result)
    }).start()
  })
}

/** @param diedOnReuse see `TransportEvents.onFailed` */
type OnSettled = (result: AttemptResult, diedOnReuse: boolean) => void

type TimeoutCode = 'ERR_SSE_PROXY_CONNECT_TIMEOUT' | 'ERR_SSE_PROXY_RESPONSE_TIMEOUT'

class Attempt implements TransportEvents {
  // What to send where.
  readonly #order: AttemptOrder
  // Whether it must have a connection of its own.
  readonly #isFresh: boolean
  // Set until the attempt has settled; what the transport tells afterwards is ignored.
  #onSettled: OnSettled | undefined
  // Set once the transport has the request. A failure during `send` finds it undefined, and nothing to abort.
  #sent: TransportRequest | undefined
  // Runs until the head is there: first for the connection, then for the answer. Cleared in #settle.
  #watchdog: Watchdog | undefined

  constructor(order: AttemptOrder, isFresh: boolean, onSettled: OnSettled) {
    this.#order = order
    this.#isFresh = isFresh
    this.#onSettled = onSettled
  }

  start(): void {
    const { context, request, upstream, signal, onOver } = this.#order
    if (signal.aborted) {
      return this.#settle(new UpstreamError('ERR_SSE_PROXY_UNREACHABLE', undefined, signal.reason), false)
    }
    const headers = this.#headers()
    signal.onAbort(this.#onAbort)
    this.#startWatchdog(context.connectMs, 'ERR_SSE_PROXY_CONNECT_TIMEOUT')
    const sent = context.transport.send({ request, headers, upstream, isFresh: this.#isFresh, onOver }, this)
    if (this.#onSettled) this.#sent = sent
    // The client has left during `send`, when there was nothing to abort yet.
    else sent.abort()
  }

  #headers(): ReturnType<typeof requestHeaders> {
    const { context, request, upstream, lastEventId, headers: inPlace = {} } = this.#order
    const { req, body } = request
    const headers = requestHeaders(req, {
      method: req.method ?? 'GET',
      url: req.url ?? '/',
      httpVersion: req.httpVersion,
      // Asking costs a system call.
      remoteAddress: context.xfwd ? req.socket?.remoteAddress : undefined,
      via: context.via,
      xfwd: context.xfwd,
      stripped: context.stripped,
      format: context.format,
      wantsEvents: request.wantsEvents,
      lastEventId,
    })
    for (const [name, value] of Object.entries(inPlace)) {
      if (value === undefined) delete headers[name]
      else headers[name] = value
    }
    describeBody(headers, body)
    context.observer.attempting(request, upstream?.url ?? '', headers)
    return headers
  }

  // TransportEvents: what becomes of the request.

  onConnected(): void {
    if (this.#onSettled) this.#startWatchdog(this.#order.context.responseMs, 'ERR_SSE_PROXY_RESPONSE_TIMEOUT')
  }

  onProgress(): void {
    this.#watchdog?.reset()
  }

  onAnswer(response: UpstreamResponse): void {
    this.#settle(response, false)
  }

  onFailed(error: UpstreamError, diedOnReuse: boolean): void {
    this.#settle(error, diedOnReuse)
  }

  #startWatchdog(ms: number, code: TimeoutCode): void {
    this.#watchdog?.stop()
    this.#watchdog = ms > 0 ? new Watchdog(ms, () => this.#onSilence(code)) : undefined
  }

  /** What a transport has read in this turn it may tell of at the end of the turn. */
  #onSilence(code: TimeoutCode): void {
    const watchdog = this.#watchdog
    setImmediate(() => {
      if (this.#onSettled && this.#watchdog === watchdog) this.#onTimeout(code)
    })
  }

  #onTimeout(code: TimeoutCode): void {
    const waitsFor = this.#sent?.waitsFor ?? 'connection'
    if (waitsFor === 'client') return this.#giveUp('ERR_SSE_PROXY_BODY_TIMEOUT')
    if (waitsFor === 'upstream') return this.#giveUp(code)
    this.#giveUp(code, waitsFor === 'agent' ? agentInUse() : new Error('the upstream does not accept the connection'))
  }

  readonly #onAbort = (): void => {
    this.#giveUp('ERR_SSE_PROXY_UNREACHABLE', this.#order.signal.reason)
  }

  #giveUp(code: UpstreamErrorCode, cause?: unknown): void {
    const upstream = this.#sent?.upstream ?? this.#order.upstream?.url
    const error = new UpstreamError(code, upstream, cause, this.#sent?.mayHaveArrived ?? false)
    this.#sent?.abort()
    this.#settle(error, false)
  }

  #settle(result: AttemptResult, diedOnReuse: boolean): void {
    const onSettled = this.#onSettled
    if (!onSettled) return
    this.#onSettled = undefined
    this.#watchdog?.stop()
    this.#watchdog = undefined
    this.#order.signal.offAbort(this.#onAbort)
    onSettled(result, diedOnReuse)
  }
}

/** With a code, as errors of the system have one. */
function agentInUse(): Error {
  return Object.assign(new Error('all sockets of the option agent are in use'), { code: 'ERR_AGENT_IN_USE' })
}
