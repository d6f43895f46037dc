// One event stream to one client: the place where events from a feed, keepalives, the app's own events and every
// kind of ending meet, and the only place where a stream ends. Everything taken for it is given back there.

import type { IncomingMessage, ServerResponse } from 'node:http'
import { type SseProxyError, StreamError } from '../errors.ts'
import type { OpenUpstream, UpstreamBody, UpstreamResponse } from '../open-upstream.ts'
import type { CloseReason, SseStream, StreamEvent } from '../options.ts'
import type { ResolvedOptions } from '../resolve-options.ts'
import type { ClientWriter } from './client-writer.ts'
import { Cursor } from './cursor.ts'
import { checkEvent, serializeEvent, serializeRetry } from './events.ts'
import { Feed, type FeedSink } from './feed.ts'
import { eventStreamHeaders } from './response-headers.ts'
import { Resumer } from './resume.ts'
import { StreamHandle } from './stream-handle.ts'

/** Who counts, publishes and reports what becomes of sessions. */
export interface SessionObserver {
  opened(session: Session): void
  resuming(session: Session, upstream: string, attempt: number): void
  resumed(session: Session): void
  closed(session: Session, reason: CloseReason): void
  failed(error: SseProxyError, session: Session): void
}

export interface SessionContext {
  readonly id: string
  readonly req: IncomingMessage
  /** Only handed on to those who are told of a failure; writing is the writer's. */
  readonly res: ServerResponse
  readonly writer: ClientWriter
  readonly options: ResolvedOptions
  /** Aborted when the session is over; whatever works for it hangs on its signal. */
  readonly controller: AbortController
  /** Opens the upstream anew when it is lost. */
  readonly open: OpenUpstream
  /** The id the client came with. */
  readonly lastEventId: string
  readonly observer: SessionObserver
}

type Ending = 'end' | 'break' | 'destroy' | 'leave'

export class Session implements FeedSink {
  readonly context: SessionContext
  readonly cursor: Cursor
  /** What hooks, observers and the app see of this. */
  readonly handle: SseStream
  upstream = ''
  bytes = 0
  resumes = 0
  #feed: Feed | undefined
  #reason: CloseReason | undefined
  // The upstream goes on although the client is gone.
  #detached = false
  // The client is behind, and the feed is paused for it.
  #behind = false
  // Events of the app's own that wait for the end of an event.
  #outbox: string[] = []
  #outboxBytes = 0
  // An ending that waits for the end of an event.
  #ending: { reason: CloseReason; preamble: string } | undefined
  // All cleared in #finish.
  #keepaliveTimer: NodeJS.Timeout | undefined
  #lifetimeTimer: NodeJS.Timeout | undefined
  #graceTimer: NodeJS.Timeout | undefined

  constructor(context: SessionContext) {
    this.context = context
    this.cursor = new Cursor(context.lastEventId)
    this.handle = new StreamHandle(this)
  }

  get isOver(): boolean {
    return this.#reason !== undefined
  }

  /** Answers before the upstream has, so that nothing on the way takes the silence for a dead connection. */
  openEarly(): void {
    const { writer } = this.context
    this.#open({ statusMessage: '', headers: [['Content-Type', 'text/event-stream']] })
    writer.flush()
  }

  /** The upstream's events, to the client. */
  start(response: UpstreamResponse, body: UpstreamBody): void {
    const { writer, options, observer } = this.context
    const { framing, limits, timeouts, hooks } = options
    this.upstream = response.upstream
    if (!writer.isOpen) this.#open(response)
    this.#feed = new Feed(
      {
        framing,
        hooks,
        eventBytes: limits.eventBytes,
        idleMs: timeouts.idleMs,
        stream: this.handle,
        cursor: this.cursor,
        stripsBom: () => writer.wroteBody,
        resumer: this.#createResumer(),
      },
      this,
    )
    observer.opened(this)
    this.#feed.start(response, body)
    this.#callHook(
      () => {
        this.#limitLifetime()
        return options.onOpen?.(this.handle)
      },
      () => this.#feed?.release(),
    )
    if (!this.isOver) writer.flush()
  }

  onActivity(_bytes: number): void {}

  onEvents(pieces: readonly Buffer[]): void {
    for (const piece of pieces) this.#write(piece)
    if (this.#behind) this.#feed?.pause()
    if (this.#feed?.atBoundary) this.#atBoundary()
  }

  onResumed({ upstream }: UpstreamResponse): void {
    this.upstream = upstream
    this.resumes++
    this.context.observer.resumed(this)
  }

  onEnd(): void {
    this.#callHook(
      () => this.context.options.onEnd?.(this.handle),
      () => this.#finish('upstream-ended', 'end'),
    )
  }

  onFailed(error: StreamError): void {
    const lost = error.code === 'ERR_SSE_PROXY_UPSTREAM_LOST' || error.code === 'ERR_SSE_PROXY_IDLE'
    this.fail(error, lost ? 'upstream-lost' : 'hook-failed')
  }

  /** Breaks the client's transfer, and says why to those who watch. */
  fail(error: SseProxyError, reason: CloseReason): void {
    if (this.isOver) return
    // Whoever is told may try to write an apology into the stream, so it is over by then.
    this.#finish(reason, reason === 'slow-client' ? 'destroy' : 'break')
    setImmediate(() => this.context.observer.failed(error, this))
  }

  send(event: StreamEvent): boolean {
    const text = serializeEvent(checkEvent(event))
    if (this.isOver || this.#detached || this.#ending) return false
    const { writer, options } = this.context
    if (writer.waitingBytes + this.#outboxBytes + text.length > options.limits.bufferBytes) return false
    this.#feed?.flush()
    if (!this.#feed || this.#feed.atBoundary) {
      this.#write(text)
    } else {
      this.#outbox.push(text)
      this.#outboxBytes += text.length
    }
    return true
  }

  /** Ends the response cleanly, after the event that is on its way. */
  end(reason: CloseReason, retryMs?: number): void {
    if (this.isOver || this.#ending) return
    this.#ending = { reason, preamble: retryMs === undefined ? '' : serializeRetry(retryMs) }
    this.#feed?.cutAtBoundary()
    if (!this.#feed || this.#feed.atBoundary) this.#atBoundary()
  }

  /** The client is gone; its upstream goes on only where the app wants that. */
  clientLeft(): void {
    if (this.isOver) return
    const { graceMs } = this.context.options
    if (graceMs === 0 || !this.#feed) return this.#finish('client-left', 'leave')
    this.#detached = true
    clearTimeout(this.#keepaliveTimer)
    if (graceMs !== Number.POSITIVE_INFINITY) {
      this.#graceTimer = setTimeout(() => this.#finish('client-left', 'leave'), graceMs)
    }
    if (this.#behind) this.#caughtUp()
  }

  #open(head: Pick<UpstreamResponse, 'statusMessage' | 'headers' | 'cookie'>): void {
    const { writer, options } = this.context
    writer.open({ ...head, status: 200, headers: eventStreamHeaders(head.headers, writer.appHeaders) })
    writer.watch({
      writeMs: options.timeouts.writeMs,
      onDrain: () => this.#caughtUp(),
      onStall: () => this.fail(new StreamError('ERR_SSE_PROXY_SLOW_CLIENT'), 'slow-client'),
    })
    if (options.keepalive) this.#keepAlive(options.keepalive.intervalMs, options.keepalive.bytes)
  }

  #createResumer(): Resumer | undefined {
    const { options, open, controller, req, observer } = this.context
    // What a client sent once must not be done twice.
    if (!options.resume || (req.method !== 'GET' && req.method !== 'HEAD')) return undefined
    return new Resumer({
      policy: options.resume,
      open,
      cursor: this.cursor,
      signal: controller.signal,
      onAttempt: (upstream, attempt) => observer.resuming(this, upstream, attempt),
    })
  }

  #keepAlive(intervalMs: number, comment: Buffer): void {
    this.#keepaliveTimer = setTimeout(() => {
      // A client that is behind has bytes on their way already.
      if (!this.#behind && (!this.#feed || this.#feed.atBoundary)) this.#write(comment)
      this.#keepaliveTimer?.refresh()
    }, intervalMs)
  }

  #limitLifetime(): void {
    const { options, req } = this.context
    const { lifetimeMs } = options.timeouts
    const ms = typeof lifetimeMs === 'function' ? lifetimeMs(req) : lifetimeMs
    if (typeof ms !== 'number' || Number.isNaN(ms))
      throw new TypeError('timeouts.lifetimeMs: the function must return a number')
    if (ms === 0 || ms === Number.POSITIVE_INFINITY) return
    const [min, max] = options.clientRetryMs
    this.#lifetimeTimer = setTimeout(
      () => this.end('expired', Math.round(min + Math.random() * (max - min))),
      Math.min(Math.max(ms, 1), 2_147_483_647),
    )
  }

  /** Goes on when a hook of the app's is done; what it throws breaks the stream off. */
  #callHook(call: () => void | Promise<void>, then: () => void): void {
    const failed = (error: unknown) => this.fail(new StreamError('ERR_SSE_PROXY_HOOK', error), 'hook-failed')
    try {
      const pending = call()
      if (!(pending instanceof Promise)) return this.isOver ? undefined : then()
      this.#feed?.hold()
      pending.then(() => this.isOver || then()).catch(failed)
    } catch (error) {
      failed(error)
    }
  }

  #write(bytes: Buffer | string): void {
    if (this.#detached) return
    this.bytes += bytes.length
    this.#keepaliveTimer?.refresh()
    if (!this.context.writer.write(bytes)) this.#behind = true
  }

  #caughtUp(): void {
    this.#behind = false
    this.#feed?.resume()
  }

  #atBoundary(): void {
    if (this.#outbox.length > 0) {
      const waiting = this.#outbox.join('')
      this.#outbox = []
      this.#outboxBytes = 0
      this.#write(waiting)
    }
    if (!this.#ending || this.isOver) return
    const { reason, preamble } = this.#ending
    if (preamble) this.#write(preamble)
    this.#finish(reason, 'end')
  }

  #finish(reason: CloseReason, ending: Ending): void {
    if (this.isOver) return
    const { writer, controller, observer } = this.context
    this.#reason = this.#detached ? 'client-left' : reason
    clearTimeout(this.#keepaliveTimer)
    clearTimeout(this.#lifetimeTimer)
    clearTimeout(this.#graceTimer)
    this.#feed?.stop()
    this.#outbox = []
    if (ending !== 'leave' && !this.#detached) writer[ending]()
    controller.abort(this.#reason)
    observer.closed(this, this.#reason)
  }
}
