// The short way of a body in chunks: from the upstream's connection past Node's parser, to a sink that can pass chunks
// on as they are. The parser stands between two chunks meanwhile, so that whatever is not wanted as chunks, or is not
// understood here, can be given to it at any time; above all the end of the body, which it sees like any other.
//
// What Node does inside is not relied on but watched: its parser must be the one listener to the connection's data,
// and nothing goes past it before it has brought, of bytes that went by here, just the data that is in them.

import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { BodySink } from '../open-upstream.ts'
import { ChunkTrack } from './chunk-track.ts'

/** Whose body it is. */
export interface LaneOwner {
  /** Undefined when nobody reads any more. */
  readonly sink: BodySink | undefined
  /** How much data the parser has brought. */
  readonly parsedBytes: number
}

const HEAD_END = Buffer.from('\r\n\r\n')

/**
 * What was read of a body in chunks together with its head, which may be nothing.
 * @param read the one read that has brought all of the head; undefined is returned where it is not surely so
 */
export function chunksAfterHead(
  read: Buffer,
  { headers, rawHeaders, statusCode }: IncomingMessage,
): Buffer | undefined {
  if (headers['transfer-encoding'] !== 'chunked') return undefined
  const end = read.indexOf(HEAD_END)
  const [statusLine, ...fields] = read.toString('latin1', 0, Math.max(end, 0)).split('\r\n')
  const isHead = statusLine?.startsWith(`HTTP/1.1 ${statusCode} `) && fields.length === rawHeaders.length / 2
  return isHead ? read.subarray(end + HEAD_END.length) : undefined
}

export class ChunkLane {
  readonly #owner: LaneOwner
  readonly #answer: IncomingMessage
  readonly #socket: Socket
  readonly #parser: (read: Buffer) => void
  // Where the parser is; undefined while it stands between two chunks, and everything goes past it.
  #track: ChunkTrack | undefined = new ChunkTrack()
  #isProven = false
  #isPaused = false
  // Whether the parser is back in its place.
  #isOver = false

  private constructor(owner: LaneOwner, answer: IncomingMessage, parser: (read: Buffer) => void) {
    const { socket } = answer
    this.#owner = owner
    this.#answer = answer
    this.#socket = socket
    this.#parser = parser
    // In this order: a moment without a listener might change what the connection does.
    socket.on('data', this.#onRead)
    socket.off('data', parser)
  }

  /**
   * Goes between an answer's connection and its parser, where that is possible.
   * @param start what was read of the body together with the head
   */
  static enter(answer: IncomingMessage, start: Buffer, owner: LaneOwner): ChunkLane | undefined {
    const { socket } = answer
    if (socket.destroyed) return undefined
    const [parser, ...others] = socket.listeners('data')
    // Somebody else wants to see what comes, here or there.
    if (!parser || others.length > 0 || hasOtherReaders(answer)) return undefined
    const lane = new ChunkLane(owner, answer, parser as (read: Buffer) => void)
    lane.#compare(lane.#track?.pass(start), 0)
    return lane.#isOver ? undefined : lane
  }

  /** The answer pauses by itself what comes through the parser. */
  pause(): void {
    if (this.#track) return
    this.#isPaused = true
    this.#socket.pause()
  }

  resume(): void {
    // The connection may be another answer's by now.
    if (this.#isPaused) this.#socket.resume()
    this.#isPaused = false
  }

  readonly #onRead = (read: Buffer): void => {
    if (!this.#track) return this.#offer(read)
    // The chunk that the parser has begun is its own.
    const end = this.#isProven ? this.#track.endOfChunk(read) : read.length
    if (end > 0) this.#parse(end < read.length ? read.subarray(0, end) : read)
    if (end < read.length) this.#offer(end > 0 ? read.subarray(end) : read)
  }

  #offer(read: Buffer): void {
    const { sink } = this.#owner
    if (this.#isOver || !sink?.takesChunks || !sink.onChunks || hasOtherReaders(this.#answer)) {
      this.#parse(read)
      this.#leave()
      return
    }
    const back = sink.onChunks(read)
    // At once: behind the end of a body there is no parser any more.
    if (back.length === 0) this.#track = undefined
    else this.#parse(back.length === 1 && back[0] ? back[0] : Buffer.concat(back))
  }

  /** Lets the parser have this, and sees whether it brings what is expected. */
  #parse(bytes: Buffer): void {
    const before = this.#owner.parsedBytes
    this.#track ??= new ChunkTrack()
    const data = this.#track.pass(bytes)
    // The end of the body, or nothing that is known here.
    if (data === undefined) this.#leave()
    if (!this.#socket.destroyed) this.#parser.call(this.#socket, bytes)
    if (data !== undefined) this.#compare(data, before)
  }

  #compare(data: number | undefined, before: number): void {
    if (data !== this.#owner.parsedBytes - before) this.#leave()
    else if (data > 0) this.#isProven = true
  }

  #leave(): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#socket.on('data', this.#parser)
    this.#socket.off('data', this.#onRead)
  }
}

function hasOtherReaders(answer: IncomingMessage): boolean {
  return answer.listenerCount('data') > 1
}
