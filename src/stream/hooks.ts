// The hooks, over a stretch of complete events. What no hook touched leaves as the bytes that came, in one piece with
// its neighbours. No promise is made where no hook returns one.

import { StreamError } from '../errors.ts'
import type { HookResult, SseStream, StreamEvent, TransformHook } from '../options.ts'
import { checkEvent, createBlockParser, type ParsedBlock, serializeEvent, serializeId } from './events.ts'
import { nextBoundary } from './framing.ts'

const CR = 13
const END_OF_EVENT = Buffer.from('\n\n')

/** Events in place of the one that came, or undefined where that one stays. */
type Replacement = readonly StreamEvent[] | undefined

/** An event whose hook has not made up its mind. */
interface Pending {
  readonly replacement: Promise<Replacement>
  readonly end: number
  readonly id: string | undefined
}

export interface HookRunnerOptions {
  readonly hooks: readonly TransformHook[]
  readonly stream: SseStream
  readonly eventBytes: number
  /** Takes what may leave, in order. */
  readonly emit: (bytes: Buffer) => void
}

export class HookRunner {
  readonly #options: HookRunnerOptions
  readonly #parse: (block: Buffer) => ParsedBlock = createBlockParser()
  #bytes: Buffer = END_OF_EVENT
  #hasCr = false
  // Blocks from here to #at are through and unchanged, and wait to leave together.
  #kept = 0
  // The block being looked at.
  #at = 0

  constructor(options: HookRunnerOptions) {
    this.#options = options
  }

  /**
   * Runs the hooks over whole events; a promise where one of them returned one.
   * @throws StreamError when a hook failed. What came before has been emitted.
   */
  run(bytes: Buffer): Promise<void> | undefined {
    this.#bytes = bytes
    this.#hasCr = bytes.includes(CR)
    this.#kept = 0
    this.#at = 0
    const pending = this.#advance()
    return pending && this.#goOn(pending)
  }

  /** The same for an event that the upstream left without its blank line. */
  runTail(tail: Buffer): Promise<void> | undefined {
    const { event, id } = this.#parse(Buffer.concat([tail, END_OF_EVENT]))
    this.#bytes = tail
    this.#kept = 0
    this.#at = 0
    const replacement = event && this.#replacement(event)
    if (replacement instanceof Promise) return this.#goOn({ replacement, end: tail.length, id })
    this.#settle(tail.length, replacement, id)
    this.flush()
    return undefined
  }

  /** Emits what is through, so that something else can follow it. */
  flush(): void {
    if (this.#kept < this.#at) this.#options.emit(this.#bytes.subarray(this.#kept, this.#at))
    this.#kept = this.#at
  }

  #advance(): Pending | undefined {
    const bytes = this.#bytes
    while (this.#at < bytes.length) {
      const boundary = nextBoundary(bytes, this.#at, this.#hasCr)
      const end = boundary === -1 ? bytes.length : boundary
      if (end - this.#at > this.#options.eventBytes) throw new StreamError('ERR_SSE_PROXY_EVENT_TOO_LARGE')
      const { event, id } = this.#parse(bytes.subarray(this.#at, end))
      const replacement = event && this.#replacement(event)
      if (replacement instanceof Promise) {
        this.flush()
        return { replacement, end, id }
      }
      this.#settle(end, replacement, id)
    }
    this.flush()
    return undefined
  }

  async #goOn(first: Pending): Promise<void> {
    for (let pending: Pending | undefined = first; pending; pending = this.#advance()) {
      let replacement: Replacement
      try {
        replacement = await pending.replacement
      } catch (error) {
        throw hookFailure(error)
      }
      this.#settle(pending.end, replacement, pending.id)
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

  #settle(end: number, replacement: Replacement, id: string | undefined): void {
    if (replacement) {
      this.flush()
      const text = serializeReplacement(replacement, id)
      if (text !== '') this.#options.emit(Buffer.from(text))
      this.#kept = end
    }
    this.#at = end
  }
}

function hookFailure(cause: unknown): StreamError {
  return new StreamError('ERR_SSE_PROXY_HOOK', cause)
}

/** Whatever takes an event's place, the client's cursor moves as the upstream meant it to. */
function serializeReplacement(events: readonly StreamEvent[], id: string | undefined): string {
  if (id === undefined || events.some((event) => event.id !== undefined)) return events.map(serializeEvent).join('')
  const last = events[events.length - 1]
  if (!last) return serializeId(id)
  return [...events.slice(0, -1), { ...last, id }].map(serializeEvent).join('')
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
    const decided = (settled: HookResult) =>
      settled === undefined
        ? applyHooks(hooks, i + 1, event, stream)
        : applyToAll(hooks, i + 1, eventsOf(settled), stream)
    return isPromise(result) ? result.then(decided) : decided(result)
  }
  return undefined
}

/** The remaining hooks, over what an earlier one made of an event. */
function applyToAll(
  hooks: readonly TransformHook[],
  from: number,
  events: readonly StreamEvent[],
  stream: SseStream,
): readonly StreamEvent[] | Promise<readonly StreamEvent[]> {
  if (from >= hooks.length) return events
  const replaced: StreamEvent[] = []
  for (const [i, event] of events.entries()) {
    const result = applyHooks(hooks, from, event, stream)
    if (result instanceof Promise) {
      const rest = events.slice(i + 1)
      return result.then(async (first) => [
        ...replaced,
        ...(first ?? [event]),
        ...(await applyToAll(hooks, from, rest, stream)),
      ])
    }
    replaced.push(...(result ?? [event]))
  }
  return replaced
}

function eventsOf(result: HookResult): readonly StreamEvent[] {
  if (result === null || result === undefined) return []
  return (isList(result) ? result : [result]).map(checkEvent)
}

function isList(result: StreamEvent | readonly StreamEvent[]): result is readonly StreamEvent[] {
  return Array.isArray(result)
}

function isPromise(result: HookResult | Promise<HookResult>): result is Promise<HookResult> {
  return typeof result === 'object' && result !== null && 'then' in result && typeof result.then === 'function'
}
