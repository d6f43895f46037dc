// The option `health`: when an upstream is ejected because it fails, for how long, and what finds out.

import { group, integer, integers, MAX_MS, text } from './check.ts'
import type { SseProxyOptions } from './options.ts'
import type { HealthOptions } from './upstream-options.ts'

/** Passive health: which requests that fail eject an upstream, and for how long. */
export interface HealthPolicy {
  /** In a row. */
  readonly failures: number
  /** The first ejection; doubles with each further one in a row. */
  readonly ejectMs: number
  /** Never below `ejectMs`. */
  readonly maxEjectMs: number
}

/** Active health checks; see the option `health.probe`. */
export interface ProbePolicy {
  readonly path: string
  readonly intervalMs: number
  readonly timeoutMs: number
  /** Passed probes in a row that bring an upstream back. */
  readonly rise: number
  /** Failed probes in a row that eject it. */
  readonly fall: number
}

/** Without a policy no request ejects an upstream; without a probe nothing else does. */
export interface ResolvedHealth {
  readonly policy: HealthPolicy | false
  readonly probe: ProbePolicy | undefined
}

const DEFAULTS = { failures: 3, ejectMs: 10_000, maxEjectMs: 300_000 } as const
const PROBE_DEFAULTS = { intervalMs: 10_000, timeoutMs: 2000, rise: 2, fall: 3 } as const

export function resolveHealth(value: SseProxyOptions['health']): ResolvedHealth {
  if (value === false) return { policy: false, probe: undefined }
  const given = group(
    'health',
    value === true ? {} : (value ?? {}),
    [...Object.keys(DEFAULTS), 'probe'],
    ', true or false',
  )
  const ejectMs = integer('health.ejectMs', given.ejectMs ?? DEFAULTS.ejectMs, 1, MAX_MS)
  const maxEjectMs = given.maxEjectMs ?? Math.max(DEFAULTS.maxEjectMs, ejectMs)
  return {
    policy: Object.freeze({
      failures: integer('health.failures', given.failures ?? DEFAULTS.failures, 1, MAX_MS),
      ejectMs,
      maxEjectMs: integer('health.maxEjectMs', maxEjectMs, ejectMs, MAX_MS),
    }),
    probe: given.probe === undefined ? undefined : resolveProbe(given.probe),
  }
}

function resolveProbe(value: NonNullable<HealthOptions['probe']>): ProbePolicy {
  const given = group('health.probe', value, ['path', ...Object.keys(PROBE_DEFAULTS)])
  return Object.freeze({
    path: text('health.probe.path', given.path, /^\/[!-~]*$/, "a path such as '/health'"),
    ...integers('health.probe', given, PROBE_DEFAULTS, 1, MAX_MS),
  })
}
