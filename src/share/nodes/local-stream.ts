// What a member works for: the clients of its node, and the upstream that this node can open.

import type { LogEntry } from '../event-log.ts'
import type { LocalOutcome, RunHead } from './entries.ts'

/** The stream of this node: its upstream, where it has one, and its clients. None of it throws. */
export interface LocalStream {
  /** Asks the upstream for what comes after this id; `opened` or `upstreamOver` of the member answers, later. */
  open(cursor: string): void
  /** Gives the upstream up; nothing of it comes any more. */
  close(): void
  /** Backpressure of what waits to be appended. */
  pause(): void
  unpause(): void
  /** A run begins: nothing that was delivered before belongs to it. */
  begin(): void
  /** All that is kept of the run has been delivered: clients may be let in, under this head. */
  ready(head: RunHead): void
  /** For the clients, and for those that come later. */
  deliver(blocks: readonly LogEntry[]): void
  /** Events are missing between what has been delivered and what comes. */
  gap(): void
  /** The last call. */
  over(outcome: LocalOutcome): void
}
