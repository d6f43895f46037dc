// `from: { format: 'json' }`: a plain JSON endpoint becomes a live feed. It is asked again and again, one answer after the
// other, and each that says something new is an event. The first answer decides whether there is a stream at all; a later one
// that fails is counted and told, and the next one waits longer.

import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { Abort, sleep } from '../abort.ts'
import { asError } from '../app-callback.ts'
import { jittered } from '../backoff.ts'
import { SseProxyError, StreamError, UpstreamError } from '../errors.ts'
import { withoutMark } from '../events/bom.ts'
import type { ToEvent } from '../options/format-options.ts'
import { collect } from '../stream/collect.ts'
import { decodedBody } from '../stream/decode.ts'
import { IdleWatch } from '../stream/idle.ts'
import { WatchedBody } from '../stream/watched-body.ts'
import { retryDelay } from '../upstream/pool/retry.ts'
import {
  type AskedFor,
  type BodySink,
  headerOf,
  type OpenUpstream,
  type UpstreamBody,
  type UpstreamResponse,
} from '../upstream-response.ts'
import { asType } from './as-type.ts'
import { eventOf, madeEvents } from './made-events.ts'

const NOTHING = Buffer.alloc(0)
const TYPE = /^\s*(?:application|text)\/(?:[^;\s]+\+)?json\s*(?:;|$)/i
// Clients that ask together do not go on together.
const JITTER = 1.1

/** Counts and tells. */
export interface PollObserver {
  /** @param isNews whether the answer before was a good one */
  pollFailed(error: SseProxyError, req: IncomingMessage, isNews: boolean): void
}

export interface PollOptions {
  /** From the end of one answer to the next request. */
  readonly everyMs: number
  /** The longest wait after failures. */
  readonly maxDelayMs: number
  /** A longer answer is a failure. */
  readonly bodyBytes: number
  /** How long an answer may stop in the middle; 0 for no bound. */
  readonly stallMs: number
  /** Absent where an answer is an event as it is. */
  readonly toEvent: ToEvent | undefined
  readonly observer: PollObserver
}

/** A 200 of JSON as the beginning of a stream; any other answer, and one to another method than GET, as it is. */
export function polled(response: UpstreamResponse, asked: AskedFor, options: PollOptions): UpstreamResponse {
  const { req, again } = asked
  if (!isJson(response)) return response
  const head = asType(response, 'text/event-stream')
  if (req.method === 'HEAD') return head
  if (!again || !decodedBody(response)) return response
  const body = new Poller(response, again(), asked, options)
  return { ...head, body, delimited: true, isPolled: true }
}

/** One poller is one stream: each new value leaves as the events that are made of it. */
class Poller implements UpstreamBody {
  readonly #ask: OpenUpstream
  readonly #req: IncomingMessage
  // Undefined where the stream is one client's.
  readonly #isForAll: AskedFor['isForAll']
  readonly #options: PollOptions
  // Ends the wait for the next answer, and the request that is under way.
  readonly #controller = new Abort()
  // Undefined when it has been read.
  #first: UpstreamResponse | undefined
  // Of the answer that is read, or was read last.
  #body: UpstreamBody
  // Undefined before `start`, and when nothing more comes.
  #sink: BodySink | undefined
  // The digest of the latest value: an answer that says the same again is no event.
  #value = ''
  // Sent with the next request: it is answered with 304 where nothing has changed. An undefined one is not the client's either.
  #conditions: Readonly<Record<string, string | undefined>> = {}
  // The upstream that was asked last: two may differ a little, and a feed that goes to and fro would tell that as changes.
  #upstream: string
  // Failures since the last good answer.
  #failures = 0
  // Whether the app makes events of the value that came last.
  #isWithApp = false
  // Backpressure: a client that does not read needs no new values.
  #isPaused = false
  // Set while the next request waits for its end.
  #onUnpaused: (() => void) | undefined

  constructor(first: UpstreamResponse, ask: OpenUpstream, { req, isForAll }: AskedFor, options: PollOptions) {
    this.#first = first
    this.#upstream = first.upstream
    this.#body = first.body
    this.#ask = ask
    this.#req = req
    this.#isForAll = isForAll
    this.#options = options
  }

  get hasBegun(): boolean | undefined {
    return this.#body.hasBegun
  }

  get isWithApp(): boolean {
    return this.#isWithApp
  }

  start(sink: BodySink): void {
    this.#sink = sink
    this.#run().catch((error) => this.#break(asError('from', error)))
  }

  pause(): void {
    this.#isPaused = true
  }

  unpause(): void {
    this.#isPaused = false
    this.#onUnpaused?.()
  }

  destroy(why?: 'given-up' | 'silent'): void {
    this.#sink = undefined
    this.#body.destroy(why)
    this.#controller.abort(why ?? 'given-up')
  }

  enough(): void {
    const sink = this.#sink
    this.destroy()
    sink?.onEnd()
  }

  /** Rejects where the stream is lost: by its first answer, or by the app's callback. */
  async #run(): Promise<void> {
    const { everyMs } = this.#options
    if (this.#first) await this.#take(this.#first)
    this.#first = undefined
    for (let delayMs = this.#regularDelay(); this.#sink; delayMs = await this.#poll()) {
      await sleep(Math.max(delayMs, everyMs), this.#controller)
      if (this.#isPaused) await new Promise<void>((resolve) => (this.#onUnpaused = resolve))
      this.#onUnpaused = undefined
    }
  }

  /** Asks once; returns the wait until the next time. */
  async #poll(): Promise<number> {
    if (!this.#sink) return 0
    const { everyMs, maxDelayMs, observer } = this.#options
    let response: UpstreamResponse | undefined
    try {
      const upstream = this.#failures === 0 ? { stay: this.#upstream } : { avoid: this.#upstream }
      response = await this.#ask({ signal: this.#controller, headers: this.#conditions, ...upstream })
      this.#upstream = response.upstream
      if (!this.#sink) response.body.destroy()
      else await this.#take(response)
      this.#failures = 0
      return this.#regularDelay()
    } catch (error) {
      if (!this.#sink || isHookFailure(error)) throw error
      if (error instanceof UpstreamError) this.#upstream = error.upstream ?? this.#upstream
      observer.pollFailed(toSseProxyError(error), this.#req, this.#failures === 0)
      this.#failures++
      return retryDelay(this.#failures, response, { backoffMs: everyMs, maxBackoffMs: Math.max(maxDelayMs, everyMs) })
    }
  }

  #regularDelay(): number {
    const { everyMs } = this.#options
    return jittered([everyMs, everyMs * JITTER])
  }

  /** Passes the value of one answer on, where it is a new one. */
  async #take(response: UpstreamResponse): Promise<void> {
    const bytes = await this.#read(response)
    const value = bytes ? digestOf(bytes) : this.#value
    if (bytes && value !== this.#value) {
      const events = this.#eventsOf(bytes, response.upstream)
      this.#sink?.onData(Buffer.from(typeof events === 'string' ? events : await this.#fromApp(events)))
    } else {
      // Resets `idleMs`.
      this.#sink?.onData(NOTHING)
    }
    // Not before: a value that could not be used would be unchanged the next time.
    this.#value = value
    if (bytes) this.#conditions = conditionsOf(response)
  }

  /** What an answer says; undefined where nothing has changed. Rejects where it will not do. */
  async #read(response: UpstreamResponse): Promise<Buffer | undefined> {
    const { stallMs, bodyBytes } = this.#options
    const isUnchanged = response.status === 304 && this.#value !== ''
    const plain = isUnchanged ? response.body : isJson(response) && decodedBody(response)
    if (!plain) {
      response.body.destroy()
      throw unusable(response.upstream, `a poll was answered with status ${response.status}, or with what is not JSON`)
    }
    if (!isUnchanged && this.#isForAll?.(response) === false) {
      response.body.destroy()
      const cause = new Error('the upstream answered a poll for one of its clients alone')
      const lost = new StreamError('ERR_SSE_PROXY_UPSTREAM_LOST', cause)
      this.#break(lost)
      throw lost
    }
    this.#body = stallMs > 0 ? new WatchedBody(plain, new IdleWatch(stallMs)) : plain
    try {
      const bytes = await collect(this.#body, bodyBytes)
      return isUnchanged ? undefined : bytes
    } catch (error) {
      if (error instanceof StreamError) throw error
      const isTooLarge = error instanceof RangeError
      throw new StreamError(isTooLarge ? 'ERR_SSE_PROXY_EVENT_TOO_LARGE' : 'ERR_SSE_PROXY_UPSTREAM_LOST', error)
    }
  }

  #eventsOf(bytes: Buffer, upstream: string): string | Promise<string> {
    // White space around a value says nothing.
    const json = withoutMark(bytes).toString('utf8').trim()
    try {
      JSON.parse(json)
    } catch (error) {
      throw unusable(upstream, 'a poll was answered with what is not JSON', error)
    }
    const { toEvent } = this.#options
    return toEvent ? madeEvents(json, toEvent, this.#req) : eventOf(json)
  }

  /** While the app takes its time, the upstream has answered. */
  async #fromApp(events: Promise<string>): Promise<string> {
    this.#isWithApp = true
    this.#sink?.onData(NOTHING)
    try {
      return await events
    } finally {
      this.#isWithApp = false
    }
  }

  #break(error: Error): void {
    const sink = this.#sink
    this.#sink = undefined
    sink?.onBroken(error)
  }
}

function isJson(response: UpstreamResponse): boolean {
  return response.status === 200 && TYPE.test(headerOf(response, 'content-type') ?? '')
}

function digestOf(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('base64')
}

/** RFC 9110, section 13.1: what makes the next request a question whether anything has changed. */
function conditionsOf(response: UpstreamResponse): Readonly<Record<string, string | undefined>> {
  return {
    'if-none-match': headerOf(response, 'etag'),
    'if-modified-since': headerOf(response, 'last-modified'),
  }
}

function unusable(upstream: string, what: string, cause?: unknown): UpstreamError {
  return new UpstreamError('ERR_SSE_PROXY_BAD_ANSWER', upstream, new Error(what, { cause }))
}

function isHookFailure(error: unknown): boolean {
  return error instanceof StreamError && error.code === 'ERR_SSE_PROXY_HOOK'
}

/** Anything else is a mistake of the app's, in a router, say. */
function toSseProxyError(thrown: unknown): SseProxyError {
  return thrown instanceof SseProxyError ? thrown : new UpstreamError('ERR_SSE_PROXY_APP', undefined, thrown)
}
