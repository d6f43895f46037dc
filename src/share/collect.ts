// A whole body in memory, up to a size, and a body out of memory.

import type { BodySink, UpstreamBody } from '../upstream-response.ts'

export class Collected {
  readonly bytes: Buffer

  constructor(bytes: Buffer) {
    this.bytes = bytes
  }
}

/** All of a body; or, where it is larger than that, the body as it was; or the error that broke it. */
export function collect(body: UpstreamBody, maxBytes: number): Promise<Collected | UpstreamBody | Error> {
  return new Promise((resolve) => {
    const begun = new BegunBody(body)
    body.start(begun)
    begun.onProgress = (bytes, outcome) => {
      if (bytes > maxBytes) {
        body.pause()
        resolve(begun)
      } else if (outcome === 'complete') {
        resolve(new Collected(begun.bytes))
      } else if (outcome) {
        resolve(outcome)
      }
    }
    begun.check()
  })
}

/** A body of which a part has been read already. */
class BegunBody implements UpstreamBody, BodySink {
  onProgress: ((bytes: number, outcome: 'complete' | Error | undefined) => void) | undefined
  readonly #body: UpstreamBody
  #chunks: Buffer[] = []
  #size = 0
  #outcome: 'complete' | Error | undefined
  #sink: BodySink | undefined

  constructor(body: UpstreamBody) {
    this.#body = body
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#chunks)
  }

  check(): void {
    this.onProgress?.(this.#size, this.#outcome)
  }

  start(sink: BodySink): void {
    this.onProgress = undefined
    this.#sink = sink
    for (const chunk of this.#chunks) sink.onData(chunk)
    this.#chunks = []
    if (this.#outcome !== undefined) this.#tell(sink, this.#outcome)
    else this.#body.unpause()
  }

  pause(): void {
    this.#body.pause()
  }

  unpause(): void {
    this.#body.unpause()
  }

  destroy(): void {
    this.#sink = undefined
    this.#body.destroy()
  }

  onData(chunk: Buffer): void {
    if (this.#sink) return this.#sink.onData(chunk)
    this.#chunks.push(chunk)
    this.#size += chunk.length
    this.check()
  }

  onEnd(): void {
    this.#finish('complete')
  }

  onBroken(cause: Error): void {
    this.#finish(cause)
  }

  #finish(outcome: 'complete' | Error): void {
    this.#outcome = outcome
    if (this.#sink) this.#tell(this.#sink, outcome)
    else this.check()
  }

  #tell(sink: BodySink, outcome: 'complete' | Error): void {
    if (outcome === 'complete') sink.onEnd()
    else sink.onBroken(outcome)
  }
}

/** A body that is there already. */
export function bodyOf(bytes: Buffer): UpstreamBody {
  return {
    start(sink) {
      if (bytes.length > 0) sink.onData(bytes)
      sink.onEnd()
    },
    pause() {},
    unpause() {},
    destroy() {},
  }
}
