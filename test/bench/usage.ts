// What a proxy's processes have used: from /proc where there is one, else asked of the process itself.

import { readdirSync, readFileSync } from 'node:fs'
import { hrtime } from 'node:process'

export interface Usage {
  readonly cpuMs: number
  /** Time in which it was ready to run and other programs had its CPU. */
  readonly waitMs: number
  readonly rssKiB: number
  /** When this was so. */
  readonly atMs: number
}

const pageKiB = 4
const tickMs = 10

/** Undefined where there is no /proc. */
export function usageOf(pid: number): Usage | undefined {
  try {
    const all = withDescendants(pid)
    const main = all.map((one) => threadTimes(one, String(one)))
    const cpuMs = sum(
      all.flatMap((one) => readdirSync(`/proc/${one}/task`).map((task) => threadTimes(one, task).cpuMs)),
    )
    const mainCpuMs = sum(main.map((times) => times.cpuMs))
    return {
      cpuMs,
      // Its own helper threads (a garbage collector's, say) are on the same CPU.
      waitMs: sum(main.map((times) => times.waitMs)) - (cpuMs - mainCpuMs),
      rssKiB: sum(all.map(rssKiB)),
      atMs: Number(hrtime.bigint()) / 1e6,
    }
  } catch {
    return undefined
  }
}

export function ownUsage(): Usage {
  const { user, system } = process.cpuUsage()
  return {
    cpuMs: (user + system) / 1e3,
    waitMs: 0,
    rssKiB: process.memoryUsage.rss() / 1_024,
    atMs: Number(hrtime.bigint()) / 1e6,
  }
}

/** A process and those it has started, and so on. */
export function withDescendants(pid: number): number[] {
  const children = readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
  )
  return [pid, ...children.flatMap(withDescendants)]
}

function threadTimes(pid: number, task: string): { cpuMs: number; waitMs: number } {
  try {
    const [cpu, wait] = readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ').map(Number)
    return { cpuMs: (cpu ?? 0) / 1e6, waitMs: (wait ?? 0) / 1e6 }
  } catch {
    // Not every kernel keeps those; ticks of the clock are coarser.
    const fields = readFileSync(`/proc/${pid}/task/${task}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
    return { cpuMs: (Number(fields[11]) + Number(fields[12])) * tickMs, waitMs: 0 }
  }
}

function rssKiB(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]) * pageKiB
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}
