// One upstream stream and the clients that follow it. What comes is framed, hooked and kept once; each client costs a
// write of the same bytes. A client that falls behind is its own affair.

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Abort } from '../abort.ts'
import type { Ticket } from '../admission.ts'
import { joined } from '../bytes.ts'
import { type CloseReason, closeReasonOf, type StreamError } from '../errors.ts'
import { endOfBlankLines, nextBoundary } from '../events/boundaries.ts'
import { Cursor, type Progress } from '../events/cursor.ts'
import type { SseStream, StreamEvent } from '../events/event.ts'
import { checkEvent, serializeEvent } from '../events/event-text.ts'
import { fieldsOf } from '../events/fields.ts'
import { SharedBytes } from '../fast-lane/http-chunks.ts'
import type { Stats } from '../observe/stats.ts'
import type { ResolvedOptions } from '../options/resolve-options.ts'
import type { ResolvedShare } from '../options/resolve-share.ts'
import { Pipeline, type PipelineSink } from '../stream/pipeline.ts'
import { resumable } from '../stream/resume.ts'
import type { StreamMeter } from '../stream/session-context.ts'
import { StreamHandle } from '../stream/stream-handle.ts'
import type { OpenUpstream, UpstreamBody, UpstreamResponse } from '../upstream-response.ts'
import { Watchdog } from '../watchdog.ts'
import type { EventLog, LogEntry } from './event-log.ts'
import type { Follower } from './followers.ts'
import type { ReplayBudget } from './replay-budget.ts'

const CR = 13

export interface SharedStreamContext {
  readonly id: string
  /** The request that opened it. */
  readonly req: IncomingMessage
  readonly res: ServerResponse
  readonly controller: Abort
  readonly options: ResolvedOptions
  readonly share: ResolvedShare
  /** The function that opens the upstream anew when it is lost. */
  open(): OpenUpstream
  readonly lastEventId: string
  readonly observer: SharedStreamObserver
  /** Keeps its events. Without ids of the upstream's it begins before the first. */
  readonly log: EventLog
  /** What it keeps beside them counts there. */
  readonly budget: ReplayBudget
  /** Takes its opener's place of the limits; `close` is called when that is needed. */
  readonly linger: (close: () => void) => Ticket
  /** Whether it is worth keeping for a while when its last client has left. */
  readonly lingers: () => boolean
  /** The stream is over, and its place is free. */
  readonly onOver: () => void
}

export interface SharedStreamObserver {
  readonly stats: Stats
  /** @param startedAt as `performance.now()` */
  meter(startedAt: number): StreamMeter
  resuming(stream: SseStream, upstream: string, attempt: number): void
  resumed(stream: SseStream, attempt: number): void
  failed(error: StreamError, stream: SseStream, res: ServerResponse): void
}

export class SharedStream implements PipelineSink {
  readonly context: SharedStreamContext
  readonly cursor: Cursor
  readonly handle: SseStream
  readonly log: EventLog
  upstream = ''
  bytes = 0
  resumes = 0
  readonly #followers = new Set<Follower>()
  // Tells ids given out here from those of an earlier life.
  readonly #epoch = `${Date.now().toString(36)}${Math.floor(Math.random() * 1_679_616).toString(36)}`
  #sequence = 0
  #events = 0
  #lastId: string
  #feed: Pipeline | undefined
  #over = false
  #keepaliveTimer: NodeJS.Timeout | undefined
  #lingerWatchdog: Watchdog | undefined
  // While nobody follows.
  #place: Ticket | undefined
  // What counts of the request meanwhile.
  #weight = 0

  constructor(context: SharedStreamContext) {
    this.context = context
    this.cursor = new Cursor(context.lastEventId)
    this.log = context.log
    this.#lastId = this.log.idBefore
    this.handle = new StreamHandle(this)
  }

  get isOver(): boolean {
    return this.#over
  }

  /** Whether something else may follow what has been sent. */
  get atBoundary(): boolean {
    return this.#feed?.atBoundary ?? true
  }

  /** Its place of the limits, while nobody follows it. */
  get place(): Ticket | undefined {
    return this.#place
  }

  get clients(): number {
    return this.#followers.size
  }

  start({ upstream, delimited }: UpstreamResponse, plain: UpstreamBody): void {
    const { options } = this.context
    const { cursor, handle: stream } = this
    this.upstream = upstream
    const body = resumable(this.context, { body: plain, upstream, cursor, stream })
    this.#feed = new Pipeline(
      {
        wholeEvents: true,
        hooks: options.hooks,
        eventBytes: options.limits.eventBytes,
        // Late clients get events whole or not at all.
        failsOversize: true,
        stream,
        cursor,
        // Whoever comes later is in the middle of it.
        client: { wroteBody: true, takesChunks: false },
        isShared: true,
      },
      { body, delimited },
      this,
    )
    this.#feed.start()
    this.#keepAlive()
    this.#feed.release()
  }

  /** Where a client stands that follows from this position on. */
  progressFrom(position: number, clientId: string): Progress {
    return new SharedProgress(this, this.#events - this.log.eventsSince(position), clientId)
  }

  /** What clients have been sent: events, and the last id among them. */
  get sent(): Progress {
    return { events: this.#events, lastEventId: this.#lastId }
  }

  join(follower: Follower): void {
    this.#stopLingering()
    this.#followers.add(follower)
  }

  leave(follower: Follower): void {
    if (this.#followers.delete(follower)) this.lingerIfEmpty()
  }

  /** Without clients the upstream is kept for a while, and closed then. */
  lingerIfEmpty(): void {
    if (this.#followers.size > 0 || this.#over || this.#place) return
    const { lingers, linger, share, req, budget } = this.context
    if (!lingers()) return this.close()
    this.#place = linger(() => this.close())
    this.#lingerWatchdog = new Watchdog(share.lingerMs, () => this.close()).unref()
    this.#weight = weightOf(req)
    budget.add(this.#weight)
    budget.settle()
  }

  #stopLingering(): void {
    if (!this.#place) return
    this.#lingerWatchdog?.stop()
    this.#place.giveBack()
    this.#place = undefined
    this.context.budget.add(-this.#weight)
  }

  close(): void {
    this.#feed?.stop()
    this.#finish('client-left')
  }

  onReceived(bytes: number, events: number): void {
    const { stats } = this.context.observer
    stats.bytesIn += bytes
    stats.eventsIn += events
  }

  onEvents(pieces: readonly Buffer[], events: number): void {
    const bytes = this.#keep(joined(pieces))
    this.bytes += bytes.length
    this.#keepaliveTimer?.refresh()
    if (bytes.length === 0) return
    const delivery = { shared: new SharedBytes(bytes), events, now: performance.now() }
    for (const follower of this.#followers) follower.onEvents(delivery)
    this.context.budget.settle()
  }

  onReconnected({ upstream }: UpstreamResponse, attempt: number): void {
    this.upstream = upstream
    this.resumes++
    this.context.observer.resumed(this.handle, attempt)
  }

  onEnd(): void {
    const followers = [...this.#followers]
    this.#finish('upstream-ended')
    for (const follower of followers) follower.onEnd()
  }

  onFailed(error: StreamError): void {
    const followers = [...this.#followers]
    this.#finish(closeReasonOf(error))
    for (const follower of followers) follower.onFailed(error)
    setImmediate(() => this.context.observer.failed(error, this.handle, this.context.res))
  }

  /** An event of the app's own, for all of them. */
  send(event: StreamEvent): boolean {
    const bytes = Buffer.from(serializeEvent(checkEvent(event)))
    if (this.#over) return false
    this.#feed?.flush()
    this.onEvents([bytes], 1)
    return true
  }

  end(): void {
    this.#feed?.flush()
    this.#feed?.stop()
    const followers = [...this.#followers]
    this.#finish('closed')
    for (const follower of followers) follower.onClosed()
  }

  #keep(bytes: Buffer): Buffer {
    const assign = this.context.share.replay.ids === 'assign'
    const text = bytes.toString('latin1')
    const hasCr = text.includes('\r')
    const blocks: Buffer[] = []
    const entries: LogEntry[] = []
    for (let from = 0, to = 0; from < bytes.length; from = to) {
      // A flood of blank lines is no flood of blocks.
      to = hasCr ? from : endOfBlankLines(bytes, from)
      if (to > from) {
        blocks.push(bytes.subarray(from, to))
        continue
      }
      const boundary = nextBoundary(text, from, hasCr)
      to = boundary === -1 ? bytes.length : boundary
      const block = bytes.subarray(from, to)
      const { id, hasData } = fieldsOf(text.slice(from, to))
      if (boundary === -1) {
        // Unfinished at the upstream's end: nobody who comes later needs it.
        blocks.push(block)
        continue
      }
      if (hasData) this.#events++
      if (assign && hasData) {
        const assigned = `${this.#epoch}-${this.#sequence++}`
        const withId = identified(block, assigned)
        blocks.push(withId)
        this.#lastId = assigned
        entries.push({ bytes: withId, id: assigned, isEvent: true })
      } else if (!assign || id === undefined) {
        blocks.push(block)
        if (id !== undefined) this.#lastId = id
        // Comments are for those who are here.
        if (hasData || id !== undefined) entries.push({ bytes: block, id, isEvent: hasData })
      }
    }
    this.log.append(entries, performance.now())
    return assign ? Buffer.concat(blocks) : bytes
  }

  #keepAlive(): void {
    const { keepalive } = this.context.options
    if (!keepalive) return
    this.#keepaliveTimer = setTimeout(() => {
      for (const follower of this.#followers) follower.onKeepalive(keepalive.bytes)
      this.#keepaliveTimer?.refresh()
    }, keepalive.intervalMs)
  }

  #finish(reason: CloseReason): void {
    if (this.#over) return
    this.#over = true
    clearTimeout(this.#keepaliveTimer)
    this.#stopLingering()
    this.log.close()
    this.#followers.clear()
    this.context.controller.abort(reason)
    this.context.onOver()
  }
}

class SharedProgress implements Progress {
  readonly #shared: SharedStream
  readonly #eventsBefore: number
  readonly #ownId: string

  constructor(shared: SharedStream, eventsBefore: number, ownId: string) {
    this.#shared = shared
    this.#eventsBefore = eventsBefore
    this.#ownId = ownId
  }

  get lastEventId(): string {
    return this.events > 0 ? this.#shared.sent.lastEventId : this.#ownId
  }

  get events(): number {
    return this.#shared.sent.events - this.#eventsBefore
  }
}

// A request is kept as it came and as it is sent, by the parser's, Node's and http-proxy-middleware's objects.
const KEPT_TIMES = 4

/** What the request weighs that a stream keeps as long as it lives: its size is the client's choice. */
function weightOf({ url = '', rawHeaders }: IncomingMessage): number {
  return KEPT_TIMES * rawHeaders.reduce((sum, { length }) => sum + length, url.length)
}

/** The block with an id of ours as its last field, which is the one that counts. */
function identified(block: Buffer, id: string): Buffer {
  const crLf = block[block.length - 2] === CR && block[block.length - 1] === 10
  const end = block.length - (crLf ? 2 : 1)
  return Buffer.concat([block.subarray(0, end), Buffer.from(`id: ${id}\n`), block.subarray(end)])
}
