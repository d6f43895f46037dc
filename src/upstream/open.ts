// The function that gets a request an answer: choose an upstream, make an attempt, and where that failed without harm
// make another.

import { type AbortState, LinkedAbort, sleep } from '../abort.ts'
import { isUpstreamsFault, UpstreamError } from '../errors.ts'
import type { RetryPolicy } from '../options/resolve-retry.ts'
import type {
  Inspect,
  Inspected,
  OpenRequest,
  OpenUpstream,
  Translate,
  UpstreamResponse,
} from '../upstream-response.ts'
import { type AttemptContext, type AttemptObserver, type AttemptResult, makeAttempt } from './attempt.ts'
import { isFailing, Outcome, type OutcomeObserver } from './pool/outcome.ts'
import type { Member, OpenAttempt, Pool } from './pool/pool.ts'
import { mayRetryAnswer, mayRetryFailure, retryDelay, SAFE_METHODS } from './pool/retry.ts'
import { forgetBody, isReplayable, type RequestBody } from './request-body.ts'
import type { ProxiedRequest } from './transport.ts'

/** Told what happens before a client has its headers. */
export interface OpenObserver extends OutcomeObserver, AttemptObserver {
  /** An attempt has failed through the upstream's fault, whether another one follows or not. */
  unanswered(error: UpstreamError): void
  /** An upstream has answered, with whatever status. */
  answered(upstream: string): void
  /** Another attempt follows after `delayMs`. */
  retried(request: ProxiedRequest, error: UpstreamError, attempt: number, delayMs: number): void
}

/** What all requests of a proxy share on their way to an answer. */
export interface OpenContext extends AttemptContext {
  /** Absent where a router chooses. */
  readonly pool: Pool | undefined
  /** Changes with the targets, where the app has not said how many attempts there are. */
  retry: RetryPolicy | false
  readonly observer: OpenObserver
  /** Whether the reader of an event stream tells its body whether it was whole: see `UpstreamBody.judge`. */
  readonly judgesStreams: boolean
  /** Absent where upstreams answer with event streams. */
  readonly translate?: Translate | undefined
  /** Looks at the beginning of an answer before it is taken. Absent where its head says enough. */
  readonly inspect?: Inspect | undefined
}

const NONE: ReadonlySet<Member> = new Set()

// Where `retry` is off: what an upstream has refused to work on is sent again all the same.
const RESENT: RetryPolicy = { attempts: 3, backoffMs: 100, maxBackoffMs: 2000, statuses: [], methods: [] }

/**
 * One for each client's request. The function may be called again, to resume: each call chooses anew, and gives its own
 * number of attempts.
 */
export function createOpen(
  context: OpenContext,
  request: ProxiedRequest,
  translate: OpenContext['translate'] = context.translate,
): OpenUpstream {
  const { pool, observer, judgesStreams, inspect } = context
  const { req, body } = request
  const method = req.method ?? 'GET'
  const mayArriveTwice =
    SAFE_METHODS.includes(method) || (context.retry !== false && context.retry.methods.includes(method))

  // What a resume brings goes on with a stream that has begun, and is not looked at.
  let hasBegun = method === 'HEAD'

  return async (asked) => {
    const { lastEventId, avoid, stay: asBefore, headers, signal } = asked
    // Asked in vain by this call.
    let tried = NONE
    for (let attempt = 0; ; attempt++) {
      const upstream = pool?.choose(req, { tried, avoid, stay: asBefore })
      const outcome = upstream && pool && new Outcome(upstream, pool, observer, judgesStreams)
      const stay = upstream && mayArriveTwice ? new Stay(upstream, body, signal) : undefined
      const wanted = stay ?? signal
      const order = {
        context,
        request,
        upstream,
        lastEventId,
        headers,
        signal: wanted,
        mayArriveTwice,
        onOver: outcome,
      }
      let result: AttemptResult
      let seen: Inspected
      try {
        result = translated(await makeAttempt(order), { context, request, asked }, translate)
        seen = taken(result)
        if (seen.response && inspect && !hasBegun) seen = await inspect(seen.response, req, wanted)
      } finally {
        stay?.end()
      }
      const { response, error } = seen
      if (result instanceof UpstreamError) outcome?.onError(result, wanted)
      else if (error) outcome?.onRefused(error, wanted)
      else outcome?.onAnswer(result)
      if (!error) observer.answered(response.upstream)
      else if (!wanted.aborted && isUpstreamsFault(error)) observer.unanswered(error)
      if (error && wanted.aborted && !signal.aborted) {
        // No failure, and none of the attempts that there may be.
        response?.body.destroy()
        attempt--
        continue
      }

      const { retry } = context
      const policy = retry || (error?.code === 'ERR_SSE_PROXY_REFUSED' && RESENT)
      const mayRetry = policy && attempt < policy.attempts && !signal.aborted && isReplayable(body)
      if (!mayRetry || !(error ? mayRetryFailure(error, method, policy) : mayRetryAnswer(response, method, policy))) {
        if (!response) throw error
        hasBegun = true
        if (!SAFE_METHODS.includes(method)) forgetBody(body)
        const cookie = upstream && !error && !isFailing(response) ? pool?.cookieFor(req, upstream) : undefined
        return cookie === undefined ? response : { ...response, cookie }
      }

      if (upstream) tried = new Set(tried).add(upstream)
      response?.body.destroy()
      // Another upstream is asked at once; the same one is given time.
      const delayMs = pool?.hasUntried(tried) ? 0 : retryDelay(attempt, response, policy)
      const failure = error ?? new UpstreamError('ERR_SSE_PROXY_BAD_ANSWER', response.upstream)
      observer.retried(request, failure, attempt + 1, delayMs)
      await pause(delayMs, signal)
    }
  }
}

/** How long one attempt is wanted: as its request is, or until its upstream goes and another may be asked in its place. */
class Stay extends LinkedAbort implements OpenAttempt {
  readonly #upstream: Member
  readonly #body: RequestBody

  constructor(upstream: Member, body: RequestBody, request: AbortState) {
    super(request)
    this.#upstream = upstream
    this.#body = body
    upstream.attempts.add(this)
  }

  onGone(): void {
    if (isReplayable(this.#body)) this.abort(new Error('the upstream is not one of the targets any more'))
  }

  /** There is an answer, or a failure. */
  end(): void {
    this.unlink()
    this.#upstream.attempts.delete(this)
  }
}

/** An answer in another format as events. Where that takes several answers, it asks for them as they come. */
function translated(
  result: AttemptResult,
  { context, request, asked }: { context: OpenContext; request: ProxiedRequest; asked: OpenRequest },
  translate: Translate | undefined,
): AttemptResult {
  if (!translate || result instanceof UpstreamError) return result
  const { req, body } = request
  const { lastEventId, isForAll } = asked
  const mayAskAgain = req.method === 'GET' && isReplayable(body)
  const again = (): OpenUpstream => {
    const open = createOpen(context, request, (answer) => answer)
    return (further) => open(lastEventId === undefined ? further : { lastEventId, ...further })
  }
  return translate(result, { req, isForAll, again: mayAskAgain ? again : undefined })
}

function taken(result: UpstreamResponse | UpstreamError): Inspected {
  return result instanceof UpstreamError ? { response: undefined, error: result } : { response: result }
}

/** Rejects as an attempt would where the client leaves meanwhile. */
async function pause(ms: number, signal: AbortState): Promise<void> {
  if (ms === 0) return
  try {
    await sleep(ms, signal)
  } catch (error) {
    throw new UpstreamError('ERR_SSE_PROXY_UNREACHABLE', undefined, error)
  }
}
