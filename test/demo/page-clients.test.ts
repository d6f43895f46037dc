// The buttons that bring clients of their own, the chat among them.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { browserForFile } from '../support/browser.ts'
import { withoutBrowser } from '../support/chromium.ts'
import { openDemo } from './demo-page.ts'

const browser = browserForFile()

test('500 clients, a stalled one, a chat, a returning user and compression', { skip: withoutBrowser }, async (t) => {
  const demo = await openDemo(t, browser)

  const crowd = await demo.experiment('crowd')
  const stalled = await demo.experiment('stop-reading')
  const chat = await demo.experiment('chat')
  const sticky = await demo.experiment('sticky')
  const compression = await demo.experiment('compression')

  assert.match(crowd.proxied, /^✓ 500 of 500 got events, over 1 upstream connection\.$/)
  assert.match(crowd.plain, /^✕ 25\d of 500 got events, over 25\d upstream connections; \d+ wait without an error/)
  assert.match(stalled.proxied, /^✓ Upstream paused at [\d.]+ MB; client let go and everything given back after/)
  assert.match(stalled.plain, /^✕ Upstream paused at [\d.]+ MB, and still held/)
  assert.match(chat.proxied, /^✓ \d+ tokens shown, \d+ made: the model stopped/)
  assert.match(chat.plain, /^✕ No token in 3 s/)
  assert.match(sticky.proxied, /^✓ ([ab]) \d+(, \1 \d+){5}: one backend/)
  assert.match(sticky.plain, /^✕ .*each knows half/)
  assert.match(compression.proxied, /^✓ First event after \d+ ms/)
  assert.match(compression.plain, /^✕ No event in 3 s/)
  assert.deepEqual(demo.errors, [])
})
