// Ends the run of a key from any node, also one that does not follow it: a head of a higher fence, which is the last word.
// It is in the log, so that an owner that hears nothing is refused its next addition, and a node that comes later reads it.

import type { Position } from '../../share-store.ts'
import { decodeEntry, encodeEntry } from './entries.ts'
import type { StoreNode } from './node.ts'

// Other nodes may take the key at the same time.
const ATTEMPTS = 5
const PAGE_BYTES = 1_048_576

/** Resolves to whether there was a run; rejects where the store is away. */
export async function stopRun(node: StoreNode, key: string): Promise<boolean> {
  const { store, name } = node
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const [state] = await node.call(store.look([key]))
    if (!state) return false
    const { fence } = state.last
    const { entries } = await node.call(store.read(key, before(state.last), PAGE_BYTES))
    const last = entries.at(-1)
    if (last && isOver(last.bytes)) return false
    const head = encodeEntry({ kind: 'head', node: name, run: 'stop', isReopenable: false })
    const claim = { node: name, replaces: fence, head, keepMs: 2 * store.checkMs }
    if (!(await node.call(store.take(key, claim))).isRefused) return true
  }
  throw new Error(`the key was taken by others ${ATTEMPTS} times`)
}

/** A position with nothing between it and this one. */
function before({ fence, seq }: Position): Position {
  return seq > 0 ? { fence, seq: seq - 1 } : { fence: fence - 1, seq: Number.MAX_SAFE_INTEGER }
}

function isOver(bytes: Buffer): boolean {
  const entry = decodeEntry(bytes)
  if (entry.kind === 'head') return entry.run === 'stop'
  return entry.kind === 'outcome' && entry.outcome !== 'handed-over'
}
