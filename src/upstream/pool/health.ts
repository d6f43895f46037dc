// Whether an upstream is worth asking: what its failures and its probes say. Decisions only; time is handed in.

import { doubled } from '../../backoff.ts'
import type { HealthPolicy, ProbePolicy } from '../../options/resolve-health.ts'

/** An upstream that breaks a stream before this age counts as failing. */
export const EARLY_DEATH_MS = 1000

export class Health {
  readonly #policy: HealthPolicy | false
  // Failures in a row; one success forgets them.
  #failures = 0
  // Ejections in a row, each twice as long as the one before; a success after one forgets them.
  #ejections = 0
  #ejectedUntil = 0
  // Probes in a row with the same outcome.
  #probesPassed = 0
  #probesFailed = 0
  // A failing probe keeps it out until probes pass again, however long that takes.
  #failsProbes = false

  constructor(policy: HealthPolicy | false) {
    this.#policy = policy
  }

  get failures(): number {
    return this.#failures
  }

  get ejections(): number {
    return this.#ejections
  }

  /** When it may be asked again; 0 where it may be asked now. */
  dueAt(now: number): number {
    if (this.#failsProbes) return Number.POSITIVE_INFINITY
    return this.#ejectedUntil > now ? this.#ejectedUntil : 0
  }

  succeeded(now: number): void {
    this.#failures = 0
    if (this.dueAt(now) === 0) this.#ejections = 0
  }

  /** Returns true when this failure was one too many. */
  failed(now: number): boolean {
    this.#failures++
    // One that comes back from an ejection has its last chance.
    if (!this.#policy || this.dueAt(now) > 0) return false
    if (this.#failures < this.#policy.failures && this.#ejections === 0) return false
    this.#ejectedUntil = now + doubled(this.#ejections, this.#policy.ejectMs, this.#policy.maxEjectMs)
    this.#ejections++
    this.#probesPassed = 0
    return true
  }

  /** Returns true when this probe put it out. */
  probed(passed: boolean, { rise, fall }: ProbePolicy, now: number): boolean {
    // A pass counts for one that is out, from the moment it was put out.
    this.#probesPassed = passed && this.dueAt(now) > 0 ? this.#probesPassed + 1 : 0
    this.#probesFailed = passed ? 0 : this.#probesFailed + 1
    if (this.#probesPassed >= rise) {
      this.#probesPassed = 0
      this.#failsProbes = false
      this.#ejectedUntil = 0
      this.#ejections = 0
      this.#failures = 0
    }
    if (this.#probesFailed < fall || this.#failsProbes) return false
    this.#failsProbes = true
    return true
  }
}
