// A body whose upstream may be silent for too long, and is given up as lost then. What silence is, a watch decides: of bytes
// (`idle.ts`), or of events (`event-watch.ts`). A silence that backpressure has asked for is
// none, nor is one in which a callback of the app's works on what has come.

import { StreamError } from '../errors.ts'
import type { BodySink, UpstreamBody } from '../upstream-response.ts'

/** Decides when one body has been silent for too long. */
export interface SilenceWatch {
  /** @param onSilence called again after each further wait, until `stop` */
  start(onSilence: (cause?: Error) => void): void
  /** Bytes have come; called before they are passed on. */
  onRead(): void
  /** The upstream may send again. */
  onUnpaused(): void
  stop(): void
}

/** Hands everything on; when its watch says so, it gives the wrapped body up and breaks off. */
export class WatchedBody implements UpstreamBody, BodySink {
  // What is watched; it may be a wrapper itself.
  readonly #body: UpstreamBody
  // Runs from `start` to the end of the body.
  readonly #watch: SilenceWatch
  // Undefined before `start`, and when nothing more comes.
  #sink: BodySink | undefined
  // Backpressure, between `pause` and `unpause`: the upstream may not send, so that its silence is not its own.
  #paused = false
  // Whether the app had what has come when the body told of itself last.
  #wasWithApp = false

  constructor(body: UpstreamBody, watch: SilenceWatch) {
    this.#body = body
    this.#watch = watch
  }

  get hasBegun(): boolean | undefined {
    return this.#body.hasBegun
  }

  get isWithApp(): boolean | undefined {
    return this.#body.isWithApp
  }

  start(sink: BodySink): void {
    this.#sink = sink
    this.#watch.start((cause) => this.#onSilence(cause))
    this.#body.start(this)
  }

  pause(): void {
    this.#paused = true
    this.#body.pause()
  }

  unpause(): void {
    this.#paused = false
    this.#watch.onUnpaused()
    this.#body.unpause()
  }

  destroy(why?: 'given-up' | 'silent'): void {
    this.#finish()
    this.#body.destroy(why)
  }

  judge(isWhole: boolean): void {
    this.#body.judge?.(isWhole)
  }

  enough(): void {
    this.#body.enough?.()
  }

  onData(chunk: Buffer, isLent?: boolean): void {
    const isWithApp = this.isWithApp === true
    if (this.#wasWithApp && !isWithApp) this.#watch.onUnpaused()
    else this.#watch.onRead()
    this.#wasWithApp = isWithApp
    this.#sink?.onData(chunk, isLent)
  }

  // Chunks pass as they came; the watch counts the read that brought them.

  get takesChunks(): boolean {
    return this.#sink?.takesChunks === true
  }

  onChunks(read: Buffer): readonly Buffer[] {
    this.#watch.onRead()
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
    this.#finish()?.onEnd()
  }

  onBroken(cause: Error): void {
    this.#finish()?.onBroken(cause)
  }

  #onSilence(cause: Error | undefined): void {
    if (this.#paused || this.isWithApp) return
    this.#body.destroy('silent')
    this.#finish()?.onBroken(new StreamError('ERR_SSE_PROXY_IDLE', cause))
  }

  /** Returns the sink, which hears of the end once. */
  #finish(): BodySink | undefined {
    const sink = this.#sink
    this.#sink = undefined
    this.#watch.stop()
    return sink
  }
}
