// The buttons that bring other kinds of upstreams.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { browserForFile } from '../support/browser.ts'
import { withoutBrowser } from '../support/chromium.ts'
import { openDemo } from './demo-page.ts'

const browser = browserForFile()

test('lines of JSON and a polled state are events on the one route alone, and HTTP/2 takes two connections for 200 streams', {
  skip: withoutBrowser,
}, async (t) => {
  const demo = await openDemo(t, browser)

  const lines = await demo.experiment('lines')
  const poll = await demo.experiment('poll')
  const http2 = await demo.experiment('http2')

  assert.match(lines.proxied, /^✓ A whole answer in \d\d events, the first after [\d.]+ m?s, the last after/)
  assert.match(lines.plain, /^✕ The EventSource gave up without an event: what it gets is application\/x-ndjson/)
  const asked = /^✓ As an event: 100 of 100 saw the change, .*; (\d+) requests to the upstream in [\d.]+ s\.$/.exec(
    poll.proxied,
  )
  assert.ok(asked, poll.proxied)
  assert.match(poll.plain, /^✕ The EventSource gave up without an event: what it gets is application\/json/)
  assert.match(poll.plain, / Polling: 100 of 100 saw the change, .*; [1-9]\d\d requests to the upstream in [\d.]+ s\.$/)
  assert.match(http2.proxied, /^✓ 200 of 200 got events, over 2 upstream connections\.$/)
  assert.match(http2.plain, /^✕ 200 of 200 got events, over 200 upstream connections\.$/)
  assert.deepEqual(demo.errors, [])
  assert.doesNotMatch(demo.demo.output, /Warning/)
})
