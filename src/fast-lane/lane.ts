// The short way of a body in chunks: from the upstream's connection past Node's parser, to a sink that takes many chunks at
// once, as they are or their data. The parser stands between two chunks meanwhile. What is not plain can be given to it at any
// time; above all the end of the body, which it sees like any other.
//
// What Node does inside is not relied on but watched: its parser must be the one listener to the connection's data, and
// nothing bypasses it before it has brought exactly the data of the bytes that it was given.
//
// A sink that writes what it gets at once may have reads from memory that is used again. All others, the parser among them,
// get memory that is theirs.

import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { joined } from '../bytes.ts'
import { ChunkWalker, takeData } from '../http-chunks.ts'
import { type Borrower, lendReads } from '../read-buffer.ts'
import type { BodySink } from '../upstream-response.ts'

/** The body that takes the lane. */
export interface LaneOwner {
  /** Undefined from the end of the body on. */
  readonly sink: BodySink | undefined
  /** How much data Node's parser has brought. */
  readonly parsedBytes: number
}

const HEAD_END = Buffer.from('\r\n\r\n')
const CR = 13
const LF = 10
// Where the status begins, behind `HTTP/1.1 `.
const STATUS_AT = 9

/**
 * What was read of a body in chunks together with its head, which may be nothing. Undefined where the body is not in plain
 * chunks, or where it is not certain that the head begins with this read: an interim answer may have come before it.
 * @param read the one read that has brought all of the head
 */
export function chunksAfterHead(
  read: Buffer,
  { headers, httpVersion, rawHeaders, statusCode }: IncomingMessage,
): Buffer | undefined {
  if (headers['transfer-encoding'] !== 'chunked' || httpVersion !== '1.1') return undefined
  const end = read.indexOf(HEAD_END)
  let lines = 0
  for (let at = 0; at < end; at++) if (read[at] === CR && read[at + 1] === LF) lines++
  const isHead =
    read.toString('latin1', STATUS_AT, STATUS_AT + 4) === `${statusCode} ` && lines === rawHeaders.length / 2
  return isHead ? read.subarray(end + HEAD_END.length) : undefined
}

/** Stands in the place of Node's parser, until it has put that back. */
export class ChunkLane implements Borrower {
  readonly #owner: LaneOwner
  readonly #answer: IncomingMessage
  readonly #socket: Socket
  // Node's listener to the connection's data.
  readonly #parser: Reader
  // Where the parser is in its chunk; undefined while it stands between two, and everything goes past it.
  #parsed: ChunkWalker | undefined = new ChunkWalker()
  // How much data is to come of a chunk that goes past the parser in parts.
  #missing = 0
  // How much data the parser has to bring of what it was given. Anything else ends the lane.
  #dataBytes = 0
  // Whether the read on its way lies in memory that is used again.
  #isLent = false
  // Whether `pause` has stopped the connection.
  #isPaused = false
  // Whether the parser is back in its place, for good.
  #isOver = false

  private constructor(owner: LaneOwner, answer: IncomingMessage, parser: Reader) {
    const { socket } = answer
    this.#owner = owner
    this.#answer = answer
    this.#socket = socket
    this.#parser = parser
    // In this order: a moment without a listener might change what the connection does.
    socket.on('data', this.#onRead)
    socket.off('data', parser)
    lendReads(socket, this)
  }

  /**
   * Goes between an answer's connection and its parser, where that is possible.
   * @param start what was read of the body together with the head
   */
  static enter(answer: IncomingMessage, start: Buffer, owner: LaneOwner): ChunkLane | undefined {
    const { socket } = answer
    if (socket.destroyed) return undefined
    const [parser, ...others] = socket.listeners('data')
    // Another listener, here or there, is to see what it sees without the lane.
    if (!isReader(parser) || others.length > 0 || hasOtherReaders(answer)) return undefined
    const lane = new ChunkLane(owner, answer, parser)
    lane.#walk(start, false)
    if (!lane.#isInStep) lane.#leave()
    return lane.#isOver ? undefined : lane
  }

  /** Stops the connection too: the answer's own pause stops what comes through the parser. */
  pause(): void {
    // The connection may be another answer's by now.
    if (this.#isOver) return
    this.#isPaused = true
    this.#socket.pause()
  }

  unpause(): void {
    if (this.#isPaused) this.#socket.resume()
    this.#isPaused = false
  }

  // As a `Borrower`.

  borrow(read: Buffer): boolean {
    const { sink } = this.#owner
    const hasOthers = this.#socket.listenerCount('data') > 1
    if (this.#parsed || !sink?.mayBorrow || this.#isDisturbed || hasOthers) return false
    this.#isLent = true
    try {
      this.#pass(read)
    } finally {
      this.#isLent = false
    }
    return true
  }

  keeps(memory: Buffer): boolean {
    // Where the body has ended meanwhile, nobody can tell.
    return this.#owner.sink?.keeps?.(memory) ?? true
  }

  get takesHuge(): boolean {
    return this.#owner.sink?.takesChunks === true
  }

  readonly #onRead = (read: Buffer): void => {
    if (!this.#parsed) return this.#pass(read)
    if (!this.#isInStep) this.#leave()
    // The chunk that the parser has begun is its own. Before it has brought any data nothing bypasses it.
    const isKnown = this.#dataBytes > 0 && !this.#isOver
    const end = this.#walk(read, isKnown)
    if (end > 0) this.#parse(end < read.length ? read.subarray(0, end) : read)
    if (end < read.length) this.#offer(end > 0 ? read.subarray(end) : read)
  }

  /** Takes a read that goes past the parser. */
  #pass(read: Buffer): void {
    if (this.#missing > 0) this.#goOn(read)
    else this.#offer(read)
  }

  /** Lets the sink have what begins with a chunk, and the parser what is left of that. */
  #offer(read: Buffer): void {
    const { sink } = this.#owner
    if (!sink || this.#isDisturbed) {
      this.#leave()
      return this.#parse(joined([...(sink?.releaseChunks?.() ?? []), read]))
    }
    const back = sink.takesChunks && sink.onChunks ? sink.onChunks(read) : [read]
    // Where the sink has taken all there is nothing to look at, and that is nearly every read.
    if (back.length > 0) this.#takeBack(joined(back))
    else this.#parsed = undefined
  }

  /** What the sink has not taken as chunks comes to it as data, and what is no plain chunk goes to the parser. */
  #takeBack(bytes: Buffer): void {
    const { data, missing, rest } = takeData(bytes)
    this.#missing = missing
    this.#parsed = undefined
    if (data.length > 0) this.#owner.sink?.onData(data, this.#isLent)
    if (rest.length > 0) this.#hand(rest)
  }

  /** Goes on in a chunk that the sink gets as data. */
  #goOn(read: Buffer): void {
    const { sink } = this.#owner
    const missing = this.#missing
    if (!sink || this.#isDisturbed) {
      this.#leave()
      return this.#parse(this.#asChunk(read))
    }
    if (read.length < missing) {
      this.#missing -= read.length
      return sink.onData(read, this.#isLent)
    }
    const isEnd = read[missing] === CR && read[missing + 1] === LF
    // How a chunk ends that does not end here in the plain way is for the parser to judge, behind the last byte of the data.
    const end = isEnd ? missing : missing - 1
    this.#missing = missing - end
    if (end > 0) sink.onData(read.subarray(0, end), this.#isLent)
    if (!isEnd) return this.#hand(this.#asChunk(read.subarray(end)))
    if (end + 2 < read.length) this.#offer(read.subarray(end + 2))
  }

  /** To the parser, which stands between two chunks, the rest of one is a chunk. */
  #asChunk(read: Buffer): Buffer {
    const size = this.#missing.toString(16)
    this.#missing = 0
    return Buffer.concat([Buffer.from(`${size}\r\n`, 'latin1'), read])
  }

  /** At once: behind the end of a body there is no parser any more, and what is kept for later would be lost. */
  #hand(bytes: Buffer): void {
    this.#walk(bytes, false)
    this.#parse(bytes)
  }

  /** Follows the parser through what it is given, to the end of its chunk or of all; returns where that is. */
  #walk(bytes: Buffer, toEndOfChunk: boolean): number {
    this.#parsed ??= new ChunkWalker()
    const walker = this.#parsed
    let at = 0
    while (at < bytes.length && !(toEndOfChunk && walker.isBetweenChunks)) {
      at = walker.next(bytes, at)
      this.#dataBytes += walker.dataEnd - walker.dataStart
    }
    // The end of the body, or nothing that is known here.
    if (walker.isForeign) this.#leave()
    return at
  }

  #parse(bytes: Buffer): void {
    // What it brings is a part of what it is given, and may be kept for long.
    if (!this.#socket.destroyed) this.#parser.call(this.#socket, this.#isLent ? Buffer.from(bytes) : bytes)
  }

  /** Whether the lane cannot go on. */
  get #isDisturbed(): boolean {
    return this.#isOver || !this.#isInStep || hasOtherReaders(this.#answer)
  }

  /** Whether the parser has brought just what was expected of it. */
  get #isInStep(): boolean {
    return this.#owner.parsedBytes === this.#dataBytes
  }

  #leave(): void {
    if (this.#isOver) return
    this.#isOver = true
    lendReads(this.#socket, undefined)
    this.#socket.on('data', this.#parser)
    this.#socket.off('data', this.#onRead)
  }
}

type Reader = (read: Buffer) => void

function isReader(listener: unknown): listener is Reader {
  return typeof listener === 'function'
}

/** Whether a handler of the app's reads the answer beside its body. */
function hasOtherReaders(answer: IncomingMessage): boolean {
  return answer.listenerCount('data') > 1
}
