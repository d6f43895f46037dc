// One clock for the keepalives of all streams of a proxy: a stream costs a number that is set back by every write,
// not a timer of its own.

// How exactly silence is measured: a keepalive comes at most this part of the interval late.
const TICKS = 8

/** A stream that is to be kept alive. */
export interface KeptAlive {
  /** Ticks of the clock since something was written. A stream sets it back with every write. */
  silentTicks: number
  /** The silence has lasted long enough. */
  onSilence(): void
}

/** Calls the streams that have been silent for the interval. */
export class KeepaliveClock {
  readonly #tickMs: number
  readonly #streams = new Set<KeptAlive>()
  // Runs while there are streams.
  #timer: NodeJS.Timeout | undefined

  constructor(intervalMs: number) {
    this.#tickMs = intervalMs / TICKS
  }

  /** A stream that is there already goes on with its silence. */
  add(stream: KeptAlive): void {
    if (this.#streams.has(stream)) return
    // The tick that is under way does not count.
    stream.silentTicks = -1
    this.#streams.add(stream)
    this.#timer ??= setInterval(() => this.#tick(), this.#tickMs)
  }

  delete(stream: KeptAlive): void {
    this.#streams.delete(stream)
    if (this.#streams.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  #tick(): void {
    for (const stream of this.#streams) {
      if (++stream.silentTicks < TICKS) continue
      stream.silentTicks = 0
      stream.onSilence()
    }
  }
}
