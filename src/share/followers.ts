// The fan-out of a shared stream: who follows it, and what all of them are handed.

import type { StreamError } from '../errors.ts'
import { SharedBytes } from '../http-chunks.ts'

/** Whole events that go to all followers alike. */
export interface Delivery {
  readonly shared: SharedBytes
  readonly events: number
  /** When they came, as `performance.now()`. */
  readonly now: number
}

/** A client of a shared stream. After `onEnd`, `onClosed` or `onFailed` it hears nothing more. */
export interface Follower {
  /** Whether it refers to nothing of what it was handed. */
  readonly isIdle: boolean
  /** The same of one that has left, whose connection may not have taken all. */
  readonly isDone: boolean
  onEvents(delivery: Delivery): void
  /** Events are missing between those that came and those to come. */
  onGap(): void
  /** The upstream has ended cleanly. */
  onEnd(): void
  /** The app has closed the shared stream. */
  onClosed(): void
  /** The stream is lost, which has been reported for all of them. */
  onFailed(error: StreamError): void
}

/** The clients that follow one stream. */
export class Followers {
  readonly #followers = new Set<Follower>()
  // Those that have left while something waited for them, until their connections have taken it.
  readonly #leaving = new Set<Follower>()
  // What they are being told, and whoever followed when it came.
  readonly #calls: { readonly call: (follower: Follower) => void; readonly followers: readonly Follower[] }[] = []

  get size(): number {
    return this.#followers.size
  }

  /** Whether nobody refers to anything that was handed out. */
  get areIdle(): boolean {
    this.#forgetDone()
    if (this.#leaving.size > 0) return false
    for (const follower of this.#followers) if (!follower.isIdle) return false
    return true
  }

  add(follower: Follower): void {
    this.#followers.add(follower)
  }

  /** Returns whether it was one of them. */
  delete(follower: Follower): boolean {
    // Where nobody asks whether all are idle, too.
    this.#forgetDone()
    if (!follower.isDone) this.#leaving.add(follower)
    return this.#followers.delete(follower)
  }

  /** Hands out what one read brought. A follower that leaves meanwhile gets no more; one that comes has it from the log. */
  deliver(pieces: readonly Buffer[], events: number): void {
    const shared = new SharedBytes(pieces)
    if (shared.length === 0) return
    const delivery: Delivery = { shared, events, now: performance.now() }
    this.#tell((follower) => follower.onEvents(delivery))
  }

  tellGap(): void {
    this.#tell((follower) => follower.onGap())
  }

  #forgetDone(): void {
    for (const follower of this.#leaving) if (follower.isDone) this.#leaving.delete(follower)
  }

  /** What comes in the middle of this, from a callback of the app's, waits until all have had what came before it. */
  #tell(call: (follower: Follower) => void): void {
    this.#calls.push({ call, followers: [...this.#followers] })
    if (this.#calls.length > 1) return
    try {
      // What comes meanwhile is behind the others.
      for (const next of this.#calls) {
        for (const follower of next.followers) if (this.#followers.has(follower)) next.call(follower)
      }
    } finally {
      this.#calls.length = 0
    }
  }

  /** Ends the fan-out: returns the followers, who are to be told why. */
  dismiss(): readonly Follower[] {
    const followers = [...this.#followers]
    this.#followers.clear()
    this.#leaving.clear()
    return followers
  }
}
