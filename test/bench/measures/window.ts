// A stretch of time in which something is counted, beside what the proxy used in it, and who had to wait for a CPU.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Figures, Load } from '../load/load.ts'
import { type Usage, usageOf } from '../usage.ts'

export const warmUpMs = 300

/** Counts for `ms`; the proxy's use is taken at its own clock, a moment before and after. */
export async function during(load: Load, ms: number, count: () => number): Promise<Figures> {
  const use = await watch(load)
  const from = performance.now()
  const countFrom = count()
  await sleep(ms)
  const to = performance.now()
  const counted = count() - countFrom
  const perSecond = (counted * 1e3) / (to - from)
  const figures = await use()
  const { cpuPct } = figures
  return { perSecond, ...figures, ...(cpuPct !== undefined && { cpuUs: (cpuPct * 1e4) / perSecond }) }
}

/** From here to the call of what it returns: the proxy's use of its CPU, and how long each side was kept from its own. */
export async function watch(load: Load): Promise<() => Promise<Figures>> {
  const proxyBefore = await load.usage()
  const ownBefore = usageOf(process.pid)
  return async () => {
    const ownAfter = usageOf(process.pid)
    const proxyAfter = await load.usage()
    return {
      ...(proxyBefore &&
        proxyAfter && {
          cpuPct: pctOf(proxyBefore, proxyAfter, 'cpuMs'),
          waitPct: pctOf(proxyBefore, proxyAfter, 'waitMs'),
        }),
      ...(ownBefore && ownAfter && { loadWaitPct: pctOf(ownBefore, ownAfter, 'waitMs') }),
    }
  }
}

function pctOf(before: Usage, after: Usage, what: 'cpuMs' | 'waitMs'): number {
  return (100 * (after[what] - before[what])) / (after.atMs - before.atMs)
}

/** Percentiles of times in ms, in microseconds; none of nothing. */
export function percentiles(ms: readonly number[], prefix = ''): Figures {
  if (ms.length === 0) return {}
  const sorted = Float64Array.from(ms).sort()
  const at = (share: number) => (sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? NaN) * 1e3
  return { [`${prefix}p50`]: at(0.5), [`${prefix}p90`]: at(0.9), [`${prefix}p99`]: at(0.99) }
}
