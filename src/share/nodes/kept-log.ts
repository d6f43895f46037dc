// What a node knows of the log of a key: which entries it keeps, and, of the latest, what is in them, so that a node can
// add again what the store has lost, and knows what its clients have got.

import type { Position } from '../../share-store.ts'
import type { LogEntry } from '../event-log.ts'
import { isAfter } from '../position.ts'

/** One entry with events, or a place where events are missing. */
export interface KeptEntry {
  readonly position: Position
  readonly events: number
  readonly bytes: number
  /** Without comments. Undefined when it is too long ago. */
  blocks: readonly LogEntry[] | undefined
}

export class KeptLog {
  readonly #rememberedBytes: number
  #entries: KeptEntry[] = []
  // The index of the oldest entry whose blocks are remembered, and how much those take.
  #firstRemembered = 0
  #remembered = 0
  #events = 0
  #bytes = 0

  constructor(rememberedBytes: number) {
    this.#rememberedBytes = rememberedBytes
  }

  get rememberedBytes(): number {
    return this.#remembered
  }

  add(entry: KeptEntry): void {
    this.#entries.push(entry)
    this.#count(entry, 1)
    this.#remembered += entry.bytes
    // The latest one says where the clients are.
    while (this.#remembered > this.#rememberedBytes && this.#firstRemembered < this.#entries.length - 1) {
      this.#forgetOldest()
    }
  }

  /** Where the log is to begin so that it is within these bounds; undefined where all of it is. */
  firstWithin(bounds: { readonly events: number; readonly bytes: number }): Position | undefined {
    let [events, bytes] = [this.#events, this.#bytes]
    if (events <= bounds.events && bytes <= bounds.bytes) return undefined
    for (const entry of this.#entries) {
      if (events <= bounds.events && bytes <= bounds.bytes) return entry.position
      events -= entry.events
      bytes -= entry.bytes
    }
    return this.#entries.at(-1)?.position
  }

  /** The log does not keep what is before this position any more. */
  dropBefore(position: Position): void {
    let dropped = 0
    for (const entry of this.#entries) {
      if (!isAfter(position, entry.position)) break
      if (dropped >= this.#firstRemembered) this.#forgetOldest()
      this.#count(entry, -1)
      dropped++
    }
    if (dropped === 0) return
    this.#entries.splice(0, dropped)
    this.#firstRemembered -= dropped
  }

  /** Those behind a position (undefined: all). */
  after(position: Position | undefined): readonly KeptEntry[] {
    if (!position) return this.#entries
    const index = this.#entries.findLastIndex((entry) => !isAfter(entry.position, position))
    return this.#entries.slice(index + 1)
  }

  /** The latest one that is not behind a position. */
  until(position: Position): KeptEntry | undefined {
    return this.#entries.findLast((entry) => !isAfter(entry.position, position))
  }

  /** Events are missing here, and clients have been told: what was before cannot be added again together with what comes. */
  cut(position: Position): void {
    this.#entries.push({ position, events: 0, bytes: 0, blocks: undefined })
    while (this.#firstRemembered < this.#entries.length) this.#forgetOldest()
  }

  clear(): void {
    this.#entries = []
    this.#firstRemembered = this.#remembered = this.#events = this.#bytes = 0
  }

  #forgetOldest(): void {
    const entry = this.#entries[this.#firstRemembered++]
    if (!entry) return
    entry.blocks = undefined
    this.#remembered -= entry.bytes
  }

  #count({ events, bytes }: KeptEntry, sign: 1 | -1): void {
    this.#events += sign * events
    this.#bytes += sign * bytes
  }
}
