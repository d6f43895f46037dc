import assert from 'node:assert/strict'
import type { IncomingMessage } from 'node:http'
import { test } from 'node:test'
import type { SseProxyOptions } from '../../src/options/options.ts'
import { resolveOptions } from '../../src/options/resolve-options.ts'
import type { ResolvedTo } from '../../src/options/resolve-to.ts'

const target = 'http://127.0.0.1:1/events'
const req = {} as IncomingMessage
const resolve = (to: unknown, more: object = {}): ResolvedTo | undefined =>
  resolveOptions({ target, to, ...more } as SseProxyOptions).to

for (const format of ['event-stream', 'ndjson', 'json']) {
  test(`a function may choose ${format}`, () => {
    assert.equal(resolve({ format: () => format })?.format(req), format)
  })
}

for (const format of ['sse', undefined, null, Promise.resolve('json')]) {
  test(`a function that chooses ${format} has failed`, () => {
    assert.throws(() => resolve({ format: () => format })?.format(req), { name: 'TypeError', message: /^to\.format: / })
  })
}

const wrong: [to: unknown, message: RegExp][] = [
  ['ndjson', /^to: expected an object, got 'ndjson'/],
  [null, /^to: expected a value, or undefined for the default, got null/],
  [{}, /^to\.format: expected a function, got undefined/],
  [{ format: 'json' }, /^to\.format: expected a function, got 'json'/],
  [{ format: async () => 'json' }, /^to\.format: expected a function that returns its result at once/],
  [{ format: () => 'json', collect: 1 }, /^to\.collect: expected a function, got 1/],
  [
    { format: () => 'json', collect: async () => 1 },
    /^to\.collect: expected a function that returns its result at once/,
  ],
  [{ formats: () => 'json' }, /^to\.formats: unknown option, did you mean format\?/],
]
for (const [to, message] of wrong) {
  test(`${JSON.stringify(to)} is refused: ${message}`, () => {
    assert.throws(() => resolve(to), { name: 'ConfigError', message })
  })
}

test("framing: 'bytes' has no whole events to make other formats of", () => {
  const message = "framing: 'bytes' cannot be used with to, because other formats need whole events"

  assert.throws(() => resolve({ format: () => 'json' }, { framing: 'bytes' }), { message })
})
