// One request and its answer on a stream of a session: bytes of HTTP/1.1 in, bytes of HTTP/1.1 out. What is not known to be
// complete never becomes so here, neither a request that is given up nor an answer that is reset.

import type { ClientHttp2Stream, IncomingHttpHeaders } from 'node:http2'
import { constants } from 'node:http2'
import { asError } from '../../app-callback.ts'
import { joined } from '../../bytes.ts'
import { AnswerWriter } from './answer-writer.ts'
import { type RequestHead, RequestReader, Unsendable } from './request-reader.ts'
import { Refusal, Rejection, type Session } from './session.ts'

// What upstreams reset requests with that have a path, a header or a number of headers that they do not take.
const FAULTS_OF_REQUESTS: ReadonlySet<number | undefined> = new Set([
  constants.NGHTTP2_PROTOCOL_ERROR,
  constants.NGHTTP2_ENHANCE_YOUR_CALM,
])

/** Where the answer goes. */
export interface ExchangeOwner {
  /** How much of the request may have arrived. */
  bytesWritten: number
  /** How much of the answer has come. */
  bytesRead: number
  give(bytes: Buffer): void
  destroy(error: Error): unknown
}

export class Exchange {
  // A place on it is kept for the stream; given back by `destroy`.
  readonly #session: Session
  readonly #owner: ExchangeOwner
  readonly #reader: RequestReader
  readonly #writer = new AnswerWriter()
  // Set when the head of the request has come.
  #stream: ClientHttp2Stream | undefined
  #begunAt = 0
  // Takes back a request whose body has not ended. `stream.close` would end that first.
  #upload: AbortController | undefined
  // The head of the answer, for the rest of the turn in which it came.
  #head: Buffer | undefined
  // Whether data of the answer is passed on; before its head there is none that must flow.
  #isFlowing = false
  // Whether the stream has said that it ends. Node lets it end as well where it was reset, or its connection has closed.
  #isComplete = false
  #trailers: IncomingHttpHeaders = {}
  // Set with the end of the stream, whatever that was.
  #isOver = false
  // What was wrong with the stream, where Node has said it.
  #cause: Error | undefined

  constructor(session: Session, owner: ExchangeOwner) {
    this.#session = session
    this.#owner = owner
    this.#reader = new RequestReader(session.scheme)
  }

  write(bytes: Buffer, callback: () => void): void {
    try {
      this.#send(this.#reader.read(bytes), callback)
    } catch (error) {
      if (!this.#stream) this.#owner.bytesWritten = 0
      this.#owner.destroy(new Unsendable(asError('the request', error)))
    }
  }

  pause(): void {
    if (this.#isFlowing) this.#stream?.pause()
  }

  resume(): void {
    if (this.#isFlowing) this.#stream?.resume()
  }

  /** Gives the stream up, where it is not over, and its place back. */
  destroy(): void {
    // How the stream ends is ignored from now on: `#onEnd` would make an error that is never read, at 2 % of the CPU of a request.
    this.#isOver = true
    this.#head = undefined
    const stream = this.#stream
    if (stream && !stream.closed) {
      if (this.#reader.isEnded) stream.close(constants.NGHTTP2_CANCEL)
      else this.#upload?.abort()
      if (!this.#isComplete || !this.#reader.isEnded) this.#session.giveUp(performance.now() - this.#begunAt)
    }
    this.#session.release()
  }

  #send(body: Buffer[], callback: () => void): void {
    const { head, isEnded } = this.#reader
    if (head && !this.#stream) this.#begin(head)
    const stream = this.#stream
    // An upstream that has answered before the end of the body may not want the rest of it.
    if (!stream || stream.writableEnded || stream.destroyed) return callback()
    const last = body.pop()
    for (const bytes of body) stream.write(bytes)
    if (last) stream.write(last, () => callback())
    else callback()
    if (isEnded) stream.end()
  }

  #begin(head: RequestHead): void {
    if (!head.isWhole) this.#upload = new AbortController()
    const stream = this.#session.request(head, this.#upload?.signal)
    if (!stream) return this.#refuse('the connection takes no more requests')
    this.#stream = stream
    this.#begunAt = performance.now()
    const { push } = stream
    stream.push = (chunk, encoding) => {
      if (chunk === null && !stream.closed) this.#isComplete = true
      return push.call(stream, chunk, encoding)
    }
    stream.on('headers', (headers) => this.#onHead(headers, head.method, stream))
    stream.on('response', (headers) => this.#onHead(headers, head.method, stream))
    stream.on('trailers', (trailers) => {
      this.#trailers = trailers
    })
    stream.on('end', () => this.#onEnd(stream))
    stream.on('error', (error) => {
      this.#cause = error
    })
    stream.on('close', () => this.#onEnd(stream))
  }

  #onHead(headers: IncomingHttpHeaders, method: string, stream: ClientHttp2Stream): void {
    this.#session.heard()
    let head: Buffer
    try {
      head = this.#writer.head(headers, method)
    } catch (error) {
      // An answer, if none that can be used.
      this.#owner.bytesRead++
      this.#owner.destroy(asError('the answer', error))
      return
    }
    if (Number(headers[':status']) < 200) return this.#owner.give(head)
    this.#head = head
    setImmediate(() => this.#passHead(stream))
  }

  /** Node tells of a head before it has looked at what was read with it. Together both are one read, as over HTTP/1.1. */
  #passHead(stream: ClientHttp2Stream): void {
    const head = this.#head
    this.#head = undefined
    if (!head) return
    this.#isFlowing = true
    const begun: Buffer | null = stream.read()
    this.#owner.give(joined([head, ...(begun ? this.#writer.data(begun) : [])]))
    stream.on('data', (bytes: Buffer) => {
      this.#session.heard()
      for (const piece of this.#writer.data(bytes)) this.#owner.give(piece)
    })
  }

  /** The stream is over, one way or another. */
  #onEnd(stream: ClientHttp2Stream): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#passHead(stream)
    // Where the connection has broken meanwhile, what was not read yet is gone with it.
    if (this.#isComplete && stream.readableLength === 0) {
      for (const piece of this.#writer.end(this.#trailers)) this.#owner.give(piece)
    } else if (!this.#isFlowing && this.#session.hasRefused(stream))
      this.#refuse('the upstream has not taken the request')
    else if (!this.#isFlowing && FAULTS_OF_REQUESTS.has(stream.rstCode) && !this.#session.cause)
      this.#owner.destroy(new Rejection(`the upstream has reset the stream, code ${stream.rstCode}`))
    else {
      const reset = () =>
        Object.assign(new Error(`the upstream has reset the stream, code ${stream.rstCode}`), { code: 'ECONNRESET' })
      const cause = this.#cause ?? this.#session.cause
      // What the connection has refused are others: this one may have been worked on.
      this.#owner.destroy(cause && !(cause instanceof Refusal) ? cause : reset())
    }
  }

  #refuse(reason: string): void {
    this.#owner.bytesWritten = 0
    this.#owner.destroy(new Refusal(reason))
  }
}
