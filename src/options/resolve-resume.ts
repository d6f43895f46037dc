// The option `resume`: whether and when a lost upstream is reconnected to within the same client response.

import { ConfigError } from '../errors.ts'
import { flag, group, integer, MAX_MS } from './check.ts'
import type { SseProxyOptions } from './options.ts'

/** See the option `resume`. */
export interface ResumePolicy {
  /** Tries in a row without progress. */
  readonly attempts: number
  /** Before the first try, unless the upstream sent a `retry:`. */
  readonly delayMs: number
  /** Never below `delayMs`. */
  readonly maxDelayMs: number
  /** Whether a clean end is followed by a reconnect. */
  readonly onEnd: boolean
  /** Whether streams without ids are resumed. */
  readonly withoutIds: boolean
}

const DEFAULTS = { attempts: 10, delayMs: 100, maxDelayMs: 5000, onEnd: false, withoutIds: false } as const

export function resolveResume(value: SseProxyOptions['resume'], framing: 'event' | 'bytes'): ResumePolicy | false {
  if (value === undefined || value === false) return false
  if (framing === 'bytes') {
    throw new ConfigError("framing: 'bytes' cannot be used with resume, because what has left may end inside an event")
  }
  const given = group('resume', value === true ? {} : value, Object.keys(DEFAULTS), ', true or false')
  const delayMs = integer('resume.delayMs', given.delayMs ?? DEFAULTS.delayMs, 0, MAX_MS)
  const maxDelayMs = given.maxDelayMs ?? Math.max(DEFAULTS.maxDelayMs, delayMs)
  return Object.freeze({
    attempts: integer('resume.attempts', given.attempts ?? DEFAULTS.attempts, 1, MAX_MS),
    delayMs,
    maxDelayMs: integer('resume.maxDelayMs', maxDelayMs, delayMs, MAX_MS),
    onEnd: flag('resume.onEnd', given.onEnd ?? DEFAULTS.onEnd),
    withoutIds: flag('resume.withoutIds', given.withoutIds ?? DEFAULTS.withoutIds),
  })
}
