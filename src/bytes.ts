// What several places do with bytes.

// Pieces that are kept below this size are joined.
const JOIN_BYTES = 32_768
const encoder = new TextEncoder()

/** One buffer; a copy only where there were several. */
export function joined(pieces: readonly Buffer[]): Buffer {
  const [first] = pieces
  return pieces.length === 1 && first ? first : Buffer.concat(pieces)
}

/** Texts as UTF-8, one behind the other. Joined before, which copies them once more, only where they are not all ASCII. */
export function encoded(texts: readonly string[]): Buffer {
  const bytes = Buffer.allocUnsafeSlow(texts.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const text of texts) {
    const { read, written } = encoder.encodeInto(text, bytes.subarray(at))
    // There is no room for a character of more than one byte and all others.
    if (read < text.length) return Buffer.from(texts.join(''))
    at += written
  }
  return bytes
}

/** Whether one of the pieces lies in this memory. */
export function lieIn({ buffer }: Buffer, pieces: readonly Buffer[]): boolean {
  return pieces.some((piece) => piece.buffer === buffer)
}

/** A copy in memory of its own, no larger than it. */
export function ownCopy(bytes: Buffer): Buffer {
  const own = Buffer.allocUnsafeSlow(bytes.length)
  bytes.copy(own)
  return own
}

/** The same bytes, to be kept: a copy where they fill less than half of the memory that they would keep. */
export function compact(bytes: Buffer): Buffer {
  return bytes.length < bytes.buffer.byteLength / 2 ? ownCopy(bytes) : bytes
}

/** The same bytes: small pieces are joined to each other, and large ones stay by themselves. */
export function coalesced(pieces: readonly Buffer[]): readonly Buffer[] {
  if (pieces.length === 1) return pieces
  const all: Buffer[] = []
  let small: Buffer[] = []
  for (const piece of pieces) {
    if (piece.length < JOIN_BYTES) {
      small.push(piece)
      continue
    }
    if (small.length > 0) all.push(joined(small))
    small = []
    all.push(piece)
  }
  if (small.length > 0) all.push(joined(small))
  return all
}

/**
 * The pieces and one more, to be kept until what follows them is here. Small ones are copied, which lets go of the reads they
 * are part of, and joined: bytes that drip in cost neither memory nor time.
 */
export function kept(pieces: readonly Buffer[], piece: Buffer): readonly Buffer[] {
  if (piece.length === 0) return pieces
  const all = [...pieces, piece.length < JOIN_BYTES ? Buffer.from(piece) : piece]
  // Pieces double in size from last to first, so that each byte is copied a logarithmic number of times.
  for (let last = all.pop(), previous = all.pop(); last; previous = all.pop()) {
    if (!previous || previous.length > last.length || previous.length >= JOIN_BYTES) {
      return previous ? [...all, previous, last] : [last]
    }
    last = Buffer.concat([previous, last])
  }
  return all
}

/** Bytes that come in pieces and are wanted as one. */
export class ByteStore {
  #pieces: readonly Buffer[] = []
  #length = 0

  /** How many bytes are held. */
  get length(): number {
    return this.#length
  }

  add(piece: Buffer): void {
    this.#pieces = kept(this.#pieces, piece)
    this.#length += piece.length
  }

  /** Gives what is held, and holds nothing afterwards. */
  take(): Buffer {
    const bytes = joined(this.#pieces)
    this.#pieces = []
    this.#length = 0
    return bytes
  }
}
