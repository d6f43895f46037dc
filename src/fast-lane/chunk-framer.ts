// Where events end in a body that is still in its HTTP chunks: what is whole goes to a client as it came, chunks and all.
// This knows the plain case, which is nearly every stream: chunks that end where a line ends, lines that end with LF. All
// else is given back, and the parser, the framer and the cursor take it the ordinary way.

import { compact, lieIn } from '../bytes.ts'
import { type Cursor, hasLongLine, startsOfLines } from '../events/cursor.ts'
import { FieldReader } from '../events/fields.ts'
import { ChunkWalker } from '../http-chunks.ts'

const LF = 10
const CR = 13
const BLANK_LINE = Buffer.from('\n\n')
// An unfinished chunk above this size is held as it was read; a smaller one is copied, and joined to what follows.
const LARGE_BYTES = 8192
// A large chunk may be held in so many buffers, and in more where they have this size on average: each costs more than its
// bytes, and a chunk that drips in would cost a hundred times its size.
const FEW_READS = 64
const SMALL_READ_BYTES = 256
// How much of a read becomes one text, if no chunk is larger.
const TEXT_BYTES = 16_384
// After so many reads in a row of which nothing could pass, none of the rest of the stream is tried.
const MAX_REFUSALS = 16

/** What becomes of a read. What is in neither list is held. */
export interface Taken {
  /** Whole chunks that end where an event ends, ready for a client. */
  readonly chunks: readonly Buffer[]
  /** How much data those carry, and how many events that is. */
  readonly bytes: number
  readonly events: number
  /** For the parser: it begins where a chunk begins. */
  readonly back: readonly Buffer[]
}

const NONE: readonly Buffer[] = []
const NOTHING: Taken = { chunks: NONE, bytes: 0, events: 0, back: NONE }

/** Takes the reads of one connection, in order. */
export class ChunkFramer {
  // No more than this is held, frames of chunks included.
  readonly #eventBytes: number
  // Moves with the events that pass here.
  readonly #cursor: Cursor
  // The start of an unfinished event, from the start of a chunk on: one buffer, or the reads of one large chunk.
  #held: Buffer[] = []
  #heldBytes = 0
  // The length of that large chunk with its frame; 0 where there is none.
  #largeBytes = 0
  // Reads in a row of which something was given back and nothing passed.
  #refusals = 0

  /** @param eventBytes how large an unfinished event may be that is held */
  constructor(eventBytes: number, cursor: Cursor) {
    this.#eventBytes = eventBytes
    this.#cursor = cursor
  }

  /** Whether reads still pass. Once it is false it stays so. */
  get isUseful(): boolean {
    return this.#refusals < MAX_REFUSALS
  }

  /** Ends it: the client takes no chunks. */
  giveUp(): void {
    this.#refusals = MAX_REFUSALS
  }

  /** Whether what is held lies in this memory. */
  holds(memory: Buffer): boolean {
    return lieIn(memory, this.#held)
  }

  /** Gives back what is held. */
  release(): readonly Buffer[] {
    const held = this.#held
    this.#hold(NONE, 0)
    return held
  }

  /** Takes a read that begins where a chunk begins, or goes on with what is held. */
  take(read: Buffer): Taken {
    const taken = this.#largeBytes > 0 ? this.#takeLarge(read) : this.#takeRest(read)
    if (taken.chunks.length > 0) this.#refusals = 0
    else if (taken.back.length > 0) this.#refusals++
    return taken
  }

  /** Takes a read behind what is held, which is little. */
  #takeRest(read: Buffer): Taken {
    const [held] = this.#held
    if (!held) return this.#walk(read)
    this.#hold(NONE, 0)
    // Of a large read no more is joined to it than the rest of its chunk, which nearly always ends the event.
    const end = read.length > LARGE_BYTES ? endOfChunk(held, read) : read.length
    const first = this.#walk(Buffer.concat([held, read.subarray(0, end)]))
    if (end === read.length) return first
    if (first.chunks.length === 0)
      return this.#walk(Buffer.concat([...first.back, ...this.release(), read.subarray(end)]))
    return together(first, this.#walk(read.subarray(end)))
  }

  #hold(pieces: readonly Buffer[], largeBytes: number): void {
    this.#held = [...pieces]
    this.#heldBytes = pieces.reduce((sum, { length }) => sum + length, 0)
    this.#largeBytes = largeBytes
  }

  #walk(bytes: Buffer): Taken {
    const walk = new Walk(bytes)
    while (walk.next()) {}
    const { cut, data, events, lastId, retryMs } = walk
    this.#cursor.passed(events, lastId, retryMs)
    const chunks = cut > 0 ? [cut === bytes.length ? bytes : bytes.subarray(0, cut)] : NONE
    if (cut === bytes.length) return { chunks, bytes: data, events, back: NONE }
    const rest = bytes.subarray(cut)
    const back = this.#mayHold(rest, walk) ? NONE : [rest]
    return { chunks, bytes: data, events, back }
  }

  /** Holds the rest of a read, where it is plain and small enough. */
  #mayHold(rest: Buffer, { mayWait, cut, chunkStart, missingBytes }: Walk): boolean {
    const bytes = rest.length + missingBytes
    if (!mayWait || bytes > this.#eventBytes) return false
    // A copy lets go of the rest of the read, which may be much larger.
    if (bytes <= LARGE_BYTES) this.#hold([Buffer.from(rest)], 0)
    else if (chunkStart === cut && missingBytes > 0) this.#hold([compact(rest)], bytes)
    else return false
    return true
  }

  /** A large chunk passes where it is one event: only its end is looked at closely. */
  #takeLarge(read: Buffer): Taken {
    const last = this.#held[this.#held.length - 1]
    const end = this.#largeBytes - this.#heldBytes
    this.#held.push(read)
    this.#heldBytes += read.length
    const startsBlank = last?.[last.length - 1] === LF && read[0] === LF
    if (read.length < end) {
      const isInside = !startsBlank && read.indexOf(CR) === -1 && blankLineAt(read, 0) === -1
      if (!isInside || this.#dripsIn) return { ...NOTHING, back: this.release() }
      this.#held[this.#held.length - 1] = compact(read)
      return NOTHING
    }
    // Its last line, the blank line and the chunk's own CR LF.
    const isEvent = end >= 4 && blankLineAt(read, 0) === end - 4 && read.indexOf(CR) === end - 2
    if (startsBlank || !isEvent || read[end - 1] !== LF) return { ...NOTHING, back: this.release() }

    const chunks = [...this.release().slice(0, -1), read.subarray(0, end)]
    const { events } = this.#cursor
    const bytes = this.#passLarge(chunks)
    const event = { chunks, bytes, events: this.#cursor.events - events, back: NONE }
    return end < read.length ? together(event, this.#walk(read.subarray(end))) : event
  }

  /** Whether a large chunk comes in reads that are too small. */
  get #dripsIn(): boolean {
    const reads = this.#held.length
    return reads > FEW_READS && this.#heldBytes < reads * SMALL_READ_BYTES
  }

  /** Moves the cursor; returns how much data the chunk carries. */
  #passLarge(chunks: readonly Buffer[]): number {
    const [first, ...others] = chunks
    const data = first ? [first.subarray(first.indexOf(LF) + 1), ...others] : []
    const last = data.pop()
    if (last) data.push(last.subarray(0, -2))
    this.#cursor.passEvent(data)
    return data.reduce((sum, { length }) => sum + length, 0)
  }
}

/** What becomes of two parts of a read. */
function together(first: Taken, rest: Taken): Taken {
  return {
    chunks: [...first.chunks, ...rest.chunks],
    bytes: first.bytes + rest.bytes,
    events: first.events + rest.events,
    back: rest.back,
  }
}

/** Where in a read the chunk ends that has begun before it. */
function endOfChunk(begun: Buffer, read: Buffer): number {
  const walker = new ChunkWalker()
  for (let at = 0; at < begun.length; ) at = walker.next(begun, at)
  return walker.next(read, 0)
}

/** Where the first blank line begins with the LF before it, or -1. Of one long line nothing is looked at twice. */
function blankLineAt(bytes: Buffer, from: number): number {
  const lineEnd = bytes.indexOf(LF, from)
  return lineEnd === -1 ? -1 : bytes.indexOf(BLANK_LINE, lineEnd)
}

/** The way through one read, chunk by chunk. */
class Walk {
  /** Where the last chunk ends that ends where an event ends, and what has come up to there. */
  cut = 0
  data = 0
  events = 0
  /** For `Cursor.passed`, both. */
  lastId: string | undefined
  retryMs: number | undefined
  /** Whether what is left after that may wait for what follows it: no event is whole in it, and all of it is plain. */
  mayWait = true
  /** Where the chunk begins that is not whole, and how much of it is known to be missing. */
  chunkStart = 0
  missingBytes = 0
  readonly #bytes: Buffer
  // A part of them that begins with a chunk, a character for each byte, which is the cheaper one to search; and where it begins.
  #text = ''
  #textAt = 0
  readonly #walker = new ChunkWalker()
  readonly #fields = new FieldReader()
  // All the data, behind the cut too.
  #data = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  /** Goes past one chunk; false when there is none, or none that is known here. */
  next(): boolean {
    const walker = this.#walker
    const start = this.chunkStart
    const end = walker.next(this.#bytes, start)
    const { dataStart, dataEnd } = walker
    if (walker.isForeign) return this.#refuse()
    if (!walker.isBetweenChunks) {
      this.missingBytes = walker.missingBytes
      if (this.#endsInside(dataStart)) this.mayWait = false
      return false
    }
    const hasBlankLine = this.#readChunk(dataStart, dataEnd)
    if (hasBlankLine === undefined) return this.#refuse()
    this.#data += dataEnd - dataStart
    this.chunkStart = end
    if (dataEnd - dataStart === 1 || this.#bytes[dataEnd - 2] === LF) this.#commit(end)
    // An event that is whole does not wait.
    else if (hasBlankLine) this.mayWait = false
    return end < this.#bytes.length
  }

  /** Reads the lines of a whole chunk; whether a blank one is among them. Undefined where it is none that is known here. */
  #readChunk(start: number, end: number): boolean | undefined {
    const bytes = this.#bytes
    if (end - start > LARGE_BYTES) {
      const data = bytes.subarray(start, end)
      const lines = hasLongLine(data) ? startsOfLines(data, '') : undefined
      if (lines !== undefined) {
        // A CR in the data is found before the chunk's own. All lines are whole.
        const isPlain = bytes.indexOf(CR, start) === end && bytes[end - 1] === LF
        return isPlain ? this.#fields.read(lines, 0, lines.length) : undefined
      }
    }
    if (end >= this.#textAt + this.#text.length) this.#readText(end + 1)
    const text = this.#text
    const at = this.#textAt
    const isPlain = text.indexOf('\r', start - at) === end - at && text.charCodeAt(end - 1 - at) === LF
    return isPlain ? this.#fields.read(text, start - at, end - at) : undefined
  }

  /** Goes on with the text, from the chunk that is looked at; at least up to `end`. */
  #readText(end: number): void {
    const from = this.chunkStart
    this.#textAt = from
    this.#text = this.#bytes.toString('latin1', from, Math.max(end, from + TEXT_BYTES))
  }

  #commit(cut: number): void {
    const { events, id, retryMs } = this.#fields
    this.cut = cut
    this.data = this.#data
    this.events = events
    this.lastId = id
    this.retryMs = retryMs
    this.mayWait = true
  }

  /** Whether the part of a chunk that is here has the end of an event in it, or may have. */
  #endsInside(start: number): boolean {
    const bytes = this.#bytes
    return bytes[start] === LF || bytes.indexOf(CR, start) !== -1 || blankLineAt(bytes, start) !== -1
  }

  #refuse(): false {
    this.mayWait = false
    return false
  }
}
