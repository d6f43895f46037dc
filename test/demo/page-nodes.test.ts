// The buttons that kill a node and start it again.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { browserForFile } from '../support/browser.ts'
import { withoutBrowser } from '../support/chromium.ts'
import { noRedis } from '../support/redis-server.ts'
import { openDemo } from './demo-page.ts'

const browser = browserForFile()

test('clients of the other nodes do not notice that a node dies, nor that it comes back', {
  skip: withoutBrowser || noRedis,
}, async (t) => {
  const demo = await openDemo(t, browser)

  const tooSoon = await demo.experiment('start-node')
  const killed = await demo.experiment('kill-node')
  const started = await demo.experiment('start-node')

  assert.deepEqual(tooSoon, { proxied: '– No node is dead: kill one first.', plain: '– Not tried.' })
  assert.match(
    killed.proxied,
    /^✓ Node [ABC] died, node [ABC] took over: 20 clients stayed connected, 10 reconnected, no event/,
  )
  assert.match(killed.proxied, /; 1 upstream connection\.$/)
  assert.match(
    killed.plain,
    /^✕ 20 clients stayed connected, 10 reconnected, no event missing, .*; 30 upstream connections\.$/,
  )
  assert.match(
    started.proxied,
    /^✓ Node [ABC] is back after .* follows node [ABC]: all 30 clients stayed connected, no event .*; 1 upstream connection\.$/,
  )
  assert.match(started.plain, /^✕ All 30 clients stayed connected, no event missing, .*; 30 upstream connections\.$/)
  assert.deepEqual(demo.errors, [])
})
