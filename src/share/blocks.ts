// The blocks of a shared stream: events, ids without data, comments and blank lines, each with what a log has to know of it.

import { joined } from '../bytes.ts'
import { BLANK_LINE, endOfBlankLines, nextBoundary } from '../events/boundaries.ts'
import { hasLongLine, readEvent } from '../events/cursor.ts'
import { decodeId, FieldReader, withLf } from '../events/fields.ts'
import type { LogEntry } from './event-log.ts'

const CR = 13
const LF = 10

/** A block where it lies in what the network has brought: a buffer of its own is made for whoever asks for one. */
export class Block implements LogEntry {
  readonly id: string | undefined
  readonly isEvent: boolean
  /** What it lies in: one read, or all the pieces of a block that came in several. */
  readonly pieces: readonly Buffer[]
  readonly length: number
  /** Where it begins in the first piece. */
  readonly start: number
  #bytes: Buffer | undefined

  constructor(pieces: readonly Buffer[], start: number, length: number, id: string | undefined, isEvent: boolean) {
    this.pieces = pieces
    this.start = start
    this.length = length
    this.id = id
    this.isEvent = isEvent
  }

  get bytes(): Buffer {
    this.#bytes ??= joined(this.pieces).subarray(this.start, this.start + this.length)
    return this.#bytes
  }
}

/** What others have made, as blocks. */
export function blocksFrom(entries: readonly LogEntry[]): readonly Block[] {
  if (entries.every((entry) => entry instanceof Block)) return entries
  return entries.map(({ bytes, id, isEvent }) => new Block([bytes], 0, bytes.length, id, isEvent))
}

/** Copies blocks, one behind the other; those that lie so already at once. */
export function copyTo(memory: Buffer, blocks: readonly Block[]): void {
  let at = 0
  for (let i = 0; i < blocks.length; ) {
    const block = blocks[i++]
    if (!block) break
    const { pieces, start, length } = block
    if (pieces.length > 1) {
      for (const piece of pieces) at += piece.copy(memory, at)
      continue
    }
    let end = start + length
    for (let next = blocks[i]; next?.pieces === pieces && next.start === end; next = blocks[++i]) end += next.length
    at += pieces[0]?.copy(memory, at, start, end) ?? 0
  }
}

/** All that came together, block by block; what is unfinished, as it is at an upstream's end alone, is the last. */
export function blocksOf(pieces: readonly Buffer[]): readonly Block[] {
  const [first] = pieces
  if (!first) return []
  const isPlain = pieces.length === 1 && !hasLongLine(first)
  if (isPlain) return readBlocks(first).blocks
  return pieces.some((piece) => piece.includes(CR)) ? readBlocks(joined(pieces)).blocks : blocksOfPieces(pieces)
}

/** The same for one piece, of which all is read as text; and the last reconnection time that it sets. */
export function readBlocks(bytes: Buffer): { readonly blocks: readonly Block[]; readonly retryMs: number | undefined } {
  const fields = new FieldReader()
  const blocks: Block[] = []
  let retryMs: number | undefined
  const pieces = [bytes]
  const text = bytes.toString('latin1')
  const hasCr = text.includes('\r')
  for (let from = 0, to = 0; from < bytes.length; from = to) {
    // A flood of blank lines is no flood of blocks.
    to = hasCr ? from : endOfBlankLines(bytes, from)
    if (to === from) to = nextBoundary(text, from, hasCr)
    if (to === -1) {
      blocks.push(new Block(pieces, from, bytes.length - from, undefined, false))
      break
    }
    const lines = hasCr ? withLf(text.slice(from, to)) : text
    fields.read(lines, hasCr ? 0 : from, hasCr ? lines.length : to)
    blocks.push(new Block(pieces, from, to - from, idOf(fields), fields.events > 0))
    retryMs = fields.retryMs ?? retryMs
    fields.forget()
  }
  return { blocks, retryMs }
}

/** The same for large events, of which but the starts of lines are read, and which may lie in several pieces. */
function blocksOfPieces(pieces: readonly Buffer[]): Block[] {
  const blocks: Block[] = []
  // The start of a block that ends in another piece.
  let begun: Buffer[] = []
  for (const piece of pieces) {
    for (let from = 0, to = 0; from < piece.length; from = to) {
      const before = begun.at(-1)
      to = endOfBlock(piece, from, before?.[before.length - 1])
      if (to === -1) {
        begun.push(piece.subarray(from))
        break
      }
      blocks.push(blockOf([...begun, piece.subarray(from, to)]))
      begun = []
    }
  }
  if (begun.length > 0) blocks.push(new Block(begun, 0, lengthOf(begun), undefined, false))
  return blocks
}

/** @param before the byte before `from`, of the same block */
function endOfBlock(piece: Buffer, from: number, before: number | undefined): number {
  if (before === LF && piece[from] === LF) return from + 1
  const blank = before === undefined ? endOfBlankLines(piece, from) : from
  if (blank > from) return blank
  const at = piece.indexOf(BLANK_LINE, from)
  return at === -1 ? -1 : at + BLANK_LINE.length
}

function blockOf(pieces: readonly Buffer[]): Block {
  const fields = readEvent(pieces)
  return new Block(pieces, 0, lengthOf(pieces), idOf(fields), fields.events > 0)
}

function idOf({ id }: FieldReader): string | undefined {
  return id === undefined ? undefined : decodeId(id)
}

export function lengthOf(pieces: readonly { readonly length: number }[]): number {
  return pieces.reduce((sum, { length }) => sum + length, 0)
}

/** Whether clients that come later get it: comments and blank lines are for those that are here. */
export function isKept({ id, isEvent }: LogEntry): boolean {
  return isEvent || id !== undefined
}

export function bytesOf(blocks: readonly LogEntry[]): number {
  return blocks.reduce((sum, { bytes }) => sum + bytes.length, 0)
}

/** Events with ids of the proxy's own; a block that only sets an id of the upstream's is left out. */
export function withOwnIds(blocks: readonly Block[], nextId: () => string): readonly Block[] {
  return blocks.flatMap((block) => {
    if (!block.isEvent) return block.id === undefined ? block : []
    const id = nextId()
    const bytes = withId(block.bytes, id)
    return new Block([bytes], 0, bytes.length, id, true)
  })
}

/** The block with an id as its last field, which is the one that counts. */
function withId(block: Buffer, id: string): Buffer {
  const crLf = block[block.length - 2] === CR && block[block.length - 1] === LF
  const end = block.length - (crLf ? 2 : 1)
  return Buffer.concat([block.subarray(0, end), Buffer.from(`id: ${id}\n`), block.subarray(end)])
}
