// One attempt: one pass of a request through http-proxy-middleware, up to the head of the answer. It settles once, with
// that answer or with an UpstreamError, and is forgotten then.

import { ClientRequest, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Readable } from 'node:stream'
import createDebug from 'debug'
import { overlaid } from '../end-to-end.ts'
import { UpstreamError, type UpstreamErrorCode } from '../errors.ts'
import type { HpmOptions, HpmTarget } from '../hpm.ts'
import { UPSTREAM_SILENCE_MS } from '../tcp-keepalive.ts'
import { upstreamLabel } from '../upstream-label.ts'
import type { OpenRequest, UpstreamBody, UpstreamResponse } from '../upstream-response.ts'
import { Watchdog } from '../watchdog.ts'
import type { Agents } from './agents.ts'
import { describeBody, isReplayable, isStreaming, openBody, type RequestBody, readableOf } from './request-body.ts'
import { type RequestFacts, requestHeaders, withoutHopByHop } from './request-headers.ts'
import { type OnOver, ResponseBody } from './response-body.ts'
import { type PassTaker, StandInRequest, StandInResponse } from './stand-ins.ts'
import { isSecure, queryOntoTarget, withoutPath } from './target.ts'
import type { HttpProxy } from './transport-httpxy.ts'

const debug = createDebug('sse-proxy:upstream')

/** An upstream that has been chosen, and what it is called. */
export interface Upstream {
  readonly target: HpmTarget
  /** The same, parsed. */
  readonly parsed: HpmTarget
  readonly url: string
  /** Of its own, over those of clients: another provider's key, say. Lower case. */
  readonly headers: Readonly<Record<string, string>> | undefined
}

/** What all attempts of a middleware share. */
export interface AttemptContext {
  readonly proxy: HttpProxy
  readonly agents: Agents
  readonly via: RequestFacts['via']
  readonly xfwd: boolean
  readonly stripped: RequestFacts['stripped']
  readonly connectMs: number
  readonly responseMs: number
}

/** What all attempts of a request share. */
export interface Exchange {
  /** For those who follow it through the debug output. */
  readonly id: string
  readonly req: IncomingMessage
  readonly res: ServerResponse
  readonly body: RequestBody
}

/** Opens an upstream for a request; a dead pooled connection is no failure of the upstream's. */
export function openTarget(order: Order): Promise<Outcome> {
  const { body, req } = order.exchange
  // What comes in chunks does not go where another request will follow: httpxy would have the upstream close.
  const isChunked = isStreaming(body) && req.headers['content-length'] === undefined
  // What can be sent once only does not go where the connection may turn out dead when it has been sent.
  const mayReuse = order.mayArriveTwice && body.kind !== 'stream' && !isChunked
  return new Promise((resolve) => {
    new Attempt(order, !mayReuse, (outcome, diedOnReuse) => {
      const mayRepeat = order.mayArriveTwice || (outcome instanceof UpstreamError && !outcome.mayHaveArrived)
      if (diedOnReuse && mayRepeat && isReplayable(body)) new Attempt(order, true, resolve).start()
      else resolve(outcome)
    }).start()
  })
}

type Outcome = UpstreamResponse | UpstreamError

/**
 * @param diedOnReuse on a kept-alive connection: the upstream had closed it by the time it was used again, or had written
 * something behind an earlier answer that cannot be one to this request
 */
type OnSettled = (outcome: Outcome, diedOnReuse: boolean) => void

/** What an attempt is made of; where the connection was dead, the next one is made of the same. */
export interface Order {
  readonly context: AttemptContext
  readonly exchange: Exchange
  /** Undefined where a router chooses. */
  readonly upstream: Upstream | undefined
  readonly request: OpenRequest
  /** Whether nothing is done twice when the request reaches an upstream twice. */
  readonly mayArriveTwice: boolean
  readonly onOver: OnOver | undefined
}

class Attempt implements PassTaker {
  readonly #order: Order
  // Whether it must have a connection of its own.
  readonly #fresh: boolean
  readonly #standIn: StandInResponse
  // Set until the attempt has settled.
  #onSettled: OnSettled | undefined
  #upstream: string | undefined
  // Runs until the head is there: first for the connection, then for the answer. Cleared in #settle.
  #watchdog: Watchdog | undefined
  // The latest request to the upstream; http-proxy-middleware itself forgets those that follow redirects.
  #request: ClientRequest | undefined
  // Those before it, whose answers were redirects and may still be coming.
  #redirected: ClientRequest[] | undefined
  // Who listened to each of HEAD_EVENTS before anybody else could: httpxy, whose part is over with the head.
  #listening: Listeners[] = []
  #hasOwnAgent = false
  // Whether its connection is there, TLS included: before that nothing can have arrived.
  #isConnected = false
  // What its socket had read and written before; more than that is the beginning of an answer, or of the request.
  #bytesReadBefore = 0
  #bytesWrittenBefore = 0
  // What was read since the request: the first of it, and whether that is all.
  #firstRead: Buffer | undefined
  #reads = 0
  // The client's body on its way, where it is a stream, and how much of it has come since the wait began anew.
  #upload: Readable | undefined
  #uploadedBytes = 0

  constructor(order: Order, fresh: boolean, onSettled: OnSettled) {
    this.#order = order
    this.#fresh = fresh
    this.#onSettled = onSettled
    this.#upstream = order.upstream?.url
    this.#standIn = new StandInResponse(order.exchange.res, this)
  }

  start(): void {
    const { context, exchange, request } = this.#order
    const { req, body } = exchange
    const { signal } = request
    if (signal.aborted) return this.#fail(new UpstreamError('ERR_SSE_PROXY_UNREACHABLE', undefined, signal.reason))
    const headers = requestHeaders(req, {
      method: req.method ?? 'GET',
      url: req.url ?? '/',
      httpVersion: req.httpVersion,
      // Asking costs a system call.
      remoteAddress: context.xfwd ? req.socket?.remoteAddress : undefined,
      via: context.via,
      xfwd: context.xfwd,
      stripped: context.stripped,
      lastEventId: request.lastEventId,
    })
    describeBody(headers, body)
    signal.onAbort(this.#onAbort)
    this.#startWatchdog(context.connectMs, 'ERR_SSE_PROXY_CONNECT_TIMEOUT')
    context.proxy.pass(new StandInRequest(req, headers, body, this), this.#standIn)
  }

  // PassTaker: what http-proxy-middleware does.

  get target(): HpmTarget | undefined {
    return this.#order.upstream?.target
  }

  prepare(options: HpmOptions, req: { url?: string | undefined }): boolean {
    const { context, exchange, request } = this.#order
    // A router may have taken longer than the client or a timer waits.
    if (request.signal.aborted || !this.#onSettled) return false
    if (!context.proxy.boundary.admitsRewritten(req.url ?? '')) {
      this.#fail(new UpstreamError('ERR_SSE_PROXY_PATH', undefined, new Error(`pathRewrite made it ${req.url}`)))
      return false
    }
    // Without a target http-proxy-middleware has only a copy to forward.
    const chosen = options.target === this.target ? this.#order.upstream?.parsed : options.target
    const given = chosen && options.prependPath === false ? withoutPath(chosen) : chosen
    const target = given && queryOntoTarget(given, options, req)
    if (target) options.target = target
    const secure = isSecure(target)
    const { agents } = context
    this.#hasOwnAgent = options.agent === undefined
    const kind = this.#fresh ? 'fresh' : 'pooled'
    options.agent ??= agents[kind](secure)
    const own = this.#order.upstream?.headers
    if (own) options.headers = overlaid(options.headers ?? {}, own)
    // It is used as the request's options and written to.
    if (options.ssl !== undefined) options.ssl = { ...options.ssl }
    this.#upload = openBody(exchange.body)
    // To send it again after a redirect, httpxy reads the body itself.
    if (options.followRedirects) this.#upload ??= readableOf(exchange.body)
    if (this.#upload) options.buffer = this.#upload
    // Chosen by a router.
    if (this.target === undefined) this.#upstream = upstreamLabel(target)
    return true
  }

  onUpstreamRequest(request: unknown, options: HpmOptions): void {
    if (!(request instanceof ClientRequest)) return
    if (!this.#onSettled) {
      // An `on.start` that threw has ended it before there was a request.
      request.destroy()
      return
    }
    // httpxy closes what carries a body in chunks, so that nothing follows it. Nothing does; see the agent for why that is
    // not said.
    if (this.#fresh && this.#hasOwnAgent && !request.headersSent) request.setHeader('connection', 'keep-alive')
    // A redirect may lead to another protocol, which takes another agent.
    if (this.#hasOwnAgent && options.followRedirects) options.agent = undefined
    if (this.#request && this.#request.host !== request.host) request.removeHeader('last-event-id')
    const redirected = this.#request !== undefined
    // A redirect may lead to somebody whom the target's own key is not meant for.
    if (redirected && !isAtOrigin(request, options.target)) {
      for (const name in this.#order.upstream?.headers) request.removeHeader(name)
    }
    if (this.#request) {
      this.#request.off('close', this.#onClosed)
      this.#request.socket?.off('data', this.#onRead)
      this.#redirected = [...(this.#redirected ?? []), this.#request]
    }
    this.#request = request
    this.#listening = redirected ? [] : HEAD_EVENTS.map((event) => request.rawListeners(event))
    // An answer that is no answer (101, say) closes the connection without an error.
    request.on('close', this.#onClosed)
    const { socket } = request
    this.#isConnected = false
    this.#bytesWrittenBefore = socket?.bytesWritten ?? 0
    const connected = () => {
      this.#isConnected = true
      // Some releases of Node do not where the connection is TLS, and none does where it is not to be used again.
      if (this.#hasOwnAgent) socket?.setKeepAlive(true, UPSTREAM_SILENCE_MS)
      this.#bytesReadBefore = socket?.bytesRead ?? 0
      this.#awaitAnswer()
    }
    if (redirected || !socket?.connecting) connected()
    else socket.once('encrypted' in socket ? 'secureConnect' : 'connect', connected)
    this.#reads = 0
    socket?.prependListener('data', this.#onRead)
    // A large upload may take its time; the wait for an answer begins with its end.
    this.#upload?.on('data', this.#onUploaded).on('end', this.#onUploadEnd)
  }

  onUnroutable(error: unknown): void {
    this.#fail(this.#error('ERR_SSE_PROXY_APP', error))
  }

  onUnforeseen(member: string): void {
    const cause = new Error(
      `http-proxy-middleware or httpxy used ${member}, which is unknown here: use an earlier release`,
    )
    const onSettled = this.#settle()
    if (!onSettled) return
    // Whoever has used it may go on with the request, and throw where that is destroyed already.
    queueMicrotask(() => this.#giveUp())
    onSettled(this.#error('ERR_SSE_PROXY_DEPENDENCY', cause), false)
  }

  onFailure(error: unknown): true {
    // Nobody here gives a request up before it has settled, and Node tells of what a connection does before it marks the
    // request: it was the app. Without a request Node has found it to be none, for its path or a header.
    const isOwn = this.#request ? this.#request.destroyed : isOfNode(error)
    if (isOwn) this.#fail(this.#error('ERR_SSE_PROXY_NOT_SENT', error))
    else this.#failed(error)
    return true
  }

  #failed(error: unknown): void {
    const request = this.#request
    const begun = (request?.socket?.bytesRead ?? 0) > this.#bytesReadBefore
    const code = begun || isParseError(error) ? 'ERR_SSE_PROXY_BAD_ANSWER' : 'ERR_SSE_PROXY_UNREACHABLE'
    this.#fail(this.#error(code, error), request?.reusedSocket === true)
  }

  onHead(answer: IncomingMessage): void {
    if (!this.#onSettled) {
      answer.destroy()
      return
    }
    if (this.#standIn.statusCode < 200) {
      answer.destroy()
      this.#fail(this.#error('ERR_SSE_PROXY_BAD_ANSWER'))
      return
    }
    if (debug.enabled) this.#debugAnswer()
    const { context, exchange, onOver } = this.#order
    const { proxy } = context
    if (proxy.tellsEnd) answer.once('end', () => proxy.tellEnd(exchange.req, exchange.res, answer))
    this.#letGo()
    const { headers } = answer
    const delimited = headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined
    const body = new ResponseBody(answer, this.#request, this.#reads === 1 ? this.#firstRead : undefined, onOver)
    this.#settle()?.(this.#response(body, delimited, headers.connection), false)
  }

  /** Without a head: a `forward` without a target, or a handler of the app's that answers in the upstream's place. */
  onEnd(): void {
    const onSettled = this.#settle()
    if (!onSettled) return
    this.#request?.destroy()
    this.#order.onOver?.onOver('given-up')
    onSettled(this.#response(EMPTY_BODY, true, undefined), false)
  }

  #response(body: UpstreamBody, delimited: boolean, connection: string | undefined): UpstreamResponse {
    const { statusCode, statusMessage, headers } = this.#standIn
    return {
      status: statusCode,
      statusMessage,
      headers: withoutHopByHop(headers, connection),
      upstream: this.#upstream ?? '',
      body,
      delimited,
    }
  }

  /** httpxy's listeners hold all it knew of the request, for as long as the answer lasts. */
  #letGo(): void {
    const request = this.#request
    request?.off('close', this.#onClosed)
    request?.socket?.off('data', this.#onRead)
    this.#upload?.off('data', this.#onUploaded).off('end', this.#onUploadEnd)
    if (!request) return
    this.#listening.forEach((listeners, i) => {
      for (const listener of listeners) Reflect.apply(request.off, request, [HEAD_EVENTS[i], listener])
    })
  }

  #debugAnswer(): void {
    const path = this.#request?.path.replace(/\?.*/s, '') ?? ''
    const { statusCode } = this.#standIn
    debug(
      '%s %s %s at %s answered %d',
      this.#order.exchange.id,
      this.#request?.method,
      path,
      this.#upstream,
      statusCode,
    )
    const [, twice] = /^(\/.+)\1$/.exec(path) ?? []
    if (statusCode === 404 && twice) {
      debug('%s is in that path twice: mount with app.use, or leave it out of the target', twice)
    }
  }

  #awaitAnswer(): void {
    if (this.#onSettled) this.#startWatchdog(this.#order.context.responseMs, 'ERR_SSE_PROXY_RESPONSE_TIMEOUT')
  }

  #startWatchdog(ms: number, code: 'ERR_SSE_PROXY_CONNECT_TIMEOUT' | 'ERR_SSE_PROXY_RESPONSE_TIMEOUT'): void {
    this.#watchdog?.stop()
    this.#watchdog = ms > 0 ? new Watchdog(ms, () => this.#fail(this.#timedOut(code))) : undefined
  }

  #timedOut(code: 'ERR_SSE_PROXY_CONNECT_TIMEOUT' | 'ERR_SSE_PROXY_RESPONSE_TIMEOUT'): UpstreamError {
    if (!this.#request) {
      const cause = new Error(
        'no connection: the agent has none to spare (maxSockets), or the upstream does not accept it',
      )
      return this.#error(code, cause)
    }
    // Where the upload is not over although the upstream would read on, it is the client that is late.
    const upload = this.#upload
    const waitsForClient = upload && !upload.readableEnded && !upload.isPaused()
    return this.#error(waitsForClient ? 'ERR_SSE_PROXY_BODY_TIMEOUT' : code)
  }

  #error(code: UpstreamErrorCode, cause?: unknown): UpstreamError {
    return new UpstreamError(code, this.#upstream, cause, this.#mayHaveArrived)
  }

  get #mayHaveArrived(): boolean {
    if (this.#redirected) return true
    return this.#isConnected && (this.#request?.socket?.bytesWritten ?? 0) > this.#bytesWrittenBefore
  }

  #fail(error: UpstreamError, diedOnReuse = false): void {
    const onSettled = this.#settle()
    if (!onSettled) return
    this.#giveUp()
    onSettled(error, diedOnReuse)
  }

  /** Makes httpxy destroy its request, and http-proxy-middleware's promise settle. */
  #giveUp(): void {
    this.#standIn.emit('close')
    this.#request?.destroy()
  }

  /** Returns whoever waits for the outcome, once. */
  #settle(): OnSettled | undefined {
    const onSettled = this.#onSettled
    if (!onSettled) return undefined
    this.#onSettled = undefined
    this.#watchdog?.stop()
    this.#watchdog = undefined
    this.#order.request.signal.offAbort(this.#onAbort)
    for (const request of this.#redirected ?? []) request.destroy()
    return onSettled
  }

  readonly #onRead = (read: Buffer): void => {
    this.#reads++
    this.#firstRead = read
  }

  readonly #onAbort = (): void => {
    const { reason } = this.#order.request.signal
    this.#fail(this.#error('ERR_SSE_PROXY_UNREACHABLE', reason))
  }

  readonly #onClosed = (): void => {
    this.#failed(new Error('closed without an answer'))
  }

  readonly #onUploaded = ({ length }: Buffer): void => {
    this.#uploadedBytes += length
    // A byte now and then would hold everything for as long as a client likes.
    if (this.#uploadedBytes >= PROGRESS_BYTES) this.#onUploadEnd()
  }

  readonly #onUploadEnd = (): void => {
    this.#uploadedBytes = 0
    this.#watchdog?.reset()
  }
}

// What of a body has to come within `responseMs` for the wait to begin anew: with the default, 35 bytes a second.
const PROGRESS_BYTES = 4096

const HEAD_EVENTS = ['socket', 'error', 'response']
type Listeners = ReturnType<ClientRequest['rawListeners']>

const EMPTY_BODY: UpstreamBody = {
  start: (sink) => sink.onEnd(),
  pause() {},
  unpause() {},
  destroy() {},
}

function isAtOrigin(request: ClientRequest, target: HpmTarget | undefined): boolean {
  return target instanceof URL && request.protocol === target.protocol && request.getHeader('host') === target.host
}

/** Not of the system, or of an agent that does something of its own. */
function isOfNode(error: unknown): boolean {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_')
}

function isParseError(error: unknown): boolean {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('HPE_')
}
