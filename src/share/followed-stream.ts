// What clients follow: a shared stream that runs, or one that is over and is kept. Their followers know no more of it.

import type { StreamError } from '../errors.ts'
import type { Progress } from '../events/cursor.ts'
import type { EventLog } from './event-log.ts'
import type { Follower } from './followers.ts'

/** How a stream ended of itself, as clients that come late are told. */
export type StreamEnding = 'complete' | StreamError

export interface FollowedStream {
  readonly id: string
  /** Its events, for clients that come late or come back. */
  readonly log: EventLog
  /** What has been handed to the followers: how many events, and the last id among them. */
  readonly sent: Progress
  /** Whether something else may follow what has been sent. */
  readonly atBoundary: boolean
  /** Whether no more will come. */
  readonly isOver: boolean
  /** From now on the follower is handed what comes; where nothing will, it is told at once how the stream ended. */
  join(follower: Follower): void
  leave(follower: Follower): void
}
