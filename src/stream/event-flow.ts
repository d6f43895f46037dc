// What a session needs of what brings its events: an upstream of its own, or a stream that it shares with others.

import type { Progress } from '../events/cursor.ts'

/** Events on their way to one client, which the session holds up where that client or the app needs time. */
export interface EventFlow {
  /** Where the client stands with what has been sent. */
  readonly progress: Progress
  /** Whether other clients get the same events: then they are counted and kept alive for all, and do not end with one. */
  readonly isShared: boolean
  /** Whether events are here that can leave together with the head; undefined where that is not known. */
  readonly hasBegun: boolean | undefined
  /** Whether something else may be written now without cutting an event in two. */
  readonly atBoundary: boolean
  /** Whether no more will come. */
  readonly isOver: boolean
  /** Begins; what comes is held until `release`. */
  start(): void
  /** Stops reading until `release`: the app's callback takes its time. */
  hold(): void
  /** Lets go what has been held since `start`. */
  release(): void
  /** Backpressure: the client cannot take more until `unpause`. */
  pause(): void
  unpause(): void
  /** Sends on what is ready, so that something else can follow it. */
  flush(): void
  /** Makes the events end at a boundary, where they may be in the middle of one. */
  cutAtBoundary(): void
  /** Gives the events up; nothing more comes. */
  stop(): void
}
