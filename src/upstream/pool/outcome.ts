// What one request means for its upstream: when it no longer counts as active there, and whether it was a success or a
// failure for the upstream's health.

import type { AbortState } from '../../abort.ts'
import { isUpstreamsFault, type UpstreamError } from '../../errors.ts'
import { codeOf } from '../../system-error.ts'
import { isEventStream, type UpstreamResponse } from '../../upstream-response.ts'
import { Rejection } from '../http2/session.ts'
import type { BodyEnding, OnOver } from '../response-body.ts'
import { EARLY_DEATH_MS } from './health.ts'
import type { Member, Pool } from './pool.ts'

/** Statuses with which an upstream, or a proxy before it, says that it cannot do its work. */
const FAILING = new Set([502, 503, 504])

/** Whether the status alone makes an answer a failure of the upstream. */
export function isFailing({ status }: UpstreamResponse): boolean {
  return FAILING.has(status)
}

export interface OutcomeObserver {
  /** A failure was one too many: the upstream is left alone for a while. */
  ejected(member: Member): void
}

/** One for each attempt, from the choice of the upstream to the end of its answer. */
export class Outcome implements OnOver {
  readonly #member: Member
  readonly #pool: Pool
  readonly #observer: OutcomeObserver
  // Set when the head of the answer leaves it open whether it is a success. Until then, where the status has decided it, and once
  // the stream has been judged, the ending does not count.
  #isOpen = false
  // How the answer has ended. It may be set before `onAnswer`: a short answer ends in the same read as its head.
  #ending: BodyEnding | undefined
  // Runs for the first second of a stream: one that breaks while it runs is a failure, one that outlives it a success. It stays
  // set where the stream has ended in that time.
  #early: NodeJS.Timeout | undefined
  // Whether a stream is judged by its events, which may be read later than its connection ends. Set with the option `isEnd`.
  readonly #isJudged: boolean

  constructor(member: Member, pool: Pool, observer: OutcomeObserver, isJudged: boolean) {
    this.#member = member
    this.#pool = pool
    this.#observer = observer
    this.#isJudged = isJudged
  }

  /** There was no answer. */
  onError(error: UpstreamError, { aborted }: AbortState): void {
    this.#pool.giveBack(this.#member)
    if (!aborted && isUpstreamsFault(error) && !mayBeClients(error, this.#member)) this.#failed()
  }

  /** The head of the answer is there. */
  onAnswer(response: UpstreamResponse): void {
    if (isFailing(response)) return this.#failed()
    this.#isOpen = true
    if (this.#pool.members.length === 1 || !isEventStream(response)) return this.#succeeded()
    this.#early = setTimeout(() => {
      this.#early = undefined
      this.#succeeded()
    }, EARLY_DEATH_MS).unref()
    if (this.#ending) this.#onEnded(this.#ending)
  }

  /** There was an answer that will not do. How its body ends says nothing more. */
  onRefused(error: UpstreamError, { aborted }: AbortState): void {
    if (!aborted && isUpstreamsFault(error)) this.#failed()
  }

  /** The answer has ended, in whatever way. */
  onOver(ending: BodyEnding): void {
    this.#pool.giveBack(this.#member)
    this.#ending = ending
    if (this.#isOpen) this.#onEnded(ending)
  }

  /** A stream that was whole was a success, however its connection ended; one that was not is a loss. */
  onJudged(isWhole: boolean): void {
    const ending = this.#ending
    if (!this.#isJudged || !this.#isOpen || ending === undefined || ending === 'given-up') return
    // Told again where no resume comes of it.
    this.#isOpen = false
    if (isWhole) this.#judge('complete')
    else this.#judge(ending === 'silent' ? 'silent' : 'broken')
  }

  #onEnded(ending: BodyEnding): void {
    clearTimeout(this.#early)
    if (!this.#isJudged) this.#judge(ending)
  }

  #judge(ending: BodyEnding): void {
    if (ending === 'silent' || (ending === 'broken' && this.#early)) this.#failed()
    else if (ending === 'complete' && this.#early) this.#succeeded()
  }

  #succeeded(): void {
    this.#member.health.succeeded(performance.now())
  }

  #failed(): void {
    if (this.#member.health.failed(performance.now())) this.#observer.ejected(this.#member)
  }
}

/** Whether the client's request may have caused a failure, which then does not count against the upstream's health. */
function mayBeClients({ cause }: UpstreamError, { url }: Member): boolean {
  if (cause instanceof Rejection) return true
  // Without `changeOrigin` the certificate has to be good for the Host of the request.
  if (!(cause instanceof Error) || codeOf(cause) !== 'ERR_TLS_CERT_ALTNAME_INVALID') return false
  return URL.canParse(url) && new URL(url).hostname !== Reflect.get(cause, 'host')
}
