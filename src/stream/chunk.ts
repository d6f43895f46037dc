// HTTP/1.1's chunked coding, made by hand: one buffer that many clients can be sent, in one write each.

// A larger piece is not worth copying.
export const MAX_FRAMED_BYTES = 16_384

/** A chunk: its length, the bytes, and the end (RFC 9112, section 7.1). */
export function frameChunk(bytes: Buffer): Buffer {
  const head = `${bytes.length.toString(16)}\r\n`
  const frame = Buffer.allocUnsafe(head.length + bytes.length + 2)
  frame.write(head, 'latin1')
  bytes.copy(frame, head.length)
  frame[frame.length - 2] = 13
  frame[frame.length - 1] = 10
  return frame
}
