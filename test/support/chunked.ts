// HTTP/1.1 chunks read byte by byte, slow and plain on purpose: what the product makes of them is judged by this.

const CR = 13
const LF = 10

type Expected = 'size' | 'size-lf' | 'data' | 'data-cr' | 'data-lf' | 'nothing'

/** Takes a body in pieces. After the last chunk, and after anything but plain chunks, it is `isOver`. */
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
    const data: number[] = []
    for (const byte of bytes) if (this.#step(byte)) data.push(byte)
    return Buffer.from(data)
  }

  /** The same up to the end of the chunk that is on its way; tells how many bytes that took. */
  takeRestOfChunk(bytes: Buffer): { data: Buffer; at: number } {
    const data: number[] = []
    let at = 0
    for (; at < bytes.length && !this.isBetweenChunks; at++) {
      const byte = bytes[at] ?? 0
      if (this.#step(byte)) data.push(byte)
    }
    return { data: Buffer.from(data), at }
  }

  /** Whether the byte is data. */
  #step(byte: number): boolean {
    switch (this.#expected) {
      case 'size': {
        const character = String.fromCharCode(byte)
        if (/[\da-f]/i.test(character)) this.#digits += character
        else this.#expected = byte === CR && Number.parseInt(this.#digits, 16) > 0 ? 'size-lf' : 'nothing'
        return false
      }
      case 'size-lf':
        this.#left = Number.parseInt(this.#digits, 16)
        this.#digits = ''
        this.#expected = byte === LF ? 'data' : 'nothing'
        return false
      case 'data':
        this.#left--
        if (this.#left === 0) this.#expected = 'data-cr'
        return true
      case 'data-cr':
        this.#expected = byte === CR ? 'data-lf' : 'nothing'
        return false
      case 'data-lf':
        this.#expected = byte === LF ? 'size' : 'nothing'
        return false
      case 'nothing':
        return false
    }
  }
}
