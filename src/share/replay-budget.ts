// What all shared streams of a proxy keep for clients that come back, together, and what goes first when it is too
// much: streams that nobody follows, then the oldest events of those that keep most.

/** What is kept of one stream. */
export interface Kept {
  readonly keptBytes: number
  /** Drops the oldest until no more than this is kept. */
  trimTo(bytes: number): void
}

// A cut goes below the bound by this much, so that not every event that comes asks for another one.
const AFTER_CUT = 0.9

export class ReplayBudget {
  readonly #maxBytes: number
  readonly #kept: () => Iterable<Kept>
  readonly #closeOldest: () => boolean
  #bytes = 0

  /** @param closeOldest closes the stream that nobody has followed for longest; false where there is none */
  constructor(maxBytes: number, kept: () => Iterable<Kept>, closeOldest: () => boolean) {
    this.#maxBytes = maxBytes
    this.#kept = kept
    this.#closeOldest = closeOldest
  }

  get bytes(): number {
    return this.#bytes
  }

  /** So much more is kept, or less. Nothing is dropped before `settle`, which is not called in the midst of something. */
  add(bytes: number): void {
    this.#bytes += bytes
  }

  settle(): void {
    while (this.#bytes > this.#maxBytes && this.#closeOldest()) {}
    if (this.#bytes > this.#maxBytes) this.#cut()
  }

  /** Cuts those that keep most down to a common size. */
  #cut(): void {
    const all = [...this.#kept()]
    const size = commonSize(
      all.map(({ keptBytes }) => keptBytes),
      this.#maxBytes * AFTER_CUT,
    )
    for (const each of all) if (each.keptBytes > size) each.trimTo(size)
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
