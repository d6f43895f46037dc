// One event stream to one client: the place where an upstream's events, keepalives, the app's own events and every kind
// of ending meet, and the only place where a stream ends. Everything taken for it is given back there.

import { after } from '../abort.ts'
import { asError, isThenable, promised, tell } from '../app-callback.ts'
import { jittered } from '../backoff.ts'
import { coalesced } from '../bytes.ts'
import { AdmissionError, type CloseReason, closeReasonOf, type SseProxyError, StreamError } from '../errors.ts'
import type { Progress } from '../events/cursor.ts'
import type { SseStream, StreamEvent } from '../events/event.ts'
import { checkEvent, serializeEvent, serializeRetry } from '../events/event-text.ts'
import type { SharedBytes } from '../http-chunks.ts'
import type { UpstreamResponse } from '../upstream-response.ts'
import type { WriterListener } from './client-writer.ts'
import type { EventFlow } from './event-flow.ts'
import type { KeptAlive } from './keepalive.ts'
import { sendLastEvent } from './last-event.ts'
import { Outbox } from './outbox.ts'
import type { PipelineSink } from './pipeline.ts'
import { eventStreamHeaders } from './response-headers.ts'
import type { SessionContext, StreamMeter } from './session-context.ts'
import { StreamHandle } from './stream-handle.ts'

// What becomes of the response: the methods of the writer, or nothing where the client has left.
type Ending = 'end' | 'endConnection' | 'break' | 'breakAfterLastEvent' | 'destroy' | 'leave'

/** What of an upstream's answer a stream begins with. */
export type SessionHead = Pick<UpstreamResponse, 'upstream' | 'statusMessage' | 'headers' | 'cookie'>

/** Opened once, early or by `start`; ended once, by `#finish`, whatever the reason. */
export class Session implements PipelineSink, WriterListener, KeptAlive {
  /** Counted by the keepalive clock, set back by every write. */
  silentTicks = 0
  /** What it has from its request. */
  readonly context: SessionContext
  /** What hooks, observers and the app see of this. */
  readonly handle: SseStream
  /** The URL of the upstream whose events come; empty before the first has answered. */
  upstream = ''
  /** What has been written to the client. */
  bytes = 0
  /** How often another connection has taken over. */
  resumes = 0
  // Counts and times what passes.
  readonly #meter: StreamMeter
  // What brings the events. Undefined until an upstream has answered, which a stream that is opened early waits for.
  #flow: EventFlow | undefined
  // What waits for a boundary. Undefined where nothing ever has.
  #outbox: Outbox | undefined
  // Set once, in #finish. Nothing is written or counted after that.
  #reason: CloseReason | undefined
  // The client is gone and the upstream goes on: nothing is written, and the reason will be 'client-left'.
  #detached = false

  constructor(context: SessionContext) {
    this.context = context
    this.handle = new StreamHandle(this)
    this.#meter = context.observer.meter(context.startedAt)
  }

  /** Whether it has ended, for whatever reason. */
  get isOver(): boolean {
    return this.#reason !== undefined
  }

  /** Why, once it is over. */
  get reason(): CloseReason | undefined {
    return this.#reason
  }

  /** Whether an upstream's events come. */
  get isStarted(): boolean {
    return this.#flow !== undefined
  }

  /** Where the client stands. */
  get cursor(): Progress {
    return this.#flow?.progress ?? { lastEventId: this.context.lastEventId, events: 0 }
  }

  /** Answers before the upstream has, so that nothing on the way takes the silence for a dead connection. */
  openEarly(): void {
    this.#open({ upstream: '', statusMessage: '', headers: [['Content-Type', 'text/event-stream']] })
    this.context.keepalives?.add(this)
    this.context.writer.flush()
  }

  /** Opens the response, unless it has been opened early, and lets the events through as soon as the app is ready. */
  start(head: SessionHead, flow: EventFlow): void {
    const { writer, options, observer, keepalives } = this.context
    this.#flow = flow
    this.upstream = head.upstream
    if (!writer.isOpen) this.#open(head)
    keepalives?.add(this)
    // Before all that can wait, unless events are here already that leave together with it, or the app has a word yet.
    const isAsked = options.onOpen !== undefined || typeof options.timeouts.lifetimeMs === 'function'
    if (flow.hasBegun === false && !isAsked) writer.flushNow()
    observer.opened(this)
    flow.start()
    this.#callHook(
      'onOpen',
      () => {
        this.#limitLifetime()
        return options.onOpen?.(this.handle)
      },
      () => flow.release(),
    )
    if (!this.isOver) writer.flush()
  }

  // From the flow.

  onReceived(bytes: number, events: number): void {
    if (events > 0) this.#meter.timed(events, performance.now())
    if (!this.#flow?.isShared) this.#meter.received(bytes, events)
  }

  get isIdle(): boolean {
    return this.context.writer.isWaiting
  }

  get mayBorrow(): boolean {
    return this.context.writer.mayBorrow
  }

  keeps(memory: Buffer): boolean {
    return this.context.writer.keeps(memory)
  }

  onEvents(pieces: readonly Buffer[], events: number): void {
    if (!this.#detached) this.#meter.sent(events)
    this.#writeAll(pieces)
    this.#onBoundary()
  }

  onChunks(chunks: readonly Buffer[], bytes: number, events: number): void {
    if (!this.#detached) {
      this.#meter.sent(events)
      this.#noteWrite(bytes)
      this.#heed(this.context.writer.writeChunks(chunks))
    }
    this.#onBoundary()
  }

  /** Whole events that other clients get as well, and when they came, as `performance.now()`. */
  onShared(shared: SharedBytes, events: number, now: number): void {
    this.#meter.sent(events)
    this.#meter.timed(events, now)
    this.#noteWrite(shared.length)
    this.#heed(this.context.writer.writeShared(shared))
    this.#onBoundary()
  }

  /** From the clock of the proxy. */
  onSilence(): void {
    const { writer, options } = this.context
    // A client that is behind has bytes on their way already.
    if (this.#isCollected || writer.isBehind || this.isOver || this.#flow?.atBoundary === false) return
    if (!options.keepalive) return
    this.#write(options.keepalive.bytes)
    this.#meter.keptAlive()
  }

  onReconnected({ upstream }: UpstreamResponse, attempt: number): void {
    this.upstream = upstream
    this.resumes++
    this.context.observer.resumed(this.handle, attempt)
  }

  onEnd(): void {
    this.#callHook(
      'onEnd',
      () => this.context.options.onEnd?.(this.handle),
      () => this.#finish('upstream-ended', 'end'),
    )
    // Where the client is gone there is nothing to hold up.
    if (this.#detached) this.#finish('upstream-ended', 'leave')
  }

  /** Breaks the client's transfer, and says why to those who watch. */
  onFailed(error: SseProxyError): void {
    if (this.isOver) return
    const reason = closeReasonOf(error)
    // The loss of a shared stream is told once, for all who follow it; a head that cannot be sent is this client's own.
    const isTold = this.#flow?.isShared && error instanceof StreamError
    if (isTold && reason === 'upstream-lost') return this.abort(reason, error)
    if (reason === 'upstream-lost') this.#sendLastEvent(error)
    // The app may have closed it.
    if (this.isOver) return
    if (this.#isCollected) return this.abort(reason, error)
    // A handler that is told may try to write an apology into the stream, so it is over by then.
    this.#finish(reason, reason === 'slow-client' ? 'destroy' : this.#breaking(reason))
    this.#tellFailure(error)
  }

  #breaking(reason: CloseReason): Ending {
    return reason === 'upstream-lost' && this.context.options.onLost ? 'breakAfterLastEvent' : 'break'
  }

  #sendLastEvent(error: SseProxyError): void {
    const { options, writer } = this.context
    if (options.onLost && !this.#detached && !writer.isOver) {
      sendLastEvent(options.onLost, error, this, (failure) => this.#tellFailure(failure))
    }
  }

  #tellFailure(error: SseProxyError): void {
    const { observer, res } = this.context
    setImmediate(() => this.context.inContext(() => observer.failed(error, this.handle, res)))
  }

  // From the writer.

  /** Backpressure has lasted for too long. */
  onStall(): void {
    this.onFailed(new StreamError('ERR_SSE_PROXY_SLOW_CLIENT'))
  }

  /** More is collected than may be. */
  onOverflow(): void {
    this.onFailed(new StreamError('ERR_SSE_PROXY_TOO_LARGE'))
  }

  /** Backpressure is over: the client has taken what waited for it. */
  onDrain(): void {
    this.#flow?.unpause()
  }

  // From the app.

  send(event: StreamEvent): boolean {
    const bytes = Buffer.from(serializeEvent(checkEvent(event)))
    if (this.isOver || this.#detached || this.#outbox?.ending) return false
    const { writer, options } = this.context
    const waitingBytes = writer.waitingBytes + (this.#outbox?.bytes ?? 0)
    if (waitingBytes + bytes.length > options.limits.bufferBytes) return false
    this.#flow?.flush()
    // After the upstream's end there will be no other boundary.
    if (!this.#isAtBoundary && this.#flow?.isOver) return false
    this.#meter.sent(1)
    if (this.#isAtBoundary) {
      this.#write(bytes)
    } else {
      this.#outbox ??= new Outbox()
      this.#outbox.add(bytes)
    }
    return true
  }

  /** Ends the response cleanly, after the event that is on its way. */
  end(reason: CloseReason, retryMs?: number): void {
    if (this.isOver || this.#outbox?.ending) return
    // There is no client that could come back: what goes on without one may finish in the time that a drain has.
    if (this.#detached && reason === 'drained') return
    this.#outbox ??= new Outbox()
    this.#outbox.ending = { reason, preamble: retryMs === undefined ? '' : serializeRetry(retryMs) }
    this.#flow?.cutAtBoundary()
    this.#onBoundary()
  }

  /**
   * Breaks off what cannot be ended, or could not be in time; the error behind it has been told by others.
   * @param error what a client gets that waits for one answer, of which nothing has left
   */
  abort(reason: CloseReason, error?: SseProxyError): void {
    const isRefused = error !== undefined && this.#isCollected && !this.isOver
    this.#finish(reason, isRefused ? 'leave' : this.#breaking(reason))
    if (isRefused) this.context.refuse(error)
  }

  /** Whether the whole stream is one answer, which begins to leave when it has ended. */
  get #isCollected(): boolean {
    return this.context.writer.format === 'json'
  }

  /** The client is gone; its upstream goes on only where the app wants that. */
  clientLeft(): void {
    if (this.isOver || this.#detached) return
    const { options, controller, keepalives, writer } = this.context
    const { graceMs } = options
    const goesOn = graceMs > 0 && this.#flow?.isShared === false && !this.#flow.isOver
    if (!goesOn) return this.#finish('client-left', 'leave')
    this.#detached = true
    keepalives?.delete(this)
    if (graceMs !== Number.POSITIVE_INFINITY) after(graceMs, controller, () => this.#finish('client-left', 'leave'))
    if (writer.isBehind) this.onDrain()
  }

  /** Sets the head; it leaves with the first bytes, or is flushed. */
  #open(head: SessionHead): void {
    const { writer, options } = this.context
    writer.openStream({
      ...head,
      status: 200,
      headers: eventStreamHeaders(head.headers, writer.appHeaders, options.to && 'Accept'),
    })
    writer.watch(options.timeouts.writeMs, this)
  }

  /** @throws what the app's function throws, and where it returns no number */
  #limitLifetime(): void {
    const { options, req, controller } = this.context
    const { lifetimeMs } = options.timeouts
    const ms = typeof lifetimeMs === 'function' ? lifetimeMs(req) : lifetimeMs
    if (typeof ms !== 'number' || Number.isNaN(ms))
      throw new TypeError('timeouts.lifetimeMs: the function must return a number')
    if (ms === 0 || ms === Number.POSITIVE_INFINITY) return
    const boundedMs = Math.min(Math.max(ms, 1), 2_147_483_647)
    after(boundedMs, controller, () => this.end('expired', jittered(options.clientRetryMs)))
  }

  /** Calls back without a wait; what the callback fails with breaks the stream off. */
  tell(path: string, call: () => void | PromiseLike<void>): void {
    tell(
      path,
      () => this.context.inContext(call),
      (failed, thrown) => this.#callbackFailed(failed, thrown),
    )
  }

  /** Goes on when a callback is done, which holds the events until then; what it throws breaks the stream off. */
  #callHook(path: string, call: () => void | PromiseLike<void>, then: () => void): void {
    try {
      const pending = this.context.inContext(call)
      if (!isThenable(pending)) return this.isOver ? undefined : then()
      this.#flow?.hold()
      promised(pending)
        .then(() => this.isOver || then())
        .catch((error) => this.#callbackFailed(path, error))
    } catch (error) {
      this.#callbackFailed(path, error)
    }
  }

  /** A stream that is over cannot be broken off for it, so it is only reported. */
  #callbackFailed(path: string, thrown: unknown): void {
    if (this.isOver) this.context.observer.callbackFailed(path, thrown)
    else this.onFailed(new StreamError('ERR_SSE_PROXY_HOOK', asError(path, thrown)))
  }

  /** What a client without a connection would get is dropped. */
  #write(bytes: Buffer): void {
    if (this.#detached) return
    this.#noteWrite(bytes.length)
    this.#heed(this.context.writer.write(bytes))
  }

  /** Backpressure: what the client has not taken holds up what brings more. */
  #heed(taken: boolean): void {
    if (!taken) this.#flow?.pause()
  }

  /** What came together leaves together, where that takes no large copy. */
  #writeAll(pieces: readonly Buffer[]): void {
    const parts = coalesced(pieces)
    const corked = parts.length > 1 ? this.context.writer.cork() : undefined
    for (const part of parts) this.#write(part)
    corked?.uncork()
  }

  /** The tick that is under way does not count as silence. */
  #noteWrite(bytes: number): void {
    this.bytes += bytes
    this.#meter.wrote(bytes)
    this.silentTicks = -1
  }

  /** Whether something else can be written now without cutting an event in two. */
  get #isAtBoundary(): boolean {
    return !this.#flow || this.#flow.atBoundary
  }

  /** Whatever waits for a boundary leaves, where this is one. */
  #onBoundary(): void {
    const outbox = this.#outbox
    if (!outbox || !this.#isAtBoundary) return
    const events = outbox.takeEvents()
    if (events) this.#write(events)
    const { ending } = outbox
    if (!ending || this.isOver) return
    const { reason, preamble } = ending
    const tooEarly = this.context.writer.format === 'event-stream' ? undefined : earlyEnd(reason)
    if (tooEarly) return this.abort(reason, tooEarly)
    if (preamble) this.#write(Buffer.from(preamble))
    this.#finish(reason, reason === 'drained' ? 'endConnection' : 'end')
  }

  /** The one ending: all that hangs on the stream is given back, then the observer hears of it, then the request. */
  #finish(reason: CloseReason, ending: Ending): void {
    if (this.isOver) return
    const { writer, controller, observer, keepalives } = this.context
    this.#reason = this.#detached ? 'client-left' : reason
    keepalives?.delete(this)
    this.#flow?.stop()
    this.#outbox = undefined
    if (ending !== 'leave' && !this.#detached) writer[ending]()
    controller.abort(this.#reason)
    observer.closed(this, this.#reason)
    this.context.onSessionOver()
  }
}

/** What an end with this reason is where no client can be told to come back for the rest; undefined where there is none. */
function earlyEnd(reason: CloseReason): SseProxyError | undefined {
  if (reason === 'drained') return new AdmissionError('ERR_SSE_PROXY_DRAINING')
  return reason === 'expired' ? new StreamError('ERR_SSE_PROXY_INCOMPLETE') : undefined
}
