// What a session needs of whoever brings its events: an upstream of its own, or a stream it shares with others.

export interface EventFlow {
  /** Whether something else may be written now without cutting an event in two. */
  readonly atBoundary: boolean
  /** Whether no more will come. */
  readonly isOver: boolean
  /** Lets the events go that have been held since the start. */
  release(): void
  /** Stops bringing events until `release`. */
  hold(): void
  /** The client cannot take more for now. */
  pause(): void
  unpause(): void
  /** Sends on what is ready, so that something else can follow it. */
  flush(): void
  /** Makes the events end at a boundary, where they may be in the middle of one. */
  cutAtBoundary(): void
  /** Nothing more is wanted. */
  stop(): void
}
