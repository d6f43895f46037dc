// The one reader of fields: which ids and reconnection times the lines of a stream set, and which of its blocks are
// events. What an event says is for hooks alone, and event-text.ts parses it for them.

const LF = 10
const COLON = 58
const SPACE = 32
// Ids are kept for every stream and travel in headers; nothing real comes near this, and a longer one is as good as
// none, since a part of it would be a wrong one.
const MAX_ID_BYTES = 8192
/** As much of a line as counts: the longest id with the longest of the names that are read here. */
export const MAX_LINE_BYTES: number = MAX_ID_BYTES + 'retry: '.length
// A part that is no longer than this is a copy as it is: V8 refers to a text for longer ones only.
const COPIED_LENGTH = 12

/**
 * Reads whole lines that end with LF, of texts that have a character for each byte. [spec] An id counts when the blank
 * line of its block has passed, with or without data; one with NUL does not count. `retry` counts with its line.
 */
export class FieldReader {
  /** How many blocks with data are over. */
  events = 0
  /** The last id that counts, for `decodeId`; undefined where there was none. */
  id: string | undefined
  /** The last reconnection time, in ms. */
  retryMs: number | undefined
  // Of the block on its way.
  #hasData = false
  #id: string | undefined

  /** Reads the lines of a part of a text; whether a blank line was among them. */
  read(text: string, from: number, to: number): boolean {
    let hasBlankLine = false
    for (let line = from; line < to; ) {
      if (text.charCodeAt(line) === LF) {
        this.#endBlock()
        hasBlankLine = true
        line++
        continue
      }
      const found = text.indexOf('\n', line)
      const end = found === -1 ? to : found
      // However much of the line is here, the same of it is read.
      this.#readLine(text, line, Math.min(end, line + MAX_LINE_BYTES))
      line = end + 1
    }
    return hasBlankLine
  }

  /** Forgets what was read, and lets go of its text. Only the block on its way is remembered. */
  forget(): void {
    this.events = 0
    this.id = undefined
    this.retryMs = undefined
    this.#id = this.#id && copyOf(this.#id)
  }

  #readLine(text: string, start: number, end: number): void {
    switch (text.charCodeAt(start)) {
      case 100: // data
        if (text.startsWith('data', start) && isNameEnd(text, start + 4, end)) this.#hasData = true
        break
      case 105: // id
        if (text.startsWith('id', start) && isNameEnd(text, start + 2, end)) {
          const id = valueAfter(text, start + 2, end)
          if (!id.includes('\0')) this.#id = id
        }
        break
      case 114: // retry
        if (text.startsWith('retry:', start)) {
          const value = valueAfter(text, start + 5, end)
          if (/^\d+$/.test(value)) this.retryMs = Number(value)
        }
    }
  }

  #endBlock(): void {
    if (this.#hasData) this.events++
    if (this.#id !== undefined) this.id = this.#id
    this.#hasData = false
    this.#id = undefined
  }
}

/** [spec] A line ends with LF, CR or CR LF. */
export function withLf(text: string): string {
  return text.includes('\r') ? text.replace(/\r\n?/g, '\n') : text
}

/**
 * An id as text. What is kept of it is a copy: a part of a text keeps all of that text in memory, for as long as the
 * stream is silent.
 */
export function decodeId(latin1: string): string {
  if (latin1.length > MAX_ID_BYTES) return ''
  if (latin1.length <= COPIED_LENGTH && isAscii(latin1)) return latin1
  return Buffer.from(latin1, 'latin1').toString('utf8')
}

/** The same text, which keeps no other in memory. */
export function copyOf(latin1: string): string {
  if (latin1.length <= COPIED_LENGTH) return latin1
  return Buffer.from(latin1, 'latin1').toString('latin1')
}

function isNameEnd(text: string, at: number, end: number): boolean {
  return at === end || text.charCodeAt(at) === COLON
}

/** The value of a field whose name ends here. */
function valueAfter(text: string, nameEnd: number, end: number): string {
  return text.slice(text.charCodeAt(nameEnd + 1) === SPACE ? nameEnd + 2 : nameEnd + 1, end)
}

function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 0x7f) return false
  return true
}
