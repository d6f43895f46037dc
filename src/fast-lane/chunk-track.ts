// Where the chunks of an HTTP/1.1 body begin and end (RFC 9112, section 7.1), in pieces as they come.

import { hexDigit, MAX_DIGITS } from './chunk-size.ts'

const CR = 13
const LF = 10

type Part = 'size' | 'size-lf' | 'data' | 'data-cr' | 'data-lf'

export class ChunkTrack {
  #part: Part = 'size'
  #digits = 0
  // Of the chunk's data, what is still to come.
  #left = 0
  #isForeign = false

  /** Where the chunk on its way ends in these bytes: 0 where there is none, after all of them where that is not known. */
  endOfChunk(bytes: Buffer): number {
    if (this.#part === 'size' && this.#digits === 0) return 0
    const copy = new ChunkTrack()
    copy.#part = this.#part
    copy.#digits = this.#digits
    copy.#left = this.#left
    const { at } = copy.#go(bytes, true)
    return copy.#isForeign ? bytes.length : at
  }

  /** Goes on; how much data went by, or undefined from a last or an unknown chunk on. */
  pass(bytes: Buffer): number | undefined {
    const { data } = this.#go(bytes, false)
    return this.#isForeign ? undefined : data
  }

  #go(bytes: Buffer, toEndOfChunk: boolean): { at: number; data: number } {
    let data = 0
    let at = 0
    while (at < bytes.length && !this.#isForeign) {
      if (this.#part === 'data') {
        const passed = Math.min(this.#left, bytes.length - at)
        data += passed
        at += passed
        this.#left -= passed
        if (this.#left === 0) this.#part = 'data-cr'
        continue
      }
      this.#frame(bytes[at++] ?? 0)
      if (toEndOfChunk && this.#part === 'size' && this.#digits === 0) break
    }
    return { at, data }
  }

  #frame(byte: number): void {
    switch (this.#part) {
      case 'size': {
        const digit = hexDigit(byte)
        if (digit !== -1 && this.#digits < MAX_DIGITS) {
          this.#left = this.#left * 16 + digit
          this.#digits++
        } else {
          this.#expect(byte === CR && this.#left > 0, 'size-lf')
        }
        return
      }
      case 'size-lf':
        this.#digits = 0
        return this.#expect(byte === LF, 'data')
      case 'data-cr':
        return this.#expect(byte === CR, 'data-lf')
      default:
        return this.#expect(byte === LF, 'size')
    }
  }

  #expect(isSo: boolean, next: Part): void {
    if (isSo) this.#part = next
    else this.#isForeign = true
  }
}

/** The data of the whole chunks that these bytes begin with, moved together where it lies, and what comes after them. */
export function takeData(bytes: Buffer): { data: Buffer; rest: Buffer } {
  let from = 0
  let to = 0
  let at = 0
  for (;;) {
    let size = 0
    let sizeEnd = at
    for (let digit = hexDigit(bytes[at] ?? 0); digit !== -1; digit = hexDigit(bytes[++sizeEnd] ?? 0))
      size = size * 16 + digit
    const start = sizeEnd + 2
    const end = start + size
    const isWhole = end + 2 <= bytes.length && isLineEnd(bytes, sizeEnd) && isLineEnd(bytes, end)
    if (size === 0 || sizeEnd - at > MAX_DIGITS || !isWhole) break
    // The first one stays where it is.
    if (to === 0) from = start
    else bytes.copyWithin(to, start, end)
    to = (to || start) + size
    at = end + 2
  }
  return { data: bytes.subarray(from, to), rest: bytes.subarray(at) }
}

function isLineEnd(bytes: Buffer, at: number): boolean {
  return bytes[at] === CR && bytes[at + 1] === LF
}
