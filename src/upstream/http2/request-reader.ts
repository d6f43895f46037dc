// What Node's HTTP/1.1 client writes to its connection, read back: the head as the headers of an HTTP/2 request, and the body
// without its framing. The one writer is Node itself, so that nothing here has to be lenient.

import type { OutgoingHttpHeaders } from 'node:http'
import { joined } from '../../bytes.ts'
import { isHopByHop } from '../../end-to-end.ts'
import { ChunkWalker } from '../../http-chunks.ts'
import { codeOf } from '../../system-error.ts'

/** The head of a request. */
export interface RequestHead {
  /** As HTTP/2 has them, the pseudo headers among them. */
  readonly headers: OutgoingHttpHeaders
  readonly method: string
  /** Whether nothing follows. */
  readonly isWhole: boolean
}

const HEAD_END = Buffer.from('\r\n\r\n')
// The first digit of the last chunk's size: Node writes no size with leading zeros.
const ZERO = 48

// RFC 9113, section 8.3.1. Where it is another, upstreams reset the stream, or end the connection of all.
const AUTHORITY = /^(?:\[[\da-f:.]+\]|[\w.~!$&'()*+,;=%-]+)(?::\d*)?$/i

/** The request, or what it goes on with, cannot be sent over HTTP/2. */
export class Unsendable extends Error {
  readonly code: string

  constructor(cause: Error) {
    super(cause.message, { cause })
    this.code = codeOf(cause)
  }
}

/** Reads one request. */
export class RequestReader {
  /** Undefined until all of it has come. */
  head: RequestHead | undefined
  /** Whether the end of the body has come. */
  isEnded = false
  readonly #scheme: string
  // What has come of the head so far; empty once it is there.
  #early: Buffer[] = []
  // How much of the body is still to come; Infinity where it is in chunks.
  #left = 0
  readonly #chunks = new ChunkWalker()

  constructor(scheme: string) {
    this.#scheme = scheme
  }

  /**
   * Returns what is new of the body.
   * @throws Error where it is nothing that Node writes
   */
  read(bytes: Buffer): Buffer[] {
    if (this.head) return this.#readBody(bytes)
    this.#early.push(bytes)
    const all = joined(this.#early)
    const end = all.indexOf(HEAD_END)
    if (end === -1) return []
    this.#early = []
    this.#readHead(all.toString('latin1', 0, end))
    return this.#readBody(all.subarray(end + HEAD_END.length))
  }

  #readHead(text: string): void {
    const [line = '', ...lines] = text.split('\r\n')
    const method = line.slice(0, line.indexOf(' '))
    // A header may be called like a member of every object.
    const headers: OutgoingHttpHeaders = Object.create(null)
    headers[':method'] = method
    headers[':path'] = line.slice(method.length + 1, line.lastIndexOf(' '))
    headers[':scheme'] = this.#scheme
    for (const field of lines) {
      const colon = field.indexOf(':')
      this.#addField(headers, field.slice(0, colon).toLowerCase(), field.slice(colon + 1).trim())
    }
    this.isEnded = this.#left === 0
    this.head = { headers, method, isWhole: this.isEnded }
  }

  #addField(headers: OutgoingHttpHeaders, name: string, value: string): void {
    if (name === 'host') headers[':authority'] = checkAuthority(value)
    else if (name === 'transfer-encoding') this.#left = Number.POSITIVE_INFINITY
    else if (!isHopByHop(name)) {
      if (name === 'content-length') this.#left = Number(value)
      const before = headers[name]
      headers[name] = before === undefined ? value : [before, value].flat().map(String)
    }
  }

  #readBody(bytes: Buffer): Buffer[] {
    if (bytes.length === 0) return []
    if (this.#left === Number.POSITIVE_INFINITY) return this.#readChunks(bytes)
    this.#left -= bytes.length
    if (this.#left < 0) throw new Error('the body is longer than its Content-Length')
    this.isEnded = this.#left === 0
    return [bytes]
  }

  #readChunks(bytes: Buffer): Buffer[] {
    const data: Buffer[] = []
    for (let at = 0; at < bytes.length && !this.isEnded; ) {
      // What follows it are trailers, which no handler of a proxied request sends.
      if (this.#chunks.isBetweenChunks && bytes[at] === ZERO) this.isEnded = true
      else {
        at = this.#chunks.next(bytes, at)
        if (this.#chunks.isForeign) throw new Error('a chunk of the body cannot be read')
        const { dataStart, dataEnd } = this.#chunks
        if (dataEnd > dataStart) data.push(bytes.subarray(dataStart, dataEnd))
      }
    }
    return data
  }
}

function checkAuthority(host: string): string {
  if (AUTHORITY.test(host)) return host
  throw Object.assign(new Error('the Host is no name with a port'), { code: 'ERR_INVALID_HOST' })
}
