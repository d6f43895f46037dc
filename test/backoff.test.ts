import assert from 'node:assert/strict'
import { test } from 'node:test'
import { backoff, jittered } from '../src/backoff.ts'

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
