// Takes HTTP chunks apart without copying. Chunk size lines are a few bytes: walking them beats a call for each.

export interface BodySink {
  /** Bytes of the body; the buffer is used again after the call. */
  take(buffer: Buffer, from: number, to: number): void
}

const size = 0
const extension = 1
const data = 2
const afterData = 3
const ended = 4

export class ChunkReader {
  #state = size
  #left = 0

  /** Whether the last chunk was there: the response ended as it should. */
  get isEnded(): boolean {
    return this.#state === ended
  }

  read(buffer: Buffer, from: number, to: number, sink: BodySink): void {
    let at = from
    while (at < to && this.#state !== ended) {
      if (this.#state === data) {
        const end = Math.min(to, at + this.#left)
        this.#left -= end - at
        if (this.#left === 0) this.#state = afterData
        sink.take(buffer, at, end)
        at = end
      } else {
        this.#walk(buffer[at++]!)
      }
    }
  }

  #walk(byte: number): void {
    if (byte === 0x0a) {
      if (this.#state === afterData) this.#state = size
      else this.#state = this.#left > 0 ? data : ended
    } else if (byte === 0x3b) {
      this.#state = extension
    } else if (this.#state === size && byte !== 0x0d) {
      this.#left = this.#left * 16 + (byte <= 0x39 ? byte - 0x30 : (byte | 0x20) - 0x57)
    }
  }
}
