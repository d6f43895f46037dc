// Counts and times what passes through one stream, into the statistics of its proxy. It is called for every event and
// allocates nothing.

import type { StreamMeter } from '../stream/session-context.ts'
import type { Stats } from './stats.ts'

/** The meter of one stream; what streams have of it is the interface. */
export class Meter implements StreamMeter {
  readonly #stats: Stats
  // The first event is timed from here on, as `performance.now()`.
  readonly #startedAt: number
  // When the latest event came, as `performance.now()`; 0 before the first.
  #lastEventAt = 0

  /** @param startedAt when the request came, as `performance.now()` */
  constructor(stats: Stats, startedAt: number) {
    this.#stats = stats
    this.#startedAt = startedAt
  }

  received(bytes: number, events: number): void {
    this.#stats.bytesIn += bytes
    this.#stats.eventsIn += events
  }

  timed(events: number, now: number): void {
    if (events === 0) return
    const { timeToFirstEvent, eventGap } = this.#stats
    if (this.#lastEventAt === 0) timeToFirstEvent.observe((now - this.#startedAt) / 1000)
    else eventGap.observe((now - this.#lastEventAt) / 1000)
    if (events > 1) eventGap.observe(0, events - 1)
    this.#lastEventAt = now
  }

  sent(events: number): void {
    this.#stats.eventsOut += events
  }

  wrote(bytes: number): void {
    this.#stats.bytesOut += bytes
  }

  keptAlive(): void {
    this.#stats.keepalives++
  }
}
