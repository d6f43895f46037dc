// What the clients of a node have got that is not in the log, as far as it has been read: what was delivered alone, or what
// the store has lost. The latest of it is remembered, within bounds.

import { isKept } from '../blocks.ts'
import type { LogEntry } from '../event-log.ts'

export class Ahead {
  /** Whether more has been given up before it. */
  hasHole = false
  readonly #mostBytes: number
  #blocks: LogEntry[] = []
  #bytes = 0

  constructor(mostBytes: number) {
    this.#mostBytes = mostBytes
  }

  get isEmpty(): boolean {
    return this.#blocks.length === 0
  }

  get bytes(): number {
    return this.#bytes
  }

  get last(): LogEntry | undefined {
    return this.#blocks.at(-1)
  }

  /** Clients have got these as well. */
  push(blocks: readonly LogEntry[]): void {
    this.#append(blocks.filter(isKept))
    while (this.#bytes > this.#mostBytes && this.#blocks.length > 1) {
      this.#bytes -= this.#blocks.shift()?.bytes.length ?? 0
      this.hasHole = true
    }
  }

  /** Those before all others. */
  unshift(blocks: readonly LogEntry[]): void {
    this.#append([...blocks, ...this.take()])
  }

  take(): LogEntry[] {
    const taken = this.#blocks
    this.#blocks = []
    this.#bytes = 0
    return taken
  }

  /**
   * The log has brought these: what they are of what clients have got is not ahead any more. Returns how many of them are
   * nothing new.
   */
  meet(blocks: readonly LogEntry[]): number {
    let known = 0
    for (const [i, block] of blocks.entries()) {
      const [next] = this.#blocks
      if (!next || !isKept(block)) continue
      const index = isSame(next, block) ? 0 : this.#blocks.findIndex(({ id }) => id !== undefined && id === block.id)
      if (index === -1) continue
      for (const { bytes } of this.#blocks.splice(0, index + 1)) this.#bytes -= bytes.length
      known = i + 1
    }
    return known
  }

  #append(blocks: readonly LogEntry[]): void {
    for (const block of blocks) {
      this.#blocks.push(block)
      this.#bytes += block.bytes.length
    }
  }
}

function isSame(one: LogEntry, other: LogEntry): boolean {
  return one.id !== undefined && other.id !== undefined ? one.id === other.id : one.bytes.equals(other.bytes)
}
