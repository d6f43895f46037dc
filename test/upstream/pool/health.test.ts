// When an upstream is left alone: a decision of its failures, its probes and the time, which is handed in.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { HealthPolicy, ProbePolicy } from '../../../src/options/resolve-health.ts'
import { Health } from '../../../src/upstream/pool/health.ts'

const policy: HealthPolicy = { failures: 3, ejectMs: 10_000, maxEjectMs: 300_000 }
const probing: ProbePolicy = { path: '/health', intervalMs: 1_000, timeoutMs: 500, rise: 2, fall: 3 }

test('the third failure in a row ejects, and no failure before it', () => {
  const health = new Health(policy)

  assert.deepEqual([health.failed(0), health.failed(1), health.failed(2)], [false, false, true])
  assert.equal(health.dueAt(3), 10_002)
})

test('a success between failures starts the count anew', () => {
  const health = new Health(policy)

  fail(health, 2, 0)
  health.succeeded(0)

  assert.equal(fail(health, 2, 0), false)
  assert.equal(health.failed(0), true)
})

test('an ejection lasts ejectMs, no longer and no shorter', () => {
  const health = new Health(policy)
  fail(health, 3, 0)

  assert.equal(health.dueAt(9_999), 10_000)
  assert.equal(health.dueAt(10_000), 0)
})

test('each further ejection lasts twice as long, up to maxEjectMs', () => {
  const health = new Health(policy)
  fail(health, 3, 0)
  const lasted: number[] = []

  for (let now = 0; lasted.length < 8; ) {
    const until = health.dueAt(now)
    lasted.push(until - now)
    now = until
    health.failed(now)
  }

  assert.deepEqual(lasted, [10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000, 300_000])
})

test('an upstream that comes back from an ejection is out again with its first failure', () => {
  const health = new Health(policy)
  fail(health, 3, 0)

  assert.equal(health.failed(10_000), true)
})

test('an upstream that has come back and served has all its chances again, and the shortest ejection', () => {
  const health = new Health(policy)
  fail(health, 3, 0)
  fail(health, 1, 10_000)
  health.succeeded(30_000)

  assert.equal(fail(health, 2, 30_000), false)
  assert.equal(health.failed(30_000), true)
  assert.equal(health.dueAt(30_000), 40_000)
})

test('failures of an ejected upstream, asked as the last resort, do not make its ejection longer', () => {
  const health = new Health(policy)
  fail(health, 3, 0)

  assert.equal(fail(health, 20, 5_000), false)
  assert.equal(health.dueAt(5_000), 10_000)
})

test('a success as the last resort does not shorten an ejection, nor make the next failure count for less', () => {
  const health = new Health(policy)
  fail(health, 3, 0)

  health.succeeded(5_000)

  assert.equal(health.dueAt(5_000), 10_000)
  assert.equal(health.failed(10_000), true)
  assert.equal(health.dueAt(10_000), 30_000)
})

test('a very long row of ejections stays at maxEjectMs', () => {
  const health = new Health(policy)
  fail(health, 3, 0)
  let now = 0

  for (let i = 0; i < 2_000; i += 1) {
    now = health.dueAt(now)
    health.failed(now)
  }

  assert.equal(health.dueAt(now) - now, 300_000)
})

test('whatever happens, ejections follow the rule of failures in a row', () => {
  const steps = fc.array(
    fc.oneof(
      { weight: 3, arbitrary: fc.constant('failed' as const) },
      { weight: 1, arbitrary: fc.constant('succeeded' as const) },
      { weight: 2, arbitrary: fc.integer({ min: 1, max: 50_000 }) },
    ),
    { maxLength: 200, size: 'max' },
  )
  const policies = fc.record({
    failures: fc.integer({ min: 1, max: 5 }),
    ejectMs: fc.integer({ min: 1, max: 20_000 }),
    maxEjectMs: fc.integer({ min: 20_000, max: 100_000 }),
  })
  fc.assert(
    fc.property(policies, steps, (given, history) => {
      const health = new Health(given)
      let now = 0
      // The rule in the plainest words: what has come since the last success outside of an ejection.
      let inARow = 0
      let returns = 0
      let until = 0

      for (const step of history) {
        const isOut = until > now
        if (typeof step === 'number') now += step
        else if (step === 'succeeded') {
          health.succeeded(now)
          inARow = 0
          if (!isOut) returns = 0
        } else {
          inARow += 1
          const ejects = !isOut && (returns > 0 || inARow >= given.failures)
          assert.equal(health.failed(now), ejects)
          if (ejects) {
            until = now + Math.min(given.ejectMs * 2 ** returns, given.maxEjectMs)
            returns += 1
          }
        }
        assert.equal(health.dueAt(now), until > now ? until : 0)
      }
    }),
  )
})

test('without passive health no number of failures ejects', () => {
  const health = new Health(false)

  assert.equal(fail(health, 1_000, 0), false)
  assert.equal(health.dueAt(0), 0)
})

test('as many failed probes in a row as fall says put an upstream out, once, and for as long as they fail', () => {
  const health = new Health(policy)

  const told = Array.from({ length: 10 }, () => health.probed(false, probing, 0))

  assert.deepEqual(told, [false, false, true, ...Array(7).fill(false)])
  assert.equal(health.dueAt(Number.MAX_SAFE_INTEGER), Number.POSITIVE_INFINITY)
})

test('a passed probe between failed ones starts their count anew', () => {
  const health = new Health(policy)

  const told = [false, false, true, false, false].map((passed) => health.probed(passed, probing, 0))

  assert.deepEqual(told, [false, false, false, false, false])
  assert.equal(health.dueAt(0), 0)
})

test('as many passed probes in a row as rise says bring an upstream back', () => {
  const health = new Health(policy)
  probe(health, false, false, false)

  probe(health, true, false, true)
  assert.equal(health.dueAt(0), Number.POSITIVE_INFINITY)

  probe(health, true)
  assert.equal(health.dueAt(0), 0)
})

test('passed probes end an ejection before its time, and the next one is short again', () => {
  const health = new Health(policy)
  fail(health, 3, 0)
  fail(health, 1, 10_000)

  probeAt(health, 10_001, true, true)

  assert.equal(health.dueAt(10_001), 0)
  assert.equal(fail(health, 2, 10_001), false)
  assert.equal(health.failed(10_001), true)
  assert.equal(health.dueAt(10_001), 20_001)
})

test('only probes that passed after an ejection bring an upstream back, however many had passed before', () => {
  const health = new Health(policy)
  probe(health, true, true, true, true)
  fail(health, 3, 0)

  probe(health, true)
  assert.equal(health.dueAt(1), 10_000)

  probe(health, true)
  assert.equal(health.dueAt(1), 0)
})

test('probes that pass do not hide requests that fail', () => {
  const health = new Health(policy)

  const told = Array.from({ length: 3 }, () => {
    probe(health, true, true, true)
    return health.failed(0)
  })

  assert.deepEqual(told, [false, false, true])
})

test('requests that succeed do not bring back an upstream that fails its probes', () => {
  const health = new Health(policy)
  probe(health, false, false, false)

  health.succeeded(0)

  assert.equal(health.dueAt(0), Number.POSITIVE_INFINITY)
})

test('probes work without passive health', () => {
  const health = new Health(false)

  probe(health, false, false, false)
  assert.equal(health.dueAt(0), Number.POSITIVE_INFINITY)

  probe(health, true, true)
  assert.equal(health.dueAt(0), 0)
})

/** Returns whether the last of these failures ejected. */
function fail(health: Health, times: number, now: number): boolean {
  return Array.from({ length: times }, () => health.failed(now)).at(-1) ?? false
}

function probe(health: Health, ...outcomes: boolean[]): void {
  probeAt(health, 0, ...outcomes)
}

function probeAt(health: Health, now: number, ...outcomes: boolean[]): void {
  for (const passed of outcomes) health.probed(passed, probing, now)
}
