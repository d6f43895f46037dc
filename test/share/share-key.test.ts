import assert from 'node:assert/strict'
import type { IncomingMessage } from 'node:http'
import { describe, test } from 'node:test'
import { compactKey, isPersonal, ShareKeys, variedHeaders } from '../../src/share/share-key.ts'
import { bodyOf } from '../../src/stream/collect.ts'
import type { Header, UpstreamResponse } from '../../src/upstream-response.ts'
import { heapUsed } from '../support/memory.ts'

const minute = 60_000

describe('an answer that was for one client', () => {
  test('keeps others from waiting for the next one, for a minute', () => {
    const keys = createKeys()

    keys.rememberPrivate('a', 1000)

    assert.equal(keys.isPrivate('a', 1000 + minute - 1), true)
    assert.equal(keys.isPrivate('a', 1000 + minute), false)
    assert.equal(keys.isPrivate('b', 1000), false)
  })

  for (const [cacheControl, expected] of [
    ['private', true],
    ['no-store, PRIVATE', true],
    ['private="set-cookie"', true],
    ['max-age=1,private,no-store', true],
    ['no-store', false],
    ['x-private', false],
    ['private-ish', false],
    ['', false],
  ] as const) {
    test(`Cache-Control: ${cacheControl}: ${expected}`, () => {
      assert.equal(isPersonal(answered(['Cache-Control', cacheControl])), expected)
    })
  }

  test('says so in any of its lines', () => {
    assert.equal(isPersonal(answered(['cache-control', 'no-store'], ['Cache-Control', ['no-cache', 'private']])), true)
    assert.equal(isPersonal(answered(['vary', 'Origin'], ['Vary', '*'])), true)
    assert.deepEqual(variedHeaders(answered(['vary', 'Origin'], ['Vary', ['X-A', 'Cookie']])), ['origin', 'x-a'])
  })
})

test('what is remembered of keys that clients have made up is bounded in bytes', () => {
  const keys = createKeys()
  const before = heapUsed()

  for (let i = 0; i < 20_000; i += 1) {
    const base = keys.baseOf(requested({ host: 'localhost' }, `/${i}${'x'.repeat(16_000)}`)) ?? ''
    keys.remember(base, [`x-${i}-${'y'.repeat(900)}`])
    keys.rememberPrivate(base, 0)
  }

  const grown = heapUsed() - before
  assert.ok(grown < 32 * 1024 * 1024, `${grown} bytes`)
  assert.equal(keys.isPrivate(compactKey('none'), 0), false)
})

test('an upstream that depends on ever more headers is found out', () => {
  const keys = createKeys()
  const base = keys.baseOf(requested()) ?? ''

  const kept = Array.from({ length: 1000 }, (_, i) => keys.remember(base, [`x-${i}`]))

  assert.equal(kept[0], true)
  assert.equal(kept.at(-1), false)
  assert.ok(keys.variesOf(base).length <= 1024)
})

test('long keys are told apart, and never taken for short ones', () => {
  const long = 'x'.repeat(10_000)

  const keys = [`${long}a`, `${long}b`, compactKey(`${long}a`), '', 'x'].map(compactKey)

  assert.equal(new Set(keys).size, keys.length)
  assert.ok(keys.every((key) => key.length <= 257))
})

function createKeys(): ShareKeys {
  return new ShareKeys(undefined, undefined)
}

function requested(headers: Record<string, string> = {}, url = '/'): IncomingMessage {
  return { url, headers, rawHeaders: Object.entries(headers).flat() } as unknown as IncomingMessage
}

function answered(...headers: Header[]): UpstreamResponse {
  return { status: 200, statusMessage: '', headers, upstream: '', body: bodyOf(Buffer.alloc(0)), delimited: true }
}
