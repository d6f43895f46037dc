// The buttons whose outcome is seen in the page's own two streams.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { browserForFile } from '../support/browser.ts'
import { withoutBrowser } from '../support/chromium.ts'
import { openDemo } from './demo-page.ts'

const browser = browserForFile()

test('kill, restart, drain and silence are not to be seen on the one route and are on the other', {
  skip: withoutBrowser,
}, async (t) => {
  const demo = await openDemo(t, browser)

  const kill = await demo.experiment('kill')
  const restart = await demo.experiment('restart')
  await demo.page.locator('.lane.plain').getByRole('button', { name: 'Open again' }).click()
  await demo.page.locator('.lane.plain .state.live').waitFor()
  const drain = await demo.experiment('drain')
  const silence = await demo.experiment('silence')

  assert.match(kill.proxied, /^✓ Nothing to be seen: \d+ events without a gap/)
  // Which of the two depends on whether the reset or the half event is seen first.
  assert.match(kill.plain, /^✕ (Ended as if complete, with “Error occurred|Broken off in the middle of an event)/)
  assert.match(restart.proxied, /^✓ Nothing to be seen/)
  assert.match(restart.plain, /^✕ .*answered 504, on which an EventSource gives up for good/)
  assert.match(drain.proxied, /^✓ Ended between two events with retry: \d+; back on the new instance, no event missing/)
  assert.match(drain.plain, /^✕ Broken off/)
  assert.match(silence.proxied, /^✓ The connection held: [1-9]\d* keepalive comments/)
  assert.match(silence.plain, /^✕ Not a byte; cut by the load balancer/)
  assert.equal(await demo.page.locator('.lane.proxied dd').first().textContent(), '0')
  assert.deepEqual(demo.errors, [])
})
