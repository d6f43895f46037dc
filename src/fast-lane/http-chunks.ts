// HTTP/1.1 chunks made here, where Node would make them with three writes and a string for each client. RFC 9112,
// section 7.1: the size in hexadecimal, CR LF, the bytes, CR LF.

const CR_LF = Buffer.from('\r\n')
// Larger ones are not copied for the sake of a few bytes around them.
const COPIED_BYTES = 16_384

/** The bytes as one chunk, in as many buffers as it takes not to copy much. */
export function chunkOf(bytes: Buffer): readonly Buffer[] {
  // A chunk of no bytes would be the last one.
  if (bytes.length === 0) return []
  const size = bytes.length.toString(16)
  if (bytes.length > COPIED_BYTES) return [Buffer.from(`${size}\r\n`, 'latin1'), bytes, CR_LF]
  const start = size.length + 2
  const chunk = Buffer.allocUnsafe(start + bytes.length + 2)
  chunk.write(`${size}\r\n`, 0, 'latin1')
  bytes.copy(chunk, start)
  CR_LF.copy(chunk, start + bytes.length)
  return [chunk]
}

/** Bytes that go to many clients: made into a chunk once, for those who take chunks. */
export class SharedBytes {
  readonly bytes: Buffer
  #chunk: readonly Buffer[] | undefined

  constructor(bytes: Buffer) {
    this.bytes = bytes
  }

  get chunk(): readonly Buffer[] {
    this.#chunk ??= chunkOf(this.bytes)
    return this.#chunk
  }
}
