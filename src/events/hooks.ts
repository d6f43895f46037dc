// The hooks, over a stretch of complete events. What no hook touched leaves as the bytes that came, in one piece with
// its neighbours. No promise is made where no hook returns one.

import { isAscii } from 'node:buffer'
import { asError, isThenable } from '../app-callback.ts'
import { StreamError } from '../errors.ts'
import { startsWithMark, withoutMark } from './bom.ts'
import { endOfBlankLines, nextBoundary } from './boundaries.ts'
import type { HookResult, SseStream, StreamEvent, TransformHook } from './event.ts'
import { checkEvent, createBlockParser, type ParsedBlock, serializeEvent, serializeId } from './event-text.ts'

const END_OF_EVENT = '\n\n'
const NOTHING = Buffer.alloc(0)
// How much becomes one text, if no event is larger: a hook that keeps a part of it keeps all of it.
const TEXT_BYTES = 4096

/** What leaves in place of an event: others, or of one that was dropped its id, so that the client's cursor moves. */
type Substitute = StreamEvent | { readonly id: string; readonly data?: undefined }

/** Undefined where the event itself stays. One is not put into a list: this is made for every event. */
type Replacement = Substitute | readonly Substitute[] | undefined

/** An event whose hook has not made up its mind. */
interface Pending {
  readonly replacement: Promise<Replacement>
  readonly end: number
}

export interface HookRunnerOptions {
  readonly hooks: readonly TransformHook[]
  readonly stream: SseStream
  readonly eventBytes: number
  /** Who reads what is emitted, where something else may have been written to it. */
  readonly client?: { readonly wroteBody: boolean }
  /** Takes what may leave, in order. */
  readonly emit: (bytes: Buffer) => void
}

export class HookRunner {
  readonly #options: HookRunnerOptions
  readonly #parse: (block: string) => ParsedBlock = createBlockParser()
  #bytes: Buffer = NOTHING
  #hasCr = false
  // What is at hand of them, a character for each byte: the cheaper one to search.
  #text = ''
  #textAt = 0
  // Whether it is short and ASCII, so that events can be parts of it.
  #hasEvents = false
  // Blocks from here to #at are through and unchanged, and wait to leave together.
  #kept = 0
  // What takes the place of events before those, and waits with them.
  #made = ''
  // The block being looked at.
  #at = 0
  // Nothing has left yet, and not because nothing has come.
  #withheld = false
  #untouched = true
  // Events that are through since they were counted last.
  #events = 0

  constructor(options: HookRunnerOptions) {
    this.#options = options
  }

  /**
   * Runs the hooks over whole events; a promise where one of them returned one.
   * @throws StreamError when a hook failed. What came before has been emitted.
   */
  run(bytes: Buffer): Promise<void> | undefined {
    this.#bytes = bytes
    this.#hasCr = bytes.includes('\r')
    this.#text = ''
    this.#textAt = 0
    this.#kept = 0
    this.#at = 0
    const pending = this.#advance()
    return pending && this.#goOn(pending)
  }

  /** The same for an event that the upstream left unfinished: whatever becomes of it stays so. */
  runTail(tail: Buffer): Promise<void> | undefined {
    const { event } = this.#parse(tail.toString('utf8') + END_OF_EVENT)
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

  /** How many events have come through since this was asked last. */
  takeCount(): number {
    const events = this.#events
    this.#events = 0
    return events
  }

  #advance(): Pending | undefined {
    const bytes = this.#bytes
    while (this.#at < bytes.length) {
      const end = this.#endOfBlock()
      if (end - this.#at > this.#options.eventBytes) {
        this.flush()
        throw new StreamError('ERR_SSE_PROXY_EVENT_TOO_LARGE')
      }
      const { event } = this.#parse(this.#blockUntil(end))
      const replacement = event && this.#replacement(event)
      if (replacement instanceof Promise) {
        this.flush()
        return { replacement, end }
      }
      if (event && !replacement) this.#events++
      this.#settle(end, replacement)
      if (!this.#hasCr) this.#skipBlankLines()
    }
    this.flush()
    // A silent stream keeps nothing of what it has passed on.
    this.#bytes = NOTHING
    this.#text = ''
    return undefined
  }

  /** Between events they are nothing to hooks or parser; a flood of them costs no more than a look at each byte. */
  #skipBlankLines(): void {
    this.#at = endOfBlankLines(this.#bytes, this.#at)
  }

  /** Where the block that is looked at ends. */
  #endOfBlock(): number {
    let end = nextBoundary(this.#text, this.#at - this.#textAt, this.#hasCr)
    if (end === -1) {
      this.#readText()
      end = nextBoundary(this.#text, 0, this.#hasCr)
    }
    return end === -1 ? this.#bytes.length : this.#textAt + end
  }

  /** Goes on with the text, at the block that is looked at; at least all of that. */
  #readText(): void {
    const bytes = this.#bytes
    const from = this.#at
    // A line end of two bytes could be cut in two.
    const blankLine = this.#hasCr ? -1 : bytes.indexOf(END_OF_EVENT, from)
    const end = blankLine === -1 ? bytes.length : Math.max(from + TEXT_BYTES, blankLine + END_OF_EVENT.length)
    const part = bytes.subarray(from, end)
    this.#text = part.toString('latin1')
    this.#textAt = from
    this.#hasEvents = !this.#hasCr && isAscii(part)
  }

  #blockUntil(end: number): string {
    if (!this.#hasEvents) return this.#bytes.toString('utf8', this.#at, end)
    return this.#text.slice(this.#at - this.#textAt, end - this.#textAt)
  }

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

  #settle(end: number, replacement: Replacement): void {
    if (replacement) {
      if (this.#kept < this.#at) this.flush()
      if (isList(replacement)) for (const substitute of replacement) this.#make(substitute)
      else this.#make(replacement)
      if (this.#made === '') this.#withheld = true
      this.#kept = end
    }
    this.#at = end
  }

  #make(substitute: Substitute): void {
    if (isEvent(substitute)) this.#events++
    this.#made += serialize(substitute)
  }

  #emit(bytes: Buffer): void {
    if (bytes.length === 0) return
    // What was in the middle of the upstream's stream may not pass for the mark at the start of the client's.
    const { emit, client } = this.#options
    const hasMark = this.#untouched && startsWithMark(bytes)
    this.#untouched = false
    if (hasMark && this.#withheld) emit(Buffer.from('\n'))
    // And the mark that was at the start may not follow something of ours.
    emit(hasMark && !this.#withheld && client?.wroteBody ? withoutMark(bytes) : bytes)
  }
}

function hookFailure(cause: unknown): StreamError {
  return new StreamError('ERR_SSE_PROXY_HOOK', asError('transform', cause))
}

function isEvent(substitute: Substitute): substitute is StreamEvent {
  return substitute.data !== undefined
}

function serialize(substitute: Substitute): string {
  return isEvent(substitute) ? serializeEvent(substitute) : serializeId(substitute.id)
}

function applyHooks(
  hooks: readonly TransformHook[],
  from: number,
  event: StreamEvent,
  stream: SseStream,
): Replacement | Promise<Replacement> {
  for (let i = from; i < hooks.length; i++) {
    const result = hooks[i]?.(event, stream)
    if (result === undefined) continue
    if (isThenable(result)) return applyLater(hooks, i + 1, event, result, stream)
    return applyToAll(hooks, i + 1, substitutesFor(event, result), stream)
  }
  return undefined
}

async function applyLater(
  hooks: readonly TransformHook[],
  from: number,
  event: StreamEvent,
  promise: Promise<HookResult>,
  stream: SseStream,
): Promise<Replacement> {
  const result = await promise
  if (result === undefined) return applyHooks(hooks, from, event, stream)
  return applyToAll(hooks, from, substitutesFor(event, result), stream)
}

/** The remaining hooks, over what an earlier one made of an event. */
function applyToAll(
  hooks: readonly TransformHook[],
  from: number,
  substitutes: Substitute | readonly Substitute[],
  stream: SseStream,
): Replacement | Promise<Replacement> {
  if (from >= hooks.length) return substitutes
  const done: Substitute[] = []
  const all = listOf(substitutes)
  for (const [i, each] of all.entries()) {
    const result = isEvent(each) ? applyHooks(hooks, from, each, stream) : undefined
    if (result instanceof Promise) {
      const rest = all.slice(i + 1)
      return result.then(async (first) => [
        ...done,
        ...listOf(first ?? each),
        ...listOf((await applyToAll(hooks, from, rest, stream)) ?? []),
      ])
    }
    done.push(...listOf(result ?? each))
  }
  return done
}

/** Whatever takes an event's place, the client's cursor moves as the event would have moved it. */
function substitutesFor({ id }: StreamEvent, result: HookResult): Substitute | readonly Substitute[] {
  if (result && !isList(result) && (id === undefined || result.id !== undefined)) return checkEvent(result)
  const events = [...listOf(result ?? [])]
  let movesCursor = id === undefined
  for (const event of events) movesCursor = checkEvent(event).id !== undefined || movesCursor
  if (id === undefined || movesCursor) return events
  const last = events.pop()
  return last ? [...events, { data: last.data, event: last.event, id }] : { id }
}

function listOf<T extends Substitute>(result: T | readonly T[]): readonly T[] {
  return isList(result) ? result : [result]
}

function isList<T>(result: T | readonly T[]): result is readonly T[] {
  return Array.isArray(result)
}
