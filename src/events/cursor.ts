// What has passed: how many events, and the id a client would resume from. [spec] An id counts when the blank line
// of its block has passed, with or without data; one with NUL does not count; an empty one resets. `retry` counts
// with its line.

// Ids are kept for every stream and travel in headers; nothing real comes near this, and a longer one is as good as
// none, since a part of it would be a wrong one.
const MAX_LINE = 8192
// What may stand before the value.
const LONGEST_NAME = 'retry: '.length
// A part that is no longer than this is a copy as it is: V8 refers to a text for longer ones only.
const COPIED_LENGTH = 12
// In the bytes' own characters.
const BOM = '\u00ef\u00bb\u00bf'

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
  // Of a block whose end has not come yet; only where events are not held back.
  #line = ''
  #id: string | undefined
  #hasData = false
  #endedWithCr = false
  #midway = false
  // What came of a byte order mark, while there is nothing else; undefined after that.
  #start: string | undefined = ''

  constructor(lastEventId: string) {
    this.lastEventId = lastEventId
  }

  /** Bytes that end where an event ends, or that do not, have gone to the client. */
  pass(bytes: Buffer, whole: boolean): void {
    const raw = hasLongLine(bytes) ? startsOfLines(bytes) : bytes.toString('latin1')
    const text = this.#start === undefined ? raw : this.#afterMark(raw)
    if (this.#midway || !whole) this.#passParts(text)
    else this.#passWhole(text)
    this.#midway = !whole
  }

  /** The same for what others have read: so many events, the last id and reconnection time they set, if they did. */
  passed(events: number, id: string | undefined, retryMs: number | undefined): void {
    this.events += events
    if (id !== undefined) this.lastEventId = id.length > MAX_LINE ? '' : utf8(id)
    if (retryMs !== undefined) this.retryMs = retryMs
  }

  /** Another upstream's bytes follow. */
  restart(): void {
    this.#start = ''
  }

  /** [spec] One byte order mark at the start is not part of the first line. */
  #afterMark(text: string): string {
    const start = this.#start + text
    this.#start = start.length < BOM.length && BOM.startsWith(start) ? start : undefined
    if (this.#start !== undefined) return ''
    return start.startsWith(BOM) ? start.slice(BOM.length) : start
  }

  #passWhole(raw: string): void {
    const text = raw.includes('\r') ? raw.replace(/\r\n?/g, '\n') : raw
    // The next line of data that does not begin a block. It is looked for once, however many blocks have none.
    let data = -1
    for (let from = 0, to = text.indexOf('\n\n'); from < text.length; to = text.indexOf('\n\n', from)) {
      const end = to === -1 ? text.length : to
      if (startsWithData(text, from)) {
        this.events++
      } else {
        if (data < from) data = nextDataLine(text, from)
        if (data < end) this.events++
      }
      from = end + 2
    }
    if (text.includes('id')) this.#takeLastId(text)
    if (text.includes('retry')) this.#takeLastRetry(text)
  }

  #takeLastId(text: string): void {
    const id = lastValue(text, 'id', isId)
    if (id !== undefined) this.lastEventId = id.length > MAX_LINE ? '' : utf8(id)
  }

  #takeLastRetry(text: string): void {
    const ms = lastValue(text, 'retry', isNumber)
    if (ms !== undefined) this.retryMs = Number(ms)
  }

  #passParts(raw: string): void {
    let text = this.#endedWithCr && raw[0] === '\n' ? raw.slice(1) : raw
    this.#endedWithCr = raw.endsWith('\r')
    if (text.includes('\r')) text = text.replace(/\r\n?/g, '\n')
    let from = 0
    for (let to = text.indexOf('\n'); to !== -1; to = text.indexOf('\n', from)) {
      this.#passLine(this.#line + text.slice(from, Math.min(to, from + MAX_LINE + 1)))
      this.#line = ''
      from = to + 1
    }
    if (this.#line.length <= MAX_LINE) this.#line = copyOf(this.#line + text.slice(from, from + MAX_LINE + 1))
  }

  #passLine(line: string): void {
    if (line === '') {
      if (this.#id !== undefined) this.lastEventId = this.#id
      if (this.#hasData) this.events++
      this.#id = undefined
      this.#hasData = false
      return
    }
    const [name, value] = fieldOf(line)
    if (name === 'data') this.#hasData = true
    else if (name === 'id' && isId(value)) this.#id = line.length > MAX_LINE ? '' : utf8(value)
    else if (name === 'retry' && isNumber(value)) this.retryMs = Number(value)
  }
}

/**
 * What one complete block sets and whether it is an event.
 * @param raw a character for each byte
 */
export function idOf(raw: string): { id: string | undefined; hasData: boolean } {
  const text = raw.includes('\r') ? raw.replace(/\r\n?/g, '\n') : raw
  const hasData = startsWithData(text, 0) || nextDataLine(text, 0) < text.length
  const id = text.includes('id') ? lastValue(text, 'id', isId) : undefined
  return { id: id !== undefined && id.length > MAX_LINE ? '' : id && utf8(id), hasData }
}

function fieldOf(line: string): [name: string, value: string] {
  const colon = line.indexOf(':')
  if (colon === -1) return [line, '']
  return [line.slice(0, colon), line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1)]
}

function startsWithData(text: string, at: number): boolean {
  return text.startsWith('data', at) && (text[at + 4] === ':' || text[at + 4] === '\n')
}

/** Where the next line of data begins after the line at `from`; the length where there is none. */
function nextDataLine(text: string, from: number): number {
  for (let at = text.indexOf('\ndata', from); at !== -1; at = text.indexOf('\ndata', at + 1)) {
    if (startsWithData(text, at + 1)) return at + 1
  }
  return text.length
}

/** The value of the last field of this name that counts. */
function lastValue(text: string, name: string, counts: (value: string) => boolean): string | undefined {
  for (let at = text.lastIndexOf(name); at !== -1; at = at === 0 ? -1 : text.lastIndexOf(name, at - 1)) {
    if (at > 0 && text[at - 1] !== '\n') continue
    const end = text.indexOf('\n', at)
    const [field, value] = fieldOf(text.slice(at, end === -1 ? text.length : end))
    if (field === name && counts(value)) return value
  }
  return undefined
}

/** [spec] Whether an id counts. */
export function isId(value: string): boolean {
  return !value.includes('\0')
}

/** [spec] Whether a reconnection time counts. */
export function isNumber(value: string): boolean {
  return /^\d+$/.test(value)
}

/** Whether it is worth while to look for line ends one by one: the line in the middle tells. */
function hasLongLine(bytes: Buffer): boolean {
  if (bytes.length <= MAX_LINE) return false
  const middle = bytes.length >> 1
  const end = bytes.indexOf('\n', middle)
  return end === -1 || end - middle > MAX_LINE
}

/** Of lines that are longer than what counts of them, only that much. */
function startsOfLines(bytes: Buffer): string {
  if (bytes.includes('\r')) return bytes.toString('latin1')
  let text = ''
  for (let from = 0, to = 0; to !== -1; from = to + 1) {
    to = bytes.indexOf('\n', from)
    const end = to === -1 ? bytes.length : to
    text += bytes.toString('latin1', from, Math.min(end, from + MAX_LINE + LONGEST_NAME))
    if (to !== -1) text += '\n'
  }
  return text
}

/** What is kept is a copy: a part of a text keeps all of that text in memory, for as long as the stream is silent. */
function utf8(latin1: string): string {
  if (latin1.length <= COPIED_LENGTH && isAscii(latin1)) return latin1
  return Buffer.from(latin1, 'latin1').toString('utf8')
}

function copyOf(latin1: string): string {
  if (latin1.length <= COPIED_LENGTH) return latin1
  return Buffer.from(latin1, 'latin1').toString('latin1')
}

function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 0x7f) return false
  return true
}
