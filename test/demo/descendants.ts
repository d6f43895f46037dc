// The processes that a process has started, and those that these have, as Linux knows them.
import { readdirSync, readFileSync } from 'node:fs'
import { basename } from 'node:path'

export interface Descendant {
  readonly pid: number
  readonly program: string
  /** Tells it from a later process with the same pid. */
  readonly startedAt: string
}

export function descendantsOf(ancestor: number): Descendant[] {
  const all = readdirSync('/proc').flatMap((name) => statOf(Number(name)) ?? [])
  const within = (pid: number): Descendant[] =>
    all.filter(({ parent }) => parent === pid).flatMap((child) => [child, ...within(child.pid)])
  return within(ancestor)
}

export function isAlive({ pid, startedAt }: Descendant): boolean {
  return statOf(pid)?.startedAt === startedAt
}

function statOf(pid: number): (Descendant & { parent: number }) | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // The name in parentheses is that of the main thread, which Node changes, and may contain any character.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
    // A zombie has ended; whoever adopted it has not looked yet.
    if (fields[0] === 'Z') return undefined
    const program = basename(readFileSync(`/proc/${pid}/cmdline`, 'latin1').split(/[\0 ]/)[0] ?? '')
    return { pid, program, parent: Number(fields[1]), startedAt: fields[19] ?? '' }
  } catch {
    return undefined
  }
}
