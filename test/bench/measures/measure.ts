// What a measure is: runs against a proxy, each giving figures, and columns of a table that show them.

import type { Figures, Load, Settings } from '../load/load.ts'

export interface Run {
  readonly name: string
  readonly settings: Settings
  readonly measure: (load: Load, settings: Settings) => Promise<Figures>
  /** Part of `--quick`, or only there. */
  readonly quick?: true | 'only'
  /** Memory is measured in a process that has done nothing else. */
  readonly fresh?: true
  /** Only contenders that serve many clients from one upstream, and those they are compared with. */
  readonly sharing?: true
  /** Needs no proxy. */
  readonly directOnly?: true
}

export interface Column {
  readonly heading: string
  readonly run: string
  /** The figure to show; `direct` is that of the connection without a proxy in the same round. */
  readonly value: (figures: Figures, direct: Figures | undefined) => number | undefined
  /** Shows the ratio to bare piping too. */
  readonly ratio?: true
  /** Marked where the proxy had time to spare, so that something else was the limit. */
  readonly saturates?: boolean
}

/** Measures that share a table. */
export interface Family {
  readonly name: string
  readonly title: string
  readonly note: string
  readonly runs: readonly Run[]
  readonly columns: readonly Column[]
}
