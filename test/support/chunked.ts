// HTTP/1.1 chunks read byte by byte, plainly on purpose: what the product makes of them is judged by this.

const CR = 13
const LF = 10

type Expected = 'size' | 'size-lf' | 'data' | 'data-cr' | 'data-lf' | 'nothing'

/** Takes a body in pieces. After the last chunk, and after anything but plain chunks, it is over. */
export class Dechunker {
  #expected: Expected = 'size'
  #digits = ''
  #left = 0

  get isOver(): boolean {
    return this.#expected === 'nothing'
  }

  /** Whether what came ends where a chunk does. */
  get isBetweenChunks(): boolean {
    return this.#expected === 'size' && this.#digits === ''
  }

  /** The data in these bytes. */
  take(bytes: Buffer): Buffer {
    return this.#read(bytes, false).data
  }

  /** The same up to the end of the chunk that is on its way; tells how many bytes that took. */
  takeRestOfChunk(bytes: Buffer): { data: Buffer; at: number } {
    return this.isBetweenChunks ? { data: bytes.subarray(0, 0), at: 0 } : this.#read(bytes, true)
  }

  #read(bytes: Buffer, toEndOfChunk: boolean): { data: Buffer; at: number } {
    const data: Buffer[] = []
    let at = 0
    while (at < bytes.length && !this.isOver && !(toEndOfChunk && at > 0 && this.isBetweenChunks)) {
      if (this.#expected === 'data') {
        const part = bytes.subarray(at, at + this.#left)
        data.push(part)
        at += part.length
        this.#left -= part.length
        if (this.#left === 0) this.#expected = 'data-cr'
      } else {
        this.#expected = this.#next(bytes[at++] ?? 0)
      }
    }
    return { data: data.length === 1 && data[0] ? data[0] : Buffer.concat(data), at: this.isOver ? bytes.length : at }
  }

  #next(byte: number): Expected {
    switch (this.#expected) {
      case 'size': {
        const character = String.fromCharCode(byte)
        if (/[\da-f]/i.test(character)) {
          this.#digits += character
          return 'size'
        }
        this.#left = Number.parseInt(this.#digits, 16)
        this.#digits = ''
        return byte === CR && this.#left > 0 ? 'size-lf' : 'nothing'
      }
      case 'size-lf':
        return byte === LF ? 'data' : 'nothing'
      case 'data-cr':
        return byte === CR ? 'data-lf' : 'nothing'
      case 'data-lf':
        return byte === LF ? 'size' : 'nothing'
      default:
        return 'nothing'
    }
  }
}
