// The order of positions in the log of a key.

import type { Position } from '../share-store.ts'

export function samePosition(one: Position, other: Position): boolean {
  return one.fence === other.fence && one.seq === other.seq
}

/** Whether a position is behind another one. */
export function isAfter({ fence, seq }: Position, other: Position): boolean {
  return fence > other.fence || (fence === other.fence && seq > other.seq)
}

/** Whether a position is the next one of the same owner. */
export function isNext({ fence, seq }: Position, before: Position): boolean {
  return fence === before.fence && seq === before.seq + 1
}
