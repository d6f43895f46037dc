// The chunks of an HTTP/1.1 body (RFC 9112, section 7.1: the size in hexadecimal, CR LF, the data, CR LF): the one walker
// that reads them and the one writer that makes them. Both know plain chunks alone: a last chunk, an extension and all
// that is damaged is foreign, and for Node's parser to judge.

import { joined } from './bytes.ts'

const CR = 13
const LF = 10
const CR_LF = Buffer.from('\r\n')
// RFC 9112 sets no bound on the digits of a size. A chunk with more of them is larger than any that may be held.
const MAX_DIGITS = 7
// Data above this size is written as it is, between two small buffers, rather than copied.
const COPIED_BYTES = 16_384

// What the next byte of a body belongs to. Numbers, since they are compared several times for each chunk.
const SIZE = 0
const SIZE_LF = 1
const DATA = 2
const DATA_CR = 3
const DATA_LF = 4
const FOREIGN = 5

/** Walks from chunk to chunk, through bytes that may be cut anywhere. */
export class ChunkWalker {
  /** Where the data of the last step lies in the bytes that it was given. */
  dataStart = 0
  dataEnd = 0
  // Once it is FOREIGN it stays so.
  #part = SIZE
  // How many digits of a size have come.
  #digits = 0
  // Data of the chunk that is still to come.
  #left = 0

  /** Whether all that was walked ends where a chunk ends. */
  get isBetweenChunks(): boolean {
    return this.#part === SIZE && this.#digits === 0
  }

  /** Whether something has come that is no plain chunk. */
  get isForeign(): boolean {
    return this.#part === FOREIGN
  }

  /** How many bytes there are up to the end of the chunk; 0 until its size is known. */
  get missingBytes(): number {
    if (this.#part === DATA) return this.#left + 2
    return this.#part === DATA_CR ? 2 : this.#part === DATA_LF ? 1 : 0
  }

  /** The same for its data alone. */
  get missingData(): number {
    return this.#part === DATA ? this.#left : 0
  }

  /** Goes on to the end of the chunk, or of the bytes; returns where it has come to. Of what is foreign, that is their end. */
  next(bytes: Buffer, from: number): number {
    const { length } = bytes
    let at = from
    let part = this.#part
    if (part === SIZE) {
      at = this.#passSize(bytes, from)
      part = this.#part
    }
    if (part === SIZE_LF && at < length) part = bytes[at++] === LF ? DATA : FOREIGN
    this.dataStart = at
    if (part === DATA) {
      const passed = Math.min(this.#left, length - at)
      at += passed
      this.#left -= passed
      if (this.#left === 0) part = DATA_CR
    }
    this.dataEnd = at
    if (part === DATA_CR && at < length) part = bytes[at++] === CR ? DATA_LF : FOREIGN
    if (part === DATA_LF && at < length) part = bytes[at++] === LF ? SIZE : FOREIGN
    this.#part = part
    return part === FOREIGN ? length : at
  }

  /** Goes past the size and the CR behind it, as far as they are here; returns where that is. */
  #passSize(bytes: Buffer, from: number): number {
    const { length } = bytes
    let at = from
    let size = this.#left
    let digits = this.#digits
    let part = SIZE
    while (at < length) {
      const byte = bytes[at++] ?? 0
      const digit = hexDigit(byte)
      if (digit === -1 || digits === MAX_DIGITS) {
        // A size of nothing is the last chunk's.
        part = byte === CR && size > 0 ? SIZE_LF : FOREIGN
        digits = 0
        break
      }
      size = size * 16 + digit
      digits++
    }
    this.#part = part
    this.#left = size
    this.#digits = digits
    return at
  }
}

/** The value of a character, -1 where it is no digit. Node's parser takes capitals too. */
function hexDigit(code: number): number {
  if (code >= 48 && code <= 57) return code - 48
  const lower = code | 32
  return lower >= 97 && lower <= 102 ? lower - 87 : -1
}

/** What bytes that begin with a chunk are made of. */
export interface ChunkData {
  /** The data of its whole chunks and of one that has begun behind them, moved together where it lies. */
  readonly data: Buffer
  /** How much more data that one has; 0 where there is none. */
  readonly missing: number
  /** What comes after them, and is no plain chunk as far as it is known: a size without data, or something foreign. */
  readonly rest: Buffer
}

export function takeData(bytes: Buffer): ChunkData {
  const walker = new ChunkWalker()
  let from = 0
  let to = 0
  let at = 0
  let missing = 0
  while (at < bytes.length && missing === 0) {
    const end = walker.next(bytes, at)
    missing = walker.missingData
    if (!walker.isBetweenChunks && missing === 0) break
    const { dataStart, dataEnd } = walker
    // The first one stays where it is.
    if (to === 0) from = to = dataStart
    else bytes.copyWithin(to, dataStart, dataEnd)
    to += dataEnd - dataStart
    at = end
  }
  return { data: bytes.subarray(from, to), missing, rest: bytes.subarray(at) }
}

/** The bytes as one chunk, in as many buffers as it takes not to copy much. Node would make three writes and a string. */
export function chunkOf(pieces: readonly Buffer[]): readonly Buffer[] {
  const length = pieces.reduce((sum, piece) => sum + piece.length, 0)
  // A chunk of no bytes would be the last one.
  if (length === 0) return []
  const size = length.toString(16)
  if (length > COPIED_BYTES) return [Buffer.from(`${size}\r\n`, 'latin1'), ...pieces, CR_LF]
  let at = size.length + 2
  const chunk = Buffer.allocUnsafe(at + length + 2)
  chunk.write(`${size}\r\n`, 0, 'latin1')
  for (const piece of pieces) at += piece.copy(chunk, at)
  CR_LF.copy(chunk, at)
  return [chunk]
}

/** Bytes that go to many clients: made into a chunk once, for all clients that take chunks, and joined once for all others. */
export class SharedBytes {
  readonly #pieces: readonly Buffer[]
  // Both are made when the first of them asks.
  #bytes: Buffer | undefined
  #chunk: readonly Buffer[] | undefined

  constructor(pieces: readonly Buffer[]) {
    this.#pieces = pieces
  }

  get length(): number {
    return this.#pieces.reduce((sum, { length }) => sum + length, 0)
  }

  get bytes(): Buffer {
    this.#bytes ??= joined(this.#pieces)
    return this.#bytes
  }

  /** See `chunkOf`. */
  get chunk(): readonly Buffer[] {
    this.#chunk ??= chunkOf(this.#pieces)
    return this.#chunk
  }
}
