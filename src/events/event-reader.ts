// Bytes as they come to the events in them, for those who look and change nothing. An event is seen once, when its blank line
// has come, however its bytes were cut. What is given back and what is unfinished are together the bytes that came.

import { joined } from '../bytes.ts'
import { endOfBlankLines, nextBoundary } from './boundaries.ts'
import type { StreamEvent } from './event.ts'
import { createBlockParser } from './event-text.ts'
import { EventFramer } from './framer.ts'

export class EventReader {
  readonly #onEvent: (event: StreamEvent) => void
  // Takes one block, and returns its event where it has data.
  readonly #parse: (block: string) => StreamEvent | undefined = createBlockParser()
  // Holds the start of an event until its end is here. Without a bound of its own: the caller of `read` bounds what comes.
  readonly #framer = new EventFramer({
    wholeEvents: true,
    eventBytes: Number.POSITIVE_INFINITY,
    failsOversize: false,
    client: { wroteBody: false },
  })

  /** @param onEvent called for each complete event, in order; blocks without data are none */
  constructor(onEvent: (event: StreamEvent) => void) {
    this.#onEvent = onEvent
  }

  /** Whether an event has begun that is not over. */
  get isInsideEvent(): boolean {
    return this.#framer.isInsideEvent
  }

  /** The start of an event that is not over: what came and was not given back. */
  get unfinished(): readonly Buffer[] {
    return this.#framer.unfinished
  }

  /** Takes what came, and gives back what is whole by now. What the callback throws passes through; nothing may come after it. */
  read(chunk: Buffer): readonly Buffer[] {
    const pieces = this.#framer.take(chunk)
    if (pieces.length > 0) this.#readBlocks(joined(pieces))
    return pieces
  }

  /** Each block between two blank lines by itself, so that the parser never holds a part of one. */
  #readBlocks(bytes: Buffer): void {
    // A character for each byte, so that places in it are those in the bytes.
    const text = bytes.toString('latin1')
    const hasCr = text.includes('\r')
    for (let at = 0; at < text.length; ) {
      const found = nextBoundary(text, at, hasCr)
      const end = found === -1 ? text.length : found
      const event = this.#parse(bytes.toString('utf8', at, end))
      if (event) this.#onEvent(event)
      at = hasCr ? end : endOfBlankLines(bytes, end)
    }
  }
}
