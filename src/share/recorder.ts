// What a shared stream sends, block by block: events are counted, get ids of the proxy's own where those are asked for,
// and are kept for clients that come later. Comments and blank lines are for the followers that are here, and are not kept.

import { endOfBlankLines, nextBoundary } from '../events/boundaries.ts'
import type { Progress } from '../events/cursor.ts'
import { decodeId, FieldReader, withLf } from '../events/fields.ts'
import type { EventLog, LogEntry } from './event-log.ts'

const CR = 13
const LF = 10

/** Where the followers stand together: `Progress` of what all of them have been sent. */
export class Recorder implements Progress {
  /** How many events have been sent. */
  events = 0
  /** The last id that has been sent; before the first the one that the upstream was asked to go on from. */
  lastEventId: string
  readonly #log: EventLog
  // See the constructor.
  readonly #assigns: boolean
  // Begins each id given here, so that a client with an id of an earlier stream does not meet it in this one.
  readonly #epoch = `${Date.now().toString(36)}${Math.floor(Math.random() * 1_679_616).toString(36)}`
  // Ends the next id given here.
  #sequence = 0
  // Reads each block, and forgets it.
  readonly #fields = new FieldReader()

  /** @param assigns whether events get ids of the proxy's own, in place of the upstream's */
  constructor(log: EventLog, assigns: boolean) {
    this.#log = log
    this.#assigns = assigns
    this.lastEventId = log.idBefore
  }

  /** Keeps what passes, and returns it as it is to be sent. */
  record(bytes: Buffer): Buffer {
    const entries: LogEntry[] = []
    // Undefined where the bytes are sent as they came.
    const pieces: Buffer[] | undefined = this.#assigns ? [] : undefined
    const text = bytes.toString('latin1')
    const hasCr = text.includes('\r')
    for (let from = 0, to = 0; from < bytes.length; from = to) {
      // A flood of blank lines is no flood of blocks.
      to = hasCr ? from : endOfBlankLines(bytes, from)
      if (to === from) to = nextBoundary(text, from, hasCr)
      if (to === -1) {
        // Unfinished at the upstream's end: no client that comes later needs it.
        pieces?.push(bytes.subarray(from))
        break
      }
      const lines = hasCr ? withLf(text.slice(from, to)) : text
      this.#fields.read(lines, hasCr ? 0 : from, hasCr ? lines.length : to)
      const piece = this.#take(bytes.subarray(from, to), entries)
      if (piece) pieces?.push(piece)
    }
    this.#log.append(entries, performance.now())
    return pieces ? Buffer.concat(pieces) : bytes
  }

  /** One block as it is to be sent: undefined where all it does is to set an id of the upstream's that is replaced. */
  #take(block: Buffer, entries: LogEntry[]): Buffer | undefined {
    const fields = this.#fields
    const id = fields.id === undefined ? undefined : decodeId(fields.id)
    const hasData = fields.events > 0
    fields.forget()
    if (hasData) this.events++
    if (this.#assigns) {
      if (!hasData) return id === undefined ? block : undefined
      const own = `${this.#epoch}-${this.#sequence++}`
      return this.#keep(withId(block, own), own, true, entries)
    }
    return hasData || id !== undefined ? this.#keep(block, id, hasData, entries) : block
  }

  #keep(bytes: Buffer, id: string | undefined, isEvent: boolean, entries: LogEntry[]): Buffer {
    entries.push({ bytes, id, isEvent })
    if (id !== undefined) this.lastEventId = id
    return bytes
  }
}

/** The block with an id as its last field, which is the one that counts. */
export function withId(block: Buffer, id: string): Buffer {
  const crLf = block[block.length - 2] === CR && block[block.length - 1] === LF
  const end = block.length - (crLf ? 2 : 1)
  return Buffer.concat([block.subarray(0, end), Buffer.from(`id: ${id}\n`), block.subarray(end)])
}
