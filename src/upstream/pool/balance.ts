// Which of several upstreams takes a request: pure choices among those that may be asked.

import type { IncomingMessage } from 'node:http'
import type { BalanceCandidate, BalanceFunction } from '../../options/upstream-options.ts'

/** Chooses one of the candidates, of which there is always one at least. Undefined, from a function of the app's, is an error. */
export type Balance<C extends BalanceCandidate> = (candidates: readonly C[], req: IncomingMessage) => C | undefined

/** A balance of the app's own, which may return anything. */
export function custom<C extends BalanceCandidate>(choose: BalanceFunction): Balance<C> {
  return (candidates, req) => {
    // A list of its own, since it may sort it or take from it.
    const chosen: unknown = choose([...candidates], req)
    return candidates.find((candidate) => candidate === chosen)
  }
}

/** The least loaded by weight; among equals, each in its turn. */
export function leastStreams<C extends BalanceCandidate>(): Balance<C> {
  let turn = 0
  return (candidates) => {
    if (candidates.length === 1) return candidates[0]
    const load = (candidate: C) => (candidate.active + 1) / candidate.weight
    const least = Math.min(...candidates.map(load))
    const equals = candidates.filter((candidate) => load(candidate) === least)
    return equals[turn++ % equals.length]
  }
}

/**
 * Each as often as its weight says, spread evenly. In every round each candidate gains its weight in credit, the richest is
 * chosen, and pays what all have gained.
 */
export function roundRobin<C extends BalanceCandidate>(): Balance<C> {
  const credit = new WeakMap<C, number>()
  return (candidates) => {
    let richest: C | undefined
    let total = 0
    for (const candidate of candidates) {
      const worth = (credit.get(candidate) ?? 0) + candidate.weight
      credit.set(candidate, worth)
      total += candidate.weight
      if (!richest || worth > (credit.get(richest) ?? 0)) richest = candidate
    }
    if (richest) credit.set(richest, (credit.get(richest) ?? 0) - total)
    return richest
  }
}

/** The first in the order that they were given in; those behind it are asked while it is out. */
export function failover<C extends BalanceCandidate>(): Balance<C> {
  return ([first]) => first
}

/** By chance, in proportion to weight. */
export function random<C extends BalanceCandidate>(chance: () => number = Math.random): Balance<C> {
  return (candidates) => {
    let left = chance() * candidates.reduce((sum, { weight }) => sum + weight, 0)
    for (const candidate of candidates) {
      left -= candidate.weight
      if (left < 0) return candidate
    }
    return candidates[candidates.length - 1]
  }
}
