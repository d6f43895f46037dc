// The two ways in which a client follows a shared stream: taking its bytes as they are, or through hooks of its own.

import { closeReasonOf, type StreamError } from '../errors.ts'
import { Cursor, type Progress } from '../events/cursor.ts'
import type { SharedBytes } from '../fast-lane/http-chunks.ts'
import { createClientPipeline } from '../stream/client-pipeline.ts'
import type { EventFlow } from '../stream/event-flow.ts'
import type { Session } from '../stream/session.ts'
import type { BodySink, UpstreamBody } from '../upstream-response.ts'
import type { SharedStream } from './shared-stream.ts'

/** Bytes that go to everybody alike. */
export interface Delivery {
  readonly shared: SharedBytes
  readonly events: number
  /** When they came, as `performance.now()`. */
  readonly now: number
}

/** Who hears the events of a shared stream. */
export interface Follower {
  onEvents(delivery: Delivery): void
  onKeepalive(comment: Buffer): void
  onEnd(): void
  /** The app has closed it. */
  onClosed(): void
  onFailed(error: StreamError): void
}

/** The events of a shared stream from this position on, for one client. */
export function followerOf(shared: SharedStream, session: Session, position: number): EventFlow {
  const { transform } = shared.context.share
  if (transform.length === 0) return new DirectFollower(shared, session, position)
  return createClientPipeline(session, {
    body: new HookedFollower(shared, session, position),
    delimited: true,
    cursor: new Cursor(session.context.lastEventId),
    hooks: transform,
    isShared: true,
  })
}

/** A client that takes the bytes as they are. It is not waited for: past its bound it is let go. */
export class DirectFollower implements EventFlow, Follower {
  readonly isShared = true
  readonly hasBegun = undefined
  readonly progress: Progress
  readonly #shared: SharedStream
  readonly #session: Session
  readonly #position: number
  // From `start` to `release`: what the client has missed, and what has come since.
  #waiting: { readonly bytes: Buffer }[] | undefined
  #waitingEvents = 0
  // What of that has come since `start`, which is bounded.
  #waitingBytes = 0
  // How it ended meanwhile.
  #outcome: (() => void) | undefined
  // What the client has missed is no sign that it is slow, however much that is; until it has taken what waits for it.
  #allowance = 0

  constructor(shared: SharedStream, session: Session, position: number) {
    this.#shared = shared
    this.#session = session
    this.#position = position
    this.progress = shared.progressFrom(position, session.context.lastEventId)
  }

  get atBoundary(): boolean {
    return this.#shared.atBoundary
  }

  get isOver(): boolean {
    return this.#shared.isOver
  }

  start(): void {
    const { log } = this.#shared
    this.#waiting = [...log.since(this.#position)]
    this.#waitingEvents = log.eventsSince(this.#position)
    this.#shared.join(this)
  }

  release(): void {
    const missed = (this.#waiting ?? []).map(({ bytes }) => bytes)
    this.#waiting = undefined
    if (missed.length > 0) {
      this.#allowance = missed.reduce((sum, { length }) => sum + length, 0)
      this.#session.onReceived(0, this.#waitingEvents)
      this.#session.onEvents(missed, this.#waitingEvents)
    }
    this.#outcome?.()
  }

  stop(): void {
    this.#shared.leave(this)
  }

  onEvents({ shared, events, now }: Delivery): void {
    const { bufferBytes } = this.#shared.context.options.limits
    if (this.#waiting) {
      this.#waiting.push(shared)
      this.#waitingEvents += events
      this.#waitingBytes += shared.bytes.length
      if (this.#waitingBytes > bufferBytes) this.#session.onStall()
      return
    }
    const { writer } = this.#session.context
    // What has been waiting counts, not what has just come.
    if (writer.isBehind && writer.waitingBytes > bufferBytes + this.#allowance) return this.#session.onStall()
    this.#session.onShared(shared, events, now)
  }

  onKeepalive(comment: Buffer): void {
    this.#session.onKeepalive(comment)
  }

  onEnd(): void {
    this.#conclude(() => this.#session.onEnd())
  }

  onClosed(): void {
    this.#conclude(() => this.#session.end('closed'))
  }

  /** It is reported once for all. */
  onFailed(error: StreamError): void {
    this.#conclude(() => this.#session.abort(closeReasonOf(error)))
  }

  #conclude(outcome: () => void): void {
    if (this.#waiting) this.#outcome = outcome
    else outcome()
  }

  /** The client has taken all that waited for it. */
  unpause(): void {
    this.#allowance = 0
  }

  // Others read the same events, so nothing holds them up.
  hold(): void {}
  pause(): void {}
  flush(): void {}
  cutAtBoundary(): void {}
}

/** A client with hooks of its own: for its feed, the shared stream is an upstream. */
export class HookedFollower implements UpstreamBody, Follower {
  readonly #shared: SharedStream
  readonly #session: Session
  readonly #position: number
  #sink: BodySink | undefined
  #paused = false
  #waiting: Buffer[] = []
  #waitingBytes = 0
  #outcome: 'complete' | StreamError | undefined

  constructor(shared: SharedStream, session: Session, position: number) {
    this.#shared = shared
    this.#session = session
    this.#position = position
  }

  start(sink: BodySink): void {
    this.#sink = sink
    const missed = this.#shared.log.since(this.#position)
    this.#shared.join(this)
    for (const { bytes } of missed) sink.onData(bytes)
  }

  pause(): void {
    this.#paused = true
  }

  unpause(): void {
    this.#paused = false
    const waiting = this.#waiting
    this.#waiting = []
    this.#waitingBytes = 0
    for (const bytes of waiting) this.#take(bytes)
    if (!this.#paused && this.#outcome !== undefined) this.#tell(this.#outcome)
  }

  destroy(): void {
    this.#sink = undefined
    this.#waiting = []
    this.#shared.leave(this)
  }

  onEvents({ shared }: Delivery): void {
    this.#take(shared.bytes)
  }

  #take(bytes: Buffer): void {
    if (!this.#paused) {
      this.#sink?.onData(bytes)
      return
    }
    this.#waiting.push(bytes)
    this.#waitingBytes += bytes.length
    if (this.#waitingBytes > this.#shared.context.options.limits.bufferBytes) {
      this.#session.onStall()
    }
  }

  onKeepalive(comment: Buffer): void {
    this.#session.onKeepalive(comment)
  }

  onEnd(): void {
    this.#tell('complete')
  }

  onClosed(): void {
    this.#session.end('closed')
  }

  onFailed(error: StreamError): void {
    this.#tell(error)
  }

  #tell(outcome: 'complete' | StreamError): void {
    this.#outcome = outcome
    if (this.#waiting.length > 0) return
    const sink = this.#sink
    this.#sink = undefined
    if (outcome === 'complete') sink?.onEnd()
    else sink?.onBroken(outcome)
  }
}
