// Entries that the doorbell has told while a step was under way, until that is over.

import type { StoredEntry } from '../../share-store.ts'

// More than a page of the log would be: that is read from there.
const MOST_BYTES = 1_048_576

export class HeldEntries {
  #entries: StoredEntry[] = []
  #bytes = 0

  /** False where it is too much; what was held is given up then. */
  hold(entries: readonly StoredEntry[]): boolean {
    this.#entries.push(...entries)
    this.#bytes += entries.reduce((sum, { bytes }) => sum + bytes.length, 0)
    if (this.#bytes <= MOST_BYTES) return true
    this.take()
    return false
  }

  take(): readonly StoredEntry[] {
    const held = this.#entries
    this.#entries = []
    this.#bytes = 0
    return held
  }
}
