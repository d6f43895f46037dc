// What http-proxy-middleware gets in place of the client's request and response, once for each attempt. It rewrites
// the one and takes over the other; the client's own stay as they are, for the next attempt and for their owner.

import { EventEmitter } from 'node:events'
import { type ClientRequest, type IncomingMessage, type OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { Writable } from 'node:stream'
import type { Header } from '../upstream-response.ts'
import { originForm } from './path-boundary.ts'
import { type RequestBody, sendBody } from './request-body.ts'
import type { HpmOptions, HpmTarget } from './transport-httpxy.ts'

/** What an attempt decides about its pass and wants to know of it. */
export interface PassTaker {
  /** The upstream to use, unless a router chooses. */
  readonly target: HpmTarget | undefined
  /** The last word on the options and the path of this pass, when routing and rewriting are done; false stops it. */
  prepare(options: HpmOptions, req: { url?: string | undefined }): boolean
  /** A request to the upstream has a socket: the first one, then one for each redirect followed. */
  onUpstreamRequest(request: unknown, options: HpmOptions): void
  /** Routing or rewriting failed, before anything was sent. */
  onUnroutable(error: unknown): void
  onFailure(error: unknown): true
  /** The answer's headers are on the stand-in as the client is to have them. */
  onHead(answer: IncomingMessage): void
  /** The response is complete without an answer of an upstream's. */
  onEnd(): void
}

/** The parts of a request that http-proxy-middleware reads, or may change, over HTTP/1.1 whatever the client speaks. */
export class StandInRequest extends EventEmitter {
  readonly client: IncomingMessage
  url: string
  readonly headers: OutgoingHttpHeaders
  readonly method: string
  readonly httpVersion = '1.1'
  readonly httpVersionMajor = 1
  readonly #body: RequestBody
  // Whether a handler of the app's has written a body of its own.
  #isReplaced = false

  constructor(client: IncomingMessage, headers: OutgoingHttpHeaders, body: RequestBody) {
    super()
    this.client = client
    this.url = originForm(client.url ?? '/')
    this.headers = headers
    this.method = client.method ?? 'GET'
    this.#body = body
  }

  get socket(): IncomingMessage['socket'] {
    return this.client.socket
  }

  get connection(): IncomingMessage['socket'] {
    return this.client.socket
  }

  get originalUrl(): unknown {
    return 'originalUrl' in this.client ? this.client.originalUrl : undefined
  }

  get baseUrl(): unknown {
    return 'baseUrl' in this.client ? this.client.baseUrl : undefined
  }

  /**
   * Runs the app's handlers of a request to the upstream. What they write, as http-proxy-middleware's `fixRequestBody` does,
   * is the body then: sent twice, it would be read as another request.
   */
  handOver(request: ClientRequest, handlers: () => void): void {
    const { write } = request
    const noted = (...args: unknown[]): unknown => {
      this.#isReplaced = true
      return Reflect.apply(write, request, args)
    }
    Object.assign(request, { write: noted })
    handlers()
    if (request.writableEnded) this.#isReplaced = true
    if (request.write === noted) Reflect.deleteProperty(request, 'write')
  }

  /** The body, where it is not a stream. */
  pipe(request: Writable): Writable {
    if (!this.#isReplaced) sendBody(this.#body, request)
    else if (!request.writableEnded) request.end()
    return request
  }
}

/** What httpxy needs of a response, and no more: one is made for every attempt. */
export class StandInResponse extends EventEmitter {
  readonly client: ServerResponse
  readonly taker: PassTaker
  statusCode = 200
  statusMessage = ''
  /** As they were set: httpxy sets each once. */
  readonly headers: Header[] = []
  readonly headersSent = false
  readonly writableFinished = false
  /** Set, it keeps httpxy from relaying the body, which is the taker's. */
  finished = false
  #detached: DetachedResponse | undefined

  constructor(client: ServerResponse, taker: PassTaker) {
    super()
    this.client = client
    this.taker = taker
  }

  setHeader(name: string, value: string | string[]): void {
    this.headers.push([name, value])
  }

  end(): void {
    this.taker.onEnd()
  }

  /** What the app's functions get as the response: its own, unless that has left and can only be harmed. */
  get forApp(): ServerResponse {
    if (!this.client.headersSent) return this.client
    this.#detached ??= new DetachedResponse(this.client, this.taker)
    return this.#detached
  }
}

/** A response that goes nowhere. */
class DetachedResponse extends ServerResponse {
  readonly #taker: PassTaker

  constructor(client: ServerResponse, taker: PassTaker) {
    super(client.req)
    this.#taker = taker
  }

  override end(): this {
    this.#taker.onEnd()
    return this
  }
}
