// From an upstream's bytes to whole events that are ready for a client: joined as they were read, framed, counted,
// through the hooks. It knows nothing of clients; whoever takes the events can pause it.

import { joined } from '../bytes.ts'
import { StreamError } from '../errors.ts'
import type { Cursor } from '../events/cursor.ts'
import type { SseStream, TransformHook } from '../events/event.ts'
import { EventFramer, type FramerOptions } from '../events/framer.ts'
import { HookRunner } from '../events/hooks.ts'
import { ChunkFramer } from '../fast-lane/chunk-framer.ts'
import type { BodySink, UpstreamBody, UpstreamResponse } from '../upstream-response.ts'
import { Watchdog } from '../watchdog.ts'
import type { EventFlow } from './event-flow.ts'
import type { Resumed, Resumer } from './resume.ts'

/** Where events go. After `onEnd` or `onFailed` nothing more comes. */
export interface PipelineSink {
  /** What one read of the upstream brought: bytes, complete or not, and the events they complete. */
  onReceived(bytes: number, events: number): void
  /** Bytes that may leave at once, together, and how many events they are. */
  onEvents(pieces: readonly Buffer[], events: number): void
  /** The same for whole HTTP chunks with so many bytes of data in them. Only where the client takes chunks. */
  onChunks?(chunks: readonly Buffer[], bytes: number, events: number): void
  /** Another upstream goes on. */
  onResumed(response: UpstreamResponse, attempt: number): void
  onEnd(): void
  onFailed(error: StreamError): void
}

export interface PipelineOptions extends FramerOptions {
  /** Silence after which the upstream counts as lost; 0 for none. */
  readonly idleMs: number
  readonly hooks: readonly TransformHook[]
  readonly stream: SseStream
  readonly cursor: Cursor
  /** Who reads this: a byte order mark may not come after something else, and HTTP chunks only where they go as such. */
  readonly client: { readonly wroteBody: boolean; readonly takesChunks: boolean }
  /** Finds another upstream when one is lost; undefined where resume is off. */
  readonly resumer: Resumer | undefined
}

export class Pipeline implements BodySink, EventFlow {
  readonly #options: PipelineOptions
  readonly #sink: PipelineSink
  readonly #framer: EventFramer
  readonly #hooks: HookRunner | undefined
  // Made when the first chunks come as such.
  #chunks: ChunkFramer | undefined
  #body: UpstreamBody | undefined
  #upstream = ''
  #delimited = true
  // What one read of the upstream's socket brought; looked at together when the read is done.
  #parts: Buffer[] | undefined
  #scheduled = false
  // What may leave, collected while events are looked at.
  #out: Buffer[] | undefined
  #collecting = false
  // A hook is at work, or whoever holds the feed is: nothing may overtake the event it has.
  #held = true
  // `hold` has stopped the reading as well.
  #stopped = false
  // The one who takes the events cannot take more for now.
  #paused = false
  #outcome: 'complete' | Error | undefined
  #over = false
  #idleWatchdog: Watchdog | undefined

  constructor(options: PipelineOptions, sink: PipelineSink) {
    this.#options = options
    this.#sink = sink
    const { hooks, stream, eventBytes, client } = options
    // Hooks need every event whole. They let go of bytes later, and look after the mark themselves.
    const forHooks = hooks.length > 0 && { ...options, failsOversize: true, client: { wroteBody: false } }
    this.#framer = new EventFramer(forHooks || options)
    if (!forHooks) return
    this.#hooks = new HookRunner({ hooks, stream, eventBytes, client, emit: (bytes) => this.#emit(bytes) })
  }

  /** Whether something else may be sent now without cutting an event in two. */
  get atBoundary(): boolean {
    return this.#framer.atBoundary
  }

  /** Whether the upstream has ended for good. */
  get isOver(): boolean {
    return this.#over
  }

  /** Reads this answer's body, in plain; events are held until `release`. */
  start({ upstream, delimited }: UpstreamResponse, body: UpstreamBody): void {
    this.#body = body
    this.#upstream = upstream
    this.#delimited = delimited
    this.#watchIdle()
    body.start(this)
  }

  /** Stops reading until `release`. */
  hold(): void {
    this.#body?.pause()
    this.#stopped = true
  }

  /** Lets the events go that `start` holds. */
  release(): void {
    this.#held = false
    if (this.#stopped && !this.#paused) this.#body?.unpause()
    this.#work()
  }

  /** Makes the events end at a boundary, where they may be in the middle of one. */
  cutAtBoundary(): void {
    this.#framer.holdBack()
  }

  pause(): void {
    this.#paused = true
    this.#body?.pause()
  }

  unpause(): void {
    this.#paused = false
    if (!this.#held) this.#body?.unpause()
    this.#idleWatchdog?.reset()
  }

  /** Gives the upstream up; nothing more comes. */
  stop(): void {
    this.#body?.destroy()
    this.#close()
  }

  /** Sends on what is through the hooks, so that something else can follow it. */
  flush(): void {
    this.#hooks?.flush()
    this.#deliver()
  }

  onData(chunk: Buffer): void {
    if (this.#parts) this.#parts.push(chunk)
    else this.#parts = [chunk]
    this.#idleWatchdog?.reset()
    if (this.#scheduled) return
    this.#scheduled = true
    // After the read that brought it, before anything else: the chunks of one read leave as one write.
    process.nextTick(readDone, this)
  }

  /** Unless events are looked at one by one, or are not held back. */
  get takesChunks(): boolean {
    const mayTake = !this.#hooks && this.#options.wholeEvents && this.#sink.onChunks !== undefined
    return mayTake && this.#chunks?.isUseful !== false
  }

  onChunks(read: Buffer): readonly Buffer[] {
    this.#chunks ??= new ChunkFramer(this.#options.eventBytes, this.#options.cursor)
    const chunks = this.#chunks
    // Known by now, and for good: the client's head has left.
    if (!this.#options.client.takesChunks) chunks.giveUp()
    // What came as plain data leaves first.
    if (this.#parts) this.#work()
    if (!chunks.isUseful || !this.#isBetweenEvents) return [...chunks.release(), read]
    this.#idleWatchdog?.reset()
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

  /** Whether nothing is held here, and nothing holds it. */
  get #isBetweenEvents(): boolean {
    const { isMidway, isAfterCr } = this.#framer
    return !(this.#held || this.#over || this.#outcome !== undefined || isMidway || isAfterCr)
  }

  onEnd(): void {
    this.#outcome = 'complete'
    this.#work()
  }

  onBroken(cause: Error): void {
    this.#outcome = cause
    this.#work()
  }

  /** The chunks of one read are all here. */
  onReadDone(): void {
    this.#scheduled = false
    this.#work()
  }

  #work(): void {
    if (this.#held || this.#over) return
    if (this.#parts) this.#process(this.#parts)
    if (!this.#held && !this.#over && this.#outcome !== undefined) this.#finish(this.#outcome)
  }

  #process(parts: readonly Buffer[]): void {
    this.#parts = undefined
    const bytes = parts.reduce((sum, { length }) => sum + length, 0)
    const chunk = joined(this.#framer.withHeld(parts))
    const { cursor } = this.#options
    const before = cursor.events
    try {
      const pieces = this.#framer.take(chunk)
      const whole = pieces.length === 1 && this.#framer.atBoundary
      for (const piece of pieces) cursor.pass(piece, whole)
      this.#sink.onReceived(bytes, cursor.events - before)
      if (this.#framer.overflowed) {
        this.#outcome = new StreamError('ERR_SSE_PROXY_EVENT_TOO_LARGE')
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

  /** Runs hooks: what they let through together leaves together, what they think about holds the rest. */
  #run(work: () => Promise<void> | undefined): void {
    this.#collecting = true
    let pending: Promise<void> | undefined
    try {
      pending = work()
    } finally {
      this.#collecting = false
      this.#deliver()
    }
    if (!pending) return
    this.#held = true
    this.#body?.pause()
    pending.then(
      () => {
        this.#held = false
        if (!this.#paused) this.#body?.unpause()
        this.#work()
      },
      (error) => this.#fail(error),
    )
  }

  #emit(bytes: Buffer): void {
    if (this.#out) this.#out.push(bytes)
    else this.#out = [bytes]
    if (!this.#collecting) this.#deliver()
  }

  #deliver(): void {
    const out = this.#out
    if (!out || this.#over) return
    const events = this.#hooks?.takeCount() ?? 0
    this.#out = undefined
    this.#sink.onEvents(out, events)
  }

  #finish(outcome: 'complete' | Error): void {
    const lost = outcome === 'complete' ? this.#cutShort() : lossOf(outcome)
    const { resumer } = this.#options
    const { atBoundary, overflowed } = this.#framer
    if (atBoundary && !overflowed && resumer?.shouldResume(lost ? 'lost' : 'complete'))
      return this.#resume(resumer, lost)
    if (lost) return this.#fail(lost)
    const tail = this.#framer.takeTail()
    if (tail.length > 0) {
      const hooks = this.#hooks
      try {
        if (hooks) this.#run(() => hooks.runTail(joined(tail)))
        else this.#sink.onEvents(tail, 0)
      } catch (error) {
        return this.#fail(error)
      }
      // Held by a hook that thinks about the tail: this is come back to, with nothing left.
      if (this.#held) return
    }
    this.#end()
  }

  /** Where nothing tells the end of a body from the end of its connection, an event in the middle does. */
  #cutShort(): StreamError | undefined {
    return this.#delimited || !this.#framer.isInsideEvent
      ? undefined
      : lossOf(new Error('cut in the middle of an event'))
  }

  /** Holds everything until there is another upstream; what the last one left unfinished is forgotten. */
  #resume(resumer: Resumer, lost: StreamError | undefined): void {
    this.#held = true
    this.#outcome = undefined
    this.#body = undefined
    this.#idleWatchdog?.stop()
    this.#framer.restart()
    this.#chunks = undefined
    this.#options.cursor.restart()
    resumer.resume(lost ?? new Error('the upstream ended'), this.#upstream).then(
      (resumed) => this.#goOn(resumed),
      (failure) => {
        if (lost) this.#fail(lossOf(failure))
        else this.#end()
      },
    )
  }

  #goOn(resumed: Resumed): void {
    if (resumed === 'ended') return this.#end()
    const { response, body, attempt } = resumed
    if (this.#over) return body.destroy()
    this.#held = false
    this.#sink.onResumed(response, attempt)
    this.start(response, body)
    if (this.#paused) body.pause()
  }

  #end(): void {
    if (this.#over) return
    this.#close()
    this.#sink.onEnd()
  }

  #fail(error: unknown): void {
    if (this.#over) return
    this.stop()
    this.#sink.onFailed(error instanceof StreamError ? error : new StreamError('ERR_SSE_PROXY_HOOK', error))
  }

  #close(): void {
    this.#over = true
    this.#parts = undefined
    this.#idleWatchdog?.stop()
    this.#body = undefined
  }

  #watchIdle(): void {
    const { idleMs } = this.#options
    if (idleMs === 0) return
    this.#idleWatchdog = new Watchdog(idleMs, () => {
      // A silence that was asked for is none.
      if (this.#paused || this.#held) return
      this.#body?.destroy('silent')
      this.onBroken(new StreamError('ERR_SSE_PROXY_IDLE'))
    })
  }
}

function readDone(feed: Pipeline): void {
  feed.onReadDone()
}

function lossOf(cause: unknown): StreamError {
  return cause instanceof StreamError ? cause : new StreamError('ERR_SSE_PROXY_UPSTREAM_LOST', cause)
}
