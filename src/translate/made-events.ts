// The callback `from.toEvent`: what it makes of one JSON text of the upstream's, as the text of events. Its failures are those
// of a hook: the stream breaks off, and what it has failed over is not sent.

import type { IncomingMessage } from 'node:http'
import { asError, isThenable, promised } from '../app-callback.ts'
import { StreamError } from '../errors.ts'
import type { HookResult, StreamEvent } from '../events/event.ts'
import { checkEvent, serializeEvent } from '../events/event-text.ts'
import { listOf } from '../events/hook-results.ts'
import type { ToEvent } from '../options/format-options.ts'

/**
 * No promise is made where the callback returns none.
 * @throws StreamError, with which the promise rejects too
 */
export function madeEvents(json: string, toEvent: ToEvent, req: IncomingMessage): string | Promise<string> {
  try {
    const result = toEvent(parsed(json), req)
    if (!isThenable(result)) return textOf(json, result)
    return promised(result).then(
      (settled) => failingAsHook(() => textOf(json, settled)),
      (error) => Promise.reject(hookFailure(error)),
    )
  } catch (error) {
    throw hookFailure(error)
  }
}

/** An event whose data is this text as it is. */
export function eventOf(data: string): string {
  return serializeEvent({ data })
}

function parsed(json: string): unknown {
  try {
    return JSON.parse(json)
  } catch (error) {
    throw new Error('from.toEvent: what the upstream sent is not JSON', { cause: error })
  }
}

/** Nothing stands for the text as it came, null and [] for no event. */
function textOf(json: string, result: HookResult): string {
  if (result === undefined) return eventOf(json)
  const events: readonly StreamEvent[] = result === null ? [] : listOf<StreamEvent>(result)
  return events.map((event) => serializeEvent(checkEvent(event))).join('')
}

function failingAsHook<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw hookFailure(error)
  }
}

function hookFailure(thrown: unknown): StreamError {
  return new StreamError('ERR_SSE_PROXY_HOOK', asError('from.toEvent', thrown))
}
