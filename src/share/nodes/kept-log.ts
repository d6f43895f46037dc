// What a node knows of the log of a key: which entries it is to keep, and, of the latest, what is in them, so that a node can
// add again what the store has lost, and knows what its clients have got. Bounded as the log is, on every node.

import type { Position } from '../../share-store.ts'
import type { LogEntry } from '../event-log.ts'
import { isAfter } from '../position.ts'

/** How much a log keeps. */
export interface KeptBounds {
  readonly events: number
  readonly bytes: number
}

/** One entry with events, or a place where events are missing. */
export interface KeptEntry {
  readonly position: Position
  readonly events: number
  readonly bytes: number
  /** Without comments. Undefined when it is too long ago. */
  blocks: readonly LogEntry[] | undefined
}

export class KeptLog {
  readonly #bounds: KeptBounds
  readonly #rememberedBytes: number
  #entries: KeptEntry[] = []
  // The index of the oldest entry whose blocks are remembered, and how much those take.
  #firstRemembered = 0
  #remembered = 0
  #events = 0
  #bytes = 0
  // The latest entry that is beyond the bounds.
  #dropped: Position | undefined

  constructor(bounds: KeptBounds, rememberedBytes: number) {
    this.#bounds = bounds
    this.#rememberedBytes = rememberedBytes
  }

  get rememberedBytes(): number {
    return this.#remembered
  }

  /** Where the log is to begin; undefined for where it does. */
  get begin(): Position | undefined {
    return this.#dropped && this.#entries[0]?.position
  }

  add(entry: KeptEntry): void {
    this.#entries.push(entry)
    this.#count(entry, 1)
    this.#remembered += entry.bytes
    // The latest one says where the clients are.
    while (this.#remembered > this.#rememberedBytes && this.#firstRemembered < this.#entries.length - 1) {
      this.#forgetOldest()
    }
    this.#trim()
  }

  /** Where a log would begin that is within these bounds; undefined where all of it is. */
  firstWithin(bounds: KeptBounds): Position | undefined {
    let [events, bytes] = [this.#events, this.#bytes]
    if (events <= bounds.events && bytes <= bounds.bytes) return undefined
    for (const entry of this.#entries) {
      if (events <= bounds.events && bytes <= bounds.bytes) return entry.position
      events -= entry.events
      bytes -= entry.bytes
    }
    return this.#entries.at(-1)?.position
  }

  /** Takes out those behind a position (undefined: all), which the log has lost; beside them what was before. */
  takeAfter(position: Position | undefined): { lost: readonly KeptEntry[]; before: Position | undefined } {
    const index = position ? this.#entries.findLastIndex((entry) => !isAfter(entry.position, position)) : -1
    const lost = this.#entries.splice(index + 1)
    for (const [i, entry] of lost.entries()) {
      this.#count(entry, -1)
      if (index + 1 + i >= this.#firstRemembered) this.#remembered -= entry.bytes
    }
    this.#firstRemembered = Math.min(this.#firstRemembered, this.#entries.length)
    return { lost, before: this.#entries.at(-1)?.position ?? this.#dropped }
  }

  /** Events are missing here, and clients have been told: what was before cannot be added again together with what comes. */
  cut(position: Position): void {
    this.#entries.push({ position, events: 0, bytes: 0, blocks: undefined })
    while (this.#firstRemembered < this.#entries.length) this.#forgetOldest()
  }

  clear(): void {
    this.#dropped = undefined
    this.#entries = []
    this.#firstRemembered = this.#remembered = this.#events = this.#bytes = 0
  }

  #trim(): void {
    const first = this.firstWithin(this.#bounds)
    if (!first) return
    const count = this.#entries.findIndex(({ position }) => position === first)
    while (this.#firstRemembered < count) this.#forgetOldest()
    for (const entry of this.#entries.splice(0, count)) {
      this.#count(entry, -1)
      this.#dropped = entry.position
    }
    this.#firstRemembered -= count
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
