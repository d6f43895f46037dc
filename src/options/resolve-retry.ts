// The option `retry`: which failed attempts are followed by another before headers are sent to the client, and when.

import { asked } from '../app-callback.ts'
import { ConfigError } from '../errors.ts'
import { callable, group, integer, isList, MAX_MS, methodNames, unexpected } from './check.ts'
import type { SseProxyOptions } from './options.ts'
import type { CommitFunction, RetryOptions } from './upstream-options.ts'

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
  /** Absent where an answer is taken as soon as its head is there. */
  readonly commit?: CommitPolicy | undefined
}

/** See the option `retry.commit`. */
export interface CommitPolicy {
  /** The app's function, which may return anything. What it throws is an `Error`. */
  readonly commit: CommitFunction
  readonly holdMs: number
}

const DEFAULTS = { backoffMs: 100, maxBackoffMs: 2000, statuses: [502, 503, 504], methods: ['GET', 'HEAD'] } as const
// However many upstreams there are.
const DEFAULT_MAX_ATTEMPTS = 3
const MAX_ATTEMPTS = 100
const DEFAULT_HOLD_MS = 5000
const NAMES = ['attempts', ...Object.keys(DEFAULTS), 'commit', 'holdMs']

/** @param others how many upstreams there are beside the first */
export function resolveRetry(value: SseProxyOptions['retry'], others: number): RetryPolicy | false {
  if (value === false || (value === undefined && others === 0)) return false
  const given = group('retry', value === true ? {} : (value ?? {}), NAMES, ', true or false')
  // With a predicate each of the others is worth asking: it is the app that says when an answer will do.
  const maxAttempts = given.commit === undefined ? DEFAULT_MAX_ATTEMPTS : MAX_ATTEMPTS
  const attempts = given.attempts ?? Math.max(Math.min(others, maxAttempts), 1)
  const commit = resolveCommit(given)
  const backoffMs = integer('retry.backoffMs', given.backoffMs ?? DEFAULTS.backoffMs, 0, MAX_MS)
  const maxBackoffMs = given.maxBackoffMs ?? Math.max(DEFAULTS.maxBackoffMs, backoffMs)
  return Object.freeze({
    attempts: integer('retry.attempts', attempts, 0, MAX_ATTEMPTS),
    backoffMs,
    maxBackoffMs: integer('retry.maxBackoffMs', maxBackoffMs, backoffMs, MAX_MS),
    statuses: resolveStatuses(given.statuses ?? DEFAULTS.statuses),
    methods: methodNames('retry.methods', given.methods ?? DEFAULTS.methods),
    ...(commit && { commit }),
  })
}

function resolveCommit({ commit, holdMs }: RetryOptions): CommitPolicy | undefined {
  if (commit === undefined) {
    if (holdMs !== undefined) throw new ConfigError('retry.holdMs: cannot be used without retry.commit, which holds')
    return undefined
  }
  return Object.freeze({
    commit: asked('retry.commit', callable('retry.commit', commit)),
    holdMs: integer('retry.holdMs', holdMs ?? DEFAULT_HOLD_MS, 1, MAX_MS),
  })
}

function resolveStatuses(value: readonly unknown[]): readonly number[] {
  if (!isList(value)) return unexpected('retry.statuses', 'an array of HTTP statuses', value)
  return Object.freeze(value.map((status, i) => integer(`retry.statuses[${i}]`, status, 300, 599)))
}
