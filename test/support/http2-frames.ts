// Frames of HTTP/2 (RFC 9113, section 6) as bytes, for what no HTTP library would send.

const DATA = 0
const HEADERS = 1
const RST_STREAM = 3
const SETTINGS = 4
const GOAWAY = 7
const END_STREAM = 1
const END_HEADERS = 4
const ACK = 1

export const settingsFrame: Buffer = anyFrame(SETTINGS, 0, 0)
export const settingsAckFrame: Buffer = anyFrame(SETTINGS, ACK, 0)

/** With status 200 and literal headers. */
export function headersFrame(stream: number, headers: Record<string, string> = {}, flags = 0): Buffer {
  const status = Buffer.from([0x88])
  const fields = Object.entries(headers).map(([name, value]) =>
    Buffer.concat([Buffer.from([0, name.length]), Buffer.from(name), Buffer.from([value.length]), Buffer.from(value)]),
  )
  return anyFrame(HEADERS, END_HEADERS | flags, stream, Buffer.concat([status, ...fields]))
}

export function dataFrame(stream: number, bytes: string, isLast = false): Buffer {
  return anyFrame(DATA, isLast ? END_STREAM : 0, stream, Buffer.from(bytes))
}

export function rstFrame(stream: number, code: number): Buffer {
  return anyFrame(RST_STREAM, 0, stream, number(code))
}

export function goawayFrame(lastStream: number, code: number): Buffer {
  return anyFrame(GOAWAY, 0, 0, Buffer.concat([number(lastStream), number(code)]))
}

/** Of any type, with any flags. */
export function anyFrame(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const { length } = payload
  const head = Buffer.from([length >> 16, (length >> 8) & 255, length & 255, type, flags, 0, 0, 0, 0])
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

function number(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}
