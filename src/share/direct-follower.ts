// A client of a shared stream that takes the bytes as they are. A shared stream does not wait for a single client: one
// that does not read is let go once too much waits for it.

import { closeReasonOf, type StreamError } from '../errors.ts'
import type { Progress } from '../events/cursor.ts'
import type { EventFlow } from '../stream/event-flow.ts'
import type { Session } from '../stream/session.ts'
import type { FollowedStream } from './followed-stream.ts'
import type { Delivery, Follower } from './followers.ts'
import { tellGapTo } from './gap.ts'

/** The flow of one client's session, without a pipeline: the bytes are framed and hooked for all by now. */
export class DirectFollower implements EventFlow, Follower {
  readonly isShared = true
  readonly hasBegun = undefined
  /** Where the client stands. */
  readonly progress: Progress
  readonly #shared: FollowedStream
  readonly #session: Session
  // Where in the log the client begins.
  readonly #position: number
  // What the client has missed, and what has come since it joined, until `release`: the app's callback takes its time.
  // Undefined after that.
  #waiting: Buffer[] | undefined = []
  // Of that, what has come since it joined; bounded, as backpressure is.
  #waitingBytes = 0
  // The events in all of it.
  #waitingEvents = 0
  // How the stream ended before `release`, which tells the session of it.
  #ending: (() => void) | undefined
  // Of what waits in the client's writer, this much may be what it had missed, which is no sign that it is slow. Set by
  // `release`, none after `unpause`: the client has taken it all.
  #allowedBytes = 0

  constructor(shared: FollowedStream, session: Session, position: number) {
    this.#shared = shared
    this.#session = session
    this.#position = position
    this.progress = new FollowerProgress(shared, position, session.context.lastEventId)
  }

  get atBoundary(): boolean {
    return this.#shared.atBoundary
  }

  get isOver(): boolean {
    return this.#shared.isOver
  }

  get isIdle(): boolean {
    return this.#waiting === undefined && this.#session.isIdle
  }

  get isDone(): boolean {
    return this.#session.context.writer.isDone
  }

  start(): void {
    // The app, told that the stream has opened, may have closed it by now.
    if (this.#session.isOver) return
    const { log } = this.#shared
    this.#waiting = log.since(this.#position).map(({ bytes }) => bytes)
    this.#waitingEvents = log.eventsSince(this.#position)
    this.#shared.join(this)
  }

  release(): void {
    const waiting = this.#waiting ?? []
    this.#waiting = undefined
    if (waiting.length > 0) {
      this.#allowedBytes = waiting.reduce((sum, { length }) => sum + length, 0)
      this.#session.onReceived(0, this.#waitingEvents)
      this.#session.onEvents(waiting, this.#waitingEvents)
    }
    this.#ending?.()
  }

  unpause(): void {
    this.#allowedBytes = 0
  }

  stop(): void {
    this.#waiting = []
    this.#ending = undefined
    this.#shared.leave(this)
  }

  onEvents({ shared, events, now }: Delivery): void {
    if (this.#waiting) return this.#wait(this.#waiting, shared.bytes, events)
    const { isBehind, waitingBytes } = this.#session.context.writer
    // What has been waiting counts, not what has just come.
    if (isBehind && this.#isTooMuch(waitingBytes)) return this.#session.onStall()
    this.#session.onShared(shared, events, now)
  }

  /** Keeps what comes before `release`. */
  #wait(waiting: Buffer[], bytes: Buffer, events: number): void {
    waiting.push(bytes)
    this.#waitingEvents += events
    this.#waitingBytes += bytes.length
    if (this.#isTooMuch(this.#waitingBytes)) this.#session.onStall()
  }

  /** Whether more waits for the client than its buffer may hold. */
  #isTooMuch(waitingBytes: number): boolean {
    return waitingBytes > this.#session.context.options.limits.bufferBytes + this.#allowedBytes
  }

  onGap(): void {
    tellGapTo(this.#session)
  }

  onEnd(): void {
    this.#conclude(() => this.#session.onEnd())
  }

  onClosed(): void {
    this.#conclude(() => this.#session.end('closed'))
  }

  onFailed(error: StreamError): void {
    this.#conclude(() => this.#session.abort(closeReasonOf(error), error))
  }

  /** What came before the end leaves first. */
  #conclude(ending: () => void): void {
    if (this.#waiting) this.#ending = ending
    else ending()
  }

  // The other followers wait for nothing that happens here.
  hold(): void {}
  pause(): void {}
  flush(): void {}
  cutAtBoundary(): void {}
}

/** Where a client stands: it has its own id until an event has come to it, and the shared stream's last one then. */
class FollowerProgress implements Progress {
  readonly #sent: Progress
  // Events of the shared stream that came before this client's first.
  readonly #eventsBefore: number
  readonly #ownId: string

  constructor({ sent, log }: FollowedStream, position: number, ownId: string) {
    this.#sent = sent
    this.#eventsBefore = sent.events - log.eventsSince(position)
    this.#ownId = ownId
  }

  get lastEventId(): string {
    return this.events > 0 ? this.#sent.lastEventId : this.#ownId
  }

  get events(): number {
    return this.#sent.events - this.#eventsBefore
  }
}
