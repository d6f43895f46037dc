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

/** As many moments as are asked for, each in a slice of the time of its own, in no order. */
export function spread(count: number, withinMs: number, chance: () => number = Math.random): number[] {
  return shuffled(
    Array.from({ length: count }, (_, i) => ((i + chance()) / count) * withinMs),
    chance,
  )
}

/** A delay drawn from the range. */
export function jittered(
  [minMs, maxMs]: readonly [minMs: number, maxMs: number],
  chance: () => number = Math.random,
): number {
  return Math.round(minMs + chance() * (maxMs - minMs))
}

function shuffled<T>(items: readonly T[], chance: () => number): T[] {
  const shuffled = [...items]
  for (let i = shuffled.length - 1; i > 0; i--) {
    const j = Math.floor(chance() * (i + 1))
    const [a, b] = [shuffled[i], shuffled[j]]
    if (a !== undefined && b !== undefined) [shuffled[i], shuffled[j]] = [b, a]
  }
  return shuffled
}
