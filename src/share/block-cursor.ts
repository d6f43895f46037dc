// The cursor of a shared stream whose events no hook changes: what it has read of them is what the log has to know, so that
// they are read once.

import { Cursor, hasLongLine } from '../events/cursor.ts'
import { type Block, readBlocks } from './blocks.ts'

export class BlockCursor extends Cursor {
  #blocks: readonly Block[] | undefined

  /** The blocks that have just passed; undefined where they passed in parts. */
  takeBlocks(): readonly Block[] | undefined {
    const blocks = this.#blocks
    this.#blocks = undefined
    return blocks
  }

  override pass(bytes: Buffer, whole: boolean): void {
    this.#blocks = undefined
    super.pass(bytes, whole)
  }

  protected override passWhole(bytes: Buffer): void {
    if (hasLongLine(bytes)) return super.passWhole(bytes)
    const { blocks, retryMs } = readBlocks(bytes)
    this.#blocks = blocks
    for (const { id, isEvent } of blocks) {
      if (isEvent) this.events++
      if (id !== undefined) this.lastEventId = id
    }
    this.retryMs = retryMs ?? this.retryMs
  }
}
