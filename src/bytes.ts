// What several places do with bytes.

/** One buffer; a copy only where there were several. */
export function joined(pieces: readonly Buffer[]): Buffer {
  const [first] = pieces
  return pieces.length === 1 && first ? first : Buffer.concat(pieces)
}
