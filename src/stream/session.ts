// One event stream to one client: the place where events from a feed, keepalives, the app's own events and every
// kind of ending meet, and the only place where a stream ends. Everything taken for it is given back there.

import { asError, isThenable, promised, tell } from '../app-callback.ts'
import { jittered } from '../backoff.ts'
import { type CloseReason, type SseProxyError, StreamError } from '../errors.ts'
import { Cursor, type Progress } from '../events/cursor.ts'
import type { SseStream, StreamEvent, TransformHook } from '../events/event.ts'
import { checkEvent, serializeEvent, serializeRetry } from '../events/event-text.ts'
import { type Delivery, DirectFollower, HookedFollower } from '../share/followers.ts'
import type { SharedStream } from '../share/shared-stream.ts'
import type { UpstreamBody, UpstreamResponse } from '../upstream-response.ts'
import type { WriterListener } from './client-writer.ts'
import type { EventFlow } from './event-flow.ts'
import type { KeptAlive } from './keepalive.ts'
import { Pipeline, type PipelineSink } from './pipeline.ts'
import { eventStreamHeaders } from './response-headers.ts'
import { type Resumer, resumerFor } from './resume.ts'
import type { SessionContext } from './session-context.ts'
import { StreamHandle } from './stream-handle.ts'

const JOINED_BYTES = 65_536

type Ending = 'end' | 'endConnection' | 'break' | 'destroy' | 'leave'

export class Session implements PipelineSink, WriterListener, KeptAlive {
  silentTicks = 0
  readonly context: SessionContext
  /** Where the client stands. */
  cursor: Progress
  /** What hooks, observers and the app see of this. */
  readonly handle: SseStream
  upstream = ''
  bytes = 0
  resumes = 0
  #source: EventFlow | undefined
  // Of what waits for a client of a shared stream, this much is no sign that it is slow.
  #allowance = 0
  #isShared = false
  #reason: CloseReason | undefined
  // The upstream goes on although the client is gone.
  #detached = false
  // When an event came last, as `performance.now()`; 0 before the first.
  #lastEventAt = 0
  // The client is behind, and the feed is paused for it.
  #behind = false
  // Events of the app's own that wait for the end of an event.
  #outbox: Buffer[] | undefined
  #outboxBytes = 0
  // An ending that waits for the end of an event.
  #ending: { reason: CloseReason; preamble: string } | undefined
  // All cleared in #finish.
  #lifetimeTimer: NodeJS.Timeout | undefined
  #graceTimer: NodeJS.Timeout | undefined

  constructor(context: SessionContext) {
    this.context = context
    this.cursor = { lastEventId: context.lastEventId, events: 0 }
    this.handle = new StreamHandle(this)
  }

  get isOver(): boolean {
    return this.#reason !== undefined
  }

  /** Why, once it is over. */
  get reason(): CloseReason | undefined {
    return this.#reason
  }

  /** Whether an upstream's events come. */
  get isStarted(): boolean {
    return this.#source !== undefined
  }

  /** Answers before the upstream has, so that nothing on the way takes the silence for a dead connection. */
  openEarly(): void {
    const { writer } = this.context
    this.#open({ statusMessage: '', headers: [['Content-Type', 'text/event-stream']] })
    writer.flush()
  }

  /** The upstream's events, to the client. */
  start(response: UpstreamResponse, body: UpstreamBody): void {
    const { options, writer } = this.context
    this.#openWith(response)
    // Before all that can wait, unless events are here already that leave together with it, or the app has a word yet.
    const isAsked = options.onOpen !== undefined || typeof options.timeouts.lifetimeMs === 'function'
    if (response.body.hasBegun === false && !isAsked) writer.flushNow()
    const cursor = new Cursor(this.cursor.lastEventId)
    this.cursor = cursor
    const feed = this.#createFeed(
      cursor,
      options.hooks,
      options.timeouts.idleMs,
      resumerFor(this.context, cursor, this.handle),
    )
    this.#begin(feed, () => feed.start(response, body))
  }

  /** A shared stream's events from this position on, to the client. */
  follow(response: UpstreamResponse, shared: SharedStream, position: number): void {
    this.#isShared = true
    // A shared stream has one clock for all.
    this.context.keepalives?.delete(this)
    this.#openWith(response)
    const { transform } = shared.context.share
    if (transform.length === 0) {
      this.cursor = shared.progressFrom(position, this.cursor.lastEventId)
      this.#begin(new DirectFollower(shared, this, position), () => {})
      return
    }
    const cursor = new Cursor(this.cursor.lastEventId)
    this.cursor = cursor
    const feed = this.#createFeed(cursor, transform, 0, undefined)
    this.#begin(feed, () => feed.start({ ...response, delimited: true }, new HookedFollower(shared, this, position)))
  }

  #createFeed(cursor: Cursor, hooks: readonly TransformHook[], idleMs: number, resumer: Resumer | undefined): Pipeline {
    const { writer, options } = this.context
    const { eventBytes } = options.limits
    return new Pipeline(
      {
        wholeEvents: options.framing === 'event',
        failsOversize: false,
        hooks,
        eventBytes,
        idleMs,
        stream: this.handle,
        cursor,
        client: writer,
        resumer,
      },
      this,
    )
  }

  #openWith(response: UpstreamResponse): void {
    this.upstream = response.upstream
    if (!this.context.writer.isOpen) this.#open(response)
  }

  #begin(source: EventFlow, startSource: () => void): void {
    const { writer, options, observer } = this.context
    this.#source = source
    observer.opened(this)
    startSource()
    this.#callHook(
      'onOpen',
      () => {
        this.#limitLifetime()
        return options.onOpen?.(this.handle)
      },
      () => source.release(),
    )
    if (!this.isOver) writer.flush()
  }

  onReceived(bytes: number, events: number): void {
    if (events > 0) this.#timeEvents(events, performance.now())
    // What comes from a shared stream has been counted there.
    if (this.#isShared) return
    const { stats } = this.context.observer
    stats.bytesIn += bytes
    stats.eventsIn += events
  }

  /** Bytes that others get as well. Nobody waits for this client: past its bound it is let go. */
  onShared({ shared, events, now }: Delivery): void {
    const { writer, options, observer } = this.context
    // What has been waiting counts, not what has just come.
    if (this.#behind && writer.waitingBytes > options.limits.bufferBytes + this.#allowance) return this.onStall()
    observer.stats.eventsOut += events
    if (events > 0) this.#timeEvents(events, now)
    this.#noteWrite(shared.bytes.length)
    if (!writer.writeShared(shared)) this.#behind = true
    if (this.#ending) this.#atBoundary()
  }

  /** What a client has missed of a shared stream; however much that is, it is not the client's fault. */
  catchUp(missed: readonly { readonly bytes: Buffer }[], events: number): void {
    const pieces = missed.map(({ bytes }) => bytes)
    this.#allowance = pieces.reduce((sum, { length }) => sum + length, 0)
    this.context.observer.stats.eventsOut += events
    if (events > 0) this.#timeEvents(events, performance.now())
    this.#writeAll(pieces)
  }

  onKeepalive(comment: Buffer): void {
    // A client that is behind has bytes on their way already.
    if (this.#behind || this.isOver || this.#source?.atBoundary === false) return
    this.#write(comment)
    this.context.observer.stats.keepalives++
  }

  onSilence(): void {
    const { keepalive } = this.context.options
    if (keepalive) this.onKeepalive(keepalive.bytes)
  }

  /** A shared stream's failure, which is reported once for all. */
  onSharedFailed(error: StreamError): void {
    if (!this.isOver) this.#finish(reasonOf(error), 'break')
  }

  onEvents(pieces: readonly Buffer[], events: number): void {
    if (!this.#detached) this.context.observer.stats.eventsOut += events
    this.#writeAll(pieces)
    if (this.#behind) this.#source?.pause()
    if (this.#source?.atBoundary) this.#atBoundary()
  }

  onChunks(chunks: readonly Buffer[], bytes: number, events: number): void {
    if (!this.#detached) {
      this.context.observer.stats.eventsOut += events
      this.#noteWrite(bytes)
      if (!this.context.writer.writeChunks(chunks)) this.#behind = true
    }
    if (this.#behind) this.#source?.pause()
    this.#atBoundary()
  }

  onResumed({ upstream }: UpstreamResponse, attempt: number): void {
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

  onFailed(error: StreamError): void {
    this.fail(error, reasonOf(error))
  }

  /** Breaks the client's transfer, and says why to those who watch. */
  fail(error: SseProxyError, reason: CloseReason): void {
    if (this.isOver) return
    // Whoever is told may try to write an apology into the stream, so it is over by then.
    this.#finish(reason, reason === 'slow-client' ? 'destroy' : 'break')
    setImmediate(() => this.context.observer.failed(error, this.handle, this.context.res))
  }

  send(event: StreamEvent): boolean {
    const bytes = Buffer.from(serializeEvent(checkEvent(event)))
    if (this.isOver || this.#detached || this.#ending) return false
    const { writer, options, observer } = this.context
    if (writer.waitingBytes + this.#outboxBytes + bytes.length > options.limits.bufferBytes) return false
    this.#source?.flush()
    const now = !this.#source || this.#source.atBoundary
    // After the upstream's end there will be no other boundary.
    if (!now && this.#source?.isOver) return false
    observer.stats.eventsOut++
    if (now) {
      this.#write(bytes)
    } else {
      if (this.#outbox) this.#outbox.push(bytes)
      else this.#outbox = [bytes]
      this.#outboxBytes += bytes.length
    }
    return true
  }

  /** Ends the response cleanly, after the event that is on its way. */
  end(reason: CloseReason, retryMs?: number): void {
    if (this.isOver || this.#ending) return
    // Nobody is there who could come back: what goes on without its client may finish in the time that a drain has.
    if (this.#detached && reason === 'drained') return
    this.#ending = { reason, preamble: retryMs === undefined ? '' : serializeRetry(retryMs) }
    this.#source?.cutAtBoundary()
    if (!this.#source || this.#source.atBoundary) this.#atBoundary()
  }

  /** Breaks off what could not be ended in time. */
  abort(reason: CloseReason): void {
    this.#finish(reason, 'break')
  }

  /** The client is gone; its upstream goes on only where the app wants that. */
  clientLeft(): void {
    if (this.isOver || this.#detached) return
    const { graceMs } = this.context.options
    const goesOn = graceMs > 0 && !this.#isShared && this.#source?.isOver === false
    if (!goesOn) return this.#finish('client-left', 'leave')
    this.#detached = true
    this.context.keepalives?.delete(this)
    if (graceMs !== Number.POSITIVE_INFINITY) {
      this.#graceTimer = setTimeout(() => this.#finish('client-left', 'leave'), graceMs)
    }
    if (this.#behind) this.onDrain()
  }

  #open(head: Pick<UpstreamResponse, 'statusMessage' | 'headers' | 'cookie'>): void {
    const { writer, options } = this.context
    writer.openStream({ ...head, status: 200, headers: eventStreamHeaders(head.headers, writer.appHeaders) })
    writer.watch(options.timeouts.writeMs, this)
    // A shared stream has one clock for all.
    if (!this.#isShared) this.context.keepalives?.add(this)
  }

  #limitLifetime(): void {
    const { options, req } = this.context
    const { lifetimeMs } = options.timeouts
    const ms = typeof lifetimeMs === 'function' ? lifetimeMs(req) : lifetimeMs
    if (typeof ms !== 'number' || Number.isNaN(ms))
      throw new TypeError('timeouts.lifetimeMs: the function must return a number')
    if (ms === 0 || ms === Number.POSITIVE_INFINITY) return
    this.#lifetimeTimer = setTimeout(
      () => this.end('expired', jittered(options.clientRetryMs)),
      Math.min(Math.max(ms, 1), 2_147_483_647),
    )
  }

  /** Runs what the app wants to be told; nobody waits for it, but what it fails with breaks the stream off. */
  tell(path: string, call: () => void | PromiseLike<void>): void {
    tell(path, call, (failed, thrown) => this.#callbackFailed(failed, thrown))
  }

  /** Events of one read came together; the silence was before the first of them. */
  #timeEvents(events: number, now: number): void {
    const { observer, startedAt } = this.context
    if (this.#lastEventAt === 0) observer.stats.timeToFirstEvent.observe((now - startedAt) / 1000)
    else observer.stats.eventGap.observe((now - this.#lastEventAt) / 1000)
    if (events > 1) observer.stats.eventGap.observe(0, events - 1)
    this.#lastEventAt = now
  }

  /** Goes on when a hook of the app's is done; what it throws breaks the stream off. */
  #callHook(path: string, call: () => void | PromiseLike<void>, then: () => void): void {
    try {
      const pending = call()
      if (!isThenable(pending)) return this.isOver ? undefined : then()
      this.#source?.hold()
      promised(pending)
        .then(() => this.isOver || then())
        .catch((error) => this.#callbackFailed(path, error))
    } catch (error) {
      this.#callbackFailed(path, error)
    }
  }

  /** A stream that is over cannot be broken off for it. */
  #callbackFailed(path: string, thrown: unknown): void {
    if (this.isOver) this.context.observer.callbackFailed(path, thrown)
    else this.fail(new StreamError('ERR_SSE_PROXY_HOOK', asError(path, thrown)), 'hook-failed')
  }

  #write(bytes: Buffer): void {
    if (this.#detached) return
    this.#noteWrite(bytes.length)
    if (!this.context.writer.write(bytes)) this.#behind = true
  }

  /** What came together leaves together, where that takes no large copy. */
  #writeAll(pieces: readonly Buffer[]): void {
    const bytes = pieces.length > 1 ? pieces.reduce((sum, { length }) => sum + length, 0) : 0
    if (bytes > 0 && bytes <= JOINED_BYTES) this.#write(Buffer.concat(pieces, bytes))
    else for (const piece of pieces) this.#write(piece)
  }

  #noteWrite(bytes: number): void {
    this.bytes += bytes
    this.context.observer.stats.bytesOut += bytes
    this.silentTicks = -1
  }

  /** The client does not read. */
  onStall(): void {
    this.fail(new StreamError('ERR_SSE_PROXY_SLOW_CLIENT'), 'slow-client')
  }

  /** The client has taken what waited for it. */
  onDrain(): void {
    this.#behind = false
    this.#allowance = 0
    this.#source?.unpause()
  }

  #atBoundary(): void {
    if (this.#outbox) {
      const waiting = Buffer.concat(this.#outbox)
      this.#outbox = undefined
      this.#outboxBytes = 0
      this.#write(waiting)
    }
    if (!this.#ending || this.isOver) return
    const { reason, preamble } = this.#ending
    if (preamble) this.#write(Buffer.from(preamble))
    this.#finish(reason, reason === 'drained' ? 'endConnection' : 'end')
  }

  #finish(reason: CloseReason, ending: Ending): void {
    if (this.isOver) return
    const { writer, controller, observer, keepalives } = this.context
    this.#reason = this.#detached ? 'client-left' : reason
    keepalives?.delete(this)
    clearTimeout(this.#lifetimeTimer)
    clearTimeout(this.#graceTimer)
    this.#source?.stop()
    this.#outbox = undefined
    if (ending !== 'leave' && !this.#detached) writer[ending]()
    controller.abort(this.#reason)
    observer.closed(this, this.#reason)
    this.context.onSessionOver()
  }
}

function reasonOf({ code }: StreamError): CloseReason {
  if (code === 'ERR_SSE_PROXY_SLOW_CLIENT') return 'slow-client'
  return code === 'ERR_SSE_PROXY_UPSTREAM_LOST' || code === 'ERR_SSE_PROXY_IDLE' ? 'upstream-lost' : 'hook-failed'
}
