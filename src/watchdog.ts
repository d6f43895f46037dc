// Timeouts for peers. A watchdog measures the silence of the other side alone: time in which the event loop was blocked or the
// machine slept does not count, and data that has arrived by the end of the wait is read before the timeout fires.

// A wait is measured in so many parts of equal length.
const PARTS = 8

// When a part ends at least this much late, the process was suspended or blocked. Less than that is common on a busy machine.
const LATE_MS = 250

// How often a wait starts again for that reason. Without a bound, an event loop that is always late would never time out.
const MAX_RESTARTS = 3

/** One timeout, which fires after each wait without a sign of life until it is stopped. */
export class Watchdog {
  readonly #partMs: number
  readonly #onSilence: () => void
  // Undefined where `reset` tells every sign of life.
  readonly #isAlive: (() => boolean) | undefined
  // Undefined once stopped.
  #timer: NodeJS.Timeout | undefined
  // Parts that have passed without a sign of life; -1 when there was one in the part that is under way.
  #parts = 0
  // How often the wait has started again since the last sign of life. Bounded by MAX_RESTARTS.
  #restarts = 0
  // When the part that is under way began, which shows how late it ends.
  #partAt = performance.now()

  /**
   * @param onSilence called after each `ms` without a sign of life
   * @param isAlive asked in each part of the wait whether there has been one, for signs that are too many to be told
   */
  constructor(ms: number, onSilence: () => void, isAlive?: () => boolean) {
    this.#isAlive = isAlive
    this.#partMs = Math.ceil(ms / PARTS)
    this.#onSilence = onSilence
    this.#timer = setInterval(onPart, this.#partMs, this)
  }

  /** Lets the process exit while this waits. */
  unref(): this {
    this.#timer?.unref()
    return this
  }

  /** What is left of the wait, for one that goes on elsewhere. */
  get leftMs(): number {
    return Math.max(PARTS - Math.max(this.#parts, 0), 1) * this.#partMs
  }

  /** A sign of life: the wait starts again. It is one assignment, cheap enough for every read. */
  reset(): void {
    // Back to 0 at the end of the part that is under way, which began before this.
    this.#parts = -1
  }

  /** Ends the wait for good. */
  stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** For the timer alone. */
  onPart(): void {
    if (this.#isAlive?.()) this.reset()
    if (this.#parts < 0) this.#restarts = 0
    this.#parts++
    if (this.#wasLate() && this.#restarts < MAX_RESTARTS) {
      this.#restarts++
      this.#parts = 0
    }
    // Timers run before reads in a turn of the event loop, and immediates after them.
    if (this.#parts >= PARTS) setImmediate(onWaited, this)
  }

  /** For the immediate alone, which may run after `stop` or a sign of life. */
  onWaited(): void {
    if (!this.#timer || this.#parts < PARTS) return
    this.#parts = 0
    this.#restarts = 0
    if (!this.#isAlive?.()) this.#onSilence()
  }

  #wasLate(): boolean {
    const now = performance.now()
    const lateMs = now - this.#partAt - this.#partMs
    this.#partAt = now
    return lateMs > Math.max(this.#partMs, LATE_MS)
  }
}

function onPart(watchdog: Watchdog): void {
  watchdog.onPart()
}

function onWaited(watchdog: Watchdog): void {
  watchdog.onWaited()
}
