// What a request means for the books of its upstream: when there is one less, and whether it speaks for the upstream's
// health or against it.

import type { AbortState } from '../../abort.ts'
import { isUpstreamsFault, type UpstreamError } from '../../errors.ts'
import { isEventStream, type UpstreamResponse } from '../../upstream-response.ts'
import type { BodyEnding, OnOver } from '../response-body.ts'
import { EARLY_DEATH_MS } from './health.ts'
import type { Member, Pool } from './pool.ts'

/** Statuses with which an upstream, or a proxy before it, says that it cannot do its work. */
const FAILING = new Set([502, 503, 504])

export function isFailing({ status }: UpstreamResponse): boolean {
  return FAILING.has(status)
}

export interface OutcomeObserver {
  ejected(member: Member): void
}

/** Begins when the upstream has been chosen, and lives as long as its answer. */
export class Outcome implements OnOver {
  readonly #member: Member
  readonly #pool: Pool
  readonly #observer: OutcomeObserver
  // Whether how the answer ends matters: not where its head has said enough, and not before that was looked at.
  #isOpen = false
  // It may have ended in the same read as its head, before anybody could look at that.
  #ending: BodyEnding | undefined
  // Runs for the first second of a stream, which is what it is judged by.
  #early: NodeJS.Timeout | undefined

  constructor(member: Member, pool: Pool, observer: OutcomeObserver) {
    this.#member = member
    this.#pool = pool
    this.#observer = observer
  }

  /** There was no answer. */
  onError(error: UpstreamError, { aborted }: AbortState): void {
    this.#pool.giveBack(this.#member)
    if (!aborted && isUpstreamsFault(error)) this.#failed()
  }

  onAnswer(response: UpstreamResponse): void {
    if (isFailing(response)) return this.#failed()
    this.#isOpen = true
    if (this.#pool.members.length === 1 || !isEventStream(response)) return this.#succeeded()
    this.#early = setTimeout(() => {
      this.#early = undefined
      this.#succeeded()
    }, EARLY_DEATH_MS).unref()
    if (this.#ending) this.#judge(this.#ending)
  }

  onOver(ending: BodyEnding): void {
    this.#pool.giveBack(this.#member)
    this.#ending = ending
    if (this.#isOpen) this.#judge(ending)
  }

  #judge(ending: BodyEnding): void {
    if (ending === 'silent' || (ending === 'broken' && this.#early)) this.#failed()
    else if (ending === 'complete' && this.#early) this.#succeeded()
    clearTimeout(this.#early)
  }

  #succeeded(): void {
    this.#member.health.succeeded(performance.now())
  }

  #failed(): void {
    if (this.#member.health.failed(performance.now())) this.#observer.ejected(this.#member)
  }
}
