// How often which times were seen, in buckets whose bounds never change. It is fed with every event of every stream,
// so observing allocates nothing.

/** The state of a histogram. */
export interface HistogramSnapshot {
  /** How many values were seen. The bucket without a bound is this number. */
  readonly count: number
  /** Of all values, in seconds. */
  readonly sum: number
  /** How many of them were at most `le` seconds; each bucket holds those below it too. */
  readonly buckets: readonly HistogramBucket[]
}

/** One bound and the number of values up to it. */
export interface HistogramBucket {
  readonly le: number
  readonly count: number
}

export class Histogram {
  // Ascending, and closed by Infinity, where every search ends.
  readonly #bounds: Float64Array
  // One for each bound. Doubles, which count on where 32 bits would start again.
  readonly #counts: Float64Array
  #sum = 0

  /** @param bounds in seconds, ascending */
  constructor(bounds: readonly number[]) {
    this.#bounds = Float64Array.of(...bounds, Number.POSITIVE_INFINITY)
    this.#counts = new Float64Array(this.#bounds.length)
  }

  /** Counts a value in seconds; `times` where several were the same. */
  observe(value: number, times = 1): void {
    let index = 0
    while (value > (this.#bounds[index] ?? 0)) index++
    this.#counts[index] = (this.#counts[index] ?? 0) + times
    this.#sum += value * times
  }

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
