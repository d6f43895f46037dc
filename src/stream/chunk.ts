// HTTP/1.1's chunked coding, made by hand: one buffer that many clients can be sent, in one write each.

// A larger piece is not worth copying.
export const MAX_FRAMED_BYTES = 16_384

/** Bytes, and the same as a chunk; both are one piece of memory. */
export interface Framed {
  readonly bytes: Buffer
  readonly frame: Buffer
}

export function framed(bytes: Buffer): Framed {
  const frame = frameChunk(bytes)
  return { frame, bytes: frame.subarray(frame.length - 2 - bytes.length, frame.length - 2) }
}

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
