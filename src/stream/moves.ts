// Streams whose upstream is not one of the targets any more go over to another one, each at a moment of its own, so that those
// who stay do not meet a crowd. When a stream may move, and how, is its body's affair. Absent where streams are not resumed.

import { backoff, spread } from '../backoff.ts'

/** A stream that can go on with another upstream. */
export interface Movable {
  /** The URL of the upstream that it is at. */
  readonly upstream: string
  /** Resolves to false where it could not move now, and has stayed as it was. Never rejects. */
  move(): Promise<boolean>
}

/** Over how long the moves are spread. */
const MOVE_MS = 10_000
// Before a stream that could not move is asked again: no other upstream may be there yet.
const AGAIN_MS = 1000
const MAX_AGAIN_MS = 60_000

export class Moves {
  readonly #isGone: (upstream: string) => boolean
  // All open streams that could move.
  readonly #streams = new Set<Movable>()
  // Those that are to move, until they have, or their upstream has come back.
  readonly #turns = new Map<Movable, NodeJS.Timeout>()
  // Set by `stop`, for good.
  #isStopped = false

  /** @param isGone whether an upstream is not one of the targets any more */
  constructor(isGone: (upstream: string) => boolean) {
    this.#isGone = isGone
  }

  /** A stream has begun, or has another upstream; that may have gone while it answered. */
  add(stream: Movable): void {
    this.#streams.add(stream)
    if (this.#isDue(stream)) this.#moveAfter(stream, Math.random() * MOVE_MS)
  }

  /** A stream is over. */
  delete(stream: Movable): void {
    this.#streams.delete(stream)
    clearTimeout(this.#turns.get(stream))
    this.#turns.delete(stream)
  }

  /** Some upstreams have gone: each of their streams gets its turn, unless it has one already. */
  begin(): void {
    const due = [...this.#streams].filter((stream) => this.#isDue(stream))
    const turns = spread(due.length, MOVE_MS)
    due.forEach((stream, i) => {
      this.#moveAfter(stream, turns[i] ?? 0)
    })
  }

  /** Nothing moves any more: all streams are about to end. */
  stop(): void {
    this.#isStopped = true
    for (const timer of this.#turns.values()) clearTimeout(timer)
    this.#turns.clear()
  }

  #isDue(stream: Movable): boolean {
    return !this.#turns.has(stream) && this.#isGone(stream.upstream)
  }

  #moveAfter(stream: Movable, ms: number, tries = 0): void {
    if (this.#isStopped) return
    this.#turns.set(stream, setTimeout(() => void this.#move(stream, tries), ms).unref())
  }

  async #move(stream: Movable, tries: number): Promise<void> {
    // Its turn lasts until it has moved: another one would ask for a second connection.
    if (this.#isGone(stream.upstream)) await stream.move()
    this.#turns.delete(stream)
    if (this.#streams.has(stream) && this.#isDue(stream)) {
      this.#moveAfter(stream, backoff(tries, AGAIN_MS, MAX_AGAIN_MS), tries + 1)
    }
  }
}
