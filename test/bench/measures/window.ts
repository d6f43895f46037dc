// A stretch of time in which something is counted, beside what the proxy used in it.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Figures, Load } from '../load/load.ts'

export const warmUpMs = 300

/** Counts for `ms`; the proxy's use is taken at its own clock, a moment before and after. */
export async function during(load: Load, ms: number, count: () => number): Promise<Figures> {
  const used = await load.usage()
  const from = performance.now()
  const countFrom = count()
  await sleep(ms)
  const to = performance.now()
  const counted = count() - countFrom
  const perSecond = (counted * 1e3) / (to - from)
  return { perSecond, ...useSince(used, await load.usage(), perSecond) }
}

type Usage = Awaited<ReturnType<Load['usage']>>

/** The share of a CPU that was used and how much of it for one thing counted; how long somebody had to wait for one. */
export function useSince(before: Usage, after: Usage, perSecond: number): Figures {
  const cpuPerSecond = (after.cpuMs - before.cpuMs) / (after.atMs - before.atMs)
  return {
    cpuPct: cpuPerSecond * 100,
    cpuUs: (cpuPerSecond * 1e6) / perSecond,
    waitPct: (100 * (after.waitMs - before.waitMs)) / (after.atMs - before.atMs),
  }
}

/** Percentiles of times in ms, in microseconds. */
export function percentiles(ms: readonly number[], prefix = ''): Figures {
  const sorted = Float64Array.from(ms).sort()
  const at = (share: number) => (sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? NaN) * 1e3
  return { [`${prefix}p50`]: at(0.5), [`${prefix}p90`]: at(0.9), [`${prefix}p99`]: at(0.99) }
}
