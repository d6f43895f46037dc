// The rest of the page: its other streams, its figures, and how it fits screens, themes and keyboards.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { browserForFile } from '../support/browser.ts'
import { withoutBrowser } from '../support/chromium.ts'
import { openDemo } from './demo-page.ts'

const browser = browserForFile()
const skip = withoutBrowser

test('sign-in, notifications, a job, a chat and its stop work', { skip }, async (t) => {
  const { page, errors } = await openDemo(t, browser)

  await page.fill('#user', 'grace')
  await page.click('#sign-in')
  await page.locator('#notifications-state', { hasText: 'which has seen you once' }).waitFor()
  await page.click('#notify button')
  await page.locator('#notification-list li', { hasText: 'The build is green' }).waitFor()

  await page.click('#job-start')
  await page.click('#chat-ask')
  await page.locator('#chat-answer', { hasText: 'A server-sent event' }).waitFor()
  await page.click('#chat-stop')
  await page.locator('#chat-ask:enabled').waitFor()
  await page.locator('#job-state', { hasText: 'Done.' }).waitFor()
  assert.equal(await page.locator('#job-progress').evaluate((bar: HTMLProgressElement) => bar.value), 100)

  await page.click('#sign-out')
  await page.locator('#notifications-state', { hasText: 'Sign in' }).waitFor()
  assert.deepEqual(errors, [])
})

test('the figures move, the page fits phones and both themes, and everything has a name and is reached by keyboard', {
  skip,
}, async (t) => {
  const { page } = await openDemo(t, browser)

  // One stream through each route: the page's own.
  const open = page.locator('figure', { hasText: 'Open streams' }).locator('b')
  await page.waitForFunction(() => document.querySelector('figure b')?.textContent === '1')
  await page
    .locator('figure', { hasText: 'Events a second' })
    .locator('b', { hasText: /^[1-9]/ })
    .waitFor()

  assert.deepEqual(await open.allTextContents(), ['1', '1'])
  assert.equal(await page.locator('figure canvas').count(), 5)

  for (const width of [320, 390, 768, 1280]) {
    await page.setViewportSize({ width, height: 800 })
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)
    assert.ok(overflow <= 0, `${overflow} px too wide at ${width}`)
  }

  const colours = []
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme })
    colours.push(await page.evaluate(() => getComputedStyle(document.body).backgroundColor))
  }
  assert.notEqual(colours[0], colours[1])

  const controls = page.locator('button:visible, input:visible, select:visible, a[href]')
  const nameless = await controls.evaluateAll((elements) =>
    elements.flatMap((element) => {
      const labels = 'labels' in element ? (element.labels as NodeListOf<HTMLElement> | null) : null
      const name = element.getAttribute('aria-label') || labels?.[0]?.textContent || element.textContent?.trim()
      return name ? [] : [element.outerHTML]
    }),
  )
  assert.deepEqual(nameless, [])

  const reached = new Set<string>()
  for (let i = 0; i < 40; i++) {
    await page.keyboard.press('Tab')
    reached.add(await page.evaluate(() => document.activeElement?.id ?? ''))
  }
  for (const id of ['user', 'sign-in', 'experiment-kill', 'experiment-drain', 'job-start', 'chat-ask']) {
    assert.ok(reached.has(id), `${id} was not reached`)
  }
  await page.locator('#experiment-compression').focus()
  await page.keyboard.press('Enter')
  await page.locator('.verdict.done').first().waitFor()
})
