// The option `retry.commit`: an answer that is an event stream is held back until the app says that it has begun well. What
// was held leaves byte for byte, together with the head. It goes around a body, and is absent where it is off. Which upstream is
// asked next, and what a verdict means for health, is decided in upstream/.

import type { IncomingMessage } from 'node:http'
import type { AbortState } from '../abort.ts'
import { asError, type ReportFailure } from '../app-callback.ts'
import { ByteStore } from '../bytes.ts'
import { StreamError, UpstreamError } from '../errors.ts'
import { EventReader } from '../events/event-reader.ts'
import type { ResolvedOptions } from '../options/resolve-options.ts'
import type { CommitPolicy } from '../options/resolve-retry.ts'
import {
  type BodySink,
  headerOf,
  type Inspect,
  type Inspected,
  isEventStream,
  type UpstreamBody,
  type UpstreamResponse,
} from '../upstream-response.ts'
import { Watchdog } from '../watchdog.ts'
import { decodedBody } from './decode.ts'

/** How long and how much an answer is held at most; at both it commits by itself. */
interface CommitHoldOptions {
  readonly policy: CommitPolicy
  readonly bufferBytes: number
  /** Silence after which the upstream counts as lost, here as in an open stream; 0 for none. */
  readonly idleMs: number
  /** The same without an event, before the first and after it. */
  readonly firstEventMs: number
  readonly eventMs: number
  readonly callbackFailed: ReportFailure
}

/**
 * Undefined where the app has no predicate. Other answers than event streams, and those in a coding that is not known
 * here, pass as they are.
 */
export function createInspect(
  { upstreams, limits, timeouts }: Pick<ResolvedOptions, 'upstreams' | 'limits' | 'timeouts'>,
  callbackFailed: ReportFailure,
): Inspect | undefined {
  const policy = upstreams.retry === false ? undefined : upstreams.retry.commit
  if (!policy) return undefined
  const { idleMs, firstEventMs, eventMs } = timeouts
  const options = { policy, bufferBytes: limits.bufferBytes, idleMs, firstEventMs, eventMs, callbackFailed }
  return async (response, req, signal) => {
    const body = isEventStream(response) ? decodedBody(response) : undefined
    if (!body) return { response }
    return new CommitHold(options, response, body, req, signal).inspected
  }
}

/** One answer: it is the sink of the upstream's body until there is a verdict, and the body of the answer from then on. */
class CommitHold implements UpstreamBody, BodySink {
  /** Settles once, with the verdict; never rejects. */
  readonly inspected: Promise<Inspected>
  readonly #options: CommitHoldOptions
  // As the upstream gave it. Its body may be coded, and is not read from here.
  readonly #response: UpstreamResponse
  // The same body in plain.
  readonly #body: UpstreamBody
  // Aborted when no request waits for the answer any more; listened to until there is a verdict.
  readonly #signal: AbortState
  // Finds the events in what comes, and holds the one that is unfinished. Undefined from `start` on.
  #reader: EventReader | undefined
  // Settles `inspected`. Undefined from the verdict on: the app is not asked again, and no timer below runs any more.
  #decide: ((inspected: Inspected) => void) | undefined
  // Commits after `holdMs`, whatever has come.
  readonly #deadline: Watchdog
  // Set back by every read. Undefined where `idleMs` is off.
  readonly #silence: Watchdog | undefined
  // The wait for the first event or, after it, for the next one; comments do not reset it. Undefined where that wait has no bound.
  #eventWait: Watchdog | undefined
  // What came before that event. Each byte is held once, here or in the reader.
  readonly #held = new ByteStore()
  // How much is held in both. At limits.bufferBytes the answer is committed to, and read no further before `start`.
  #heldBytes = 0
  // Whether there has been an event: `eventMs` bounds the wait then, and no more `firstEventMs`.
  #hasEvent = false
  // How the body ended. Told to the sink at once, or, where there is none yet, by `start`.
  #ending: 'complete' | Error | undefined
  // The reader of the answer, from `start` to the end. Before `start`, what comes is held.
  #sink: BodySink | undefined
  // Backpressure of the sink, between `pause` and `unpause`. It may begin before `start`, which must not undo it.
  #paused = false

  constructor(
    options: CommitHoldOptions,
    response: UpstreamResponse,
    body: UpstreamBody,
    req: IncomingMessage,
    signal: AbortState,
  ) {
    const { policy } = options
    const idleMs = response.isPolled ? 0 : options.idleMs
    this.#options = options
    this.#response = response
    this.#body = body
    this.#signal = signal
    const answer = { status: response.status, headers: headersOf(response), upstream: response.upstream, req }
    this.#reader = new EventReader((event) => {
      this.#noteEvent()
      this.#ask(() => policy.commit(event, answer))
    })
    this.#deadline = new Watchdog(policy.holdMs, () => this.#commit())
    this.#silence = idleMs > 0 ? new Watchdog(idleMs, () => this.#onSilence()) : undefined
    this.#awaitEvent('firstEventMs')
    this.inspected = new Promise((resolve) => {
      this.#decide = resolve
    })
    signal.onAbort(this.#onAbort)
    if (signal.aborted) this.#onAbort()
    else body.start(this)
  }

  // UpstreamBody: for the reader of the answer, once there is a verdict.

  /** Whether something is there that can leave together with the head. */
  get hasBegun(): boolean {
    return this.#heldBytes > 0
  }

  get isWithApp(): boolean | undefined {
    return this.#body.isWithApp
  }

  /** What was held comes first, in this call, and the ending at once where the body is over by now. */
  start(sink: BodySink): void {
    this.#sink = sink
    const held = [this.#held.take(), ...(this.#reader?.unfinished ?? [])]
    this.#heldBytes = 0
    this.#reader = undefined
    for (const piece of held) if (piece.length > 0) sink.onData(piece)
    if (this.#ending !== undefined) this.#end(this.#ending)
    else if (!this.#paused) this.#body.unpause()
  }

  pause(): void {
    this.#paused = true
    this.#body.pause()
  }

  unpause(): void {
    this.#paused = false
    this.#body.unpause()
  }

  /** The sink hears nothing more. */
  destroy(why?: 'given-up' | 'silent'): void {
    this.#sink = undefined
    this.#body.destroy(why)
  }

  judge(isWhole: boolean): void {
    this.#body.judge?.(isWhole)
  }

  enough(): void {
    this.#body.enough?.()
  }

  // BodySink: what the upstream sends.

  /** Is held until there is a verdict and a sink. */
  onData(chunk: Buffer, isLent?: boolean): void {
    if (this.#sink) return this.#sink.onData(chunk, isLent)
    this.#silence?.reset()
    this.#heldBytes += chunk.length
    this.#look(chunk)
    // However large a single event is: nothing is held beyond that.
    if (this.#heldBytes < this.#options.bufferBytes) return
    // One that is decided on and not read yet waits.
    if (this.#decide) this.#commit()
    else this.#body.pause()
  }

  // Before `start` the data of chunks is what is wanted; the reader may want the chunks themselves after that.

  get takesChunks(): boolean {
    return this.#sink?.takesChunks === true
  }

  onChunks(read: Buffer): readonly Buffer[] {
    return this.#sink?.onChunks?.(read) ?? [read]
  }

  releaseChunks(): readonly Buffer[] {
    return this.#sink?.releaseChunks?.() ?? []
  }

  get mayBorrow(): boolean {
    return this.#sink?.mayBorrow === true
  }

  keeps(memory: Buffer): boolean {
    return this.#sink?.keeps?.(memory) ?? true
  }

  onEnd(): void {
    // Where only the connection says where the body ends, an event in the middle says that it was cut.
    const isCut = !this.#response.delimited && this.#reader?.isInsideEvent
    if (this.#decide && isCut) return this.onBroken(new Error('cut in the middle of an event'))
    this.#end('complete')
    this.#retry(this.#failure('ended before it was committed to'), this.#asItCame)
  }

  /** Before the verdict a failed attempt, of which nothing is passed on: what is held would be a part of an answer. */
  onBroken(cause: Error): void {
    this.#end(cause)
    const isHooks = cause instanceof StreamError && cause.code === 'ERR_SSE_PROXY_HOOK'
    this.#retry(isHooks ? new UpstreamError(cause.code, this.#response.upstream, cause.cause) : this.#failure(cause))
  }

  /** Tells the sink, once. */
  #end(ending: 'complete' | Error): void {
    this.#ending = ending
    const sink = this.#sink
    this.#sink = undefined
    if (ending === 'complete') sink?.onEnd()
    else sink?.onBroken(ending)
  }

  /** Asks the app about each event; a predicate that throws, or returns no verdict, fails the attempt. */
  #look(chunk: Buffer): void {
    try {
      for (const piece of this.#reader?.read(chunk) ?? []) this.#held.add(piece)
    } catch (error) {
      const thrown = asError('retry.commit', error)
      this.#options.callbackFailed('retry.commit', thrown)
      this.#body.destroy()
      this.#retry(new UpstreamError('ERR_SSE_PROXY_HOOK', this.#response.upstream, thrown))
    }
  }

  /** The rest of what came is not asked about once there is a verdict. */
  #ask(question: () => unknown): void {
    if (!this.#decide) return
    const verdict = question()
    if (verdict === 'commit') this.#commit()
    else if (verdict === 'retry') this.#retry(this.#failure('retry.commit says that it failed'), this.#asItCame)
    else if (verdict !== 'hold') {
      throw new TypeError(
        `retry.commit: expected the function to return 'hold', 'commit' or 'retry', got ${typeof verdict}`,
      )
    }
  }

  /** The answer, less what decoding has made untrue. */
  get #asItCame(): UpstreamResponse {
    const { headers } = this.#response
    const isDecoded = headerOf(this.#response, 'content-encoding') !== undefined
    const plain = isDecoded ? headers.filter(([name]) => name.toLowerCase() !== 'content-encoding') : headers
    return { ...this.#response, headers: plain, body: this }
  }

  /** The answer is taken, with what is left of the wait for an event. */
  #commit(): void {
    const timeout = this.#hasEvent ? 'eventMs' : 'firstEventMs'
    const eventWait = this.#eventWait && ({ timeout, leftMs: this.#eventWait.leftMs } as const)
    this.#settle()?.({ response: { ...this.#asItCame, eventWait } })
  }

  /** The attempt has failed. Where it was the last one, the client gets `response` all the same. */
  #retry(error: UpstreamError, response?: UpstreamResponse): void {
    this.#settle()?.({ response, error })
  }

  /** Returns who waits for the verdict, once. */
  #settle(): ((inspected: Inspected) => void) | undefined {
    const decide = this.#decide
    if (!decide) return undefined
    this.#decide = undefined
    this.#deadline.stop()
    this.#silence?.stop()
    this.#eventWait?.stop()
    this.#signal.offAbort(this.#onAbort)
    return decide
  }

  /** What is told of an attempt that failed after its head. */
  #failure(cause: Error | string): UpstreamError {
    const { upstream } = this.#response
    return new UpstreamError('ERR_SSE_PROXY_BAD_ANSWER', upstream, cause instanceof Error ? cause : new Error(cause))
  }

  /** The next wait for an event, in place of the one before. */
  #awaitEvent(bound: 'firstEventMs' | 'eventMs'): void {
    this.#eventWait?.stop()
    const ms = this.#options[bound]
    const cause = () => new Error(`no event in timeouts.${bound} (${ms} ms)`)
    this.#eventWait = ms > 0 ? new Watchdog(ms, () => this.#onSilence(cause())) : undefined
  }

  /** Comes before the app is asked about the event. After the verdict the wait is the stream's own. */
  #noteEvent(): void {
    if (this.#hasEvent) return this.#eventWait?.reset()
    this.#hasEvent = true
    if (this.#decide) this.#awaitEvent('eventMs')
  }

  /** The upstream counts as lost, which the pool is told by `silent`. */
  #onSilence(cause?: Error): void {
    if (this.isWithApp) return
    this.#body.destroy('silent')
    this.onBroken(new StreamError('ERR_SSE_PROXY_IDLE', cause))
  }

  // All who waited have left: the upstream's request ends at once, in the middle of a decoder or of an upload too.
  readonly #onAbort = (): void => {
    this.#body.destroy()
    this.#retry(new UpstreamError('ERR_SSE_PROXY_UNREACHABLE', this.#response.upstream, this.#signal.reason))
  }
}

/** By name in lower case; several lines of one name as a list. */
function headersOf({ headers }: UpstreamResponse): Readonly<Record<string, string | readonly string[]>> {
  return Object.freeze(Object.fromEntries(headers.map(([name, value]) => [name.toLowerCase(), value])))
}
