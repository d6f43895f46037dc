// One upstream stream for many clients: what comes is framed, goes through the hooks, is recorded, and is handed to the
// followers, each once. How a client takes it is its follower's affair.

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Abort } from '../abort.ts'
import type { Ticket } from '../admission.ts'
import { coalesced } from '../bytes.ts'
import { type CloseReason, closeReasonOf, StreamError } from '../errors.ts'
import { Cursor, type Progress } from '../events/cursor.ts'
import type { SseStream, StreamEvent } from '../events/event.ts'
import { checkEvent, serializeEvent } from '../events/event-text.ts'
import type { ResolvedOptions } from '../options/resolve-options.ts'
import type { ResolvedShare } from '../options/resolve-share.ts'
import { whenOver } from '../stream/client-gone.ts'
import { sendLastEvent } from '../stream/last-event.ts'
import type { Moves } from '../stream/moves.ts'
import type { Pipeline, PipelineSink } from '../stream/pipeline.ts'
import type { StreamMeter } from '../stream/session-context.ts'
import { StreamHandle } from '../stream/stream-handle.ts'
import type { OpenUpstream, UpstreamBody, UpstreamResponse } from '../upstream-response.ts'
import { BlockCursor } from './block-cursor.ts'
import { lengthOf } from './blocks.ts'
import type { EventLog } from './event-log.ts'
import type { FollowedStream, StreamEnding } from './followed-stream.ts'
import { type Follower, Followers } from './followers.ts'
import { Lingering } from './lingering.ts'
import { Recorder } from './recorder.ts'
import type { ReplayBudget } from './replay-budget.ts'
import { outlivesReaders } from './share-methods.ts'
import { createSharedPipeline } from './shared-pipeline.ts'

/** What a shared stream is made of, and who is told of its end. */
export interface SharedStreamContext {
  readonly id: string
  /** The leader's request, which opened it, and which hooks see. */
  readonly req: IncomingMessage
  /** The leader's response; only handed on to those who are told of a failure. */
  readonly res: ServerResponse
  /** Aborted when the stream is over; the upstream's request is given up with it. */
  readonly controller: Abort
  readonly options: ResolvedOptions
  readonly share: ResolvedShare
  /** The function that opens the upstream anew when it is lost. */
  open(): OpenUpstream
  readonly observer: SharedStreamObserver
  /** Absent where streams are not resumed, or a router chooses. */
  readonly moves: Moves | undefined
  /** Counts what the upstream sends, once for all followers. */
  readonly meter: Pick<StreamMeter, 'received'>
  /** Takes its events, and outlives it; `idBefore` is the id that the upstream was asked to go on from. */
  readonly log: EventLog
  /** What all logs take together. */
  readonly budget: ReplayBudget
  /** Takes the leader's place of the limits, which may have left; `close` is called when that is needed for others. */
  readonly linger: (close: () => void) => Ticket
  /** Whether a client could come back to it, so that it is kept for a while when the last one has left. */
  readonly lingers: () => boolean
  /** The stream is over, and its place is free. Without an ending it did not end of itself: it was closed. */
  readonly onOver: (ending: StreamEnding | undefined) => void
}

/** Who counts, publishes and reports what becomes of shared streams. */
export interface SharedStreamObserver {
  /** @param startedAt as `performance.now()` */
  meter(startedAt: number): StreamMeter
  /** A client follows a stream that another has opened. */
  joined(): void
  /** A client gets a stream that is over. */
  replayed(): void
  resuming(stream: SseStream, upstream: string, attempt: number): void
  resumed(stream: SseStream, attempt: number): void
  failed(error: StreamError, stream: SseStream, res: ServerResponse): void
}

export class SharedStream implements PipelineSink, FollowedStream {
  readonly context: SharedStreamContext
  /** Where the upstream stands before hooks and ids of the proxy's own, which is where a resume goes on. */
  readonly cursor: Cursor
  /** What hooks on the shared stream see in place of a client's stream. */
  readonly handle: SseStream
  /** The URL of the upstream whose events come. */
  upstream: string
  /** What has been handed to the followers, counted once. */
  bytes = 0
  /** How often another connection has taken over. */
  resumes = 0
  // Whether what the upstream sends is the value of something, each in place of the one before.
  readonly #isPolled: boolean
  // Set when a new value has come, until the first of its events is recorded.
  #hasNewValue = false
  readonly #pipeline: Pipeline
  readonly #recorder: Recorder
  // The cursor, where what it reads is what leaves.
  readonly #blocks: BlockCursor | undefined
  readonly #followers = new Followers()
  readonly #lingering: Lingering

  constructor(context: SharedStreamContext, response: UpstreamResponse, plain: UpstreamBody) {
    const { upstream } = response
    const { log, options, share, req, budget, linger } = context
    this.context = context
    this.upstream = upstream
    this.#isPolled = response.isPolled === true
    // What hooks let through is read again.
    this.#blocks = options.hooks.length === 0 && !options.isEnd ? new BlockCursor(log.idBefore) : undefined
    this.cursor = this.#blocks ?? new Cursor(log.idBefore)
    this.handle = new StreamHandle(this)
    this.#recorder = new Recorder(log, share.replay.ids === 'assign')
    this.#lingering = new Lingering({ lingerMs: share.lingerMs, req, budget, linger }, () => this.close())
    this.#pipeline = createSharedPipeline(context, response, plain, { cursor: this.cursor, stream: this.handle }, this)
  }

  get id(): string {
    return this.context.id
  }

  get log(): EventLog {
    return this.context.log
  }

  get sent(): Progress {
    return this.#recorder
  }

  /** How many clients follow it. */
  get clients(): number {
    return this.#followers.size
  }

  get atBoundary(): boolean {
    return this.#pipeline.atBoundary
  }

  get isOver(): boolean {
    return this.context.controller.aborted
  }

  /** Its place of the limits, while no client follows it. */
  get place(): Ticket | undefined {
    return this.#lingering.place
  }

  /** Begins to read; clients that are to get the first event follow by now. */
  start(): void {
    this.#pipeline.start()
    this.#pipeline.release()
    this.#lingerIfEmpty()
  }

  join(follower: Follower): void {
    this.#lingering.stop()
    this.#followers.add(follower)
  }

  leave(follower: Follower): void {
    if (this.#followers.delete(follower)) this.#lingerIfEmpty()
  }

  /** Breaks off, for all followers, what cannot go on. */
  lose(cause: Error): void {
    this.#pipeline.stop()
    this.onFailed(new StreamError('ERR_SSE_PROXY_UPSTREAM_LOST', cause))
  }

  /** Without followers it is over. */
  close(): void {
    this.#pipeline.stop()
    this.#finish('client-left')
  }

  onReceived(bytes: number, events: number): void {
    this.context.meter.received(bytes, events)
    if (this.#isPolled && events > 0) this.#hasNewValue = true
  }

  /** The log keeps copies. */
  get mayBorrow(): boolean {
    return this.#followers.areIdle
  }

  keeps(): boolean {
    return !this.#followers.areIdle
  }

  onEvents(given: readonly Buffer[], events: number): void {
    // Hooks may let through a piece for each event.
    const pieces = coalesced(given)
    if (this.#hasNewValue && events > 0) {
      this.#hasNewValue = false
      this.log.beginValue()
    }
    const sent = this.#recorder.record(pieces, this.#blocks?.takeBlocks())
    this.bytes += lengthOf(sent)
    this.#followers.deliver(sent, events)
    this.context.budget.settle()
  }

  onReconnected({ upstream }: UpstreamResponse, attempt: number): void {
    this.upstream = upstream
    this.resumes++
    this.context.observer.resumed(this.handle, attempt)
  }

  onEnd(): void {
    for (const follower of this.#finish('upstream-ended', 'complete')) follower.onEnd()
  }

  onFailed(error: StreamError): void {
    if (this.isOver) return
    const reason = closeReasonOf(error)
    const { options, share, req } = this.context
    const { onLost } = options
    const isHeard = this.clients > 0 || share.keepEndedMs > 0 || outlivesReaders(req.method, share)
    if (onLost && reason === 'upstream-lost' && isHeard) {
      sendLastEvent(onLost, error, this, (failure) => this.#tellFailure(failure))
    }
    // The app may have closed it.
    if (this.isOver) return
    for (const follower of this.#finish(reason, error)) follower.onFailed(error)
    this.#tellFailure(error)
  }

  /** When the leader's response is over: the app that is told may try to end it, and it would look whole. */
  #tellFailure(error: StreamError): void {
    const { observer, res } = this.context
    whenOver(res, () => observer.failed(error, this.handle, res))
  }

  /** An event of the app's own, for all followers. */
  send(event: StreamEvent): boolean {
    const bytes = Buffer.from(serializeEvent(checkEvent(event)))
    this.#pipeline.flush()
    if (this.isOver) return false
    this.onEvents([bytes], 1)
    return true
  }

  /** The app closes it, for all followers. */
  end(): void {
    this.#pipeline.flush()
    this.#pipeline.stop()
    for (const follower of this.#finish('closed')) follower.onClosed()
  }

  /** Without followers the upstream is kept for a while where a client could come back, and closed otherwise. */
  #lingerIfEmpty(): void {
    if (this.#followers.size > 0 || this.isOver || this.place) return
    if (this.context.lingers()) this.#lingering.begin()
    else this.close()
  }

  /** Gives back all that is taken for it; returns the followers it had, who hear by then that it is over. */
  #finish(reason: CloseReason, ending?: StreamEnding): readonly Follower[] {
    if (this.isOver) return []
    const followers = this.#followers.dismiss()
    this.#lingering.stop()
    this.context.controller.abort(reason)
    this.context.onOver(ending)
    return followers
  }
}
