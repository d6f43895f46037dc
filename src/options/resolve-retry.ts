// The option `retry`: which failed attempts are followed by another before headers are sent to the client, and when.

import { METHODS } from 'node:http'
import { group, integer, isList, MAX_MS, unexpected } from './check.ts'
import type { SseProxyOptions } from './options.ts'

/** See the option `retry`. */
export interface RetryPolicy {
  /** Attempts after the first. */
  readonly attempts: number
  /** Before the same upstream is tried again. */
  readonly backoffMs: number
  /** Never below `backoffMs`. */
  readonly maxBackoffMs: number
  /** Statuses of answers that are retried. */
  readonly statuses: readonly number[]
  /** Methods of requests that may be sent again although they have reached an upstream. */
  readonly methods: readonly string[]
}

const DEFAULTS = { backoffMs: 100, maxBackoffMs: 2000, statuses: [502, 503, 504], methods: ['GET', 'HEAD'] } as const
// However many upstreams there are.
const DEFAULT_MAX_ATTEMPTS = 3

/** @param others how many upstreams there are beside the first */
export function resolveRetry(value: SseProxyOptions['retry'], others: number): RetryPolicy | false {
  if (value === false || (value === undefined && others === 0)) return false
  const given = group(
    'retry',
    value === true ? {} : (value ?? {}),
    ['attempts', ...Object.keys(DEFAULTS)],
    ', true or false',
  )
  const attempts = given.attempts ?? Math.min(Math.max(others, 1), DEFAULT_MAX_ATTEMPTS)
  const backoffMs = integer('retry.backoffMs', given.backoffMs ?? DEFAULTS.backoffMs, 0, MAX_MS)
  const maxBackoffMs = given.maxBackoffMs ?? Math.max(DEFAULTS.maxBackoffMs, backoffMs)
  return Object.freeze({
    attempts: integer('retry.attempts', attempts, 0, 100),
    backoffMs,
    maxBackoffMs: integer('retry.maxBackoffMs', maxBackoffMs, backoffMs, MAX_MS),
    statuses: resolveStatuses(given.statuses ?? DEFAULTS.statuses),
    methods: resolveMethods(given.methods ?? DEFAULTS.methods),
  })
}

function resolveStatuses(value: readonly unknown[]): readonly number[] {
  if (!isList(value)) return unexpected('retry.statuses', 'an array of HTTP statuses', value)
  return Object.freeze(value.map((status, i) => integer(`retry.statuses[${i}]`, status, 300, 599)))
}

function resolveMethods(value: readonly unknown[]): readonly string[] {
  if (!isList(value)) return unexpected('retry.methods', 'an array of HTTP methods', value)
  return Object.freeze(value.map((method, i) => resolveMethod(`retry.methods[${i}]`, method)))
}

function resolveMethod(path: string, value: unknown): string {
  const method = typeof value === 'string' ? value.toUpperCase() : ''
  return METHODS.includes(method) ? method : unexpected(path, "the name of an HTTP method such as 'POST'", value)
}
