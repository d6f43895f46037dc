// The option `timeouts`: how long each kind of wait may last.

import type { IncomingMessage } from 'node:http'
import { asked } from '../app-callback.ts'
import { group, integer, integers, MAX_MS } from './check.ts'
import type { TimeoutOptions } from './options.ts'

/** See the option `timeouts`; 0 means no timeout. */
export interface ResolvedTimeouts {
  readonly connectMs: number
  readonly responseMs: number
  readonly firstEventMs: number
  readonly eventMs: number
  readonly idleMs: number
  /** The app's function may return anything; whatever it throws is an `Error`. */
  readonly lifetimeMs: number | ((req: IncomingMessage) => number)
  readonly writeMs: number
}

const DEFAULTS = {
  connectMs: 10_000,
  responseMs: 120_000,
  firstEventMs: 0,
  eventMs: 0,
  idleMs: 0,
  writeMs: 60_000,
} as const

export function resolveTimeouts(value: TimeoutOptions): ResolvedTimeouts {
  const given = group('timeouts', value, [...Object.keys(DEFAULTS), 'lifetimeMs'])
  const { lifetimeMs = 0 } = given
  return Object.freeze({
    ...integers('timeouts', given, DEFAULTS, 0, MAX_MS),
    lifetimeMs:
      typeof lifetimeMs === 'function'
        ? asked('timeouts.lifetimeMs', lifetimeMs)
        : integer('timeouts.lifetimeMs', lifetimeMs, 0, MAX_MS, ' or a function of the request'),
  })
}
