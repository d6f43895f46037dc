// What hooks make of one event, before any of it becomes bytes. No promise is made where no hook returns one: most hooks
// are synchronous, and a promise for each event would cost more than they do.

import { isThenable } from '../app-callback.ts'
import type { HookResult, SseStream, StreamEvent, TransformHook } from './event.ts'
import { checkEvent, serializeEvent, serializeId } from './event-text.ts'

/** What leaves in an event's place: another, or of one that was dropped its id, so that the client's cursor moves. */
export type Substitute = StreamEvent | { readonly id: string; readonly data?: undefined }

/** Undefined where the event itself stays. One is not put into a list: this is made for every event. */
export type Replacement = Substitute | readonly Substitute[] | undefined

/**
 * Runs the hooks from one of them on, each over what the one before it has made.
 * @throws what a hook throws, and TypeError where it returns what is no event
 */
export function applyHooks(
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

/** Goes on with the next hook when a pending one has settled. */
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

/** The remaining hooks, over what an earlier one made of an event; the next one waits for those before it. */
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
  const events = [...listOf(result ?? [])].map(checkEvent)
  if (id === undefined || events.some((event) => event.id !== undefined)) return events
  // The last one, so that a client that has lost some of them asks for all of them again.
  const last = events.pop()
  return last ? [...events, { data: last.data, event: last.event, id }] : { id }
}

/** Whether it is more than an id. */
export function isEvent(substitute: Substitute): substitute is StreamEvent {
  return substitute.data !== undefined
}

/** In bytes, with the blank line behind it. */
export function serialize(substitute: Substitute): string {
  return isEvent(substitute) ? serializeEvent(substitute) : serializeId(substitute.id)
}

/** One, several or none, as a list. */
export function listOf<T extends Substitute>(result: T | readonly T[]): readonly T[] {
  return isList(result) ? result : [result]
}

function isList<T>(result: T | readonly T[]): result is readonly T[] {
  return Array.isArray(result)
}
