// What passes through one stream, on its way into the proxy's statistics. Called for every event: it allocates nothing.

import type { StreamMeter } from '../stream/session-context.ts'
import type { Stats } from './stats.ts'

export class Meter implements StreamMeter {
  readonly #stats: Stats
  readonly #startedAt: number
  // When an event came last, as `performance.now()`; 0 before the first, whose wait began with the request.
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
