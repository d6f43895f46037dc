// From an upstream's bytes to whole events that are ready for a client: joined as they were read, framed, counted,
// through the hooks. What leaves is in order, and all that came before an ending has left by then. It knows nothing of clients;
// its sink can pause it.

import { coalesced, joined, lieIn } from '../bytes.ts'
import { isUpstreamsFault, StreamError } from '../errors.ts'
import type { Cursor, Progress } from '../events/cursor.ts'
import type { EndWatch } from '../events/end-watch.ts'
import type { SseStream, TransformHook } from '../events/event.ts'
import { EventFramer, type FramerOptions } from '../events/framer.ts'
import { HookRunner } from '../events/hooks.ts'
import { ChunkFramer } from '../fast-lane/chunk-framer.ts'
import type { BodySink, UpstreamBody, UpstreamResponse } from '../upstream-response.ts'
import type { EventFlow } from './event-flow.ts'

const NOTHING = Buffer.alloc(0)

/** Where events go. After `onEnd` or `onFailed` nothing more comes. */
export interface PipelineSink {
  /** What one read of the upstream brought: bytes, complete or not, and the events they complete. */
  onReceived(bytes: number, events: number): void
  /** Whether it may be given memory that is used again, and will know what it refers to of that. */
  readonly mayBorrow?: boolean
  /** Whether anything refers to this memory. */
  keeps?(memory: Buffer): boolean
  /** Bytes that may leave at once, together, and how many events they are. */
  onEvents(pieces: readonly Buffer[], events: number): void
  /** The same for whole HTTP chunks with so many bytes of data in them. Only where the client takes chunks. */
  onChunks?(chunks: readonly Buffer[], bytes: number, events: number): void
  /** Another connection's events follow. */
  onReconnected(response: UpstreamResponse, attempt: number): void
  /** Complete, and all of it has passed. */
  onEnd(): void
  /** Lost, or a hook failed; the events that came before have passed. */
  onFailed(error: StreamError): void
}

export interface PipelineOptions extends FramerOptions {
  /** They run in this order. Without any, and without `end`, events are not parsed. */
  readonly hooks: readonly TransformHook[]
  /** Absent where every clean end of the upstream is a good one. */
  readonly end?: EndWatch | undefined
  /** What the hooks see of the stream. */
  readonly stream: SseStream
  /** Moves with what passes. */
  readonly cursor: Cursor
  /** Who reads this: a byte order mark may not come after something else, and HTTP chunks only where they go as such. */
  readonly client: { readonly wroteBody: boolean; readonly takesChunks: boolean }
  /** See `EventFlow`. */
  readonly isShared: boolean
}

/** Frames one body after the other, as long as the body knows how to reconnect. */
export class Pipeline implements BodySink, EventFlow {
  readonly #options: PipelineOptions
  readonly #sink: PipelineSink
  // Holds the start of an unfinished event; the same for all connections of the stream.
  readonly #framer: EventFramer
  // Undefined where no hook and no `isEnd` looks at events: then bytes pass as they came.
  readonly #hooks: HookRunner | undefined
  // Undefined when it is over: nothing more comes, and nothing more leaves.
  #body: UpstreamBody | undefined
  // Whether the body says where it ends; one that does not may have been cut.
  #delimited: boolean
  // Made when the first chunks come as such; anew for each connection.
  #chunks: ChunkFramer | undefined
  // What one read of the upstream's socket brought; looked at together when the read is done, or is not held any more. Bounded,
  // since the body is paused while it is held.
  #parts: Buffer[] | undefined
  // What the hooks let through, until it is delivered: at the end of a read, or at once while a hook is pending.
  #out: Buffer[] | undefined
  // Before `release`, and while a hook is pending: nothing may overtake the event it has, the end of the body neither.
  #held = true
  // Backpressure of the sink; the body stays paused although a hook is done.
  #paused = false
  // How the body ended. Acted on when all that came before has passed.
  #outcome: 'complete' | Error | undefined

  constructor(
    options: PipelineOptions,
    { body, delimited }: Pick<UpstreamResponse, 'body' | 'delimited'>,
    sink: PipelineSink,
  ) {
    this.#options = options
    this.#sink = sink
    this.#body = body
    this.#delimited = delimited
    const { end, stream, eventBytes, client } = options
    const hooks = end ? [end.hook, ...options.hooks] : options.hooks
    // Hooks need every event whole. They let go of bytes later, and look after the mark themselves.
    const forHooks = hooks.length > 0 && { ...options, failsOversize: true, client: { wroteBody: false } }
    this.#framer = new EventFramer(forHooks || options)
    if (!forHooks) return
    this.#hooks = new HookRunner({ hooks, stream, eventBytes, client, emit: (bytes) => this.#emit(bytes) })
  }

  get progress(): Progress {
    return this.#options.cursor
  }

  get isShared(): boolean {
    return this.#options.isShared
  }

  // As an `EventFlow`.

  get hasBegun(): boolean | undefined {
    return this.#body?.hasBegun
  }

  get atBoundary(): boolean {
    return this.#framer.atBoundary
  }

  get isOver(): boolean {
    return this.#body === undefined
  }

  start(): void {
    this.#body?.start(this)
  }

  /** The app is not ready: nothing more is read until `release`. */
  hold(): void {
    this.#body?.pause()
  }

  /** Also when a hook is done. Backpressure of the sink outlasts it. */
  release(): void {
    this.#held = false
    if (!this.#paused) this.#body?.unpause()
    this.#work()
  }

  cutAtBoundary(): void {
    this.#framer.holdBack()
  }

  /** Backpressure of the sink. What has been read by now still comes. */
  pause(): void {
    this.#paused = true
    this.#body?.pause()
  }

  unpause(): void {
    this.#paused = false
    if (!this.#held) this.#body?.unpause()
  }

  /** Gives the upstream up; the sink hears nothing more. */
  stop(): void {
    this.#body?.destroy()
    this.#close()
  }

  flush(): void {
    this.#hooks?.flush()
    this.#deliver()
  }

  // As a `BodySink`.

  /** Nothing is framed here: a read may bring many chunks, and leaves as one. Memory that is used again cannot wait for that. */
  onData(chunk: Buffer, isLent = false): void {
    if (isLent) {
      this.#parts = [...(this.#parts ?? []), chunk]
      return this.#work()
    }
    if (this.#parts) return void this.#parts.push(chunk)
    this.#parts = [chunk]
    // After the read that brought it, before anything else.
    process.nextTick(readDone, this)
  }

  /** True where chunks can pass as they came: no hook looks at events, and unfinished ones are held back. */
  get takesChunks(): boolean {
    const mayTake = !this.#hooks && this.#options.wholeEvents && this.#sink.onChunks !== undefined
    return mayTake && this.#chunks?.isUseful !== false
  }

  /** Whole events pass in their chunks; what is given back comes as data, and is framed the ordinary way. */
  onChunks(read: Buffer): readonly Buffer[] {
    this.#chunks ??= new ChunkFramer(this.#options.eventBytes, this.#options.cursor)
    const chunks = this.#chunks
    // Known by now, and for good: the client's head has left.
    if (!this.#options.client.takesChunks) chunks.giveUp()
    // What came as plain data leaves first.
    if (this.#parts) this.#work()
    if (!chunks.isUseful || !this.#isBetweenEvents) return [...chunks.release(), read]
    const taken = chunks.take(read)
    if (taken.chunks.length > 0) {
      this.#sink.onReceived(taken.bytes, taken.events)
      this.#sink.onChunks?.(taken.chunks, taken.bytes, taken.events)
    }
    return taken.back
  }

  releaseChunks(): readonly Buffer[] {
    return this.#chunks?.release() ?? []
  }

  /** Whether nothing holds up what comes next, neither here nor behind the sink. */
  get mayBorrow(): boolean {
    return !this.#held && this.#parts === undefined && this.#sink.mayBorrow === true
  }

  keeps(memory: Buffer): boolean {
    if (!this.mayBorrow) return true
    if (this.#chunks?.holds(memory) || lieIn(memory, this.#framer.unfinished)) return true
    return this.#sink.keeps?.(memory) ?? true
  }

  /** Whether nothing is held here, and nothing holds it. */
  get #isBetweenEvents(): boolean {
    const { isMidway, isAfterCr } = this.#framer
    return !(this.#held || this.isOver || this.#outcome !== undefined || isMidway || isAfterCr)
  }

  // Both wait for what came before them, and for a pending hook.

  onEnd(): void {
    this.#outcome = 'complete'
    this.#work()
  }

  onBroken(cause: Error): void {
    this.#outcome = cause
    this.#work()
  }

  get mayMove(): boolean {
    const { atBoundary, overflowed } = this.#framer
    const isWaiting = this.#held || this.isOver || this.#parts !== undefined || this.#outcome !== undefined
    return !isWaiting && atBoundary && !overflowed && this.#options.end?.isSeen !== true
  }

  onReconnected(response: UpstreamResponse, attempt: number): void {
    this.#restart()
    this.#delimited = response.delimited
    this.#sink.onReconnected(response, attempt)
  }

  /** The chunks of one read are all here. */
  onReadDone(): void {
    this.#work()
  }

  /** Passes on what has come, then acts on how the body ended; nothing while it is held. */
  #work(): void {
    while (!this.#held && !this.isOver && this.#parts) this.#process(this.#parts)
    if (!this.#held && this.#options.end?.isSeen) this.#body?.enough?.()
    if (!this.#held && !this.isOver && this.#outcome !== undefined) this.#finish(this.#outcome)
  }

  /** Frames, counts and passes one read; the cursor has moved by the time that hooks and sink see it. */
  #process(parts: readonly Buffer[]): void {
    // Large parts are not joined, which would copy all of them: the next one is looked at when this has passed.
    const [first = NOTHING, ...rest] = coalesced(parts)
    this.#parts = rest.length > 0 ? rest : undefined
    const chunk = joined(this.#framer.withHeld([first]))
    const { cursor } = this.#options
    const before = cursor.events
    try {
      const pieces = this.#framer.take(chunk)
      const whole = pieces.length === 1 && this.#framer.atBoundary
      let { markBytes } = this.#framer
      for (const piece of pieces) {
        cursor.pass(markBytes > 0 ? piece.subarray(markBytes) : piece, whole)
        markBytes = 0
      }
      this.#sink.onReceived(first.length, cursor.events - before)
      if (this.#framer.overflowed) {
        this.#outcome = new StreamError('ERR_SSE_PROXY_EVENT_TOO_LARGE')
        this.#parts = undefined
        this.#body?.destroy()
      }
      if (pieces.length > 0) this.#pass(pieces, cursor.events - before)
    } catch (error) {
      this.#fail(error)
    }
  }

  #pass(pieces: readonly Buffer[], events: number): void {
    const hooks = this.#hooks
    if (hooks) this.#run(() => hooks.run(joined(pieces)))
    else this.#sink.onEvents(pieces, events)
  }

  /** Runs hooks: what they let through together leaves together, and a pending one holds the rest. */
  #run(work: () => Promise<void> | undefined): void {
    let pending: Promise<void> | undefined
    try {
      pending = work()
    } finally {
      this.#deliver()
    }
    if (!pending) return
    this.#held = true
    this.#body?.pause()
    pending.then(
      () => this.release(),
      (error) => this.#fail(error),
    )
  }

  /** From the hooks, in order. */
  #emit(bytes: Buffer): void {
    if (this.#out) this.#out.push(bytes)
    else this.#out = [bytes]
    // A hook was pending: what it let through does not wait for those behind it.
    if (this.#held) this.#deliver()
  }

  /** What has been let through leaves as one, with the number of its events. */
  #deliver(): void {
    const out = this.#out
    if (!out || this.isOver) return
    const events = this.#hooks?.takeCount() ?? 0
    this.#out = undefined
    this.#sink.onEvents(out, events)
  }

  /** Reconnects where the body can, fails on a loss, else ends behind the unfinished event. Comes again after a pending hook. */
  #finish(outcome: 'complete' | Error): void {
    const cut = outcome === 'complete' ? this.#cutShort() : lossOf(outcome)
    const { end } = this.#options
    let lost = cut
    try {
      if (end) lost = end.lossOf(cut, this.#framer.unfinished)
    } catch (error) {
      return this.#fail(error)
    }
    // A loss through the app says nothing about the upstream, and what failed over its content would fail again.
    const isUpstreams = !lost || isUpstreamsFault(lost)
    if (end && isUpstreams) this.#body?.judge?.(!lost)
    if (!end?.isSeen && isUpstreams && this.#reconnects(lost)) return this.#restart()
    if (lost) return this.#fail(lost)
    // Of a body that was cut behind the end, half an event is nothing to a client.
    if (!cut) this.#passTail(this.#framer.takeTail())
    // A pending hook has the tail: this is come back to, with nothing left.
    if (this.#held || this.isOver) return
    this.stop()
    this.#sink.onEnd()
  }

  #reconnects(lost: StreamError | undefined): boolean {
    return this.#framer.atBoundary && this.#body?.reconnect?.(lost ?? 'complete') === true
  }

  /** The event that the upstream left unfinished. */
  #passTail(tail: readonly Buffer[]): void {
    if (tail.length === 0) return
    const hooks = this.#hooks
    try {
      if (hooks) this.#run(() => hooks.runTail(joined(tail)))
      else this.#sink.onEvents(tail, 0)
    } catch (error) {
      this.#fail(error)
    }
  }

  /** Where nothing tells the end of a body from the end of its connection, an event in the middle does. */
  #cutShort(): StreamError | undefined {
    return this.#delimited || !this.#framer.isInsideEvent
      ? undefined
      : lossOf(new Error('cut in the middle of an event'))
  }

  /** Another connection's bytes follow, or the end; what the last one left unfinished is forgotten. */
  #restart(): void {
    this.#outcome = undefined
    this.#framer.restart()
    this.#chunks = undefined
  }

  /** Gives the upstream up; anything but a failure of the stream is a hook's. */
  #fail(error: unknown): void {
    if (this.isOver) return
    this.stop()
    this.#sink.onFailed(error instanceof StreamError ? error : new StreamError('ERR_SSE_PROXY_HOOK', error))
  }

  /** What has come and not passed is dropped. */
  #close(): void {
    this.#body = undefined
    this.#parts = undefined
  }
}

// One function for all: a closure would be made for every read.
function readDone(pipeline: Pipeline): void {
  pipeline.onReadDone()
}

/** What a body breaks with, as the failure of a stream. */
function lossOf(cause: unknown): StreamError {
  return cause instanceof StreamError ? cause : new StreamError('ERR_SSE_PROXY_UPSTREAM_LOST', cause)
}
