// What waits for the end of the event that is on its way to a client: events of the app's own, and behind them the
// ending of the stream. A stream has one only while something waits.

import type { CloseReason } from '../errors.ts'

/** A clean ending that was asked for. */
export interface Ending {
  readonly reason: CloseReason
  /** Written before it: the `retry:` by which the client comes back. */
  readonly preamble: string
}

export class Outbox {
  /** What the events take; the session bounds it. */
  bytes = 0
  /** Set once. Nothing is added behind it. */
  ending: Ending | undefined
  // Whole events, in the order they were sent.
  #events: Buffer[] = []

  add(event: Buffer): void {
    this.#events.push(event)
    this.bytes += event.length
  }

  /** The events as one piece, which wait no longer; undefined where there are none. */
  takeEvents(): Buffer | undefined {
    if (this.bytes === 0) return undefined
    const events = Buffer.concat(this.#events, this.bytes)
    this.#events = []
    this.bytes = 0
    return events
  }
}
