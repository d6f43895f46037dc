// One attempt: one pass of a request through http-proxy-middleware, from the choice of an upstream to the last byte
// of its answer. It settles once, with the answer's head or with an UpstreamError, and after that it is the body.

import { ClientRequest, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Readable } from 'node:stream'
import createDebug from 'debug'
import { UpstreamError } from '../errors.ts'
import type { BodySink, Header, OpenRequest, UpstreamBody, UpstreamResponse } from '../open-upstream.ts'
import type { Agents } from './agents.ts'
import { type RequestFacts, requestHeaders, withoutHopByHop } from './headers.ts'
import type { HpmOptions, HpmTarget, HttpProxy } from './http-proxy.ts'
import { describeBody, isReplayable, openBody, type RequestBody, sendBody } from './request-body.ts'
import { type PassTaker, StandInRequest, StandInResponse } from './stand-ins.ts'
import { isSecure, queryOntoTarget, upstreamLabel, withoutPath } from './target.ts'

const debug = createDebug('sse-proxy:upstream')

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
  readonly req: IncomingMessage
  readonly res: ServerResponse
  readonly body: RequestBody
}

/** Opens `target` for a request; a dead pooled connection is no failure of the upstream's. */
export async function openTarget(
  context: AttemptContext,
  exchange: Exchange,
  target: HpmTarget | undefined,
  request: OpenRequest,
  onOver?: OnOver,
): Promise<UpstreamResponse> {
  // A body that streams by can be sent once only, so it does not go where the connection may turn out dead.
  const once = exchange.body.kind === 'stream'
  const first = new Attempt(context, exchange, target, request, once, onOver)
  try {
    return await first.response
  } catch (error) {
    if (!first.diedOnReuse || !isReplayable(exchange.body)) throw error
    return new Attempt(context, exchange, target, request, true, onOver).response
  }
}

/** How an answer ended that had begun. Called once for each. */
export type OnOver = (outcome: 'complete' | 'broken' | 'given-up') => void

class Attempt implements PassTaker, UpstreamBody {
  readonly target: HpmTarget | undefined
  readonly response: Promise<UpstreamResponse>
  readonly #context: AttemptContext
  readonly #body: RequestBody
  readonly #fresh: boolean
  readonly #onOver: OnOver | undefined
  readonly #signal: AbortSignal
  readonly #standIn: StandInResponse
  #upstream: string | undefined
  // Both set until the attempt has settled.
  #resolve: ((response: UpstreamResponse) => void) | undefined
  #reject: ((error: UpstreamError) => void) | undefined
  // Runs until the head is there: first for the connection, then for the answer. Cleared in #settle.
  #timer: NodeJS.Timeout | undefined
  // The latest request to the upstream; http-proxy-middleware itself forgets those that follow redirects.
  #request: ClientRequest | undefined
  // What its socket had read before; more than that is the beginning of an answer.
  #bytesReadBefore = 0
  #diedOnReuse = false
  // The client's body on its way, where it is a stream.
  #upload: Readable | undefined
  // The upstream's answer, from the head on.
  #source: Readable | undefined
  #sink: BodySink | undefined
  // What came between the head and `start`, at most what one read of the socket holds.
  #early: Buffer[] = []
  // How the body ended, once it has; told to the sink when there is one.
  #outcome: 'complete' | Error | undefined

  constructor(
    context: AttemptContext,
    { req, res, body }: Exchange,
    target: HpmTarget | undefined,
    { lastEventId, signal }: OpenRequest,
    fresh: boolean,
    onOver: OnOver | undefined,
  ) {
    this.target = target
    this.#onOver = onOver
    this.#context = context
    this.#body = body
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
      remoteAddress: req.socket.remoteAddress,
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
    signal.addEventListener('abort', this.#onAbort, { once: true })
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
    options.agent ??= this.#fresh ? agents.fresh(secure) : agents.pooled(secure)
    // It is used as the request's options and written to.
    if (options.ssl !== undefined) options.ssl = { ...options.ssl }
    this.#upload = openBody(this.#body)
    if (this.#upload) options.buffer = this.#upload
    this.#upstream = upstreamLabel(target)
    return true
  }

  onUpstreamRequest(request: unknown): void {
    if (!(request instanceof ClientRequest)) return
    const redirected = this.#request !== undefined
    this.#request = request
    // An answer that is no answer (101, say) closes the connection without an error.
    request.once('close', () => {
      if (!this.#source && this.#request === request) this.onFailure(new Error('closed without an answer'))
    })
    const { socket } = request
    const connected = () => {
      this.#bytesReadBefore = socket?.bytesRead ?? 0
      this.#awaitAnswer()
    }
    if (redirected || !socket?.connecting) connected()
    else socket.once('encrypted' in socket ? 'secureConnect' : 'connect', connected)
    // An upload may take its time; the wait for an answer begins with its last byte.
    this.#upload?.on('data', () => this.#timer?.refresh())
  }

  onUnroutable(error: unknown): void {
    this.#fail(new UpstreamError('ERR_SSE_PROXY_APP', this.#upstream, error))
  }

  onFailure(error: unknown): true {
    if (this.#source) {
      this.onBroken(error instanceof Error ? error : undefined)
      return true
    }
    const request = this.#request
    const begun = (request?.socket?.bytesRead ?? 0) > this.#bytesReadBefore
    this.#diedOnReuse = request?.reusedSocket === true && !begun && this.#reject !== undefined
    const code = begun || isParseError(error) ? 'ERR_SSE_PROXY_BAD_ANSWER' : 'ERR_SSE_PROXY_UNREACHABLE'
    this.#fail(new UpstreamError(code, this.#upstream, error))
    return true
  }

  onHead(source: Readable): void {
    const resolve = this.#resolve
    if (!resolve) {
      source.destroy()
      return
    }
    this.#settle()
    this.#source = source
    if (debug.enabled) this.#debugAnswer()
    resolve(this.#describe('headers' in source ? (source as IncomingMessage) : undefined))
  }

  onData(chunk: Buffer): boolean {
    if (this.#sink) this.#sink.onData(chunk)
    else this.#early.push(chunk)
    return true
  }

  onEnd(): void {
    // Without a head: `forward` without a target, which http-proxy-middleware answers by itself.
    this.#resolve?.(this.#describe(undefined))
    this.#settle()
    this.#finish('complete')
  }

  onBroken(error?: Error): void {
    if (this.#reject) this.onFailure(error)
    else this.#finish(error ?? new Error('the upstream closed the connection before the end of its answer'))
  }

  // UpstreamBody: what the stream does.

  start(sink: BodySink): void {
    this.#sink = sink
    for (const chunk of this.#early) sink.onData(chunk)
    this.#early = []
    if (this.#outcome !== undefined) this.#tell(sink, this.#outcome)
  }

  pause(): void {
    this.#source?.pause()
  }

  resume(): void {
    this.#source?.resume()
  }

  destroy(): void {
    this.#sink = undefined
    if (this.#outcome === undefined) {
      this.#outcome = new Error('given up')
      this.#onOver?.('given-up')
    }
    this.#tearDown()
  }

  #describe(answer: IncomingMessage | undefined): UpstreamResponse {
    const standIn = this.#standIn
    const headers = standIn.rawHeaderNames.map((name): Header => {
      const value = standIn.getHeader(name) ?? ''
      return [name, typeof value === 'number' ? String(value) : value]
    })
    return {
      status: standIn.statusCode,
      statusMessage: standIn.statusMessage ?? '',
      headers: withoutHopByHop(headers, answer?.headers.connection),
      upstream: this.#upstream ?? '',
      body: this,
      delimited: answer?.headers['content-length'] !== undefined || answer?.headers['transfer-encoding'] !== undefined,
    }
  }

  #debugAnswer(): void {
    const path = this.#request?.path.replace(/\?.*/s, '') ?? ''
    const { statusCode } = this.#standIn
    debug('%s %s at %s answered %d', this.#request?.method, path, this.#upstream, statusCode)
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
    if (ms > 0) this.#timer = setTimeout(() => this.#fail(new UpstreamError(code, this.#upstream, this.#delay())), ms)
  }

  /** What is being waited for; undefined where that is the answer. */
  #delay(): Error | undefined {
    if (this.#request) return undefined
    return new Error('no connection: the agent has none to spare (maxSockets), or the upstream does not accept it')
  }

  #fail(error: UpstreamError): void {
    const reject = this.#reject
    if (!reject) return
    this.#settle()
    this.#outcome = error
    this.#tearDown()
    reject(error)
  }

  #settle(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#resolve = undefined
    this.#reject = undefined
  }

  #finish(outcome: 'complete' | Error): void {
    if (this.#outcome !== undefined) return
    this.#outcome = outcome
    this.#onOver?.(outcome === 'complete' ? 'complete' : 'broken')
    this.#signal.removeEventListener('abort', this.#onAbort)
    if (this.#sink) this.#tell(this.#sink, outcome)
  }

  #tell(sink: BodySink, outcome: 'complete' | Error): void {
    if (outcome === 'complete') sink.onEnd()
    else sink.onBroken(outcome)
  }

  readonly #onAbort = (): void => {
    this.#fail(new UpstreamError('ERR_SSE_PROXY_UNREACHABLE', this.#upstream, this.#signal.reason))
    this.destroy()
  }

  #tearDown(): void {
    this.#signal.removeEventListener('abort', this.#onAbort)
    // Makes httpxy destroy its request and its answer, and http-proxy-middleware's promise settle.
    this.#standIn.emit('close')
    this.#request?.destroy()
  }
}

function isParseError(error: unknown): boolean {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('HPE_')
}
