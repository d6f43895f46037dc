// The two ways in which a client follows a shared stream: taking its bytes as they are, or through hooks of its own.

import { StreamError } from '../errors.ts'
import type { BodySink, UpstreamBody } from '../open-upstream.ts'
import type { Session } from './session.ts'
import type { SharedStream } from './shared-stream.ts'
import type { EventSource } from './source.ts'

/** Who hears the events of a shared stream. */
export interface Follower {
  onEvents(bytes: Buffer, events: number): void
  onKeepalive(comment: Buffer): void
  onEnd(): void
  onFailed(error: StreamError): void
}

/** A client that takes the bytes as they are. */
export class DirectSource implements EventSource, Follower {
  readonly atBoundary = true
  readonly #shared: SharedStream
  readonly #session: Session
  readonly #position: number

  constructor(shared: SharedStream, session: Session, position: number) {
    this.#shared = shared
    this.#session = session
    this.#position = position
  }

  release(): void {
    const missed = this.#shared.replay.since(this.#position)
    this.#shared.join(this)
    if (missed.length > 0) this.#session.catchUp(missed)
  }

  stop(): void {
    this.#shared.leave(this)
  }

  onEvents(bytes: Buffer, events: number): void {
    this.#session.onShared(bytes, events)
  }

  onKeepalive(comment: Buffer): void {
    this.#session.onKeepalive(comment)
  }

  onEnd(): void {
    this.#session.onEnd()
  }

  onFailed(error: StreamError): void {
    this.#session.onSharedFailed(error)
  }

  // Nobody waits for a single client: what it does not take it loses, see `Session.onShared`.
  hold(): void {}
  pause(): void {}
  resume(): void {}
  flush(): void {}
  cutAtBoundary(): void {}
}

/** A client with hooks of its own: for its feed, the shared stream is an upstream. */
export class Branch implements UpstreamBody, Follower {
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
    const missed = this.#shared.replay.since(this.#position)
    this.#shared.join(this)
    for (const bytes of missed) sink.onData(bytes)
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
    const waiting = this.#waiting
    this.#waiting = []
    this.#waitingBytes = 0
    for (const bytes of waiting) this.onEvents(bytes)
    if (!this.#paused && this.#outcome !== undefined) this.#tell(this.#outcome)
  }

  destroy(): void {
    this.#sink = undefined
    this.#waiting = []
    this.#shared.leave(this)
  }

  onEvents(bytes: Buffer): void {
    if (!this.#paused) {
      this.#sink?.onData(bytes)
      return
    }
    this.#waiting.push(bytes)
    this.#waitingBytes += bytes.length
    if (this.#waitingBytes > this.#shared.context.options.limits.bufferBytes) {
      this.#session.fail(new StreamError('ERR_SSE_PROXY_SLOW_CLIENT'), 'slow-client')
    }
  }

  onKeepalive(comment: Buffer): void {
    this.#session.onKeepalive(comment)
  }

  onEnd(): void {
    this.#tell('complete')
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
