// What http-proxy-middleware gets in place of the client's request and response, once for each attempt. It rewrites
// the one and takes over the other; the client's own stay as they are, for the next attempt and for their owner.

import { EventEmitter } from 'node:events'
import { type ClientRequest, IncomingMessage, type OutgoingHttpHeaders, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import type { Writable } from 'node:stream'
import type { HpmOptions } from '../hpm.ts'
import type { Header } from '../upstream-response.ts'
import { originForm } from './path-boundary.ts'
import { type RequestBody, sendBody } from './request-body.ts'
import type { Upstream } from './transport.ts'

/** Handles one pass through http-proxy-middleware: decides about it, and is told what httpxy does. */
export interface PassHandler {
  /** The upstream to use, unless a router chooses. */
  readonly chosen: Upstream | undefined
  /** The last word on the options and the path of this pass, when routing and rewriting are done; false stops it. */
  prepare(options: HpmOptions, req: { url?: string | undefined }): boolean
  /** A request to the upstream has a socket: the first one, then one for each redirect followed. */
  onUpstreamRequest(request: ClientRequest, options: HpmOptions): void
  /** Routing or rewriting failed, before anything was sent. */
  onUnroutable(error: unknown): void
  /** The request has failed, as httpxy sees it. Returns what `emit` is to return: that there was a listener. */
  onFailure(error: unknown): true
  /** A stand-in was asked for a member that it does not have: a release of a dependency that is newer than this file. */
  onUnforeseen(member: string): void
  /** The answer's headers are on the stand-in as the client is to have them. */
  onHead(answer: IncomingMessage): void
  /** The response is complete without an answer of an upstream's. */
  onEnd(): void
}

/** The parts of a request that http-proxy-middleware reads, or may change, over HTTP/1.1 whatever the client speaks. */
export class StandInRequest extends EventEmitter {
  /** The client's own, which stays as it is. */
  readonly client: IncomingMessage
  // What http-proxy-middleware rewrites.
  url: string
  readonly headers: OutgoingHttpHeaders
  readonly method: string
  readonly httpVersion = '1.1'
  readonly httpVersionMajor = 1
  readonly handler: PassHandler
  readonly #body: RequestBody
  // Whether a handler of the app's has written a body of its own.
  #isReplaced = false
  // Made when a member of it is asked for.
  #rest: IncomingMessage | undefined

  constructor(client: IncomingMessage, headers: OutgoingHttpHeaders, body: RequestBody, handler: PassHandler) {
    super()
    this.client = client
    this.handler = handler
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

  /** Has the members that a stand-in has not: an empty request, connected to nothing. */
  get rest(): IncomingMessage {
    if (this.#rest) return this.#rest
    this.#rest = new IncomingMessage(new Socket()).on('error', () => {})
    this.#rest.push(null)
    return this.#rest
  }
}

/** What httpxy needs of a response, and no more: one is made for every attempt. */
export class StandInResponse extends EventEmitter {
  /** The client's own, which httpxy never sees. */
  readonly client: ServerResponse
  readonly handler: PassHandler
  statusCode = 200
  statusMessage = ''
  /** As they were set: httpxy sets each once. */
  readonly headers: Header[] = []
  readonly headersSent = false
  readonly writableFinished = false
  /** Set, it keeps httpxy from relaying the body, which is the handler's. */
  finished = false
  // Made when a member of it is asked for, or the app needs a response after the client's own has left.
  #detached: DetachedResponse | undefined

  constructor(client: ServerResponse, handler: PassHandler) {
    super()
    this.client = client
    this.handler = handler
  }

  setHeader(name: string, value: string | string[]): void {
    this.headers.push([name, value])
  }

  get writableEnded(): boolean {
    return this.finished
  }

  end(): void {
    this.handler.onEnd()
  }

  /** Has the members that a stand-in has not, and goes nowhere. */
  get rest(): ServerResponse {
    this.#detached ??= new DetachedResponse(this.client, this.handler)
    return this.#detached
  }

  /** What the app's functions get as the response: its own, unless that has left and can only be harmed. */
  get forApp(): ServerResponse {
    return this.client.headersSent ? this.rest : this.client
  }
}

/** A response that goes nowhere. */
class DetachedResponse extends ServerResponse {
  readonly #handler: PassHandler

  constructor(client: ServerResponse, handler: PassHandler) {
    super(client.req)
    this.#handler = handler
    // Without a listener an error would end the process.
    this.on('error', () => {})
  }

  override end(): this {
    this.#handler.onEnd()
    return this
  }
}

/**
 * Gives the class of a stand-in the rest of what Node's own has. httpxy is asked for by range, so a release of it may use
 * more than this file knows; where a method were missing then, its listeners would throw and the process end. What is asked
 * for here fails its attempt, and the detached object answers, so that nothing throws meanwhile.
 */
function completeLike(node: object, standIn: { prototype: StandIn }, name: string): void {
  const plain = new EventEmitter()
  for (const member of membersOf(node)) {
    const known = Object.getOwnPropertyDescriptor(standIn.prototype, member)
    // What can be set or called already, here or with every emitter.
    if (member in plain || (known && !known.get)) continue
    const note = (self: StandIn) => self.handler.onUnforeseen(`${name}.${String(member)}`)
    Object.defineProperty(standIn.prototype, member, {
      configurable: true,
      get:
        known?.get ??
        function (this: StandIn) {
          note(this)
          const value: unknown = Reflect.get(this.rest, member)
          return typeof value === 'function' ? value.bind(this.rest) : value
        },
      set(this: StandIn) {
        note(this)
      },
    })
  }
}

type StandIn = StandInRequest | StandInResponse

/** Its own, and those of its classes. */
function membersOf(node: object): Set<string | symbol> {
  const members = new Set<string | symbol>()
  for (let of: object | null = node; of !== null; of = Object.getPrototypeOf(of)) {
    for (const member of Reflect.ownKeys(of)) members.add(member)
  }
  return members
}

const ofNode = new IncomingMessage(new Socket())
completeLike(ofNode, StandInRequest, 'req')
completeLike(new ServerResponse(ofNode), StandInResponse, 'res')
