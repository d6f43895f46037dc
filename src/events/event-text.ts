// Events as values: out of their bytes for hooks, and back into bytes where a hook or the app made new ones.

import { createParser } from 'eventsource-parser'
import type { StreamEvent } from './event.ts'

const LF = 10
const CR = 13
const END_OF_EVENT = '\n\n'
const LONG_DATA = 16_384

/**
 * Parses the blocks of one stream, one after the other. There is no event where a block dispatches nothing: comments, a
 * lone id, a retry.
 */
export function createBlockParser(): (block: string) => StreamEvent | undefined {
  let event: StreamEvent | undefined
  const parser = createParser({
    onEvent: (parsed) => {
      event = parsed
    },
  })
  return (block) => {
    parser.feed(block)
    const parsed = event
    // A stream may be silent for long, and what was parsed is a part of a larger text.
    event = undefined
    return parsed
  }
}

/** @throws TypeError when the event would not arrive as it was meant. */
export function checkEvent(event: StreamEvent): StreamEvent {
  if (typeof event !== 'object' || event === null)
    throw new TypeError(`an event must be an object, got ${typeOf(event)}`)
  if (typeof event.data !== 'string') {
    throw new TypeError(`an event's data must be a string (JSON.stringify what is not), got ${typeOf(event.data)}`)
  }
  checkLine('event', event.event)
  checkLine('id', event.id)
  return event
}

/** The checks of a field that is one line. */
function checkLine(name: 'event' | 'id', value: unknown): void {
  if (value === undefined) return
  if (typeof value !== 'string') throw new TypeError(`an event's ${name} must be a string, got ${typeOf(value)}`)
  // A line break would smuggle in other fields, and clients ignore an id with NUL.
  if (!isOneLine(value)) throw new TypeError(`an event's ${name} must not contain CR, LF or NUL`)
}

/** By hand: these are short, and a regular expression costs more before it begins. */
function isOneLine(value: string): boolean {
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i)
    if (code === LF || code === CR || code === 0) return false
  }
  return true
}

function typeOf(value: unknown): string {
  return value === null ? 'null' : typeof value
}

/** A checked event in bytes. The space after the colon is always there, since a client removes one. */
export function serializeEvent({ data, event, id }: StreamEvent): string {
  let text = event ? `event: ${event}\n` : ''
  if (id !== undefined) text += `id: ${id}\n`
  if (!data.includes('\n') && !data.includes('\r')) return `${text}data: ${data}\n\n`
  for (const line of data.split(/\r\n|\r|\n/)) text += `data: ${line}\n`
  return `${text}\n`
}

/** The same in parts, which spares a copy of what is long; undefined where it is not, or is more than one line. */
export function serializeLong({ data, event, id }: StreamEvent): readonly string[] | undefined {
  if (data.length < LONG_DATA || data.includes('\n') || data.includes('\r')) return undefined
  return [serializeEvent({ data: '', event, id }).slice(0, -END_OF_EVENT.length), data, END_OF_EVENT]
}

/** A block that only moves the cursor. */
export function serializeId(id: string): string {
  return `id: ${id}\n\n`
}

/** A block that only tells the client when to come back. */
export function serializeRetry(retryMs: number): string {
  return `retry: ${retryMs}\n\n`
}
