// What several places do with bytes.

/** One buffer; a copy only where there were several. */
export function joined(pieces: readonly Buffer[]): Buffer {
  const [first] = pieces
  return pieces.length === 1 && first ? first : Buffer.concat(pieces)
}

const NOTHING = Buffer.alloc(0)

/** Bytes that come in pieces and are wanted as one. Pieces are copied, so that small ones cost no more than their bytes. */
export class ByteStore {
  // The first so many bytes of this are held; it doubles when it is full.
  #bytes: Buffer = NOTHING
  #length = 0

  /** How many bytes are held. */
  get length(): number {
    return this.#length
  }

  add(piece: Buffer): void {
    const length = this.#length + piece.length
    if (length > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(Math.max(length, 2 * this.#bytes.length))
      this.#bytes.copy(larger, 0, 0, this.#length)
      this.#bytes = larger
    }
    piece.copy(this.#bytes, this.#length)
    this.#length = length
  }

  /** Gives what is held, and holds nothing afterwards. */
  take(): Buffer {
    const bytes = this.#bytes.subarray(0, this.#length)
    this.#bytes = NOTHING
    this.#length = 0
    return bytes
  }
}
