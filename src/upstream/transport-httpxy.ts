// The transport over HTTP/1.1: each request is one pass through http-proxy-middleware, on stand-ins for the client's own
// request and response. What httpxy and Node tell of the pass becomes the events of a transport.

import { Agent, type ClientRequest, type IncomingMessage } from 'node:http'
import type { Readable } from 'node:stream'
import createDebug from 'debug'
import { UpstreamError, type UpstreamErrorCode } from '../errors.ts'
import type { HpmOptions, HpmTarget } from '../hpm.ts'
import { codeOf } from '../system-error.ts'
import { UPSTREAM_SILENCE_MS } from '../tcp-keepalive.ts'
import { upstreamLabel } from '../upstream-label.ts'
import type { UpstreamBody, UpstreamResponse } from '../upstream-response.ts'
import type { Agents } from './agents.ts'
import type { HttpProxy } from './http-proxy.ts'
import { Unsendable } from './http2/request-reader.ts'
import { Refusal } from './http2/session.ts'
import { onUploadProgress, openBody, readableOf } from './request-body.ts'
import { useOwnHeaders, withoutHopByHop } from './request-headers.ts'
import { isDelimited, ResponseBody } from './response-body.ts'
import { guardHead, SentRequest } from './sent-request.ts'
import { type PassHandler, StandInRequest, StandInResponse } from './stand-ins.ts'
import { asUrl, isSecure, queryOntoTarget, withoutPath } from './target.ts'
import type { Transport, TransportEvents, TransportOrder, TransportRequest, Upstream } from './transport.ts'

const debug = createDebug('sse-proxy:upstream')

/** What all passes of a proxy share. */
export interface HttpxyContext {
  readonly proxy: HttpProxy
  readonly agents: Agents
  /** Whether plain chunks may bypass Node's parser. */
  readonly fastLane: boolean
}

/** Every order is one pass, on a connection of `agents` unless the app has brought an agent. */
export function createHttpxyTransport(context: HttpxyContext): Transport {
  return {
    send(order, events) {
      const pass = new Pass(order, events, context)
      pass.start()
      return pass
    },
    retire(upstream) {
      context.agents.retire(upstream)
    },
    close() {
      context.agents.destroy()
    },
  }
}

/**
 * One pass of a request through http-proxy-middleware. It ends once: with the head of the answer, with a failure, or when the
 * attempt aborts it. What http-proxy-middleware, httpxy or Node tell afterwards is of no interest, and destroyed where it is a
 * request or an answer.
 */
class Pass implements PassHandler, TransportRequest {
  /** Undefined until a router has chosen. */
  upstream: string | undefined
  // What to send where.
  readonly #order: TransportOrder
  readonly #context: HttpxyContext
  // Takes the head of the answer in place of the client's response, which httpxy would destroy when the upstream breaks.
  readonly #standIn: StandInResponse
  // Who is told. Undefined from the end of the pass on.
  #events: TransportEvents | undefined
  // Whether the app has given no agent, so that connections are the package's to look after.
  #hasOwnAgent = false
  // The app's.
  #agentOfTheApp: unknown
  // The latest request to the upstream; http-proxy-middleware itself forgets those that follow redirects.
  #sent: SentRequest | undefined
  // Those before it, whose answers were redirects and may still be coming; destroyed with the end of the pass.
  #redirected: ClientRequest[] | undefined
  // The client's body on its way, where it is a stream; set with the last word on the options.
  #upload: Readable | undefined
  // Ends the counting of it, which begins with the first request to the upstream.
  #unwatchUpload: (() => void) | undefined

  constructor(order: TransportOrder, events: TransportEvents, context: HttpxyContext) {
    this.#order = order
    this.#events = events
    this.#context = context
    this.upstream = order.upstream?.url
    this.#standIn = new StandInResponse(order.request.res, this)
  }

  start(): void {
    const { request, headers } = this.#order
    this.#context.proxy.pass(new StandInRequest(request.req, headers, request.body, this), this.#standIn)
  }

  // TransportRequest: what the attempt asks.

  get mayHaveArrived(): boolean {
    return this.#redirected !== undefined || this.#sent?.mayHaveArrived === true
  }

  get waitsFor(): TransportRequest['waitsFor'] {
    if (!this.#sent) return hasWaiting(this.#agentOfTheApp) ? 'agent' : 'connection'
    // Where the upload is not over although the upstream would read on, it is the client that is late.
    const upload = this.#upload
    return upload && !upload.readableEnded && !upload.isPaused() ? 'client' : 'upstream'
  }

  abort(): void {
    if (this.#end()) this.#giveUp()
  }

  // PassHandler: what http-proxy-middleware does.

  get chosen(): Upstream | undefined {
    return this.#order.upstream
  }

  /** The last word on the options of this pass, before httpxy makes a request of them. */
  prepare(options: HpmOptions, req: { url?: string | undefined }): boolean {
    // A router may have taken longer than the client or a timer waits.
    if (!this.#events) return false
    if (!this.#context.proxy.boundary.admitsRewritten(req.url ?? '')) {
      this.#fail('ERR_SSE_PROXY_PATH', new Error(`pathRewrite made it ${req.url}`))
      return false
    }
    const target = this.#targetOf(options, req)
    if (target) options.target = target
    this.#agentOfTheApp = options.agent
    this.#hasOwnAgent = options.agent === undefined
    options.agent ??= this.#agentFor(isSecure(target))
    useOwnHeaders(options, this.#order.upstream?.headers)
    // It is used as the request's options and written to.
    if (options.ssl !== undefined) options.ssl = { ...options.ssl }
    this.#openUpload(options)
    if (!this.chosen) this.upstream = upstreamLabel(target)
    return true
  }

  /** Before it is sent; again for each redirect that httpxy follows. */
  onUpstreamRequest(request: ClientRequest, options: HpmOptions): void {
    if (!this.#events) {
      // An `on.start` that threw has ended the pass before there was a request.
      request.destroy()
      return
    }
    // httpxy closes what carries a body in chunks, so that nothing follows it. Nothing does; see the agent for why that is
    // not said.
    if (this.#order.isFresh && this.#hasOwnAgent && !request.headersSent) request.setHeader('connection', 'keep-alive')
    // A redirect may lead to another protocol, which takes another agent.
    if (this.#hasOwnAgent && options.followRedirects) options.agent = undefined
    const before = this.#sent
    if (before) {
      if (before.request.host !== request.host) request.removeHeader('last-event-id')
      this.#redirect(request, options.target)
      before.unwatch()
      this.#redirected = [...(this.#redirected ?? []), before.request]
    }
    this.#sent = new SentRequest(request, before !== undefined, () => this.#onConnected(request), this.#onClosed)
    guardHead(
      request,
      () => {
        if (options.target) options.target = asUrl(options.target)
      },
      (error) => this.#onHeadThrown(error),
    )
    if (this.#upload) this.#unwatchUpload ??= onUploadProgress(this.#upload, () => this.#events?.onProgress())
  }

  /** What is thrown behind the end of the pass is not about the head. */
  #onHeadThrown(error: unknown): void {
    if (!this.#events) throw error
    this.#fail('ERR_SSE_PROXY_BAD_ANSWER', error)
  }

  /** httpxy's Host is that of the new address. A redirect may lead to a server that must not get the target's own key. */
  #redirect(request: ClientRequest, target: HpmTarget | undefined): void {
    const own = this.#order.upstream?.headers ?? {}
    if (isAtOrigin(request, target)) {
      if (own.host !== undefined) request.setHeader('host', own.host)
    } else {
      for (const name in own) if (name !== 'host') request.removeHeader(name)
    }
  }

  /** The app's router, a rewrite or a handler of its own has failed. */
  onUnroutable(error: unknown): void {
    this.#fail('ERR_SSE_PROXY_APP', error)
  }

  /** Fails this pass alone: a stand-in has only what httpxy is known to use. */
  onUnforeseen(member: string): void {
    const reason = `http-proxy-middleware or httpxy used ${member}, which is unknown here: use an earlier release`
    const error = this.#error('ERR_SSE_PROXY_DEPENDENCY', new Error(reason))
    const events = this.#end()
    if (!events) return
    // The code that has used it may go on with the request, and throw where that is destroyed already.
    queueMicrotask(() => this.#giveUp())
    events.onFailed(error, false)
  }

  onFailure(error: unknown): true {
    // A request that is destroyed before the pass has ended was destroyed by the app: the package does so afterwards only. Without
    // a request, an error of Node's own means that the path or a header cannot be sent.
    const isOwn = this.#sent ? this.#sent.isDestroyed : codeOf(error).startsWith('ERR_')
    if (isOwn) this.#fail('ERR_SSE_PROXY_NOT_SENT', error)
    else this.#failed(error)
    return true
  }

  /** http-proxy-middleware has put the headers on the stand-in; the body is read here from now on. */
  onHead(answer: IncomingMessage): void {
    if (!this.#events) {
      answer.destroy()
      return
    }
    if (this.#standIn.statusCode < 200) {
      answer.destroy()
      this.#fail('ERR_SSE_PROXY_BAD_ANSWER')
      return
    }
    if (debug.enabled) this.#debugAnswer()
    const { request, onOver } = this.#order
    const { proxy, fastLane } = this.#context
    if (proxy.tellsEnd) answer.once('end', () => proxy.tellEnd(request.req, request.res, answer))
    const sent = this.#sent
    sent?.letGo()
    this.#unwatchUpload?.()
    const headRead = fastLane ? sent?.headRead : undefined
    const body = new ResponseBody(answer, sent?.request, headRead, onOver)
    this.#end()?.onAnswer(this.#response(body, isDelimited(answer), answer.headers.connection))
  }

  /** Without a head: a `forward` without a target, or a handler of the app's that answers in the upstream's place. */
  onEnd(): void {
    const events = this.#end()
    if (!events) return
    this.#sent?.request.destroy()
    this.#order.onOver?.onOver('given-up')
    events.onAnswer(this.#response(EMPTY_BODY, true, undefined))
  }

  /** The target of this pass, with the query of the request where that belongs to it. */
  #targetOf(options: HpmOptions, req: { url?: string | undefined }): HpmTarget | undefined {
    // Without a target http-proxy-middleware has only a copy to forward.
    const { chosen } = this
    const target = options.target === chosen?.target ? chosen?.parsed : options.target
    const given = target && options.prependPath === false ? withoutPath(target) : target
    return given && queryOntoTarget(given, options, req)
  }

  #agentFor(secure: boolean): Agent {
    const { isFresh, upstream } = this.#order
    const { agents } = this.#context
    return isFresh ? agents.fresh(secure, upstream) : agents.pooled(secure, upstream)
  }

  /** httpxy takes a body that is a stream as `options.buffer`; another one it pipes from the stand-in. */
  #openUpload(options: HpmOptions): void {
    const { body } = this.#order.request
    this.#upload = openBody(body)
    // To send it again after a redirect, httpxy reads the body itself.
    if (options.followRedirects) this.#upload ??= readableOf(body)
    if (this.#upload) options.buffer = this.#upload
  }

  #onConnected({ socket }: ClientRequest): void {
    // Some releases of Node do not where the connection is TLS, and none does where it is not to be used again.
    if (this.#hasOwnAgent) socket?.setKeepAlive(true, UPSTREAM_SILENCE_MS)
    this.#events?.onConnected()
  }

  // An answer that is no answer (101, say) closes the connection without an error.
  readonly #onClosed = (): void => {
    this.#failed(new Error('closed without an answer'))
  }

  /** By what is known of the connection: an answer that is none, or no answer. */
  #failed(error: unknown): void {
    if (error instanceof Refusal) return this.#fail('ERR_SSE_PROXY_REFUSED', error)
    if (error instanceof Unsendable) return this.#fail('ERR_SSE_PROXY_NOT_SENT', error)
    const isAnswer = this.#sent?.isAnswered || codeOf(error).startsWith('HPE_')
    const code = isAnswer ? 'ERR_SSE_PROXY_BAD_ANSWER' : 'ERR_SSE_PROXY_UNREACHABLE'
    this.#fail(code, error, this.#sent?.isOnReused)
  }

  #fail(code: UpstreamErrorCode, cause?: unknown, diedOnReuse = false): void {
    const error = this.#error(code, cause)
    const events = this.#end()
    if (!events) return
    this.#giveUp()
    events.onFailed(error, diedOnReuse)
  }

  #error(code: UpstreamErrorCode, cause: unknown): UpstreamError {
    return new UpstreamError(code, this.upstream, cause, this.mayHaveArrived)
  }

  /** Ends the pass. Returns the events, for the last of them; undefined where it has ended already. */
  #end(): TransportEvents | undefined {
    const events = this.#events
    if (!events) return undefined
    this.#events = undefined
    for (const request of this.#redirected ?? []) request.destroy()
    return events
  }

  /** Makes httpxy destroy its request, and http-proxy-middleware's promise settle. */
  #giveUp(): void {
    this.#standIn.emit('close')
    this.#sent?.request.destroy()
  }

  #response(body: UpstreamBody, delimited: boolean, connection: string | undefined): UpstreamResponse {
    const { statusCode, statusMessage, headers } = this.#standIn
    return {
      status: statusCode,
      statusMessage,
      headers: withoutHopByHop(headers, connection),
      upstream: this.upstream ?? '',
      body,
      delimited,
    }
  }

  #debugAnswer(): void {
    const { method, path = '' } = this.#sent?.request ?? {}
    const asked = path.replace(/\?.*/s, '')
    debug('%s %s %s at %s answered %d', this.#order.request.id, method, asked, this.upstream, this.#standIn.statusCode)
  }
}

// Of an answer that is no upstream's.
const EMPTY_BODY: UpstreamBody = {
  start: (sink) => sink.onEnd(),
  pause() {},
  unpause() {},
  destroy() {},
}

/** Whether a request goes where the target is, by the Host that httpxy has set for it. */
function isAtOrigin(request: ClientRequest, target: HpmTarget | undefined): boolean {
  return target instanceof URL && request.protocol === target.protocol && request.getHeader('host') === target.host
}

/** Whether requests wait for a socket, which they do at a limit of the agent's only. */
function hasWaiting(agent: unknown): boolean {
  return agent instanceof Agent && Object.keys(agent.requests).length > 0
}
