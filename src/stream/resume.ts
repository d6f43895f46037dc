// The option `resume`: a stream that loses its upstream goes on with another connection, without the client noticing.
// It goes around the body of the first answer and the function that opens an upstream, and is absent where it is off.
// Decides whether another connection can take the place of the last, when it is tried, and which answers will do.

import { type AbortState, LinkedAbort, sleep } from '../abort.ts'
import { backoff } from '../backoff.ts'
import { StreamError } from '../errors.ts'
import type { Cursor } from '../events/cursor.ts'
import type { SseStream } from '../events/event.ts'
import { encodeEventId } from '../events/event-id.ts'
import type { ResumePolicy } from '../options/resolve-resume.ts'
import type { BodySink, OpenUpstream, UpstreamBody, UpstreamResponse } from '../upstream-response.ts'
import { Watchdog } from '../watchdog.ts'
import { eventStreamOf } from './event-stream.ts'
import { type EventTimeouts, eventWatched } from './event-watch.ts'
import type { Movable, Moves } from './moves.ts'

/** Another upstream's events, or the word that there will be none. */
export type Resumed =
  | { readonly response: UpstreamResponse; readonly body: UpstreamBody; readonly attempt: number }
  | 'ended'

/** See the option `timeouts`. */
export type ResumeTimeouts = EventTimeouts & { readonly idleMs: number }

export interface ResumerOptions {
  readonly policy: ResumePolicy
  /** Gets an answer for the next connection. */
  readonly open: OpenUpstream
  /** Where the client stands: the next connection begins behind that. */
  readonly cursor: Cursor
  /** Ends the waits and the tries. */
  readonly signal: AbortState
  /** They bound each connection. */
  readonly timeouts: ResumeTimeouts
  /** Called before each try. */
  readonly onAttempt: (upstream: string, attempt: number) => void
}

/** Whose stream it is. */
export interface ResumeContext {
  readonly options: { readonly resume: ResumePolicy | false; readonly timeouts: ResumeTimeouts }
  readonly req: { readonly method?: string | undefined }
  /** Aborted when the stream is over. */
  readonly controller: AbortState
  readonly observer: { resuming(stream: SseStream, upstream: string, attempt: number): void }
  /** Absent where the upstreams are a router's, and so stay. */
  readonly moves: Moves | undefined
  /** The function that opens the upstream anew. */
  open(): OpenUpstream
}

/** What is to be resumed: a body in plain, from this upstream, and what moves with what passes of it. */
export interface ResumedSource {
  readonly body: UpstreamBody
  readonly upstream: string
  readonly cursor: Cursor
  readonly stream: SseStream
}

/** The body that goes on after a loss; the body itself where the stream is not to be resumed. */
export function resumable(context: ResumeContext, { body, upstream, cursor, stream }: ResumedSource): UpstreamBody {
  const { options, req, controller, observer, moves } = context
  // What a client sent once must not be done twice.
  if (!options.resume || (req.method !== 'GET' && req.method !== 'HEAD')) return body
  const resumer = new Resumer({
    policy: options.resume,
    open: context.open(),
    cursor,
    signal: controller,
    timeouts: options.timeouts,
    onAttempt: (lostUpstream, attempt) => observer.resuming(stream, lostUpstream, attempt),
  })
  return new ResumedBody(body, upstream, resumer, moves)
}

// A stream that is about to move is silent until the other upstream has answered.
const MAX_MOVE_MS = 5000

/** One body made of those of several connections. Each is read by the consumer's own sink, so a read costs nothing here. */
export class ResumedBody implements UpstreamBody, Movable {
  /** The one it comes from; another one is preferred after it. */
  upstream: string
  readonly #resumer: Resumer
  readonly #moves: Moves | undefined
  // The connection's body that is read, or was read last.
  #body: UpstreamBody
  // The consumer. Undefined before `start`, after `destroy`, and when there is no other connection to be had.
  #sink: BodySink | undefined
  // Backpressure, which the next connection inherits.
  #paused = false
  // Set while another upstream is asked in place of one that has gone. Nothing is read meanwhile.
  #move: LinkedAbort | undefined

  constructor(body: UpstreamBody, upstream: string, resumer: Resumer, moves: Moves | undefined) {
    this.#body = body
    this.upstream = upstream
    this.#resumer = resumer
    this.#moves = moves
  }

  get hasBegun(): boolean | undefined {
    return this.#body.hasBegun
  }

  start(sink: BodySink): void {
    this.#sink = sink
    this.#moves?.add(this)
    this.#body.start(sink)
  }

  pause(): void {
    this.#paused = true
    this.#body.pause()
  }

  unpause(): void {
    this.#paused = false
    if (!this.#move) this.#body.unpause()
  }

  destroy(why?: 'given-up' | 'silent'): void {
    this.#sink = undefined
    this.#moves?.delete(this)
    this.#endMove()
    this.#body.destroy(why)
  }

  judge(isWhole: boolean): void {
    this.#body.judge?.(isWhole)
  }

  /** The connection it has is given up when there is another one, so that a stream that cannot move loses nothing. */
  async move(): Promise<boolean> {
    const sink = this.#sink
    if (!sink?.mayMove || !this.#resumer.shouldResume('lost')) return false
    const { progress, signal } = this.#resumer
    const left = this.#body
    left.pause()
    const move = new LinkedAbort(signal)
    this.#move = move
    const bound = new Watchdog(MAX_MOVE_MS, () => move.abort('late'))
    const resumed = await this.#resumer.ask(this.upstream, move).catch(() => undefined)
    bound.stop()
    move.unlink()
    // It has ended meanwhile, or been lost.
    const isOver = this.#move !== move
    if (!isOver) this.#move = undefined
    // A body that is paused may have brought something yet, which the other would bring again.
    const mayMove = !isOver && sink.mayMove && this.#resumer.progress === progress
    if (mayMove && resumed && resumed !== 'ended') {
      left.destroy()
      this.#goOn(resumed)
      return true
    }
    if (resumed && resumed !== 'ended') resumed.body.destroy()
    if (!isOver && !this.#paused) left.unpause()
    return false
  }

  reconnect(outcome: 'complete' | Error): boolean {
    this.#endMove()
    if (!this.#sink || !this.#resumer.shouldResume(outcome === 'complete' ? 'complete' : 'lost')) return false
    const lost = outcome === 'complete' ? new Error('the upstream ended') : outcome
    this.#resumer.resume(lost, this.upstream).then(
      (resumed) => (resumed === 'ended' ? this.#finish('complete') : this.#goOn(resumed)),
      (failure) => this.#finish(outcome === 'complete' ? outcome : failure),
    )
    return true
  }

  #goOn({ response, body, attempt }: Exclude<Resumed, 'ended'>): void {
    const sink = this.#sink
    if (!sink) return body.destroy()
    this.#body = body
    this.upstream = response.upstream
    this.#moves?.add(this)
    sink.onReconnected?.(response, attempt)
    // A subscriber that is told may have closed the stream.
    if (this.#sink !== sink) return
    body.start(sink)
    if (this.#paused) body.pause()
  }

  #endMove(): void {
    this.#move?.unlink()
    this.#move?.abort('given-up')
    this.#move = undefined
  }

  #finish(outcome: 'complete' | Error): void {
    const sink = this.#sink
    this.#sink = undefined
    if (outcome === 'complete') sink?.onEnd()
    else sink?.onBroken(outcome)
  }
}

// A connection that lasts no longer than this does not say that things are well, whatever it has brought.
const SHORT_MS = 1000

/** Decides for one stream, and tries. */
export class Resumer {
  readonly #options: ResumerOptions
  // Tries since the client has got any further. The stream is given up when there are too many.
  #tries = 0
  // Delays since a connection has brought something and lasted; each is twice the one before. An upstream that sends an id and
  // dies each time is never given up, and would be asked as often as it dies.
  #delays = 0
  // How far the client was when the last loss came; undefined before the first.
  #progressBefore: string | undefined
  // When the latest connection was there, as `performance.now()`, and how long after the loss before it.
  #connectedAt = performance.now()
  #connectingMs = 0

  constructor(options: ResumerOptions) {
    this.#options = options
  }

  /** Ends what is done for the stream. */
  get signal(): AbortState {
    return this.#options.signal
  }

  /** How far the client is. Where there are ids only another one counts: an upstream may send its last event each time, and die again. */
  get progress(): string {
    const { cursor } = this.#options
    return encodeEventId(cursor.lastEventId) || `${cursor.events} events`
  }

  /** Whether to go on, after a loss or after a clean end. */
  shouldResume(outcome: 'complete' | 'lost'): boolean {
    const { policy, cursor, signal } = this.#options
    if (signal.aborted || (outcome === 'complete' && !policy.onEnd)) return false
    // Without an id the upstream would start anew, or from now: both are wrong unless the app says otherwise.
    // The same goes for an id that no header can carry.
    if (encodeEventId(cursor.lastEventId) !== '' || policy.withoutIds) return true
    // A client that has no event yet would ask for the same when it came back by itself.
    return outcome === 'lost' && cursor.lastEventId === '' && cursor.events === 0
  }

  /** Tries until there is a stream again; rejects with the last failure when there is to be none. */
  async resume(lost: Error, upstream: string): Promise<Resumed> {
    const { policy, cursor, signal } = this.#options
    const lostAt = performance.now()
    this.#noteLoss(lostAt)
    let failure: unknown = lost
    while (this.#tries < policy.attempts) {
      const delayMs = resumeDelay(this.#delays++, cursor.retryMs, policy)
      this.#options.onAttempt(upstream, ++this.#tries)
      try {
        await sleep(delayMs, signal)
        const resumed = await this.ask(upstream, signal, this.#tries)
        this.#connectingMs = this.#connectedAt - lostAt
        return resumed
      } catch (error) {
        failure = error
        // An answer that will not do for those who follow: no other try brings them a better one.
        if (error instanceof StreamError) break
      }
      if (signal.aborted) break
    }
    throw failure
  }

  /** Tries once; rejects where another try may do better. */
  async ask(upstream: string, signal: AbortState, attempt = 1): Promise<Resumed> {
    const { open, cursor } = this.#options
    const response = await open({ lastEventId: cursor.lastEventId, avoid: upstream, signal })
    const resumed = judge(response, attempt, this.#options)
    this.#connectedAt = performance.now()
    return resumed
  }

  /** Counts anew what the connection that is lost has made good. */
  #noteLoss(now: number): void {
    const { progress } = this
    if (progress === this.#progressBefore) return
    this.#progressBefore = progress
    this.#tries = 0
    if (now - this.#connectedAt >= Math.max(SHORT_MS, this.#connectingMs)) this.#delays = 0
  }
}

/** What an answer to a resume means; throws where another try may do better. */
function judge(
  response: UpstreamResponse,
  attempt: number,
  { timeouts, cursor }: Pick<ResumerOptions, 'timeouts' | 'cursor'>,
): Resumed {
  const body = eventStreamOf(response, timeouts.idleMs)
  if (body) return { response, body: eventWatched(body, timeouts, cursor), attempt }
  response.body.destroy()
  // The client's own reconnect is to meet this answer, which it alone can read.
  if (response.status === 204 || (response.status >= 400 && response.status < 500)) return 'ended'
  throw new Error(`the upstream answered a resume with status ${response.status}`)
}

// However soon an upstream says that it may be asked again.
const LEAST_RETRY_MS = 100

/** The upstream's own `retry:` where it gave one, doubled with each try, jittered. */
export function resumeDelay(
  tries: number,
  retryMs: number | undefined,
  { delayMs, maxDelayMs }: Pick<ResumePolicy, 'delayMs' | 'maxDelayMs'>,
  chance: () => number = Math.random,
): number {
  const delay = backoff(tries, retryMs ?? delayMs, maxDelayMs, chance)
  // `retry: 0` would have an upstream that dies asked without end, as fast as it can.
  return retryMs === undefined ? delay : Math.max(delay, Math.min(LEAST_RETRY_MS, maxDelayMs))
}
