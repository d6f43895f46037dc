// Choices that are the same for the same seed.

/** A number from 0 up to 1, the next of its row. */
export type Chance = () => number

export function seeded(seed: number): Chance {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}

/** A whole number below `end`. */
export function below(chance: Chance, end: number): number {
  return Math.floor(chance() * end)
}

export function oneOf<T>(chance: Chance, choices: readonly T[]): T {
  return choices[below(chance, choices.length)] as T
}

/** The same bytes in up to `most` parts. */
export function parted(chance: Chance, bytes: Buffer, most: number): Buffer[] {
  const cuts = Array.from({ length: below(chance, most) }, () => below(chance, bytes.length + 1)).sort((a, b) => a - b)
  return [0, ...cuts].map((from, i) => bytes.subarray(from, cuts[i] ?? bytes.length)).filter(({ length }) => length > 0)
}

/** A few bytes are others. */
export function damaged(chance: Chance, bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes)
  for (let times = 1 + below(chance, 4); times > 0 && copy.length > 0; times -= 1) {
    copy[below(chance, copy.length)] = below(chance, 256)
  }
  return copy
}
