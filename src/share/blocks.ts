// The blocks of a shared stream: events, ids without data, comments and blank lines, each with what a log has to know of it.

import { endOfBlankLines, nextBoundary } from '../events/boundaries.ts'
import { decodeId, FieldReader, withLf } from '../events/fields.ts'
import type { LogEntry } from './event-log.ts'

const CR = 13
const LF = 10

/** All of the bytes, block by block; what is unfinished, as it is at an upstream's end alone, is the last. */
export function blocksOf(bytes: Buffer): LogEntry[] {
  const blocks: LogEntry[] = []
  const fields = new FieldReader()
  const text = bytes.toString('latin1')
  const hasCr = text.includes('\r')
  for (let from = 0, to = 0; from < bytes.length; from = to) {
    // A flood of blank lines is no flood of blocks.
    to = hasCr ? from : endOfBlankLines(bytes, from)
    if (to === from) to = nextBoundary(text, from, hasCr)
    if (to === -1) {
      blocks.push({ bytes: bytes.subarray(from), id: undefined, isEvent: false })
      break
    }
    const lines = hasCr ? withLf(text.slice(from, to)) : text
    fields.read(lines, hasCr ? 0 : from, hasCr ? lines.length : to)
    const id = fields.id === undefined ? undefined : decodeId(fields.id)
    blocks.push({ bytes: bytes.subarray(from, to), id, isEvent: fields.events > 0 })
    fields.forget()
  }
  return blocks
}

/** Whether clients that come later get it: comments and blank lines are for those that are here. */
export function isKept({ id, isEvent }: LogEntry): boolean {
  return isEvent || id !== undefined
}

export function bytesOf(blocks: readonly LogEntry[]): number {
  return blocks.reduce((sum, { bytes }) => sum + bytes.length, 0)
}

/** Events with ids of the proxy's own; a block that only sets an id of the upstream's is left out. */
export function withOwnIds(blocks: readonly LogEntry[], nextId: () => string): LogEntry[] {
  return blocks.flatMap((block) => {
    if (!block.isEvent) return block.id === undefined ? block : []
    const id = nextId()
    return { bytes: withId(block.bytes, id), id, isEvent: true }
  })
}

/** The block with an id as its last field, which is the one that counts. */
function withId(block: Buffer, id: string): Buffer {
  const crLf = block[block.length - 2] === CR && block[block.length - 1] === LF
  const end = block.length - (crLf ? 2 : 1)
  return Buffer.concat([block.subarray(0, end), Buffer.from(`id: ${id}\n`), block.subarray(end)])
}
