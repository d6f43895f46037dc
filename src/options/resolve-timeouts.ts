// The option `timeouts`: how long each kind of wait may last.

import type { IncomingMessage } from 'node:http'
import { asked } from '../app-callback.ts'
import { group, integer, MAX_MS } from './check.ts'
import type { TimeoutOptions } from './options.ts'

/** See the option `timeouts`; 0 means no timeout. */
export interface ResolvedTimeouts {
  readonly connectMs: number
  readonly responseMs: number
  readonly idleMs: number
  /** The app's function may return anything; whatever it throws is an `Error`. */
  readonly lifetimeMs: number | ((req: IncomingMessage) => number)
  readonly writeMs: number
}

const DEFAULTS = { connectMs: 10_000, responseMs: 120_000, idleMs: 0, lifetimeMs: 0, writeMs: 60_000 } as const

export function resolveTimeouts(value: TimeoutOptions): ResolvedTimeouts {
  const given = group('timeouts', value, Object.keys(DEFAULTS))
  const ms = (key: keyof typeof DEFAULTS, orElse?: string) =>
    integer(`timeouts.${key}`, given[key] ?? DEFAULTS[key], 0, MAX_MS, orElse)
  const { lifetimeMs } = given
  return Object.freeze({
    connectMs: ms('connectMs'),
    responseMs: ms('responseMs'),
    idleMs: ms('idleMs'),
    lifetimeMs:
      typeof lifetimeMs === 'function'
        ? asked('timeouts.lifetimeMs', lifetimeMs)
        : ms('lifetimeMs', ' or a function of the request'),
    writeMs: ms('writeMs'),
  })
}
