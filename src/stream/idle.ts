// The option `timeouts.idleMs`: an upstream that is silent for so long counts as lost. It goes around a body, and is
// absent where there is no such bound. A silence that backpressure has asked for is none.

import { StreamError } from '../errors.ts'
import type { BodySink, UpstreamBody } from '../upstream-response.ts'
import { Watchdog } from '../watchdog.ts'

export class IdleBody implements UpstreamBody, BodySink {
  readonly #body: UpstreamBody
  readonly #idleMs: number
  // Undefined before `start`, and when nothing more comes.
  #sink: BodySink | undefined
  // Runs from `start` to the end of the body.
  #watchdog: Watchdog | undefined
  // Between `pause` and `unpause` the upstream may not send.
  #paused = false

  constructor(body: UpstreamBody, idleMs: number) {
    this.#body = body
    this.#idleMs = idleMs
  }

  get hasBegun(): boolean | undefined {
    return this.#body.hasBegun
  }

  start(sink: BodySink): void {
    this.#sink = sink
    this.#watchdog = new Watchdog(this.#idleMs, () => this.#onSilence())
    this.#body.start(this)
  }

  pause(): void {
    this.#paused = true
    this.#body.pause()
  }

  unpause(): void {
    this.#paused = false
    this.#watchdog?.reset()
    this.#body.unpause()
  }

  destroy(why?: 'given-up' | 'silent'): void {
    this.#finish()
    this.#body.destroy(why)
  }

  onData(chunk: Buffer): void {
    this.#watchdog?.reset()
    this.#sink?.onData(chunk)
  }

  get takesChunks(): boolean {
    return this.#sink?.takesChunks === true
  }

  onChunks(read: Buffer): readonly Buffer[] {
    this.#watchdog?.reset()
    return this.#sink?.onChunks?.(read) ?? [read]
  }

  releaseChunks(): readonly Buffer[] {
    return this.#sink?.releaseChunks?.() ?? []
  }

  onEnd(): void {
    this.#finish()?.onEnd()
  }

  onBroken(cause: Error): void {
    this.#finish()?.onBroken(cause)
  }

  #onSilence(): void {
    if (this.#paused) return
    this.#body.destroy('silent')
    this.#finish()?.onBroken(new StreamError('ERR_SSE_PROXY_IDLE'))
  }

  /** Returns the sink, which hears of the end once. */
  #finish(): BodySink | undefined {
    const sink = this.#sink
    this.#sink = undefined
    this.#watchdog?.stop()
    return sink
  }
}
