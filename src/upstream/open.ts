// The function that gets a request an answer: choose an upstream, make an attempt, and where that failed without harm
// make another.

import { type AbortState, sleep } from '../abort.ts'
import { isUpstreamsFault, UpstreamError } from '../errors.ts'
import type { RetryPolicy } from '../options/resolve-retry.ts'
import type { OpenUpstream } from '../upstream-response.ts'
import { type AttemptContext, type Exchange, openTarget } from './attempt.ts'
import { isFailing, Outcome, type OutcomeObserver } from './pool/outcome.ts'
import type { Member, Pool } from './pool/pool.ts'
import { mayRetryAnswer, mayRetryFailure, retryDelay, SAFE_METHODS } from './pool/retry.ts'
import { forgetBody, isReplayable } from './request-body.ts'

/** Who is told what happens before a client has its headers. */
export interface OpenerObserver extends OutcomeObserver {
  unanswered(error: UpstreamError): void
  answered(upstream: string): void
  retried(exchange: Exchange, error: UpstreamError, attempt: number, delayMs: number): void
}

export interface OpenerContext extends AttemptContext {
  /** Absent where a router chooses. */
  readonly pool: Pool | undefined
  readonly retry: RetryPolicy | false
  readonly observer: OpenerObserver
}

const NOBODY: ReadonlySet<Member> = new Set()

export function createOpener(context: OpenerContext, exchange: Exchange): OpenUpstream {
  const { pool, retry, observer } = context
  const { req } = exchange
  const method = req.method ?? 'GET'
  const mayArriveTwice = [...SAFE_METHODS, ...(retry ? retry.methods : [])].includes(method)

  return async (request) => {
    let tried = NOBODY
    for (let attempt = 0; ; attempt++) {
      const member = pool?.choose(req, { tried, avoid: request.avoid })
      const trial = member && pool && new Outcome(member, pool, observer)
      const outcome = await openTarget({ context, exchange, upstream: member, request, mayArriveTwice, onOver: trial })
      const mayRetry = retry && attempt < retry.attempts && !request.signal.aborted && isReplayable(exchange.body)
      if (outcome instanceof UpstreamError) {
        trial?.onError(outcome, request.signal)
        if (!request.signal.aborted && isUpstreamsFault(outcome)) observer.unanswered(outcome)
        if (!mayRetry || !mayRetryFailure(outcome, method, retry)) throw outcome
      } else {
        trial?.onAnswer(outcome)
        observer.answered(outcome.upstream)
        if (!mayRetry || !mayRetryAnswer(outcome, method, retry)) {
          if (!SAFE_METHODS.includes(method)) forgetBody(exchange.body)
          const cookie = member && !isFailing(outcome) ? pool?.cookieFor(req, member) : undefined
          return cookie === undefined ? outcome : { ...outcome, cookie }
        }
      }

      if (member) tried = new Set(tried).add(member)
      const answer = outcome instanceof UpstreamError ? undefined : outcome
      const error =
        outcome instanceof UpstreamError ? outcome : new UpstreamError('ERR_SSE_PROXY_BAD_ANSWER', outcome.upstream)
      answer?.body.destroy()
      // Another upstream is asked at once; the same one is given time.
      const delayMs = pool && tried.size < pool.members.length ? 0 : retryDelay(attempt, answer, retry)
      observer.retried(exchange, error, attempt + 1, delayMs)
      await pause(delayMs, request.signal)
    }
  }
}

async function pause(ms: number, signal: AbortState): Promise<void> {
  if (ms === 0) return
  try {
    await sleep(ms, signal)
  } catch (error) {
    throw new UpstreamError('ERR_SSE_PROXY_UNREACHABLE', undefined, error)
  }
}
