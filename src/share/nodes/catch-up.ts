// Reads the log of a key to its end, page by page.

import type { KeyState, Position } from '../../share-store.ts'
import { samePosition } from '../position.ts'
import { readable } from './entries.ts'
import type { StoreNode } from './node.ts'
import type { LogReader } from './reader.ts'

// One page has so much at most.
const PAGE_BYTES = 1_048_576

/** Resolves to how the key stands when nothing is left to be read. */
export async function catchUp(node: StoreNode, key: string, reader: LogReader): Promise<KeyState | undefined> {
  for (;;) {
    const { at } = reader
    const { entries, state } = await node.call(node.store.read(key, at ?? reader.from, PAGE_BYTES))
    for (const entry of entries) reader.read(entry, entries)
    const isBack = state !== undefined && at !== undefined && state.last.fence < at.fence
    const isAtEnd = entries.length === 0 || (state && reader.at && samePosition(reader.at, state.last))
    if (isBack) reader.goBack(state.last)
    else if (isAtEnd) return state
  }
}

/** The latest run of a log. */
export interface LatestRun {
  readonly state: KeyState
  /** The last entry before it. */
  readonly before: Position | undefined
  readonly isOver: boolean
}

/** Undefined where there is no log. */
export async function latestRun(node: StoreNode, key: string): Promise<LatestRun | undefined> {
  let at: Position | undefined
  let before: Position | undefined
  let isOver = false
  for (;;) {
    const { entries, state } = await node.call(node.store.read(key, at, PAGE_BYTES))
    for (const { position, bytes } of entries) {
      const entry = readable(bytes)
      if (entry?.kind === 'head' && entry.run !== 'same') {
        before = at
        isOver = entry.run === 'stop'
      } else if (entry?.kind === 'outcome') {
        isOver = entry.outcome !== 'handed-over'
      }
      at = position
    }
    if (!state) return undefined
    if (entries.length === 0 || (at && samePosition(at, state.last))) return { state, before, isOver }
  }
}
