// Where events end. Bytes come in as the network cut them and leave cut at the blank lines, otherwise unchanged.
// [spec] A line ends with CR LF, LF or CR; a blank line ends an event. None of these bytes can be part of a longer
// UTF-8 sequence, so bytes are searched as they are.

import { joined } from '../bytes.ts'

const LF = 10
const CR = 13
const BLANK_LINE = Buffer.from('\n\n')
const BOM = Buffer.from([0xef, 0xbb, 0xbf])
// The start of an event up to this size is looked at again, together with the rest of it.
const AGAIN_BYTES = 4096
// Held pieces below this size are joined, so that an event that drips in costs neither memory nor time.
const JOIN_BYTES = 32_768

// Of all who hold nothing.
const NOTHING: Buffer[] = []

export interface FramerOptions {
  /** Whether unfinished events are held back at all. */
  readonly wholeEvents: boolean
  /** Size up to which an unfinished event is held back. */
  readonly eventBytes: number
  /** Whether a larger one is an error; it leaves as it comes otherwise. */
  readonly failsOversize: boolean
  /** Whether something was written to the client already, so that an upstream's BOM must not follow it. */
  readonly client: { readonly wroteBody: boolean }
}

export class EventFramer {
  readonly #options: FramerOptions
  // The start of an unfinished event, none of which has left.
  #held = NOTHING
  #heldBytes = 0
  // The last byte that came; the start of a stream counts as the start of a line.
  #last = LF
  // How much of a byte order mark this upstream began with, while nothing else has come; undefined after that.
  #markBytes: number | undefined = 0
  // Whether nothing of this upstream has left yet.
  #untouched = true
  // Whether all that left ends where an event ends. False in the middle of one that is not held back.
  #atBoundary = true
  #wholeEvents: boolean
  #overflowed = false
  // Whether another upstream came before.
  #restarted = false

  constructor(options: FramerOptions) {
    this.#options = options
    this.#wholeEvents = options.wholeEvents
  }

  /** From the next boundary on, unfinished events are held back in any case. */
  holdBack(): void {
    this.#wholeEvents = true
  }

  /** Whether something else may be written now without cutting an event in two. */
  get atBoundary(): boolean {
    return this.#atBoundary
  }

  /** Whether an event has begun that is not over. */
  get isMidway(): boolean {
    return this.#heldBytes > 0 || !this.#atBoundary
  }

  /** The same, less a mark that nothing has followed: no event has begun with that. */
  get isInsideEvent(): boolean {
    return this.isMidway && this.#markBytes !== BOM.length
  }

  /** Whether an LF would be part of the line end that has just come. */
  get isAfterCr(): boolean {
    return this.#last === CR
  }

  /** Whether an event is larger than may be held back; what came after it was not taken. */
  get overflowed(): boolean {
    return this.#overflowed
  }

  /** What came, behind what is held where that is little: to look at it again is cheaper than to look at it in parts. */
  withHeld(parts: readonly Buffer[]): readonly Buffer[] {
    if (this.#heldBytes === 0 || this.#heldBytes > AGAIN_BYTES || this.#untouched) return parts
    const all = [...this.#held, ...parts]
    this.#held = NOTHING
    this.#heldBytes = 0
    // As it was before: what is held begins with a line.
    this.#last = LF
    return all
  }

  /** Takes what came and gives what may leave now. */
  take(chunk: Buffer): Buffer[] {
    const afterCr = this.#last === CR && this.#atBoundary && this.#heldBytes === 0
    const firstLine = this.#passMark(chunk)
    let end = lastBoundary(chunk, firstLine, this.#last, afterCr)
    if (firstLine < chunk.length) this.#last = chunk[chunk.length - 1] ?? this.#last
    const { eventBytes, failsOversize } = this.#options
    const unfinished = chunk.length - end + (end > 0 ? 0 : this.#heldBytes)
    let atBoundary = end > 0 || this.#atBoundary
    if (unfinished > 0 && (!this.#wholeEvents || !atBoundary || unfinished > eventBytes)) {
      if (failsOversize) {
        // What came whole before it still leaves.
        this.#overflowed = true
        return this.#release(chunk.subarray(0, end), end, true)
      }
      end = chunk.length
      atBoundary = false
    }
    return this.#release(chunk, end, atBoundary)
  }

  /** What is left at a clean end: an event that nobody finished. */
  takeTail(): Buffer[] {
    if (this.#heldBytes === 0) return []
    return this.#release(Buffer.alloc(0), 0, false, true)
  }

  /** Another upstream goes on; what the last one left unfinished is forgotten. */
  restart(): void {
    this.#held = NOTHING
    this.#heldBytes = 0
    this.#last = LF
    this.#markBytes = 0
    this.#untouched = true
    this.#restarted = true
  }

  /** [spec] A byte order mark is no part of the first line, which begins behind it; returns where that is in the chunk. */
  #passMark(chunk: Buffer): number {
    const before = this.#markBytes
    if (before === undefined) return 0
    let at = 0
    while (at < chunk.length && chunk[at] === BOM[before + at]) at++
    this.#markBytes = at === chunk.length ? before + at : undefined
    if (before + at < BOM.length) return 0
    this.#last = LF
    return at
  }

  #release(chunk: Buffer, end: number, atBoundary: boolean, all = false): Buffer[] {
    if (end === 0 && !all) {
      this.#hold(chunk)
      return []
    }
    const last = end === chunk.length ? chunk : chunk.subarray(0, end)
    let pieces = end > 0 ? [...this.#held, last] : this.#held
    if (this.#untouched && pieces.length > 0) {
      const first = joined(pieces)
      if (isBomPrefix(first) && !all) {
        this.#held = [Buffer.from(first)]
        this.#heldBytes = first.length
        return []
      }
      this.#untouched = false
      pieces = [
        first.indexOf(BOM) === 0 && (this.#restarted || this.#options.client.wroteBody)
          ? first.subarray(BOM.length)
          : first,
      ]
    }
    this.#held = NOTHING
    this.#heldBytes = 0
    this.#atBoundary = atBoundary
    if (end < chunk.length) this.#hold(chunk.subarray(end))
    return pieces
  }

  #hold(piece: Buffer): void {
    if (piece.length === 0) return
    const held = [...this.#held]
    this.#held = held
    // A copy lets go of the rest of the read, which may be much larger.
    held.push(piece.length < JOIN_BYTES ? Buffer.from(piece) : piece)
    this.#heldBytes += piece.length
    // Pieces double in size from last to first, so that each byte is copied a logarithmic number of times.
    for (let last = held.pop(), previous = held.pop(); last; previous = held.pop()) {
      if (!previous || previous.length > last.length || previous.length >= JOIN_BYTES) {
        if (previous) held.push(previous)
        held.push(last)
        return
      }
      last = Buffer.concat([previous, last])
    }
  }
}

function isBomPrefix(bytes: Buffer): boolean {
  return bytes.length < BOM.length && BOM.subarray(0, bytes.length).equals(bytes)
}

/** The index after the last blank line in `chunk`, 0 where there is none; what is before `from` is in no line. */
function lastBoundary(chunk: Buffer, from: number, before: number, afterCr: boolean): number {
  let end = chunk.lastIndexOf(BLANK_LINE) + BLANK_LINE.length
  if (end < BLANK_LINE.length) end = 0
  // Streams that end their lines with CR are rare: one native search shows that there is nothing to look for.
  if (chunk.indexOf(CR, end) !== -1) end = Math.max(end, lastCrBoundary(chunk, end))
  if (end > 0) return end
  if (before === LF && chunk[from] === LF) return from + 1
  if ((before === LF || before === CR) && chunk[from] === CR) return chunk[from + 1] === LF ? from + 2 : from + 1
  // The LF of a CR LF whose CR has ended an event already.
  return afterCr && chunk[0] === LF ? 1 : 0
}

/** The same for blank lines that end with CR or CR LF. */
function lastCrBoundary(chunk: Buffer, from: number): number {
  for (let i = chunk.lastIndexOf(CR); i > 0 && i >= from; i--) {
    if (chunk[i] === CR && (chunk[i - 1] === CR || chunk[i - 1] === LF)) return chunk[i + 1] === LF ? i + 2 : i + 1
  }
  return 0
}

/** The index after the blank lines at `from`, the start of a line, where lines end with LF. */
export function endOfBlankLines(bytes: Buffer, from: number): number {
  let at = from
  while (bytes[at] === LF) at++
  return at
}

/**
 * The index after the first blank line at or after `from`, the start of a line; -1 where there is none.
 * @param text a character for each byte
 */
export function nextBoundary(text: string, from: number, hasCr: boolean): number {
  if (!hasCr) {
    if (text.charCodeAt(from) === LF) return from + 1
    const at = text.indexOf('\n\n', from)
    return at === -1 ? -1 : at + 2
  }
  let lineStart = true
  for (let i = from; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code !== LF && code !== CR) {
      lineStart = false
      continue
    }
    if (code === CR && text.charCodeAt(i + 1) === LF) i++
    if (lineStart) return i + 1
    lineStart = true
  }
  return -1
}
