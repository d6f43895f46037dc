// A body that a test sends by hand, and what comes out of what reads it.
import type { BodySink, UpstreamBody } from '../../src/upstream-response.ts'

export class HandBody implements UpstreamBody {
  sink: BodySink | undefined
  paused = false
  destroyed = false

  start(sink: BodySink): void {
    this.sink = sink
  }

  pause(): void {
    this.paused = true
  }

  unpause(): void {
    this.paused = false
  }

  destroy(): void {
    this.destroyed = true
    this.sink = undefined
  }
}

/** What came out, and a wait for it. */
export class Received implements BodySink {
  readonly chunks: Buffer[] = []
  ended = false
  broken: Error | undefined
  endings = 0
  #awaited: (() => void) | undefined

  get bytes(): Buffer {
    return Buffer.concat(this.chunks)
  }

  /** A character for each byte. */
  get text(): string {
    return this.bytes.toString('latin1')
  }

  onData(chunk: Buffer): void {
    this.chunks.push(chunk)
    this.#awaited?.()
  }

  onEnd(): void {
    this.ended = true
    this.endings++
    this.#awaited?.()
  }

  onBroken(cause: Error): void {
    this.broken = cause
    this.endings++
    this.#awaited?.()
  }

  async until(isThere: () => boolean): Promise<void> {
    while (!isThere()) await new Promise<void>((resolve) => (this.#awaited = resolve))
  }
}
