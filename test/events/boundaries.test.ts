import assert from 'node:assert/strict'
import { test } from 'node:test'
import { endOfBlankLines, nextBoundary } from '../../src/events/boundaries.ts'
import { BOM, boundaries, everyMix, fixtures } from '../stream/fixtures.ts'

test('nextBoundary finds every blank line in its turn, with and without CR', () => {
  for (const { name, bytes: whole } of [...fixtures, ...everyMix]) {
    const bytes = whole.subarray(whole.indexOf(BOM) === 0 ? Buffer.byteLength(BOM) : 0)
    const expected = boundaries(bytes).filter((end) => bytes[end - 1] !== 13 || bytes[end] !== 10)
    const found: number[] = []
    const text = bytes.toString('latin1')

    for (let at = nextBoundary(text, 0, bytes.includes(13)); at !== -1; ) {
      found.push(at)
      at = nextBoundary(text, at, bytes.includes(13))
    }

    assert.deepEqual(found, expected, name)
  }
})

test('endOfBlankLines: behind all of them, and where there are none at the start', () => {
  for (const [text, from, end] of [
    ['\n\n\ndata', 0, 3],
    ['a\n\n\n', 2, 4],
    ['data\n\n', 0, 0],
    ['\n\n', 0, 2],
  ] as const) {
    assert.equal(endOfBlankLines(Buffer.from(text), from), end)
  }
})
