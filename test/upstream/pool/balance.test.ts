// How one of several upstreams is chosen: properties that hold for any weights and loads.
import assert from 'node:assert/strict'
import { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import type { BalanceCandidate } from '../../../src/options/upstream-options.ts'
import { type Balance, custom, failover, leastStreams, random, roundRobin } from '../../../src/upstream/pool/balance.ts'

const req = new IncomingMessage(new Socket())

interface Candidate extends BalanceCandidate {
  active: number
}

const weights = fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 6 })
const loads = fc.array(fc.record({ weight: fc.double({ min: 0.01, max: 100, noNaN: true }), active: fc.nat(500) }), {
  minLength: 1,
  maxLength: 8,
})

const policies: { name: string; create: () => Balance<Candidate> }[] = [
  { name: 'least-streams', create: leastStreams },
  { name: 'round-robin', create: roundRobin },
  { name: 'random', create: random },
  { name: 'failover', create: failover },
]

for (const { name, create } of policies) {
  test(`${name} chooses one of the candidates, whoever comes and goes`, () => {
    fc.assert(
      fc.property(loads, fc.array(fc.nat(255), { minLength: 1, maxLength: 60 }), (states, masks) => {
        const all = candidates(states)
        const choose = create()
        for (const mask of masks) {
          const some = all.filter((_candidate, i) => (mask >> i) % 2 === 1)
          const present = some.length > 0 ? some : all

          assert.ok(present.includes(choose(present, req) as Candidate))
        }
      }),
    )
  })
}

test('least-streams chooses one that carries the least for its weight', () => {
  fc.assert(
    fc.property(loads, (states) => {
      const all = candidates(states)

      const chosen = leastStreams()(all, req) as Candidate

      for (const other of all) {
        assert.ok((chosen.active + 1) / chosen.weight <= (other.active + 1) / other.weight)
      }
    }),
  )
})

test('least-streams fills upstreams in proportion to their weights with streams that stay', () => {
  fc.assert(
    fc.property(weights, fc.integer({ min: 1, max: 5 }), (given, rounds) => {
      const all = candidates(given.map((weight) => ({ weight })))

      take(leastStreams<Candidate>(), all, rounds * sum(given), (chosen) => chosen.active++)

      assert.deepEqual(
        all.map(({ active }) => active),
        given.map((weight) => rounds * weight),
      )
    }),
  )
})

test('least-streams sends the first stream to the heaviest, wherever it stands', () => {
  for (const at of [0, 1, 2]) {
    const all = candidates([0, 1, 2].map((i) => ({ weight: i === at ? 3 : 2 })))

    assert.equal(leastStreams<Candidate>()(all, req), all[at])
  }
})

test('least-streams refills the upstream that has lost its streams', () => {
  const all = candidates([{ active: 40 }, { active: 0 }, { active: 40 }])

  const chosen = take(leastStreams<Candidate>(), all, 39, (candidate) => candidate.active++)

  assert.deepEqual(new Set(chosen), new Set([all[1]]))
})

test('least-streams gives equals their turns, so that short requests do not all meet the first', () => {
  const all = candidates([{}, {}, {}])

  const chosen = take(leastStreams<Candidate>(), all, 30)

  for (const candidate of all) assert.equal(chosen.filter((one) => one === candidate).length, 10)
})

test('round-robin takes each as often as its weight says in every full round', () => {
  fc.assert(
    fc.property(weights, fc.integer({ min: 1, max: 4 }), (given, rounds) => {
      const all = candidates(given.map((weight) => ({ weight })))
      const choose = roundRobin<Candidate>()

      for (let round = 0; round < rounds; round += 1) {
        const chosen = take(choose, all, sum(given))
        assert.deepEqual(
          all.map((candidate) => chosen.filter((one) => one === candidate).length),
          given,
        )
      }
    }),
  )
})

test('round-robin spreads the heavy one over the round', () => {
  const all = candidates([{ weight: 5 }, { weight: 1 }, { weight: 1 }])

  const turns = take(roundRobin<Candidate>(), all, 7).map((chosen) => all.indexOf(chosen))

  assert.deepEqual(turns, [0, 0, 1, 0, 2, 0, 0])
})

test('round-robin does not look at how much each carries', () => {
  const all = candidates([{ active: 1_000 }, { active: 0 }])

  const chosen = take(roundRobin<Candidate>(), all, 10)

  assert.equal(chosen.filter((one) => one === all[0]).length, 5)
})

test('round-robin does not flood one that comes back with what it has missed', () => {
  const all = candidates([{}, {}, {}])
  const choose = roundRobin<Candidate>()
  take(choose, all, 3)
  take(choose, all.slice(0, 2), 100)

  const chosen = take(choose, all, 9)

  for (const candidate of all) assert.ok(chosen.filter((one) => one === candidate).length <= 4)
})

test('random follows the weights over the whole range of chance', () => {
  fc.assert(
    fc.property(weights, (given) => {
      const all = candidates(given.map((weight) => ({ weight })))
      const total = sum(given)
      let at = 0
      const choose = random<Candidate>(() => (at++ + 0.5) / total)

      const chosen = take(choose, all, total)

      assert.deepEqual(
        all.map((candidate) => chosen.filter((one) => one === candidate).length),
        given,
      )
    }),
  )
})

test('random has an answer at both ends of chance', () => {
  const all = candidates([{ weight: 0.1 }, { weight: 0.2 }, { weight: 0.3 }])

  assert.equal(random<Candidate>(() => 0)(all, req), all[0])
  assert.equal(random<Candidate>(() => 1 - Number.EPSILON / 2)(all, req), all[2])
})

test('a function of the app gets the candidates and the request, and its choice counts', () => {
  const all = candidates([{}, {}])
  const seen: unknown[] = []

  const chosen = custom<Candidate>((...given) => {
    seen.push(...given)
    return all[1] as Candidate
  })(all, req)

  assert.equal(chosen, all[1])
  assert.deepEqual(seen, [all, req])
})

const strangers: { name: string; from: (all: Candidate[]) => unknown }[] = [
  { name: 'nothing', from: () => undefined },
  { name: 'null', from: () => null },
  { name: 'a URL', from: (all) => all[0]?.url },
  { name: 'an index', from: () => 0 },
  { name: 'a copy', from: (all) => ({ ...all[0] }) },
  { name: 'a promise', from: (all) => Promise.resolve(all[0]) },
]

for (const { name, from } of strangers) {
  test(`a function of the app that returns ${name} has chosen nobody`, () => {
    const all = candidates([{}, {}])

    assert.equal(custom<Candidate>(() => from(all) as Candidate)(all, req), undefined)
  })
}

function candidates(states: { weight?: number; active?: number }[]): Candidate[] {
  return states.map(({ weight = 1, active = 0 }, i) => ({ url: `http://upstream-${i}`, weight, active, healthy: true }))
}

function take(
  choose: Balance<Candidate>,
  all: Candidate[],
  times: number,
  then: (chosen: Candidate) => void = () => {},
): Candidate[] {
  return Array.from({ length: times }, () => {
    const chosen = choose(all, req) as Candidate
    then(chosen)
    return chosen
  })
}

function sum(numbers: number[]): number {
  return numbers.reduce((total, one) => total + one, 0)
}
