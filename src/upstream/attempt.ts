// One attempt: one pass of a request through http-proxy-middleware, up to the head of the answer. It settles once, with
// that answer or with an UpstreamError, and is forgotten then.

import { ClientRequest, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Readable } from 'node:stream'
import createDebug from 'debug'
import { UpstreamError } from '../errors.ts'
import type { Wanted } from '../lifetime.ts'
import type { Header, OpenRequest, UpstreamBody, UpstreamResponse } from '../open-upstream.ts'
import type { Agents } from './agents.ts'
import { AnswerBody, type OnOver } from './answer-body.ts'
import { chunksAfterHead } from './chunk-lane.ts'
import { type RequestFacts, requestHeaders, withoutHopByHop } from './headers.ts'
import type { HpmOptions, HpmTarget, HttpProxy } from './http-proxy.ts'
import { describeBody, isReplayable, openBody, type RequestBody, readableOf, sendBody } from './request-body.ts'
import { type PassTaker, StandInRequest, StandInResponse } from './stand-ins.ts'
import { isSecure, queryOntoTarget, upstreamLabel, withoutPath } from './target.ts'

const debug = createDebug('sse-proxy:upstream')

/** An upstream that has been chosen, and what it is called. */
export interface Upstream {
  readonly target: HpmTarget
  readonly url: string
}

/** What all attempts of a middleware share. */
export interface AttemptContext {
  readonly proxy: HttpProxy
  readonly agents: Agents
  readonly via: RequestFacts['via']
  readonly xfwd: boolean
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

/** Opens `target` for a request; a dead pooled connection is no failure of the upstream's. */
export async function openTarget(
  context: AttemptContext,
  exchange: Exchange,
  upstream: Upstream | undefined,
  request: OpenRequest,
  onOver?: OnOver,
): Promise<UpstreamResponse> {
  // A body that streams by can be sent once only, so it does not go where the connection may turn out dead.
  const once = exchange.body.kind === 'stream'
  const first = new Attempt(context, exchange, upstream, request, once, onOver)
  try {
    return await first.response
  } catch (error) {
    if (!first.diedOnReuse || !isReplayable(exchange.body)) throw error
    return new Attempt(context, exchange, upstream, request, true, onOver).response
  }
}

class Attempt implements PassTaker {
  readonly target: HpmTarget | undefined
  readonly response: Promise<UpstreamResponse>
  readonly #context: AttemptContext
  readonly #fresh: boolean
  readonly #onOver: OnOver | undefined
  readonly #exchange: Exchange
  readonly #signal: Wanted
  readonly #standIn: StandInResponse
  #upstream: string | undefined
  // Both set until the attempt has settled.
  #resolve: ((response: UpstreamResponse) => void) | undefined
  #reject: ((error: UpstreamError) => void) | undefined
  // Runs until the head is there: first for the connection, then for the answer. Cleared in #settle.
  #timer: NodeJS.Timeout | undefined
  // The latest request to the upstream; http-proxy-middleware itself forgets those that follow redirects.
  #request: ClientRequest | undefined
  // What was listening to it before anybody else could: httpxy, whose part is over with the head.
  #listening: Record<string, Listeners> | undefined
  #hasOwnAgent = false
  // What its socket had read before; more than that is the beginning of an answer.
  #bytesReadBefore = 0
  #diedOnReuse = false
  // What was read since the request: the first of it, and whether that is all.
  #firstRead: Buffer | undefined
  #reads = 0
  // The client's body on its way, where it is a stream.
  #upload: Readable | undefined
  constructor(
    context: AttemptContext,
    exchange: Exchange,
    upstream: Upstream | undefined,
    { lastEventId, signal }: OpenRequest,
    fresh: boolean,
    onOver: OnOver | undefined,
  ) {
    const { req, res, body } = exchange
    this.target = upstream?.target
    this.#upstream = upstream?.url
    this.#exchange = exchange
    this.#onOver = onOver
    this.#context = context
    this.#fresh = fresh
    this.#signal = signal
    this.response = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    const headers = requestHeaders(req.headers, {
      method: req.method ?? 'GET',
      url: req.url ?? '/',
      httpVersion: req.httpVersion,
      // Asking costs a system call.
      remoteAddress: context.xfwd ? req.socket?.remoteAddress : undefined,
      via: context.via,
      xfwd: context.xfwd,
      lastEventId,
    })
    describeBody(headers, body)
    this.#standIn = new StandInResponse(res, this)
    if (signal.aborted) {
      this.#fail(new UpstreamError('ERR_SSE_PROXY_UNREACHABLE', undefined, signal.reason))
      return
    }
    signal.onabort = this.#onAbort
    this.#startTimer(context.connectMs, 'ERR_SSE_PROXY_CONNECT_TIMEOUT')
    context.proxy.pass(new StandInRequest(req, headers, (request) => sendBody(body, request)), this.#standIn)
  }

  /** A kept-alive connection that the upstream had closed by the time it was used again. */
  get diedOnReuse(): boolean {
    return this.#diedOnReuse
  }

  // PassTaker: what http-proxy-middleware does.

  prepare(options: HpmOptions, req: { url?: string | undefined }): boolean {
    if (this.#signal.aborted) return false
    // Without a target http-proxy-middleware has only a copy to forward.
    const given = options.target && options.prependPath === false ? withoutPath(options.target) : options.target
    const target = given && queryOntoTarget(given, options, req)
    if (target) options.target = target
    const secure = isSecure(target)
    const { agents } = this.#context
    this.#hasOwnAgent = options.agent === undefined
    options.agent ??= this.#fresh ? agents.fresh(secure) : agents.pooled(secure)
    // It is used as the request's options and written to.
    if (options.ssl !== undefined) options.ssl = { ...options.ssl }
    this.#upload = openBody(this.#exchange.body)
    // To send it again after a redirect, httpxy reads the body itself.
    if (options.followRedirects) this.#upload ??= readableOf(this.#exchange.body)
    if (this.#upload) options.buffer = this.#upload
    // Chosen by a router.
    if (this.target === undefined) this.#upstream = upstreamLabel(target)
    return true
  }

  onUpstreamRequest(request: unknown, options: HpmOptions): void {
    if (!(request instanceof ClientRequest)) return
    // A redirect may lead to another protocol, which takes another agent.
    if (this.#hasOwnAgent && options.followRedirects) options.agent = undefined
    if (this.#request && this.#request.host !== request.host) request.removeHeader('last-event-id')
    const redirected = this.#request !== undefined
    this.#request?.off('close', this.#onClosed)
    this.#request?.socket?.off('data', this.#onRead)
    this.#request = request
    this.#listening = redirected
      ? undefined
      : Object.fromEntries(HEAD_EVENTS.map((event) => [event, request.rawListeners(event)]))
    // An answer that is no answer (101, say) closes the connection without an error.
    request.once('close', this.#onClosed)
    const { socket } = request
    const connected = () => {
      this.#bytesReadBefore = socket?.bytesRead ?? 0
      this.#awaitAnswer()
    }
    if (redirected || !socket?.connecting) connected()
    else socket.once('encrypted' in socket ? 'secureConnect' : 'connect', connected)
    this.#reads = 0
    socket?.prependListener('data', this.#onRead)
    // An upload may take its time; the wait for an answer begins with its last byte.
    this.#upload?.on('data', this.#onUploaded)
  }

  onUnroutable(error: unknown): void {
    this.#fail(new UpstreamError('ERR_SSE_PROXY_APP', this.#upstream, error))
  }

  onFailure(error: unknown): true {
    const request = this.#request
    const begun = (request?.socket?.bytesRead ?? 0) > this.#bytesReadBefore
    this.#diedOnReuse = request?.reusedSocket === true && !begun && this.#reject !== undefined
    const code = begun || isParseError(error) ? 'ERR_SSE_PROXY_BAD_ANSWER' : 'ERR_SSE_PROXY_UNREACHABLE'
    this.#fail(new UpstreamError(code, this.#upstream, error))
    return true
  }

  onHead(answer: IncomingMessage): void {
    const resolve = this.#resolve
    if (!resolve) {
      answer.destroy()
      return
    }
    if (this.#standIn.statusCode < 200) {
      answer.destroy()
      this.#fail(new UpstreamError('ERR_SSE_PROXY_BAD_ANSWER', this.#upstream))
      return
    }
    if (debug.enabled) this.#debugAnswer()
    const body = new AnswerBody(answer, this.#request, this.#bodyOf(answer), this.#onOver)
    const { req, res } = this.#exchange
    if (this.#context.proxy.tellsEnd) answer.once('end', () => this.#context.proxy.tellEnd(req, res, answer))
    this.#letGo()
    this.#settle()
    const { headers } = answer
    resolve({
      ...this.#head(headers.connection),
      delimited: headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined,
      body,
    })
  }

  /** What was read together with the head, which may be nothing; undefined where it is not sure what that was. */
  #bodyOf(answer: IncomingMessage): Buffer | undefined {
    const read = this.#reads === 1 ? this.#firstRead : undefined
    return read && chunksAfterHead(read, answer)
  }

  /** Without a head: `forward` without a target, which http-proxy-middleware answers by itself. */
  onEnd(): void {
    this.#resolve?.({ ...this.#head(undefined), delimited: true, body: EMPTY_BODY })
    this.#settle()
  }

  #head(connection: string | undefined): Omit<UpstreamResponse, 'body' | 'delimited'> {
    const standIn = this.#standIn
    const headers = standIn.rawHeaderNames.map((name): Header => {
      const value = standIn.getHeader(name) ?? ''
      return [name, typeof value === 'number' ? String(value) : value]
    })
    return {
      status: standIn.statusCode,
      statusMessage: standIn.statusMessage ?? '',
      headers: withoutHopByHop(headers, connection),
      upstream: this.#upstream ?? '',
    }
  }

  /** httpxy's listeners hold all it knew of the request, for as long as the answer lasts. */
  #letGo(): void {
    const request = this.#request
    request?.off('close', this.#onClosed)
    request?.socket?.off('data', this.#onRead)
    this.#upload?.off('data', this.#onUploaded)
    if (!request || !this.#listening) return
    for (const [event, listeners] of Object.entries(this.#listening)) {
      for (const listener of listeners) Reflect.apply(request.off, request, [event, listener])
    }
  }

  #debugAnswer(): void {
    const path = this.#request?.path.replace(/\?.*/s, '') ?? ''
    const { statusCode } = this.#standIn
    debug('%s %s %s at %s answered %d', this.#exchange.id, this.#request?.method, path, this.#upstream, statusCode)
    const [, twice] = /^(\/.+)\1$/.exec(path) ?? []
    if (statusCode === 404 && twice) {
      debug('%s is in that path twice: mount with app.use, or leave it out of the target', twice)
    }
  }

  #awaitAnswer(): void {
    if (this.#reject) this.#startTimer(this.#context.responseMs, 'ERR_SSE_PROXY_RESPONSE_TIMEOUT')
  }

  #startTimer(ms: number, code: 'ERR_SSE_PROXY_CONNECT_TIMEOUT' | 'ERR_SSE_PROXY_RESPONSE_TIMEOUT'): void {
    clearTimeout(this.#timer)
    if (ms > 0) this.#timer = setTimeout(() => this.#fail(this.#timedOut(code)), ms)
  }

  #timedOut(code: 'ERR_SSE_PROXY_CONNECT_TIMEOUT' | 'ERR_SSE_PROXY_RESPONSE_TIMEOUT'): UpstreamError {
    if (!this.#request) {
      const cause = new Error(
        'no connection: the agent has none to spare (maxSockets), or the upstream does not accept it',
      )
      return new UpstreamError(code, this.#upstream, cause)
    }
    // Where the upload stands still although the upstream would read on, it is the client that is late.
    const upload = this.#upload
    const waitsForClient = upload && !upload.readableEnded && !upload.isPaused()
    return new UpstreamError(waitsForClient ? 'ERR_SSE_PROXY_BODY_TIMEOUT' : code, this.#upstream)
  }

  #fail(error: UpstreamError): void {
    const reject = this.#reject
    if (!reject) return
    this.#settle()
    // Makes httpxy destroy its request, and http-proxy-middleware's promise settle.
    this.#standIn.emit('close')
    this.#request?.destroy()
    reject(error)
  }

  #settle(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#resolve = undefined
    this.#reject = undefined
    this.#signal.onabort = null
  }

  readonly #onRead = (read: Buffer): void => {
    this.#reads++
    this.#firstRead = read
  }

  readonly #onClosed = (): void => {
    this.onFailure(new Error('closed without an answer'))
  }

  readonly #onUploaded = (): void => {
    this.#timer?.refresh()
  }

  readonly #onAbort = (): void => {
    this.#fail(new UpstreamError('ERR_SSE_PROXY_UNREACHABLE', this.#upstream, this.#signal.reason))
  }
}

const HEAD_EVENTS = ['socket', 'error', 'response']
type Listeners = ReturnType<ClientRequest['rawListeners']>

const EMPTY_BODY: UpstreamBody = {
  start: (sink) => sink.onEnd(),
  pause() {},
  resume() {},
  destroy() {},
}

function isParseError(error: unknown): boolean {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('HPE_')
}
