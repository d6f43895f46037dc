// From bytes to whole events. Bytes come in as the network cut them and leave cut at the blank lines, otherwise unchanged;
// the start of an event is held back until its end is here, within a bound.

import { joined, kept } from '../bytes.ts'
import { MARK_BYTES, MarkFinder, mayBecomeMark, startsWithMark, withoutMark } from './bom.ts'
import { lastBoundary } from './boundaries.ts'

const LF = 10
const CR = 13
// The start of an event is looked at again, together with what came behind it, where both are no larger.
const AGAIN_BYTES = 16_384

// One list for all framers that hold nothing.
const NOTHING: readonly Buffer[] = []

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
  // Until something has come that is no byte order mark.
  #mark: MarkFinder | undefined = new MarkFinder()
  // Whether nothing of this upstream has left yet. Its mark is decided on when something does.
  #untouched = true
  // How much of what `take` gave last is that mark.
  #markBytes = 0
  // Whether all that left ends where an event ends. False in the middle of one that is not held back.
  #atBoundary = true
  // Whether unfinished events are held back. Set by `holdBack` where they were not.
  #wholeEvents: boolean
  // Set once, and then the stream is over.
  #overflowed = false
  // Whether another upstream came before, whose events a mark would follow.
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
    return this.isMidway && this.#mark?.isAlone !== true
  }

  /** How many bytes of what `take` gave last, from its start on, are a byte order mark and no part of a line. */
  get markBytes(): number {
    return this.#markBytes
  }

  /** Whether an LF would be part of the line end that has just come. */
  get isAfterCr(): boolean {
    return this.#last === CR
  }

  /** The start of an unfinished event, as far as it is held back. */
  get unfinished(): readonly Buffer[] {
    return this.#held
  }

  /** Whether an event is larger than may be held back; what came after it was not taken. */
  get overflowed(): boolean {
    return this.#overflowed
  }

  /** What came, behind what is held where that is little: to look at it again is cheaper than to look at it in parts. */
  withHeld(parts: readonly Buffer[]): readonly Buffer[] {
    const bytes = parts.reduce((sum, { length }) => sum + length, this.#heldBytes)
    if (this.#heldBytes === 0 || bytes > AGAIN_BYTES || this.#untouched) return parts
    const all = [...this.#held, ...parts]
    this.#held = NOTHING
    this.#heldBytes = 0
    // As it was before: what is held begins with a line.
    this.#last = LF
    return all
  }

  /** Takes what came and gives what may leave now. */
  take(chunk: Buffer): readonly Buffer[] {
    const afterCr = this.#last === CR && this.#atBoundary && this.#heldBytes === 0
    this.#markBytes = 0
    const firstLine = this.#mark ? this.#passMark(this.#mark, chunk) : 0
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

  /** What is left at a clean end: an event that the upstream did not finish. */
  takeTail(): readonly Buffer[] {
    if (this.#heldBytes === 0) return []
    return this.#release(Buffer.alloc(0), 0, false, true)
  }

  /** Another upstream goes on; what the last one left unfinished is forgotten. */
  restart(): void {
    this.#held = NOTHING
    this.#heldBytes = 0
    this.#last = LF
    this.#mark = new MarkFinder()
    this.#untouched = true
    this.#restarted = true
  }

  /** Returns where the first line begins. */
  #passMark(mark: MarkFinder, chunk: Buffer): number {
    const end = mark.endIn(chunk)
    if (mark.isDone) this.#mark = undefined
    // Behind the mark a line begins.
    if (end > 0) this.#last = LF
    return end
  }

  #release(chunk: Buffer, end: number, atBoundary: boolean, all = false): readonly Buffer[] {
    if (end === 0 && !all) {
      this.#hold(chunk)
      return []
    }
    const last = end === chunk.length ? chunk : chunk.subarray(0, end)
    let pieces = end > 0 ? [...this.#held, last] : this.#held
    if (this.#untouched && pieces.length > 0) {
      const first = joined(pieces)
      if (mayBecomeMark(first) && !all) {
        this.#held = [Buffer.from(first)]
        this.#heldBytes = first.length
        return []
      }
      this.#untouched = false
      const mayHaveMark = !this.#restarted && !this.#options.client.wroteBody
      pieces = [mayHaveMark ? first : withoutMark(first)]
      if (mayHaveMark && startsWithMark(first)) this.#markBytes = MARK_BYTES
    }
    this.#held = NOTHING
    this.#heldBytes = 0
    this.#atBoundary = atBoundary
    if (end < chunk.length) this.#hold(chunk.subarray(end))
    return pieces
  }

  #hold(piece: Buffer): void {
    this.#held = kept(this.#held, piece)
    this.#heldBytes += piece.length
  }
}
