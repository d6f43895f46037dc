// What all shared streams of a proxy keep in memory for clients that come back, together, and what goes first when that
// is too much: streams that no client follows, then the oldest events of those that keep most.

/** What takes of the budget and can be made smaller. */
export interface MemoryUser {
  readonly memoryBytes: number
  /** Drops the oldest events until no more than this is taken. */
  trimTo(memoryBytes: number): void
}

// A cut goes this far below the bound, so that not every event that comes asks for another one.
const AFTER_CUT = 0.9

export class ReplayBudget {
  readonly #maxBytes: number
  readonly #closeOldest: () => boolean
  readonly #users = new Set<MemoryUser>()
  // All that is taken, by the users and by requests that streams without a follower keep.
  #bytes = 0

  /** @param closeOldest closes the stream that no client has followed for longest; false where there is none */
  constructor(maxBytes: number, closeOldest: () => boolean) {
    this.#maxBytes = maxBytes
    this.#closeOldest = closeOldest
  }

  get bytes(): number {
    return this.#bytes
  }

  enter(user: MemoryUser): void {
    this.#users.add(user)
  }

  leave(user: MemoryUser): void {
    this.#users.delete(user)
  }

  /** So much more is taken, or less. Nothing is dropped before `settle`. */
  add(bytes: number): void {
    this.#bytes += bytes
  }

  /** Gets back under the bound. It may close streams, so it is not called while one of them hands an event out. */
  settle(): void {
    while (this.#bytes > this.#maxBytes && this.#closeOldest()) {}
    if (this.#bytes > this.#maxBytes) this.#cut()
  }

  /** Cuts those that take most down to a common size. */
  #cut(): void {
    const sizes = [...this.#users].map(({ memoryBytes }) => memoryBytes)
    const size = commonSize(sizes, this.#maxBytes * AFTER_CUT)
    for (const user of this.#users) if (user.memoryBytes > size) user.trimTo(size)
  }
}

/** The size to which the largest must shrink so that all together are no larger than `bytes`. */
export function commonSize(sizes: readonly number[], bytes: number): number {
  let left = bytes
  for (const [i, size] of [...sizes].sort((a, b) => a - b).entries()) {
    const share = left / (sizes.length - i)
    if (size > share) return share
    left -= size
  }
  return Number.POSITIVE_INFINITY
}
