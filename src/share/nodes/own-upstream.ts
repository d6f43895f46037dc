// The upstream of one node, and what it has brought that is neither in the log nor delivered: within bounds, by backpressure.
// Whose turn it is to have one, and where what it brings goes, is the member's.

import { bytesOf } from '../blocks.ts'
import type { LogEntry } from '../event-log.ts'
import type { Outcome, RunHead } from './entries.ts'
import type { LocalStream } from './local-stream.ts'

// What comes while an addition is under way is put together, up to this size.
const BATCH_BYTES = 16_384

/** What one read of the upstream brought, or several, and the upstream's id after it. */
export interface Batch {
  readonly blocks: LogEntry[]
  bytes: number
  cursor: string
}

export class OwnUpstream {
  state: 'none' | 'opening' | 'open' | 'over' = 'none'
  /** Of its answer. */
  head: RunHead | undefined
  /** How it has ended. */
  outcome: Outcome | undefined
  /** Whether it could not be asked to go on after the last event, and clients have not been told of that gap yet. */
  isBlind = false
  /** Whether one has been asked, whatever has come of it. */
  hasAsked = false
  readonly #local: Pick<LocalStream, 'open' | 'close' | 'pause' | 'unpause'>
  readonly #mostBytes: number
  #queue: Batch[] = []
  #bytes = 0
  #isPaused = false

  /** @param mostBytes how much waits before it is paused */
  constructor(local: Pick<LocalStream, 'open' | 'close' | 'pause' | 'unpause'>, mostBytes: number) {
    this.#local = local
    this.#mostBytes = mostBytes
  }

  /** What waits. */
  get bytes(): number {
    return this.#bytes
  }

  /**
   * Asks for what comes after this id, '' for what comes from now on.
   * @param isOngoing whether clients have got something, so that they miss what there was in between
   */
  open(cursor: string, isOngoing: boolean): void {
    if (cursor === '' && isOngoing) this.isBlind = true
    this.state = 'opening'
    this.hasAsked = true
    this.#local.open(cursor)
  }

  close(): void {
    if (this.state === 'none') return
    if (this.state !== 'over') this.#local.close()
    this.state = 'none'
    this.head = undefined
    this.outcome = undefined
    this.takeAll()
  }

  push(blocks: readonly LogEntry[], cursor: string): void {
    const bytes = bytesOf(blocks)
    const last = this.#queue.at(-1)
    if (last && last.bytes + bytes <= BATCH_BYTES) {
      last.blocks.push(...blocks)
      last.bytes += bytes
      last.cursor = cursor
    } else {
      this.#queue.push({ blocks: [...blocks], bytes, cursor })
    }
    this.#bytes += bytes
    this.regulate()
  }

  /** Those that have waited longest, of about so many bytes. It may go on when they are in the log (`regulate`). */
  take(bytes: number): Batch[] {
    const taken: Batch[] = []
    for (let left = bytes; left > 0; ) {
      const batch = this.#queue.shift()
      if (!batch) break
      left -= batch.bytes
      this.#bytes -= batch.bytes
      taken.push(batch)
    }
    return taken
  }

  takeAll(): Batch[] {
    const taken = this.take(Number.POSITIVE_INFINITY)
    this.regulate()
    return taken
  }

  /** They could not be added, and wait again before all others. */
  putBack(batches: readonly Batch[]): void {
    this.#queue.unshift(...batches)
    for (const { bytes } of batches) this.#bytes += bytes
  }

  /** The log has brought these: what waits begins behind them. False where they are not what has waited longest. */
  drop(blocks: readonly LogEntry[]): boolean {
    for (const block of blocks) {
      const [batch] = this.#queue
      if (!batch?.blocks[0]?.bytes.equals(block.bytes)) return false
      batch.blocks.shift()
      batch.bytes -= block.bytes.length
      this.#bytes -= block.bytes.length
      if (batch.blocks.length === 0) this.#queue.shift()
    }
    return true
  }

  regulate(): void {
    const isFull = this.#bytes > this.#mostBytes
    if (isFull === this.#isPaused) return
    this.#isPaused = isFull
    if (isFull) this.#local.pause()
    else this.#local.unpause()
  }
}
