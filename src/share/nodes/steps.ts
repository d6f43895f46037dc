// When a member takes a step: one at a time, another one whenever something may have changed, and again after one that has
// failed. After several failures in a row it says so, since the key may be one that cannot be used.

import type { StoreNode } from './node.ts'

// After a step that failed, until it is tried again.
const RETRY_MS = 200
// So many failures in a row, with a store that is there, and the key is let alone for a lease.
const MAX_FAILURES = 5

export class Steps {
  readonly #node: Pick<StoreNode, 'now' | 'after' | 'suspect' | 'store'>
  readonly #step: () => Promise<void>
  readonly #onRest: () => void
  #isRunning = false
  #isDirty = false
  #isOver = false
  // Those that have failed, one after the other, and until when the key is let alone for that reason.
  #failures = 0
  #failedUntil = Number.NEGATIVE_INFINITY
  #cancelTimer: (() => void) | undefined
  #timerAt = Number.POSITIVE_INFINITY

  /** @param onRest called when none is under way any more */
  constructor(
    node: Pick<StoreNode, 'now' | 'after' | 'suspect' | 'store'>,
    step: () => Promise<void>,
    onRest: () => void,
  ) {
    this.#node = node
    this.#step = step
    this.#onRest = onRest
  }

  /** Whether one is under way. */
  get isRunning(): boolean {
    return this.#isRunning
  }

  /** Whether too many have failed, so that the store is not to be asked for this key. */
  get isFailing(): boolean {
    return this.#node.now() < this.#failedUntil
  }

  /** Something may have changed. */
  wake(): void {
    this.#isDirty = true
    if (!this.#isRunning && !this.#isOver) void this.#run()
  }

  wakeAt(time: number): void {
    if (time >= this.#timerAt) return
    this.#cancelTimer?.()
    this.#timerAt = time
    this.#cancelTimer = this.#node.after(Math.max(time - this.#node.now(), 0), () => {
      this.#timerAt = Number.POSITIVE_INFINITY
      this.wake()
    })
  }

  /** There is no other one. */
  end(): void {
    this.#isOver = true
    this.#cancelTimer?.()
  }

  async #run(): Promise<void> {
    this.#isRunning = true
    while (this.#isDirty && !this.#isOver) {
      this.#isDirty = false
      try {
        await this.#step()
        this.#failures = 0
      } catch (error) {
        this.#onFailure(error)
      }
    }
    this.#isRunning = false
    if (!this.#isOver) this.#onRest()
  }

  /** Whether the store is away shows the node's next beat. */
  #onFailure(error: unknown): void {
    const { now, store } = this.#node
    this.#node.suspect(error)
    this.#failures++
    if (this.#failures % MAX_FAILURES === 0) this.#failedUntil = now() + store.leaseMs
    this.wakeAt(Math.max(this.#failedUntil, now() + RETRY_MS))
    if (this.isFailing) this.#isDirty = true
  }
}
