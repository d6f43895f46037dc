// What a measure is: runs against a proxy, each giving figures, and columns of a table that show them.

import type { Contender } from '../contenders/index.ts'
import type { Figures, Load, Settings } from '../load/load.ts'

export interface Run {
  readonly name: string
  readonly settings: Settings
  readonly measure: (load: Load, settings: Settings) => Promise<Figures>
  /** Part of `--quick`, or only there. */
  readonly quick?: true | 'only'
  /** Memory is measured in a process that has done nothing else. */
  readonly fresh?: true
  /** Who takes part; without it, all that are plain. */
  readonly takes?: (contender: Contender) => boolean
}

export interface Column {
  readonly heading: string
  readonly run: string
  /** The figure to show; `direct` is that of the connection without a proxy, and empty for that connection itself. */
  readonly value: (figures: Figures, direct: Figures | undefined) => number | undefined
  /** Shows the ratio to bare piping too. */
  readonly ratio?: true
  /** Marked where the proxy had time to spare, so that something else was the limit. */
  readonly saturates?: true
  /** What there is to deliver where that is not as much as goes through. */
  readonly due?: number
}

/** Measures that share a table. */
export interface Family {
  readonly name: string
  readonly title: string
  readonly note: string
  readonly runs: readonly Run[]
  readonly columns: readonly Column[]
}

export const isProxy = ({ command }: Contender): boolean => command !== undefined
/** Whether its server and its upstream are those of nearly all. */
export const isPlain = ({ tls, host }: Contender): boolean => !tls && !host
export const isDirect = (contender: Contender): boolean => !isProxy(contender)
