// The answer of an HTTP/2 stream as the bytes of HTTP/1.1, for Node's parser: it ends for the parser only where the stream has
// said that it ends.

import { type IncomingHttpHeaders, STATUS_CODES } from 'node:http'
import { isHopByHop } from '../../end-to-end.ts'
import { chunkOf } from '../../http-chunks.ts'

const NO_BODY_STATUSES = new Set([204, 304])
// HTTP/2 has no such characters in a value. Where one came through, the parser would see a header, or an answer, of its own.
const LINE_BREAKS = /[\r\n\0]/

/** Writes one answer. */
export class AnswerWriter {
  // How the parser knows where the body ends.
  #framing: 'none' | 'length' | 'chunks' = 'none'
  // How much of a Content-Length is still to come.
  #left = 0
  // The last of a Content-Length: with it the answer would be complete before the stream has ended.
  #last: Buffer[] = []

  /**
   * The head of an answer, or of an interim one.
   * @throws Error where it cannot be said in HTTP/1.1
   */
  head(headers: IncomingHttpHeaders, method: string): Buffer {
    const status = Number(headers[':status'])
    if (!(status >= 100 && status < 1000)) throw new Error(`an answer with status ${status}`)
    const lines = linesOf(headers)
    if (status >= 200) {
      this.#framing = framingOf(headers, status, method)
      if (this.#framing === 'length') this.#left = Number(headers['content-length'])
      else if (this.#framing === 'chunks') lines.push('transfer-encoding: chunked')
    }
    const head = [`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`, ...lines, '', ''].join('\r\n')
    return Buffer.from(head, 'latin1')
  }

  /** What is to be written of some data of the body. */
  data(bytes: Buffer): readonly Buffer[] {
    if (this.#framing === 'chunks') return chunkOf([bytes])
    if (this.#framing === 'none') return []
    this.#left -= bytes.length
    if (this.#left > 0) return [bytes]
    this.#last.push(bytes)
    return []
  }

  /** The end of the body, when the stream has said so. */
  end(trailers: IncomingHttpHeaders): readonly Buffer[] {
    if (this.#framing === 'length') return this.#last
    if (this.#framing === 'none') return []
    return [Buffer.from(['0', ...linesOf(trailers), '', ''].join('\r\n'), 'latin1')]
  }
}

function framingOf(headers: IncomingHttpHeaders, status: number, method: string): 'none' | 'length' | 'chunks' {
  if (method === 'HEAD' || NO_BODY_STATUSES.has(status)) return 'none'
  const length = headers['content-length']
  // Nothing comes that could be held back.
  if (length === '0') return 'none'
  return length === undefined ? 'chunks' : 'length'
}

function linesOf(headers: IncomingHttpHeaders): string[] {
  const lines: string[] = []
  for (const name in headers) {
    const value = headers[name]
    if (value === undefined || name[0] === ':' || isHopByHop(name)) continue
    for (const each of Array.isArray(value) ? value : [value]) {
      if (LINE_BREAKS.test(each)) throw new Error(`a line break in the header ${name}`)
      lines.push(`${name}: ${each}`)
    }
  }
  return lines
}
