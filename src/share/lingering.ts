// A shared stream that no client follows or waits for is kept for a while, for those who come back. Meanwhile it takes its leader's
// place of the limits and counts in the replay budget, and gives way when either is needed for others.

import type { IncomingMessage } from 'node:http'
import type { Ticket } from '../admission.ts'
import { Watchdog } from '../watchdog.ts'
import type { ReplayBudget } from './replay-budget.ts'

// A request is kept as it came and as it is sent, by the parser's, Node's and http-proxy-middleware's objects.
const KEPT_TIMES = 4

/** What a stream without followers takes. */
export interface LingeringContext {
  /** Infinity until it ends of itself. */
  readonly lingerMs: number
  /** The leader's request, which the stream keeps as long as it lives. */
  readonly req: IncomingMessage
  readonly budget: Pick<ReplayBudget, 'add' | 'settle'>
  /** Takes the leader's place of the limits; `close` is called when that is needed for others. */
  readonly linger: (close: () => void) => Ticket
}

/** The state of one shared stream while it has no followers, or of its opening while no request waits. */
export class Lingering {
  readonly #context: LingeringContext
  readonly #close: () => void
  // Set from `begin` to `stop`.
  #place: Ticket | undefined
  // Ends the stream after `lingerMs`, where that is a time; replaced by each `begin`.
  #watchdog: Watchdog | undefined
  // What the leader's request counts in the budget meanwhile.
  #weight = 0

  /** @param close ends the stream, and stops this */
  constructor(context: LingeringContext, close: () => void) {
    this.#context = context
    this.#close = close
  }

  /** The place that it takes; undefined while the stream has followers, which have their own. */
  get place(): Ticket | undefined {
    return this.#place
  }

  /** The last follower has left. May end the stream at once, where the budget is used up. */
  begin(): void {
    const { lingerMs, linger, req, budget } = this.#context
    this.#place = linger(this.#close)
    if (lingerMs !== Number.POSITIVE_INFINITY) this.#watchdog = new Watchdog(lingerMs, this.#close).unref()
    this.#weight = weightOf(req)
    budget.add(this.#weight)
    budget.settle()
  }

  /** A follower has come, or the stream is over: all that was taken is given back. */
  stop(): void {
    if (!this.#place) return
    this.#watchdog?.stop()
    this.#place.giveBack()
    this.#place = undefined
    this.#context.budget.add(-this.#weight)
  }
}

/** What a request weighs: its size is the client's choice. */
function weightOf({ url = '', rawHeaders }: IncomingMessage): number {
  return KEPT_TIMES * rawHeaders.reduce((sum, { length }) => sum + length, url.length)
}
