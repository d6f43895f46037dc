// A histogram of durations with fixed buckets, as Prometheus has them. It takes every event of every stream, so observing
// allocates nothing.

/** The state of a histogram. */
export interface HistogramSnapshot {
  /** How many values were observed; also the count of the bucket without an upper bound. */
  readonly count: number
  /** The sum of all values, in seconds. */
  readonly sum: number
  /** Cumulative: a bucket counts all values of at most `le` seconds. */
  readonly buckets: readonly HistogramBucket[]
}

/** An upper bound in seconds, and the number of values up to it. */
export interface HistogramBucket {
  readonly le: number
  readonly count: number
}

/** Buckets that are counted into, and read as a snapshot. */
export class Histogram {
  // Ascending; the last one is Infinity, so that every search ends.
  readonly #bounds: Float64Array
  // One for each bound, not cumulative. Doubles, because 32 bits would overflow.
  readonly #counts: Float64Array
  #sum = 0

  /** @param bounds in seconds, ascending */
  constructor(bounds: readonly number[]) {
    this.#bounds = Float64Array.of(...bounds, Number.POSITIVE_INFINITY)
    this.#counts = new Float64Array(this.#bounds.length)
  }

  /** Counts a value in seconds, `times` times. */
  observe(value: number, times = 1): void {
    let index = 0
    while (value > (this.#bounds[index] ?? 0)) index++
    this.#counts[index] = (this.#counts[index] ?? 0) + times
    this.#sum += value * times
  }

  /** A copy, cumulative. */
  snapshot(): HistogramSnapshot {
    let count = 0
    const buckets: HistogramBucket[] = []
    for (const [index, le] of this.#bounds.entries()) {
      count += this.#counts[index] ?? 0
      // JSON has no Infinity.
      if (le !== Number.POSITIVE_INFINITY) buckets.push({ le, count })
    }
    return { count, sum: this.#sum, buckets }
  }
}
