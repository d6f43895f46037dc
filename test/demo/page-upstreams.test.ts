// The buttons that bring other kinds of upstreams.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { browserForFile } from '../support/browser.ts'
import { withoutBrowser } from '../support/chromium.ts'
import { openDemo } from './demo-page.ts'

const browser = browserForFile()

test('lines of JSON and a polled state are events for an EventSource on the one route, and nothing on the other', {
  skip: withoutBrowser,
}, async (t) => {
  const demo = await openDemo(t, browser)

  const lines = await demo.experiment('lines')
  const poll = await demo.experiment('poll')

  assert.match(lines.proxied, /^✓ A whole answer in \d\d events, the first after [\d.]+ m?s, the last after/)
  assert.match(lines.plain, /^✕ The EventSource gave up without an event: what it gets is application\/x-ndjson/)
  const asked = /^✓ As an event: 100 of 100 saw the change, .*; (\d) requests to the upstream in 3 s\.$/.exec(poll.proxied)
  assert.ok(asked, poll.proxied)
  assert.match(poll.plain, /^✕ The EventSource gave up without an event: what it gets is application\/json/)
  assert.match(poll.plain, / Polling: 100 of 100 saw the change, .*; [1-9]\d\d requests to the upstream in 3 s\.$/)
  assert.deepEqual(demo.errors, [])
})
