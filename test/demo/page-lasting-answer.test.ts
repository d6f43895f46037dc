// The answer on the page that outlives its readers.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Page } from 'playwright-core'
import { browserForFile } from '../support/browser.ts'
import { withoutBrowser } from '../support/chromium.ts'
import { openDemo } from './demo-page.ts'

const browser = browserForFile()

test('an answer goes on while the page is reloaded, is there from its start, and is stopped from another tab', {
  skip: withoutBrowser,
}, async (t) => {
  const demo = await openDemo(t, browser)
  const { page } = demo
  await page.locator('#lasting-ask').click()
  await shows(page, 3)

  await page.reload()
  await shows(page, 6)
  // A browser without a screen shows all pages at once, and opens six connections for all of them.
  await page.evaluate(() => {
    Object.defineProperty(document, 'hidden', { value: true })
    document.dispatchEvent(new Event('visibilitychange'))
  })
  const tab = await page.context().newPage()
  await tab.goto(demo.demo.url)
  await shows(tab, 9)
  await tab.locator('#lasting-stop').click()

  await tab.locator('#lasting-state', { hasText: 'and the end' }).waitFor()
  const text = await tab.locator('#lasting-answer').textContent()
  assert.match(text ?? '', /^Reload this page: the answer is made/)
  await tab.close()
  const [resumed] = await Promise.all([
    page.waitForResponse((response) => response.url().includes('/answers/')),
    page.reload(),
  ])
  assert.equal(resumed.status(), 204)
  assert.deepEqual(demo.errors, [])
})

/** Waits until so many tokens are to be seen. */
async function shows(page: Page, tokens: number): Promise<void> {
  await page.waitForFunction(
    (wanted) => Number.parseInt(document.querySelector('#lasting-state')?.textContent ?? '', 10) >= wanted,
    tokens,
  )
}
