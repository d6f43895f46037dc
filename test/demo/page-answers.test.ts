// The buttons about answers that fail, and about a reader who comes back.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { browserForFile } from '../support/browser.ts'
import { withoutBrowser } from '../support/chromium.ts'
import { openDemo } from './demo-page.ts'

const browser = browserForFile()

test('an answer that fails is another provider’s or is known to be half, and one that was left is there again', {
  skip: withoutBrowser,
}, async (t) => {
  const demo = await openDemo(t, browser)

  const atOnce = await demo.experiment('models', 'fails at once')
  const midway = await demo.experiment('models', 'fails midway')
  const reload = await demo.experiment('reload')

  assert.match(atOnce.proxied, /^✓ A whole answer: 18 tokens and its end, from model-b\.$/)
  assert.match(atOnce.plain, /^✕ Status 200 and 0 tokens: all that comes is “The engine is overloaded”/)
  assert.match(midway.proxied, /^✓ 8 tokens, then “The answer is not complete”, and the transfer breaks/)
  assert.match(midway.plain, /^✕ 8 tokens and a clean end: half an answer that looks whole\.$/)
  assert.match(reload.proxied, /^✓ 1\d tokens read, away for 1 s, then all [2-9]\d from the first on/)
  assert.match(reload.plain, /^✕ 1\d tokens read, away for 1 s, then status 405: the answer is lost\.$/)
  assert.deepEqual(demo.errors, [])
})
