// What a client of a recipe does: opens a stream with fetch and takes its events one by one.
import { type EventSourceMessage, EventSourceParserStream } from 'eventsource-parser/stream'
import { within } from '../support/waiting.ts'

export interface Reading {
  readonly response: Response
  /** The next event, or undefined after the end. */
  next(): Promise<EventSourceMessage | undefined>
  /** The data of the next so many events, parsed. */
  // biome-ignore lint/suspicious/noExplicitAny: every recipe has its own events
  take(count: number): Promise<any[]>
  close(): void
}

export async function read(url: string, init: RequestInit = {}): Promise<Reading> {
  const controller = new AbortController()
  const response = await within(fetch(url, { ...init, signal: controller.signal }), `an answer of ${url}`)
  if (!response.body) throw new Error(`${url} answered without a body`)
  const events = response.body
    .pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>)
    .pipeThrough(new EventSourceParserStream())
    .getReader()
  const next = async () => (await within(events.read(), `an event of ${url}`)).value

  return {
    response,
    next,
    async take(count) {
      const taken: unknown[] = []
      while (taken.length < count) {
        const event = await next()
        if (!event) throw new Error(`${url} ended after ${taken.length} of ${count} events`)
        taken.push(JSON.parse(event.data))
      }
      return taken
    },
    close: () => controller.abort(),
  }
}
