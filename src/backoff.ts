// How long to wait before something is tried again, and by when a client comes back: with jitter, so that those who failed
// together do not come back together. Pure decisions.

// As many make the longest delay of a timer from a single ms, and 0 ms times infinity would be no number.
const MAX_DOUBLINGS = 31

/** Doubles with each try, up to `maxMs`. */
export function doubled(tries: number, baseMs: number, maxMs: number): number {
  return Math.min(baseMs * 2 ** Math.min(tries, MAX_DOUBLINGS), maxMs)
}

/**
 * The doubled delay, of which the second half is jitter.
 * @param tries those before this one, so 0 waits `baseMs` at most
 * @param chance a number from 0 up to 1
 */
export function backoff(tries: number, baseMs: number, maxMs: number, chance: () => number = Math.random): number {
  return Math.round(doubled(tries, baseMs, maxMs) * (0.5 + chance() / 2))
}

/** A delay drawn from the range. */
export function jittered(
  [minMs, maxMs]: readonly [minMs: number, maxMs: number],
  chance: () => number = Math.random,
): number {
  return Math.round(minMs + chance() * (maxMs - minMs))
}
