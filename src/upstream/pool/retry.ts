// Whether and when another attempt is made for a request whose client has no headers yet. Pure decisions.

import { backoff } from '../../backoff.ts'
import { isUpstreamsFault, type SseProxyErrorCode, type UpstreamError } from '../../errors.ts'
import type { RetryPolicy } from '../../options/resolve-retry.ts'
import { headerOf, type UpstreamResponse } from '../../upstream-response.ts'

/** RFC 9110, section 9.2.1: a request that changes nothing may be sent several times. */
export const SAFE_METHODS: readonly string[] = ['GET', 'HEAD']

// A predicate that fails on one upstream's answer may do with another's. An upstream that refuses a request may be about to stop.
const RETRIED_TOO: readonly SseProxyErrorCode[] = ['ERR_SSE_PROXY_HOOK', 'ERR_SSE_PROXY_REFUSED']

/** Whether a failed attempt may be followed by another without doing something twice that was meant once. */
export function mayRetryFailure(error: UpstreamError, method: string, { methods }: RetryPolicy): boolean {
  if (!isUpstreamsFault(error) && !RETRIED_TOO.includes(error.code)) return false
  return methods.includes(method) || !error.mayHaveArrived
}

/** Whether an answer is one of those that another upstream may give better. */
export function mayRetryAnswer(
  { status }: UpstreamResponse,
  method: string,
  { statuses, methods }: RetryPolicy,
): boolean {
  return statuses.includes(status) && methods.includes(method)
}

/** How long to wait before asking an upstream again: what it said, else twice as long each time, with jitter. */
export function retryDelay(
  attempt: number,
  response: UpstreamResponse | undefined,
  { backoffMs, maxBackoffMs }: Pick<RetryPolicy, 'backoffMs' | 'maxBackoffMs'>,
  chance: () => number = Math.random,
): number {
  const asked = response && retryAfterMs(headerOf(response, 'retry-after'))
  if (asked !== undefined) return Math.min(asked, maxBackoffMs)
  return backoff(attempt, backoffMs, maxBackoffMs, chance)
}

/** RFC 9110, section 10.2.3: seconds or a date. */
export function retryAfterMs(header: string | undefined, now: number = Date.now()): number | undefined {
  if (header === undefined) return undefined
  if (/^\s*\d+\s*$/.test(header)) return Number(header) * 1000
  // Date.parse takes numbers for years.
  const date = /[a-z]{3}/i.test(header) ? Date.parse(header) : Number.NaN
  return Number.isNaN(date) ? undefined : Math.max(0, date - now)
}
