// The one owner of the client's response. Nothing else writes to it or ends it, unless the app answers in the proxy's
// place; here is known what of it differs between HTTP/1.0, 1.1 and 2.

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { ServerHttp2Stream } from 'node:http2'
import type { Socket } from 'node:net'
import { chunkOf, type SharedBytes } from '../http-chunks.ts'
import type { StreamFormat } from '../options/format-options.ts'
import { watchClient } from '../tcp-keepalive.ts'
import type { UpstreamResponse } from '../upstream-response.ts'
import { connectionForChunks, http2Stream, isPlainTcp, reset } from './client-connection.ts'
import { Http2Writes } from './http2-writes.ts'
import { LAST_EVENT_MS } from './last-event.ts'
import type { HeadersSet } from './response-headers.ts'
import { StallGuard } from './stall-guard.ts'

/** What of an answer goes before its body. */
export type ResponseHead = Pick<UpstreamResponse, 'status' | 'statusMessage' | 'headers' | 'cookie'>

/** Hears of the client's backpressure. */
export interface WriterListener {
  /** The client has taken what was waiting. */
  onDrain(): void
  /** The client took nothing for as long as it may. */
  onStall(): void
  /** More waits for the end of the stream than may. */
  onOverflow?(): void
}

// Bun keeps the head until there is a body, unless `flushHeaders` is called, which writes the bytes that came.
const isBun = process.versions.bun !== undefined

/** Writes one response: a head, then bytes or whole HTTP chunks, then one of the endings. */
export class ClientWriter {
  readonly #req: IncomingMessage
  readonly #res: ServerResponse
  // Whether chunks may go to the client's connection past Node's writer.
  readonly #fastLane: boolean
  // How long the client may take nothing of what waits; 0 for no bound. Set by `watch`.
  #writeMs = 0
  // Undefined before `watch`. Replaced at the end, when only the last bytes are waited for.
  #listener: WriterListener | undefined
  // Made when the client falls behind for the first time, where that is bounded.
  #guard: StallGuard | undefined
  // Set by `open`. Headers that were sent before that are the app's, which has answered in the proxy's place.
  #opened = false
  // Set by `openStream`: the head of a stream leaves by itself, and its chunks may be written here.
  #isStream = false
  // Set by the first write. A byte order mark may not follow after that.
  #wroteBody = false
  // The client's connection, where chunks are made here and go straight to it. Then all of the body does: Node may
  // keep for a while what `res.write` takes, and would be overtaken.
  #connection: Socket | undefined
  // Whether what that has taken refers to nothing of what it was given.
  #writesAtOnce = false
  // The same for a stream over HTTP/2. Undefined where that is not known.
  #http2Writes: Http2Writes | undefined
  // Backpressure: set when a write was not taken, cleared by 'drain'. One listener waits for that, however many writes.
  #isBehind = false
  // Set by the first `break` over HTTP/2, whose reset waits for what has been written.
  #isBreaking = false

  constructor(req: IncomingMessage, res: ServerResponse, fastLane: boolean) {
    this.#req = req
    this.#res = res
    this.#fastLane = fastLane
  }

  /** Whether the client left, or the app answered in the proxy's place. */
  get isOver(): boolean {
    const res = this.#res
    const stream = http2Stream(res)
    const gone = stream
      ? stream.destroyed || stream.closed
      : res.destroyed || res.closed || res.socket?.destroyed === true
    return gone || res.writableEnded || (res.headersSent && !this.#opened)
  }

  /** What becomes of an event stream. */
  get format(): StreamFormat {
    return 'event-stream'
  }

  /** Whether the client has its headers from here. */
  get isOpen(): boolean {
    return this.#opened
  }

  /** Whether anything of the body has been written. */
  get wroteBody(): boolean {
    return this.#wroteBody
  }

  /** Whether chunks can be had as HTTP carries them. */
  get takesChunks(): boolean {
    return this.#connection !== undefined
  }

  /**
   * Whether the kernel has taken all that was written as chunks, so that nothing refers to it. Always false where that is not
   * known.
   */
  get isWaiting(): boolean {
    return this.#writesAtOnce && this.#connection?.writableLength === 0
  }

  /** Whether it will be known what of that is not referred to any more. */
  get mayBorrow(): boolean {
    return this.#http2Writes !== undefined || this.isWaiting
  }

  /** Whether anything that was written and lies in this memory is referred to. */
  keeps(memory: Buffer): boolean {
    return this.#http2Writes?.referTo(memory) ?? !this.isWaiting
  }

  /** Whether nothing of what was written is referred to any more, where nothing more is written. */
  get isDone(): boolean {
    const socket = this.#writesAtOnce ? this.#connection : undefined
    if (socket) return socket.writableLength === 0 || socket.destroyed
    const closing = http2Stream(this.#res) ?? this.#res
    return closing.closed || closing.destroyed
  }

  /** Whether it has more than it can take; `onDrain` follows. */
  get isBehind(): boolean {
    return this.#isBehind
  }

  /** What has been written and not been taken. */
  get waitingBytes(): number {
    return this.#res.writableLength
  }

  /** The headers that the app's middleware has set so far. */
  get appHeaders(): HeadersSet {
    return this.#res.getHeaders()
  }

  /** Sets the head; it leaves with the first bytes of the body or with `flush`. */
  open({ status, statusMessage, headers, cookie }: ResponseHead): void {
    const res = this.#res
    this.#opened = true
    res.statusCode = status
    // HTTP/2 has no place for it, and some bytes have none anywhere.
    if (this.#req.httpVersionMajor < 2 && isReasonPhrase(statusMessage)) res.statusMessage = statusMessage
    for (const [name, value] of headers) setHeader(res, name, value)
    if (cookie !== undefined) res.setHeader('Set-Cookie', [...listOf(res.getHeader('set-cookie')), cookie])
  }

  /** The same for an event stream. */
  openStream(head: ResponseHead): void {
    this.open(head)
    this.#isStream = true
    this.watchConnection()
  }

  /** Has the kernel ask after a client to which nothing is written. */
  watchConnection(): void {
    if (!http2Stream(this.#res)) watchClient(this.#res.socket)
  }

  /** Sends the head if it has not left. */
  flush(): void {
    const res = this.#res
    if (res.headersSent) return
    // Asked before the first write, around which Node itself corks.
    const isCorked = res.writableCorked > 0
    // Node's flushHeaders would write the head as UTF-8, and bytes beyond ASCII would not be those that came.
    const stream = http2Stream(res)
    if (stream || isBun) res.flushHeaders()
    else res.write('', 'latin1')
    if (!this.#fastLane || !this.#isStream || isCorked) return
    if (stream) this.#http2Writes = Http2Writes.of(res, stream)
    this.#connection = connectionForChunks(res)
    this.#writesAtOnce = this.#connection !== undefined && isPlainTcp(this.#connection)
  }

  /** The same at once, where there is nothing that could leave together with it. */
  flushNow(): void {
    const { socket } = this.#res
    const wasCorked = socket?.writableCorked !== 0
    this.flush()
    // Node holds what is written first until the turn is over.
    if (!wasCorked) socket.uncork()
  }

  /** @param writeMs how long the client may take nothing of what waits for it; 0 for ever */
  watch(writeMs: number, listener: WriterListener): void {
    this.#writeMs = writeMs
    this.#listener = listener
  }

  /** Returns false when the client is behind; `onDrain` follows. */
  write(bytes: Buffer): boolean {
    this.#begin()
    if (this.#connection) return this.writeChunks(chunkOf([bytes]))
    if (this.#isShut) return true
    if (this.#guard) this.#guard.writtenBytes += bytes.length
    const writes = this.#http2Writes ?? this.#res
    // What a middleware has put in its place may return nothing, and 'drain' comes only where much waits.
    const taken = writes.write(bytes) ?? this.#res.writableLength < this.#res.writableHighWaterMark
    return taken || this.#fallBehind()
  }

  /** Has several writes leave as one until `uncork`, where each would wait for the one before it: over HTTP/2. */
  cork(): { uncork(): void } | undefined {
    const stream = http2Stream(this.#res)
    stream?.cork()
    return stream
  }

  /** The same for bytes that other clients get as well: their chunk is made once for all. */
  writeShared(shared: SharedBytes): boolean {
    this.#begin()
    return this.#connection ? this.writeChunks(shared.chunk) : this.write(shared.bytes)
  }

  /** The same for what is whole chunks already, in however many buffers; only where `takesChunks`. */
  writeChunks(chunks: readonly Buffer[]): boolean {
    const socket = this.#connection
    if (!socket?.writable || this.#isShut) return true
    this.#wroteBody = true
    let taken = true
    if (chunks.length > 1) socket.cork()
    for (const chunk of chunks) {
      if (this.#guard) this.#guard.writtenBytes += chunk.length
      taken = socket.write(chunk)
    }
    if (chunks.length > 1) socket.uncork()
    return taken || this.#fallBehind()
  }

  /** Ends the response as complete. */
  end(): void {
    this.stopWaiting()
    this.#res.end()
    if (!this.#res.writableFinished) this.#guardLastBytes()
  }

  /** Ends the response as complete, and its connection with it, or, where it has siblings, after them. */
  endConnection(): void {
    const stream = http2Stream(this.#res)
    if (stream) {
      stream.session?.close()
    } else {
      const { socket } = this.#res
      this.#res.once('finish', () => socket?.destroySoon())
    }
    this.end()
  }

  /**
   * Ends the response so that the client knows it for incomplete. What has been written still leaves, while the client takes
   * it; called again, this lets go of the client at once.
   */
  break(): void {
    this.stopWaiting()
    const res = this.#res
    if (res.destroyed) return
    // Without a head a client would take the upstream's failure for one of the connection.
    if (this.#opened) this.flush()
    const stream = http2Stream(res)
    if (stream) return this.#breakStream(stream)
    const { socket } = res
    // One that has been ended already, because the client has, cannot be reset any more, nor be waited for.
    if (!socket?.writable) return void res.destroy()
    // Without chunks the end of the connection is the end of the body: only a reset says that it is not.
    const endsWithConnection = res.headersSent && !res.chunkedEncoding && !res.hasHeader('content-length')
    if (endsWithConnection && 'resetAndDestroy' in socket) {
      reset(socket)
    } else if (res.writableLength > 0) {
      // A turn later, since some releases of Node keep what was written in the response until then.
      setImmediate(() => socket.destroySoon())
      this.#guardLastBytes()
    } else {
      res.destroy()
    }
  }

  /** The same when the client has had time to read what came before. */
  breakAfterLastEvent(): void {
    this.stopWaiting()
    if (this.#opened) this.flush()
    const res = this.#res
    // Until then the app, which is told of the loss, may try to end the answer: it would look whole.
    res.write = () => false
    res.end = () => res
    const timer = setTimeout(() => this.break(), LAST_EVENT_MS)
    res.once('close', () => clearTimeout(timer))
  }

  #breakStream(stream: ServerHttp2Stream): void {
    if (this.#isBreaking) return this.destroy()
    this.#isBreaking = true
    // One turn for what was written to become frames. With an error, since without one an end of the stream would go out first.
    const reset = () => void setImmediate(() => stream.destroy(new Error('the upstream was lost')))
    if (this.waitingBytes === 0 || stream.writableEnded) return reset()
    // The reset would drop what the client's window has no room for. An empty write is done when all before it is, but not
    // while the window is full to the byte, when 'drain' comes.
    stream.write('', reset)
    this.#guardLastBytes(reset)
  }

  /** Lets go of the client at once; what waits for it is dropped. */
  destroy(): void {
    this.stopWaiting()
    const stream = http2Stream(this.#res)
    if (stream) stream.destroy(new Error('the client does not read'))
    else this.#res.destroy()
  }

  /** Whether nothing more may follow: behind an end that the app has set, it would be taken for the next answer. */
  get #isShut(): boolean {
    return this.#res.destroyed || this.#res.writableEnded
  }

  /** The head of a stream leaves by itself: Node would join the body to it, and keep both. */
  #begin(): void {
    if (this.#wroteBody) return
    this.#wroteBody = true
    if (this.#isStream) this.flush()
  }

  #fallBehind(): false {
    if (!this.#isBehind) (this.#connection ?? this.#res).once('drain', () => this.#drained())
    this.#isBehind = true
    this.#guardStall()
    return false
  }

  #drained(): void {
    this.#isBehind = false
    this.#listener?.onDrain()
  }

  /** Ends the wait for a client that is behind: there is no `onStall` any more. */
  stopWaiting(): void {
    this.#guard?.stop()
  }

  #guardStall(): void {
    if (this.#writeMs === 0) return
    this.#guard ??= new StallGuard(
      this.#res,
      () => this.waitingBytes,
      () => this.#listener?.onStall(),
    )
    this.#guard.begin(this.#writeMs)
  }

  /** The stream has been given back, but its last bytes need the client to read: one that does not is let go. */
  #guardLastBytes(onDrain: () => void = () => {}): void {
    this.#listener = { onDrain, onStall: () => this.destroy() }
    if (!this.#res.closed) this.#guardStall()
  }
}

function isReasonPhrase(statusMessage: string): boolean {
  return /^[\t\x20-\x7e\x80-\xff]+$/.test(statusMessage)
}

/** A header that Node will not send is left out rather than ending the process. */
function setHeader(res: ServerResponse, name: string, value: string | string[]): void {
  try {
    res.setHeader(name, value)
  } catch {}
}

function listOf(value: number | string | string[] | undefined): string[] {
  if (value === undefined) return []
  return Array.isArray(value) ? value : [String(value)]
}
