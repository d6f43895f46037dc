// Reads the log of a key to its end, page by page.

import type { KeyState } from '../../share-store.ts'
import { samePosition } from '../position.ts'
import type { StoreNode } from './node.ts'
import type { LogReader } from './reader.ts'

// One page has so much at most.
const PAGE_BYTES = 1_048_576

/** Resolves to how the key stands when nothing is left to be read. */
export async function catchUp(node: StoreNode, key: string, reader: LogReader): Promise<KeyState | undefined> {
  for (;;) {
    const { at } = reader
    const { entries, state } = await node.call(node.store.read(key, at, PAGE_BYTES))
    for (const entry of entries) reader.read(entry)
    const isBack = state !== undefined && at !== undefined && state.last.fence < at.fence
    const isAtEnd = entries.length === 0 || (state && reader.at && samePosition(reader.at, state.last))
    if (isBack) reader.goBack(state.last)
    else if (isAtEnd) return state
  }
}
