// Streams that are over, kept for a while by the key of their clients: who comes late follows one as if it ran, gets what
// is kept of it, and then the same ending. They are bounded in time and number, and by the budget of all replays, which
// takes them before anything else.

import type { Progress } from '../events/cursor.ts'
import type { SessionHead } from '../stream/session.ts'
import type { EventLog } from './event-log.ts'
import type { FollowedStream, StreamEnding } from './followed-stream.ts'
import type { Follower } from './followers.ts'
import type { Followable } from './opening.ts'
import type { ReplayBudget } from './replay-budget.ts'

// Clients make keys up, and each takes memory that is not its own events'.
const MAX_STREAMS = 10_000
// What a stream takes in the budget beside its events and its head.
const STREAM_BYTES = 2048

/** What is kept of a stream; nothing of the request that opened it. */
export class EndedStream implements FollowedStream {
  readonly id: string
  readonly log: EventLog
  readonly sent: Progress
  readonly ending: StreamEnding
  readonly atBoundary = true
  readonly isOver = true

  constructor({ id, log, sent: { events, lastEventId } }: FollowedStream, ending: StreamEnding) {
    this.id = id
    this.log = log
    this.sent = { events, lastEventId }
    this.ending = ending
  }

  join(follower: Follower): void {
    if (this.ending === 'complete') follower.onEnd()
    else follower.onFailed(this.ending)
  }

  leave(): void {}
}

/** A stream that is kept, and the head under which its leader got it. */
export interface Kept extends Followable {
  readonly shared: EndedStream
}

interface Entry {
  readonly kept: Kept
  /** What it takes in the budget beside its events. */
  readonly bytes: number
  /** As `performance.now()`. */
  readonly until: number
}

export class EndedStreams {
  readonly #keepMs: number
  readonly #budget: Pick<ReplayBudget, 'add' | 'settle'>
  // By the key of their clients, the oldest first: all are kept equally long.
  readonly #entries = new Map<string, Entry>()
  // Drops the oldest when its time is over. Undefined where none is kept.
  #timer: NodeJS.Timeout | undefined

  /** @param keepMs 0 keeps none */
  constructor(keepMs: number, budget: Pick<ReplayBudget, 'add' | 'settle'>) {
    this.#keepMs = keepMs
    this.#budget = budget
  }

  get size(): number {
    return this.#entries.size
  }

  of(key: string): Kept | undefined {
    this.#dropOld()
    return this.#entries.get(key)?.kept
  }

  /** Keeps a stream in place of the one that had its key. Its log is closed when it goes, which may be at once. */
  keep(key: string, kept: Kept): void {
    this.delete(key)
    const bytes = STREAM_BYTES + bytesOf(kept.head)
    this.#entries.set(key, { kept, bytes, until: performance.now() + this.#keepMs })
    this.#budget.add(bytes)
    if (this.#entries.size > MAX_STREAMS) this.dropOldest()
    this.#dropOld()
    this.#budget.settle()
  }

  delete(key: string): void {
    const entry = this.#entries.get(key)
    if (!entry) return
    this.#entries.delete(key)
    this.#budget.add(-entry.bytes)
    entry.kept.shared.log.close()
  }

  /** Returns false where there is none. */
  dropOldest(): boolean {
    const [oldest] = this.#entries.keys()
    if (oldest !== undefined) this.delete(oldest)
    return oldest !== undefined
  }

  /** Drops all of them. */
  close(): void {
    while (this.dropOldest()) {}
    clearTimeout(this.#timer)
  }

  /** Drops those whose time is over, and comes back for the next. */
  #dropOld(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    for (const [key, { until }] of this.#entries) {
      const leftMs = until - performance.now()
      if (leftMs > 0) {
        this.#timer = setTimeout(() => this.#dropOld(), Math.ceil(leftMs)).unref()
        return
      }
      this.delete(key)
    }
  }
}

function bytesOf({ headers }: SessionHead): number {
  return headers.reduce((sum, [name, value]) => sum + name.length + String(value).length, 0)
}
