// Ending all open streams without a crowd at the door: each at its own moment, told to come back at its own moment.

import { spread } from './backoff.ts'
import type { Session } from './stream/session.ts'

export interface DrainOptions {
  /** Over how long the endings are spread; what is left then is broken off. @defaultValue 10000 */
  withinMs?: number | undefined
  /** The `retry:` value in ms, or the range that each client's is drawn from; a single number is varied by half of it. @defaultValue clientRetryMs */
  retryMs?: number | readonly [min: number, max: number] | undefined
}

/** How the streams that were open ended. */
export interface DrainResult {
  /** Ended cleanly, with a `retry:`. */
  readonly drained: number
  /** Broken off at the deadline. */
  readonly aborted: number
  /** Over before their turn came. */
  readonly other: number
}

/** A drain that has begun. */
export interface DrainPlan {
  /** See `DrainOptions`. */
  readonly withinMs: number
  /** A client's own. */
  readonly retryMs: () => number
}

/** Ends these sessions, and those that open meanwhile; resolves when all are over. */
export class Drain {
  readonly #plan: DrainPlan
  // As `performance.now()`.
  readonly #deadline: number
  // Those that are to be ended and have not ended yet.
  readonly #pending = new Set<Session>()
  // One for each turn to come; cleared at the deadline.
  readonly #timers = new Set<NodeJS.Timeout>()
  readonly #result = { drained: 0, aborted: 0, other: 0 }

  constructor(plan: DrainPlan) {
    this.#plan = plan
    this.#deadline = performance.now() + plan.withinMs
  }

  get result(): DrainResult {
    return { ...this.#result }
  }

  /** All get their turn, in an order that has nothing to do with their age. */
  schedule(sessions: readonly Session[]): void {
    spread(sessions.length, this.#plan.withinMs * SPREAD).forEach((turn, i) => {
      const session = sessions[i]
      if (session) this.#endAfter(session, turn)
    })
  }

  /** A stream that opened when the drain had begun. */
  add(session: Session): void {
    this.#endAfter(session, Math.random() * Math.max(this.#deadline - performance.now(), 0) * SPREAD)
  }

  /** A session is over. */
  noteEnd(session: Session, reason: string): void {
    if (!this.#pending.delete(session)) return
    if (reason === 'drained') this.#result.drained++
    else this.#result.other++
  }

  /** One that was ended in time did not read it. */
  noteUnread(): void {
    this.#result.drained--
    this.#result.aborted++
  }

  /** The deadline: what has not ended by itself is broken off. */
  abortRest(): void {
    for (const timer of this.#timers) clearTimeout(timer)
    this.#timers.clear()
    for (const session of [...this.#pending]) {
      this.#pending.delete(session)
      this.#result.aborted++
      session.abort('drained')
    }
  }

  #endAfter(session: Session, ms: number): void {
    this.#pending.add(session)
    const timer = setTimeout(() => {
      this.#timers.delete(timer)
      session.end('drained', this.#plan.retryMs())
    }, ms)
    this.#timers.add(timer)
  }
}

// The last ones need a moment to leave before the deadline.
const SPREAD = 0.9
