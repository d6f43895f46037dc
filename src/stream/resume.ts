// The option `resume`: a stream that loses its upstream goes on with another connection, without the client noticing.
// It goes around the body of the first answer and is absent where it is off. When it is tried, and which answers will do,
// the resumer decides.

import { type AbortState, LinkedAbort } from '../abort.ts'
import type { Cursor } from '../events/cursor.ts'
import type { SseStream } from '../events/event.ts'
import type { ResumePolicy } from '../options/resolve-resume.ts'
import type { BodySink, OpenUpstream, UpstreamBody } from '../upstream-response.ts'
import { Watchdog } from '../watchdog.ts'
import type { Movable, Moves } from './moves.ts'
import { type Resumed, Resumer, type ResumeTimeouts } from './resumer.ts'

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

  enough(): void {
    this.#body.enough?.()
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
