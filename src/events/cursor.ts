// What has passed: how many events, and the id a client would resume from. What others have read is only added; bytes
// that have not been read yet are read here.

import { copyOf, decodeId, FieldReader, MAX_LINE_BYTES, withLf } from './fields.ts'

const LF = 10
const CR = 13
// `id` and `retry` have values that are read.
const SMALL_I = 105
const SMALL_R = 114
const MAX_NAME_BYTES = 'retry:'.length
// What it costs to look for the end of a line by itself, in bytes of text.
const LINE_BYTES = 512

/** Where a client stands. */
export interface Progress {
  readonly lastEventId: string
  readonly events: number
}

export class Cursor implements Progress {
  lastEventId: string
  events = 0
  /** The reconnection time the upstream has asked for, in ms. */
  retryMs: number | undefined
  // Reads what leaves before its block is over, as it does where events are not held back; undefined between blocks.
  #parts: PartReader | undefined

  constructor(lastEventId: string) {
    this.lastEventId = lastEventId
  }

  /**
   * Bytes have gone to the client.
   * @param bytes without the byte order mark at the start of an upstream's
   * @param whole whether they end where an event ends
   */
  pass(bytes: Buffer, whole: boolean): void {
    if (whole && !this.#parts) return this.passWhole(bytes)
    this.#parts ??= new PartReader()
    const { fields } = this.#parts
    this.#parts.read(bytes)
    this.passed(fields.events, fields.id, fields.retryMs)
    fields.forget()
    if (whole) this.#parts = undefined
  }

  /** The same for what begins and ends between two events. */
  protected passWhole(bytes: Buffer): void {
    const lines = withLf(textOf(bytes, ''))
    const fields = new FieldReader()
    fields.read(lines, 0, lines.length)
    this.passed(fields.events, fields.id, fields.retryMs)
  }

  /** The same for one event, in however many pieces, whose lines all end with LF. */
  passEvent(pieces: readonly Buffer[]): void {
    const { events, id, retryMs } = readEvent(pieces)
    this.passed(events, id, retryMs)
  }

  /** The same for what others have read: so many events, the last id and reconnection time they set, if they did. */
  passed(events: number, id: string | undefined, retryMs: number | undefined): void {
    this.events += events
    if (id !== undefined) this.lastEventId = decodeId(id)
    if (retryMs !== undefined) this.retryMs = retryMs
  }
}

/** The fields of one event, in however many pieces, whose lines all end with LF. */
export function readEvent(pieces: readonly Buffer[]): FieldReader {
  const parts = new PartReader()
  for (const piece of pieces) parts.readLines(piece)
  return parts.fields
}

/** Reads text that is cut anywhere. */
class PartReader {
  readonly fields: FieldReader = new FieldReader()
  // The start of a line whose end has not come, no more of it than counts.
  #line = ''
  // Whether an LF that comes first belongs to the line end before it.
  #endedWithCr = false

  read(bytes: Buffer): void {
    this.#readText(textOf(bytes, this.#line))
  }

  /** The same where all lines end with LF. */
  readLines(bytes: Buffer): void {
    this.#readText(startsOfLines(bytes, this.#line) ?? bytes.toString('latin1'))
  }

  #readText(part: string): void {
    const text = withLf(this.#endedWithCr && part[0] === '\n' ? part.slice(1) : part)
    if (part !== '') this.#endedWithCr = part.endsWith('\r')
    const firstEnd = text.indexOf('\n')
    const lastEnd = firstEnd === -1 ? -1 : text.lastIndexOf('\n')
    if (firstEnd !== -1) {
      const line = this.#line + text.slice(0, Math.min(firstEnd, MAX_LINE_BYTES))
      this.fields.read(`${line}\n`, 0, line.length + 1)
      this.fields.read(text, firstEnd + 1, lastEnd + 1)
      this.#line = ''
    }
    const start = lastEnd + 1
    const room = lengthThatCounts(this.#line.charCodeAt(0) || text.charCodeAt(start)) - this.#line.length
    if (room > 0) this.#line = copyOf(this.#line + text.slice(start, start + room))
  }
}

/** The bytes as text, or as much of each line as counts. `begun` is the start of the first line, where that has come before. */
function textOf(bytes: Buffer, begun: string): string {
  const starts = hasLongLine(bytes) && !bytes.includes(CR) ? startsOfLines(bytes, begun) : undefined
  return starts ?? bytes.toString('latin1')
}

/** Whether it is worth while to look for line ends one by one: the line in the middle tells. */
export function hasLongLine(bytes: Buffer): boolean {
  if (bytes.length <= MAX_LINE_BYTES) return false
  const middle = bytes.length >> 1
  const end = bytes.indexOf(LF, middle)
  return end === -1 || end - middle > MAX_LINE_BYTES
}

/**
 * What counts of each line, where all end with LF; undefined where they are so many that the whole text costs less.
 * @param begun the start of the first one, where that has come before
 */
export function startsOfLines(bytes: Buffer, begun: string): string | undefined {
  let text = ''
  let first = begun.charCodeAt(0) || bytes[0]
  let lines = bytes.length / LINE_BYTES
  for (let from = 0, to = 0; to !== -1; from = to + 1, first = bytes[from]) {
    if (lines-- < 0) return undefined
    to = bytes.indexOf(LF, from)
    const end = to === -1 ? bytes.length : to
    text += bytes.toString('latin1', from, Math.min(end, from + lengthThatCounts(first)))
    if (to !== -1) text += '\n'
  }
  return text
}

/** How much of a line says all that is read here, by the first character of its field's name. */
function lengthThatCounts(first: number | undefined): number {
  return first === SMALL_I || first === SMALL_R ? MAX_LINE_BYTES : MAX_NAME_BYTES
}
