import assert from 'node:assert/strict'
import { test } from 'node:test'
import { outlivesReaders, roleOf, whenBusy } from '../../src/share/share-methods.ts'

const chat = { open: ['POST'], join: ['GET'], stop: ['DELETE'] }
const feed = { open: ['GET'], join: ['GET'], stop: [] }

for (const [method, share, role] of [
  ['POST', chat, 'open'],
  ['GET', chat, 'join'],
  ['DELETE', chat, 'stop'],
  ['delete', chat, 'stop'],
  ['HEAD', chat, 'unshared'],
  ['PUT', chat, 'unshared'],
  ['GET', feed, 'open'],
  ['POST', feed, 'unshared'],
  ['DELETE', feed, 'unshared'],
  [undefined, feed, 'open'],
] as const) {
  test(`${method} where ${share.open} opens: ${role}`, () => {
    assert.equal(roleOf(method, share), role)
  })
}

test('a GET that may open follows what is open, whatever busy says', () => {
  assert.equal(whenBusy('GET', { busy: 'refuse' }), 'join')
  assert.equal(whenBusy('POST', { busy: 'refuse' }), 'refuse')
  assert.equal(whenBusy('POST', { busy: 'replace' }), 'replace')
})

test('what a body has opened goes on for its own sake, and anything with lingerMs: Infinity', () => {
  assert.equal(outlivesReaders('POST', { lingerMs: 1000 }), true)
  assert.equal(outlivesReaders('POST', { lingerMs: 0 }), false)
  assert.equal(outlivesReaders('GET', { lingerMs: 1000 }), false)
  assert.equal(outlivesReaders('GET', { lingerMs: Number.POSITIVE_INFINITY }), true)
})
