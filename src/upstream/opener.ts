// The function that gets a request an answer: choose an upstream, make an attempt, and where that failed without harm
// make another. Here an upstream's streams are counted and its failures noted.

import { UpstreamError } from '../errors.ts'
import { sleep, type Wanted } from '../lifetime.ts'
import { isEventStream, type OpenRequest, type OpenUpstream, type UpstreamResponse } from '../open-upstream.ts'
import type { OnOver } from './answer-body.ts'
import { type AttemptContext, type Exchange, openTarget } from './attempt.ts'
import { EARLY_DEATH_MS } from './health.ts'
import type { Member, Pool } from './pool.ts'
import { forgetBody, isReplayable } from './request-body.ts'
import { mayRetryAnswer, mayRetryFailure, type RetryPolicy, retryDelay } from './retry.ts'

/** Who is told what happens before a client has its headers. */
export interface OpenerObserver {
  retried(exchange: Exchange, error: UpstreamError, attempt: number, delayMs: number): void
  ejected(member: Member): void
}

export interface OpenerContext extends AttemptContext {
  /** Absent where a router chooses. */
  readonly pool: Pool | undefined
  readonly retry: RetryPolicy | false
  readonly observer: OpenerObserver
}

/** Statuses with which an upstream, or a proxy before it, says that it cannot do its work. */
const FAILING = new Set([502, 503, 504])

export function createOpener(context: OpenerContext, exchange: Exchange): OpenUpstream {
  const { pool, retry, observer } = context
  const { req } = exchange
  const method = req.method ?? 'GET'

  return async (request) => {
    const tried = new Set<Member>()
    for (let attempt = 0; ; attempt++) {
      const member = pool?.choose(req, { tried, avoid: request.avoid })
      const outcome = await ask(context, exchange, member, request)
      const mayRetry = retry && attempt < retry.attempts && !request.signal.aborted
      if (outcome instanceof UpstreamError) {
        if (!mayRetry || !mayRetryFailure(outcome, method, isReplayable(exchange.body))) throw outcome
      } else if (!mayRetry || !mayRetryAnswer(outcome, method, retry)) {
        if (method !== 'GET' && method !== 'HEAD') forgetBody(exchange.body)
        const cookie = member && !FAILING.has(outcome.status) ? pool?.cookieFor(req, member) : undefined
        return cookie === undefined ? outcome : { ...outcome, cookie }
      }

      if (member) tried.add(member)
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

/** One attempt, with what it means for the upstream's books. */
async function ask(
  context: OpenerContext,
  exchange: Exchange,
  member: Member | undefined,
  request: OpenRequest,
): Promise<UpstreamResponse | UpstreamError> {
  const { pool, observer } = context
  if (!member || !pool) return openTarget(context, exchange, undefined, request).catch(asUpstreamError)

  const succeeded = () => member.health.succeeded(Date.now())
  const failed = () => {
    if (member.health.failed(Date.now())) observer.ejected(member)
  }
  // The end may come in the same read as the head, before anybody could look at that.
  let ending: Parameters<OnOver>[0] | undefined
  let early: NodeJS.Timeout | undefined
  const judge: OnOver = (outcome) => {
    if (outcome === 'silent' || (outcome === 'broken' && early)) failed()
    else if (outcome === 'complete' && early) succeeded()
    clearTimeout(early)
  }
  let isJudged = false
  const onOver: OnOver = (outcome) => {
    pool.release(member)
    ending = outcome
    if (isJudged) judge(outcome)
  }
  try {
    const response = await openTarget(context, exchange, member, request, onOver)
    if (FAILING.has(response.status)) {
      failed()
    } else if (pool.members.length > 1 && isEventStream(response)) {
      // A stream is judged by its first second.
      early = setTimeout(() => {
        early = undefined
        succeeded()
      }, EARLY_DEATH_MS).unref()
      isJudged = true
      if (ending) judge(ending)
    } else {
      succeeded()
      isJudged = true
    }
    return response
  } catch (error) {
    pool.release(member)
    const failure = asUpstreamError(error)
    if (!request.signal.aborted && isUpstreamsFault(failure)) failed()
    return failure
  }
}

/** Routing, rewriting and bodies are the app's and the client's affair. */
function isUpstreamsFault({ code }: UpstreamError): boolean {
  return code !== 'ERR_SSE_PROXY_APP' && !code.startsWith('ERR_SSE_PROXY_BODY_')
}

function asUpstreamError(error: unknown): UpstreamError {
  return error instanceof UpstreamError ? error : new UpstreamError('ERR_SSE_PROXY_BAD_ANSWER', undefined, error)
}

async function pause(ms: number, signal: Wanted): Promise<void> {
  if (ms === 0) return
  try {
    await sleep(ms, signal)
  } catch (error) {
    throw new UpstreamError('ERR_SSE_PROXY_UNREACHABLE', undefined, error)
  }
}
