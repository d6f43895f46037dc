// One upstream of a stored stream, from its request to its end: what it brings goes to the node's member, in blocks. Where
// the proxy gives the ids, they are given here.

import { Abort } from '../abort.ts'
import { coalesced } from '../bytes.ts'
import { closeReasonOf, StreamError } from '../errors.ts'
import { Cursor } from '../events/cursor.ts'
import type { SseStream, StreamEvent } from '../events/event.ts'
import { checkEvent, serializeEvent } from '../events/event-text.ts'
import { whenOver } from '../stream/client-gone.ts'
import { eventStreamOf } from '../stream/event-stream.ts'
import { sendLastEvent } from '../stream/last-event.ts'
import type { Pipeline, PipelineSink } from '../stream/pipeline.ts'
import type { SessionHead } from '../stream/session.ts'
import type { StreamMeter } from '../stream/session-context.ts'
import { StreamHandle } from '../stream/stream-handle.ts'
import type { OpenUpstream, UpstreamBody, UpstreamResponse } from '../upstream-response.ts'
import { blocksOf, withOwnIds } from './blocks.ts'
import type { LogEntry } from './event-log.ts'
import { shareableHeaders } from './follower-headers.ts'
import type { RunHead } from './nodes/entries.ts'
import type { SharingRequest } from './opening.ts'
import { createSharedPipeline } from './shared-pipeline.ts'
import type { SharedStreamContext, SharedStreamObserver } from './shared-stream.ts'

/** In whose name an upstream is asked, and who is told where it brings no stream. */
export interface PublisherContext extends Pick<SharedStreamContext, 'options' | 'share' | 'moves'> {
  readonly id: string
  readonly observer: SharedStreamObserver
  /** The request in whose name this node asks the upstream. */
  readonly leader: SharingRequest
  /** Whether an answer is for all who share the key. */
  isForAll(response: UpstreamResponse): boolean
  /** An answer that is no stream. */
  onAnswer(response: UpstreamResponse): void
  /** There is none, or it is none that clients could follow. */
  onRefused(error: unknown): void
}

/** What an upstream that this node reads is for. */
export interface PublisherSink {
  opened(head: RunHead, upstream: string): void
  received(blocks: readonly LogEntry[], cursor: string): void
  over(outcome: 'ended' | 'lost' | 'unshared'): void
  /** The app has closed it. */
  end(): void
}

export class Publisher implements PipelineSink {
  readonly context: PublisherContext & {
    readonly req: SharingRequest['req']
    readonly controller: Abort
    open(): OpenUpstream
  }
  readonly cursor: Cursor
  readonly handle: SseStream
  readonly bytes = 0
  upstream = ''
  resumes = 0
  /** The leader's own head, once there is one. */
  head: SessionHead | undefined
  readonly #sink: PublisherSink
  // What comes is counted by the node that reads it.
  readonly #meter: Pick<StreamMeter, 'received'>
  readonly #controller = new Abort()
  readonly #after: string
  // Begins the ids given to events of this upstream, where those are the proxy's own.
  readonly #epoch = `${Date.now().toString(36)}${Math.floor(Math.random() * 1_679_616).toString(36)}`
  #sequence = 0
  #pipeline: Pipeline | undefined
  #isPaused = false

  /** @param after the id to go on after; '' for where the leader stands */
  constructor(context: PublisherContext, after: string, sink: PublisherSink) {
    const { leader } = context
    this.context = { ...context, req: leader.req, controller: this.#controller, open: () => this.#reopener() }
    this.#after = after
    this.#sink = sink
    this.#meter = context.observer.meter(performance.now())
    this.cursor = new Cursor(after === '' && !this.#assignsIds ? leader.lastEventId : after)
    this.handle = new StreamHandle(this)
  }

  get #assignsIds(): boolean {
    return this.context.share.replay.ids === 'assign'
  }

  async open(): Promise<void> {
    const signal = this.#controller
    const { leader, options } = this.context
    try {
      // The member is to know of an answer after its question.
      await null
      const open = leader.open()
      const ofOwn = this.#after === '' && !this.#assignsIds
      const response = await open(ofOwn ? { signal } : { lastEventId: this.#after, signal })
      if (signal.aborted) return response.body.destroy()
      const body = eventStreamOf(response, options.timeouts.idleMs)
      if (body && this.context.isForAll(response)) this.#start(response, body)
      else this.#giveUp(response)
    } catch (error) {
      if (signal.aborted) return
      this.context.onRefused(error)
      this.#sink.over(this.#after === '' ? 'unshared' : 'lost')
    }
  }

  #start(response: UpstreamResponse, body: UpstreamBody): void {
    const { upstream, statusMessage, headers, cookie } = response
    this.upstream = upstream
    this.head = { upstream, statusMessage, headers, ...(cookie !== undefined && { cookie }) }
    // A permission for a page's origin is for that page alone.
    const shareable = shareableHeaders(headers, undefined)
    const pipeline = createSharedPipeline(
      this.context,
      response,
      body,
      { cursor: this.cursor, stream: this.handle },
      this,
    )
    this.#pipeline = pipeline
    this.#sink.opened({ statusMessage, headers: shareable, idBefore: this.cursor.lastEventId }, upstream)
    pipeline.start()
    if (this.#isPaused) pipeline.pause()
    pipeline.release()
  }

  /** An answer for its leader alone, or one to a request that was to go on: the clients ask again by themselves. */
  #giveUp(response: UpstreamResponse): void {
    if (this.#after === '') {
      this.context.onAnswer(response)
      return this.#sink.over('unshared')
    }
    response.body.destroy()
    this.#sink.over(response.status === 204 || (response.status >= 400 && response.status < 500) ? 'ended' : 'lost')
  }

  /** What a resume brings must be for all who follow, as the stream was until then. */
  #reopener(): OpenUpstream {
    const open = this.context.leader.open()
    return async (request) => {
      const response = await open(request)
      if (eventStreamOf(response, 0) === undefined || this.context.isForAll(response)) return response
      response.body.destroy()
      const cause = new Error('the upstream answered a resume for one of its clients alone')
      throw new StreamError('ERR_SSE_PROXY_UPSTREAM_LOST', cause)
    }
  }

  close(): void {
    this.#pipeline?.stop()
    this.#controller.abort('client-left')
  }

  pause(): void {
    this.#isPaused = true
    this.#pipeline?.pause()
  }

  unpause(): void {
    this.#isPaused = false
    this.#pipeline?.unpause()
  }

  // As the sink of the pipeline.

  onReceived(bytes: number, events: number): void {
    this.#meter.received(bytes, events)
  }

  onEvents(pieces: readonly Buffer[]): void {
    const blocks = blocksOf(coalesced(pieces))
    const own = this.#assignsIds ? withOwnIds(blocks, () => `${this.#epoch}-${this.#sequence++}`) : blocks
    if (own.length > 0) this.#sink.received(own, this.cursor.lastEventId)
  }

  onReconnected({ upstream }: UpstreamResponse, attempt: number): void {
    this.upstream = upstream
    this.resumes++
    this.context.observer.resumed(this.handle, attempt)
  }

  onEnd(): void {
    this.#sink.over('ended')
  }

  onFailed(error: StreamError): void {
    const { onLost } = this.context.options
    if (onLost && closeReasonOf(error) === 'upstream-lost') {
      sendLastEvent(onLost, error, this, (failure) => this.#tellFailure(failure))
    }
    this.#sink.over('lost')
    this.#tellFailure(error)
  }

  /** When the leader's response is over, which is some time after the store has been told. */
  #tellFailure(error: StreamError): void {
    const { observer, leader } = this.context
    whenOver(leader.res, () => observer.failed(error, this.handle, leader.res))
  }

  // As the app sees it in hooks.

  send(event: StreamEvent): boolean {
    const bytes = Buffer.from(serializeEvent(checkEvent(event)))
    this.#pipeline?.flush()
    if (this.#controller.aborted) return false
    this.onEvents([bytes])
    return true
  }

  end(): void {
    this.#sink.end()
  }
}
