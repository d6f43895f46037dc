import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Histogram } from '../../src/observe/histogram.ts'
import { bytesAllocated } from './allocation.ts'

test('a bucket holds what is at most its bound, those below it included', () => {
  const histogram = new Histogram([0.1, 1, 10])

  for (const value of [0, 0.1, 0.100001, 1, 5, 10, 10.5, 1000]) histogram.observe(value)

  assert.deepEqual(histogram.snapshot(), {
    count: 8,
    sum: 0 + 0.1 + 0.100001 + 1 + 5 + 10 + 10.5 + 1000,
    buckets: [
      { le: 0.1, count: 2 },
      { le: 1, count: 4 },
      { le: 10, count: 6 },
    ],
  })
})

test('a value may count several times at once', () => {
  const once = new Histogram([1, 2])
  const atOnce = new Histogram([1, 2])

  for (let count = 0; count < 16; count += 1) once.observe(1.5)
  atOnce.observe(1.5, 16)

  assert.deepEqual(atOnce.snapshot(), once.snapshot())
})

test('a snapshot is empty at first, fits JSON, and stays as it was', () => {
  const histogram = new Histogram([1])

  const before = histogram.snapshot()
  histogram.observe(7)

  assert.deepEqual(before, { count: 0, sum: 0, buckets: [{ le: 1, count: 0 }] })
  assert.deepEqual(JSON.parse(JSON.stringify(histogram.snapshot())), histogram.snapshot())
})

test('counts go on past what 32 bits hold', () => {
  const histogram = new Histogram([1])

  histogram.observe(0.5, 2 ** 32)
  histogram.observe(0.5)

  assert.equal(histogram.snapshot().count, 2 ** 32 + 1)
})

test('any values are counted as a plain count over all of them says', () => {
  const seconds = fc.double({ min: 0, max: 1e6, noNaN: true })
  const bounds = fc.uniqueArray(seconds, { minLength: 1, maxLength: 16 }).map((all) => all.sort((a, b) => a - b))
  fc.assert(
    fc.property(bounds, fc.array(seconds), (les, values) => {
      const histogram = new Histogram(les)

      for (const value of values) histogram.observe(value)

      const { count, buckets } = histogram.snapshot()
      assert.equal(count, values.length)
      assert.deepEqual(
        buckets,
        les.map((le) => ({ le, count: values.filter((value) => value <= le).length })),
      )
    }),
  )
})

test('observing allocates nothing', () => {
  const histogram = new Histogram([0.001, 0.01, 0.1, 1, 10])

  // Constants, because a number that is computed here may be allocated here.
  const bytes = bytesAllocated(() => {
    histogram.observe(0.0005)
    histogram.observe(0.25, 16)
    histogram.observe(100.5)
  })

  assert.ok(bytes < 1, `${bytes} bytes for three values`)
})
