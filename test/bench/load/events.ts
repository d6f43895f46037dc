// The events that are sent, ready to be written: one HTTP chunk each, as Node and Go servers send them.

const timeDigits = 16
// The clock's milliseconds, to a tenth of a microsecond.
const unitsPerMs = 1e4
const timeMark = Buffer.from('"t":"')

/** What ends an event. */
export const blankLine = Buffer.from('\n\n')

/** ASCII text as one HTTP chunk. */
export function chunkOf(text: string): Buffer {
  return Buffer.from(`${text.length.toString(16)}\r\n${text}\r\n`)
}

export class EventTemplate {
  readonly bytes: number
  readonly #chunk: Buffer
  readonly #timeAt: number

  constructor(bytes: number) {
    const start = `${bytes < 100 ? '' : 'id: 00000001\nevent: msg\n'}data: {"t":"${'0'.repeat(timeDigits)}","c":"`
    const end = '"}\n\n'
    const event = start + 'x'.repeat(bytes - start.length - end.length) + end
    this.bytes = bytes
    this.#chunk = chunkOf(event)
    this.#timeAt = this.#chunk.indexOf(timeMark) + timeMark.length
  }

  /** An event that carries the time it was sent at. */
  at(ms: number): Buffer {
    const chunk = Buffer.from(this.#chunk)
    chunk.write((ms * unitsPerMs).toFixed(0).padStart(timeDigits, '0'), this.#timeAt, 'latin1')
    return chunk
  }

  /** Many events for one write. */
  times(count: number): Buffer {
    return Buffer.concat(Array.from({ length: count }, () => this.#chunk))
  }

  /** The payload, as a hook sees it. */
  get data(): string {
    const text = this.#chunk.toString('latin1')
    return text.slice(text.indexOf('{'), text.lastIndexOf('}') + 1)
  }
}

/** The time at which an event was sent; undefined for what is no event of ours, such as a keepalive. */
export function sentAt(bytes: Buffer, from: number, to: number): number | undefined {
  const mark = bytes.indexOf(timeMark, from)
  if (mark < 0 || mark >= to) return undefined
  const start = mark + timeMark.length
  return Number(bytes.toString('latin1', start, start + timeDigits)) / unitsPerMs
}
