// Hooks over whole events. What no hook touches leaves as the bytes that came, in one piece with its neighbours; what one
// replaces leaves as text made here. Events never overtake each other: behind a pending hook nothing goes on.

import { isAscii } from 'node:buffer'
import { asError } from '../app-callback.ts'
import { encoded } from '../bytes.ts'
import { StreamError } from '../errors.ts'
import { startsWithMark, withoutMark } from './bom.ts'
import { endOfBlankLines, nextBoundary } from './boundaries.ts'
import type { SseStream, StreamEvent, TransformHook } from './event.ts'
import { createBlockParser, serializeLong } from './event-text.ts'
import { applyHooks, isEvent, listOf, type Replacement, type Substitute, serialize } from './hook-results.ts'

const CR = 13
const END_OF_EVENT = '\n\n'
const NOTHING = Buffer.alloc(0)
// How much becomes one text, if no event is larger: a hook that keeps a part of it keeps all of it.
const TEXT_BYTES = 4096

/** An event whose hook has returned a promise, and where its block ends. */
interface Pending {
  readonly replacement: Promise<Replacement>
  readonly end: number
}

export interface HookRunnerOptions {
  readonly hooks: readonly TransformHook[]
  /** What the hooks see of the stream. */
  readonly stream: SseStream
  /** An event above this size fails the stream. */
  readonly eventBytes: number
  /** The client, where something else may have been written to it before the first event. */
  readonly client?: { readonly wroteBody: boolean }
  /** Takes what may leave, in order. */
  readonly emit: (bytes: Buffer) => void
}

/** Takes the events of one stream, a stretch of whole ones at a time, and the next when that is through. */
export class HookRunner {
  readonly #options: HookRunnerOptions
  readonly #parse: (block: string) => StreamEvent | undefined = createBlockParser()
  // What `run` was given; empty when it is through.
  #bytes: Buffer = NOTHING
  // Whether lines may end with CR: boundaries are looked for byte by byte then.
  #hasCr = false
  // A part of those bytes, a character for each byte, which is the cheaper one to search; and where it begins.
  #text = ''
  #textAt = 0
  // Whether that part is ASCII, so that blocks are parts of it and need no decoding.
  #textIsAscii = false
  // Where the block begins that is looked at.
  #at = 0
  // Blocks from here to #at are unchanged, and leave together with the next flush.
  #kept = 0
  // What hooks made of events before those; leaves first.
  #made = ''
  // Whether a hook dropped the start of the stream. The bytes of a byte order mark that then come first are text.
  #droppedStart = false
  // Whether nothing has been emitted yet: what is emitted first may begin with the upstream's byte order mark.
  #atStart = true
  // Events that are through since `takeCount`.
  #events = 0

  constructor(options: HookRunnerOptions) {
    this.#options = options
  }

  /**
   * Runs the hooks over whole events; returns a promise where one of them did.
   * @throws StreamError when a hook failed. What came before has been emitted.
   */
  run(bytes: Buffer): Promise<void> | undefined {
    this.#bytes = bytes
    this.#hasCr = bytes.includes(CR)
    this.#text = ''
    this.#textAt = 0
    this.#kept = 0
    this.#at = 0
    const pending = this.#advance()
    return pending && this.#goOn(pending)
  }

  /** The same for an event that the upstream left unfinished: whatever becomes of it stays unfinished. */
  runTail(tail: Buffer): Promise<void> | undefined {
    const event = this.#parse(tail.toString('utf8') + END_OF_EVENT)
    const replacement = event && this.#replacement(event)
    const leave = (replaced: Replacement) => {
      if (!replaced) this.#emit(tail)
      else this.#emit(Buffer.from(listOf(replaced).filter(isEvent).map(serialize).join('').replace(/\n$/, '')))
    }
    if (replacement instanceof Promise) return replacement.then(leave, (error) => Promise.reject(hookFailure(error)))
    leave(replacement)
    return undefined
  }

  /** Emits what is through, so that something else can follow it. */
  flush(): void {
    if (this.#made !== '') this.#emit(Buffer.from(this.#made))
    this.#made = ''
    if (this.#kept < this.#at) this.#emit(this.#bytes.subarray(this.#kept, this.#at))
    this.#kept = this.#at
  }

  /** How many events have come through since the last call. */
  takeCount(): number {
    const events = this.#events
    this.#events = 0
    return events
  }

  /** Goes from block to block, to a hook that is pending or to the end. */
  #advance(): Pending | undefined {
    const bytes = this.#bytes
    while (this.#at < bytes.length) {
      const end = this.#endOfBlock()
      if (end - this.#at > this.#options.eventBytes) {
        this.flush()
        throw new StreamError('ERR_SSE_PROXY_EVENT_TOO_LARGE')
      }
      const event = this.#parse(this.#blockUntil(end))
      const replacement = event && this.#replacement(event)
      if (replacement instanceof Promise) {
        this.flush()
        return { replacement, end }
      }
      if (event && !replacement) this.#events++
      this.#settle(end, replacement)
      // Blank lines between events are nothing to hooks or parser: a flood of them costs a look at each byte.
      if (!this.#hasCr) this.#at = endOfBlankLines(bytes, this.#at)
    }
    this.flush()
    // A silent stream keeps nothing of what it has passed on.
    this.#bytes = NOTHING
    this.#text = ''
    return undefined
  }

  /** The index behind the block that is looked at. */
  #endOfBlock(): number {
    let end = nextBoundary(this.#text, this.#at - this.#textAt, this.#hasCr)
    if (end === -1) {
      this.#readText()
      end = nextBoundary(this.#text, 0, this.#hasCr)
    }
    return end === -1 ? this.#bytes.length : this.#textAt + end
  }

  /** Goes on with the text, from the block that is looked at; at least all of that. */
  #readText(): void {
    const bytes = this.#bytes
    const from = this.#at
    // A line end of two bytes could be cut in two.
    const blankLine = this.#hasCr ? -1 : bytes.indexOf(END_OF_EVENT, from)
    const end = blankLine === -1 ? bytes.length : Math.max(from + TEXT_BYTES, blankLine + END_OF_EVENT.length)
    const part = bytes.subarray(from, end)
    this.#text = part.toString('latin1')
    this.#textAt = from
    this.#textIsAscii = !this.#hasCr && isAscii(part)
  }

  /** The block that is looked at, as text. */
  #blockUntil(end: number): string {
    if (!this.#textIsAscii) return this.#bytes.toString('utf8', this.#at, end)
    return this.#text.slice(this.#at - this.#textAt, end - this.#textAt)
  }

  /** Waits for each pending hook in turn; what it lets through leaves before the next one is asked. */
  async #goOn(first: Pending): Promise<void> {
    for (let pending: Pending | undefined = first; pending; pending = this.#advance()) {
      let replacement: Replacement
      try {
        replacement = await pending.replacement
      } catch (error) {
        throw hookFailure(error)
      }
      if (!replacement) this.#events++
      this.#settle(pending.end, replacement)
      this.flush()
    }
  }

  #replacement(event: StreamEvent): Replacement | Promise<Replacement> {
    try {
      return applyHooks(this.#options.hooks, 0, event, this.#options.stream)
    } catch (error) {
      this.flush()
      throw hookFailure(error)
    }
  }

  /** Takes the block as through, unchanged where it has no replacement. */
  #settle(end: number, replacement: Replacement): void {
    if (replacement) {
      if (this.#kept < this.#at) this.flush()
      for (const substitute of listOf(replacement)) {
        if (isEvent(substitute)) this.#events++
        this.#make(substitute)
      }
      if (this.#made === '' && this.#atStart) this.#droppedStart = true
      this.#kept = end
    }
    this.#at = end
  }

  #make(substitute: Substitute): void {
    const long = isEvent(substitute) ? serializeLong(substitute) : undefined
    if (!long) {
      this.#made += serialize(substitute)
      return
    }
    this.#emit(encoded([this.#made, ...long]))
    this.#made = ''
  }

  #emit(bytes: Buffer): void {
    if (bytes.length === 0) return
    const { emit, client } = this.#options
    const startsStream = this.#atStart && startsWithMark(bytes)
    this.#atStart = false
    if (!startsStream) return emit(bytes)
    // What was in the middle of the upstream's stream may not pass for the mark at the start of the client's.
    if (this.#droppedStart) emit(Buffer.from('\n'))
    // And the mark that was at the start may not follow something else.
    emit(client?.wroteBody && !this.#droppedStart ? withoutMark(bytes) : bytes)
  }
}

function hookFailure(cause: unknown): StreamError {
  return new StreamError('ERR_SSE_PROXY_HOOK', asError('transform', cause))
}
