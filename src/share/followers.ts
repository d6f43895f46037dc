// The two ways in which a client follows a shared stream: taking its bytes as they are, or through hooks of its own.

import type { StreamError } from '../errors.ts'
import type { SharedBytes } from '../fast-lane/http-chunks.ts'
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

/** A client that takes the bytes as they are. */
export class DirectFollower implements EventFlow, Follower {
  readonly #shared: SharedStream
  readonly #session: Session
  // Until the client is ready: what it has missed, what has come since, and how it ended.
  #waiting: { readonly bytes: Buffer }[] | undefined
  #waitingBytes = 0
  #waitingEvents: number
  #outcome: (() => void) | undefined

  constructor(shared: SharedStream, session: Session, position: number) {
    this.#shared = shared
    this.#session = session
    this.#waiting = [...shared.log.since(position)]
    this.#waitingEvents = shared.log.eventsSince(position)
    shared.join(this)
  }

  get atBoundary(): boolean {
    return this.#shared.atBoundary
  }

  get isOver(): boolean {
    return this.#shared.isOver
  }

  release(): void {
    const waiting = this.#waiting ?? []
    this.#waiting = undefined
    if (waiting.length > 0) this.#session.catchUp(waiting, this.#waitingEvents)
    this.#outcome?.()
  }

  stop(): void {
    this.#shared.leave(this)
  }

  onEvents(delivery: Delivery): void {
    if (!this.#waiting) return this.#session.onShared(delivery)
    const { shared, events } = delivery
    this.#waiting.push(shared)
    this.#waitingEvents += events
    this.#waitingBytes += shared.bytes.length
    if (this.#waitingBytes > this.#shared.context.options.limits.bufferBytes) this.#session.onStall()
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

  onFailed(error: StreamError): void {
    this.#conclude(() => this.#session.onSharedFailed(error))
  }

  #conclude(outcome: () => void): void {
    if (this.#waiting) this.#outcome = outcome
    else outcome()
  }

  // Nobody waits for a single client: what it does not take it loses, see `Session.onShared`.
  hold(): void {}
  pause(): void {}
  unpause(): void {}
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
