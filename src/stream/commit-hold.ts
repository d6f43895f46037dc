// The option `retry.commit`: an answer that is an event stream is held back until the app says that it has begun well. What
// was held leaves byte for byte in one piece, together with the head. It goes around a body, and is absent where it is off.

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

class CommitHold implements UpstreamBody, BodySink {
  /** Settles once. */
  readonly inspected: Promise<Inspected>
  readonly #options: CommitHoldOptions
  readonly #response: UpstreamResponse
  readonly #body: UpstreamBody
  readonly #signal: AbortState
  // Finds the events in what comes, and holds the one that is unfinished. Undefined from `start` on.
  #reader: EventReader | undefined
  // Undefined when it is decided what becomes of the answer. Events are not looked at any more then.
  #decide: ((inspected: Inspected) => void) | undefined
  readonly #deadline: Watchdog
  readonly #silence: Watchdog | undefined
  // Runs where a wait for events is bounded; comments do not reset it.
  #eventWait: Watchdog | undefined
  // What came before that event. Each byte is held once, here or in the reader.
  readonly #held = new ByteStore()
  // How much is held in both. At limits.bufferBytes the answer is committed to, and read no further before `start`.
  #heldBytes = 0
  // Whether the wait is for the next event and no more for the first.
  #hasEvent = false
  // How the body ended, where that was before `start`.
  #ending: 'complete' | Error | undefined
  // Whoever reads, from `start` to the end.
  #sink: BodySink | undefined
  // Between `pause` and `unpause`.
  #paused = false

  constructor(
    options: CommitHoldOptions,
    response: UpstreamResponse,
    body: UpstreamBody,
    req: IncomingMessage,
    signal: AbortState,
  ) {
    const { policy, idleMs } = options
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

  // UpstreamBody: for whoever reads the answer once that is decided.

  get hasBegun(): boolean {
    return this.#held.length > 0
  }

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

  destroy(why?: 'given-up' | 'silent'): void {
    this.#sink = undefined
    this.#body.destroy(why)
  }

  judge(isWhole: boolean): void {
    this.#body.judge?.(isWhole)
  }

  // BodySink: what the upstream sends.

  onData(chunk: Buffer): void {
    if (this.#sink) return this.#sink.onData(chunk)
    this.#silence?.reset()
    this.#heldBytes += chunk.length
    this.#look(chunk)
    if (this.#heldBytes < this.#options.bufferBytes) return
    // One that is decided on and not read yet waits.
    if (this.#decide) this.#commit()
    else this.#body.pause()
  }

  // Before `start` the data of chunks is what is wanted; whoever reads then may want the chunks themselves.

  get takesChunks(): boolean {
    return this.#sink?.takesChunks === true
  }

  onChunks(read: Buffer): readonly Buffer[] {
    return this.#sink?.onChunks?.(read) ?? [read]
  }

  releaseChunks(): readonly Buffer[] {
    return this.#sink?.releaseChunks?.() ?? []
  }

  onEnd(): void {
    const isCut = !this.#response.delimited && this.#reader?.isInsideEvent
    if (this.#decide && isCut) return this.onBroken(new Error('cut in the middle of an event'))
    this.#end('complete')
    this.#retry(this.#failure('ended before it was committed to'), this.#asItCame)
  }

  onBroken(cause: Error): void {
    this.#end(cause)
    const isHooks = cause instanceof StreamError && cause.code === 'ERR_SSE_PROXY_HOOK'
    this.#retry(isHooks ? new UpstreamError(cause.code, this.#response.upstream, cause.cause) : this.#failure(cause))
  }

  #end(ending: 'complete' | Error): void {
    this.#ending = ending
    const sink = this.#sink
    this.#sink = undefined
    if (ending === 'complete') sink?.onEnd()
    else sink?.onBroken(ending)
  }

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

  #commit(): void {
    const firstEventMs = this.#hasEvent ? undefined : this.#eventWait?.leftMs
    this.#settle()?.({ response: { ...this.#asItCame, firstEventMs } })
  }

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

  #failure(cause: Error | string): UpstreamError {
    const { upstream } = this.#response
    return new UpstreamError('ERR_SSE_PROXY_BAD_ANSWER', upstream, cause instanceof Error ? cause : new Error(cause))
  }

  #awaitEvent(bound: 'firstEventMs' | 'eventMs'): void {
    this.#eventWait?.stop()
    const ms = this.#options[bound]
    const cause = () => new Error(`no event in timeouts.${bound} (${ms} ms)`)
    this.#eventWait = ms > 0 ? new Watchdog(ms, () => this.#onSilence(cause())) : undefined
  }

  #noteEvent(): void {
    if (this.#hasEvent) return this.#eventWait?.reset()
    this.#hasEvent = true
    if (this.#decide) this.#awaitEvent('eventMs')
  }

  #onSilence(cause?: Error): void {
    this.#body.destroy('silent')
    this.onBroken(new StreamError('ERR_SSE_PROXY_IDLE', cause))
  }

  readonly #onAbort = (): void => {
    this.#body.destroy()
    this.#retry(new UpstreamError('ERR_SSE_PROXY_UNREACHABLE', this.#response.upstream, this.#signal.reason))
  }
}

/** By name in lower case; several lines of one name as a list. */
function headersOf({ headers }: UpstreamResponse): Readonly<Record<string, string | readonly string[]>> {
  return Object.freeze(Object.fromEntries(headers.map(([name, value]) => [name.toLowerCase(), value])))
}
