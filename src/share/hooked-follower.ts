// A client of a shared stream with hooks of its own (`share.transform`): to its pipeline the shared stream is an upstream
// that cannot be slowed down. What comes while a hook is pending waits here, within bounds.

import type { StreamError } from '../errors.ts'
import type { Session } from '../stream/session.ts'
import type { BodySink, UpstreamBody } from '../upstream-response.ts'
import type { FollowedStream } from './followed-stream.ts'
import type { Delivery, Follower } from './followers.ts'
import { tellGapTo } from './gap.ts'

/** The body that the pipeline of one client's session reads. */
export class HookedFollower implements UpstreamBody, Follower {
  /** The pipeline looks at what it gets when the turn is over. */
  readonly isIdle = false
  readonly #shared: FollowedStream
  readonly #session: Session
  // Where in the log the client begins.
  readonly #position: number
  // The pipeline. Undefined before `start`, and when nothing more comes.
  #sink: BodySink | undefined
  // Backpressure of the pipeline, whose hook is pending or whose client does not read.
  #isPaused = false
  // What has come meanwhile, in order. A client for which more waits than `limits.bufferBytes` is let go.
  #waiting: Buffer[] = []
  // How much that is.
  #waitingBytes = 0
  // How the stream ended; told when nothing waits any more.
  #outcome: 'complete' | StreamError | undefined

  constructor(shared: FollowedStream, session: Session, position: number) {
    this.#shared = shared
    this.#session = session
    this.#position = position
  }

  get isDone(): boolean {
    return this.#session.context.writer.isDone
  }

  start(sink: BodySink): void {
    this.#sink = sink
    // What the client has missed is not bounded by its buffer, and passes in one turn with the join: nothing comes between.
    for (const { bytes } of this.#shared.log.since(this.#position)) sink.onData(bytes)
    this.#shared.join(this)
  }

  pause(): void {
    this.#isPaused = true
  }

  unpause(): void {
    this.#isPaused = false
    const waiting = this.#waiting
    this.#waiting = []
    this.#waitingBytes = 0
    for (const bytes of waiting) this.#take(bytes)
    if (!this.#isPaused && this.#outcome !== undefined) this.#tell(this.#outcome)
  }

  destroy(): void {
    this.#sink = undefined
    this.#waiting = []
    this.#shared.leave(this)
  }

  onEvents({ shared }: Delivery): void {
    this.#session.context.inContext(() => this.#take(shared.bytes))
  }

  /** Passes what came, or keeps it while the pipeline cannot take more. */
  #take(bytes: Buffer): void {
    if (!this.#isPaused) return this.#sink?.onData(bytes)
    this.#waiting.push(bytes)
    this.#waitingBytes += bytes.length
    if (this.#waitingBytes > this.#session.context.options.limits.bufferBytes) this.#session.onStall()
  }

  onGap(): void {
    tellGapTo(this.#session)
  }

  onEnd(): void {
    this.#tell('complete')
  }

  /** The session waits for the end of what the pipeline still holds by itself. */
  onClosed(): void {
    this.#session.end('closed')
  }

  onFailed(error: StreamError): void {
    this.#tell(error)
  }

  /** Tells the pipeline how the stream ended, once what came before it has passed. */
  #tell(outcome: 'complete' | StreamError): void {
    this.#outcome = outcome
    if (this.#waiting.length > 0) return
    const sink = this.#sink
    this.#sink = undefined
    this.#session.context.inContext(() => (outcome === 'complete' ? sink?.onEnd() : sink?.onBroken(outcome)))
  }
}
