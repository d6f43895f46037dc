import assert from 'node:assert/strict'
import { test } from 'node:test'
import { backoff, jittered, spread } from '../src/backoff.ts'

const least = () => 0
const most = () => 1 - Number.EPSILON

test('a delay doubles with each try, and half of it is left to chance', () => {
  const delays = [0, 1, 2].map((tries) => [backoff(tries, 100, 5000, least), backoff(tries, 100, 5000, most)])

  assert.deepEqual(delays, [
    [50, 100],
    [100, 200],
    [200, 400],
  ])
})

test('a delay stays below its bound, however often was tried', () => {
  assert.equal(backoff(5000, 100, 5000, most), 5000)
  assert.equal(backoff(5000, 0, 5000, most), 0)
})

test('a delay without a base is none', () => {
  assert.equal(backoff(0, 0, 5000, most), 0)
})

test('what is drawn from a range reaches both of its ends', () => {
  assert.equal(jittered([1000, 5000], least), 1000)
  assert.equal(jittered([1000, 5000], most), 5000)
  assert.equal(jittered([700, 700], most), 700)
})

test('moments are spread over a time, each in a slice of its own, and in no order', () => {
  const moments = spread(100, 10_000)

  for (const [i, moment] of [...moments].sort((a, b) => a - b).entries()) {
    assert.ok(moment >= i * 100 && moment < (i + 1) * 100, `number ${i} is at ${moment}`)
  }
  const ascents = moments.filter((moment, i) => i > 0 && moment > (moments[i - 1] ?? 0)).length
  assert.ok(ascents > 20 && ascents < 80, `${ascents} of 99 are later than the one before`)
  assert.deepEqual(spread(0, 10_000), [])
})
