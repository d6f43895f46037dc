// Waits for a peer: a timer that counts the silence of the other side, and nothing else. When this process itself was not
// there (a loop that stood still, a machine that slept), that is no silence; and what has come by the end of the wait is
// read before anybody decides.

// A wait is counted in so many parts.
const PARTS = 8

// In a part that lasted at least so much longer than it should, this process was not there. On a busy machine, short parts
// are late as a rule.
const LATE_MS = 250

// How often a wait begins anew because of that. A loop that is always late must not wait for ever.
const MAX_RESTARTS = 3

export class Watchdog {
  readonly #partMs: number
  readonly #onSilence: () => void
  // Undefined when nobody waits any more.
  #timer: NodeJS.Timeout | undefined
  // Parts of the wait that have passed without a sign.
  #parts = 0
  // How often the wait has begun anew since the last sign.
  #restarts = 0
  // When the part that is under way began.
  #partAt = performance.now()

  /** Calls back after each wait without a sign, until it is stopped. */
  constructor(ms: number, onSilence: () => void) {
    this.#partMs = Math.ceil(ms / PARTS)
    this.#onSilence = onSilence
    this.#timer = setInterval(onPart, this.#partMs, this)
  }

  /** Does not keep the process alive. */
  unref(): this {
    this.#timer?.unref()
    return this
  }

  /** The other side gave a sign: the wait begins anew. It costs next to nothing, and may be called for every read. */
  reset(): void {
    // The part that is under way does not count.
    this.#parts = -1
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  onPart(): void {
    if (this.#parts < 0) this.#restarts = 0
    this.#parts++
    if (this.#wasLate() && this.#restarts < MAX_RESTARTS) {
      this.#restarts++
      this.#parts = 0
    }
    // Timers run before reads. What waits to be read is read between this and that.
    if (this.#parts >= PARTS) setImmediate(onWaited, this)
  }

  onWaited(): void {
    if (!this.#timer || this.#parts < PARTS) return
    this.#parts = 0
    this.#restarts = 0
    this.#onSilence()
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
