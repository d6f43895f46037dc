import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { SseProxyOptions } from '../../src/options/options.ts'
import { resolveOptions } from '../../src/options/resolve-options.ts'

const target = 'http://127.0.0.1:1/events'
const resolve = (from: unknown): unknown => resolveOptions({ target, from } as SseProxyOptions).from

test('the short form is the object form without a callback', () => {
  assert.deepEqual(resolve('ndjson'), { format: 'ndjson', toEvent: undefined })
  assert.deepEqual(resolve({ format: 'ndjson' }), { format: 'ndjson', toEvent: undefined })
})

test('a polled endpoint has its interval', () => {
  assert.deepEqual(resolve({ format: 'json', everyMs: 1000 }), { format: 'json', everyMs: 1000, toEvent: undefined })
})

const wrong: [from: unknown, message: RegExp][] = [
  ['jsonl', /^from: expected 'ndjson' or an object with a format, got 'jsonl'/],
  [true, /^from: expected 'ndjson' or an object with a format, got true/],
  [null, /^from: expected a value, or undefined for the default, got null/],
  [{}, /^from\.format: expected 'ndjson'/],
  [{ format: 'csv' }, /^from\.format: expected 'ndjson' or 'json'/],
  [{ format: 'json' }, /^from\.everyMs: expected an integer from 1 to 1073741823, got undefined/],
  [{ format: 'json', everyMs: 0 }, /^from\.everyMs: expected an integer/],
  [{ format: 'ndjson', everyMs: 5 }, /^from\.everyMs: only for format 'json'/],
  [{ format: 'ndjson', toEvents: () => {} }, /^from\.toEvents: unknown option, did you mean toEvent\?/],
  [{ format: 'ndjson', toEvent: 'x' }, /^from\.toEvent: expected a function, got 'x'/],
]
for (const [from, message] of wrong) {
  test(`${JSON.stringify(from)} is refused`, () => {
    assert.throws(() => resolve(from), { name: 'ConfigError', message })
  })
}
