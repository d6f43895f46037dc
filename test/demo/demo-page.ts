// The demo's page in a real browser, with what its tests do there.
import type { TestContext } from 'node:test'
import type { Page } from 'playwright-core'
import type { FileBrowser } from '../support/browser.ts'
import { type DemoProcess, startDemo } from './demo-process.ts'

export interface Verdicts {
  readonly proxied: string
  readonly plain: string
}

export class DemoPage {
  readonly page: Page
  readonly demo: DemoProcess
  /** What went wrong inside the page. */
  readonly errors: string[] = []

  constructor(page: Page, demo: DemoProcess) {
    this.page = page
    this.demo = demo
    page.on('pageerror', (error) => this.errors.push(error.message))
    page.on('console', (message) => {
      // Streams that break, or are none, are what the page is about.
      if (message.type() === 'error' && !/^(Failed to load|EventSource's response)/.test(message.text())) {
        this.errors.push(message.text())
      }
    })
  }

  /** Presses the experiment's button and waits for what is said of both routes. */
  async experiment(id: string, choice?: string): Promise<Verdicts> {
    const button = this.page.locator(`#experiment-${id}`)
    const row = this.page.locator('li', { has: button })
    if (choice !== undefined) await row.locator('select').selectOption(choice)
    await button.click()
    await row.locator('.verdict.done.plain').waitFor({ timeout: 60_000 })
    const [proxied, plain] = ['proxied', 'plain'].map((route) => row.locator(`.verdict.${route} output`))
    return { proxied: await told(proxied), plain: await told(plain) }
  }
}

async function told(output: ReturnType<Page['locator']> | undefined): Promise<string> {
  return `${await output?.getAttribute('data-mark')} ${await output?.textContent()}`
}

export async function openDemo(t: TestContext, browser: FileBrowser): Promise<DemoPage> {
  const demo = await startDemo(t)
  const { page } = await browser.open(t, 'about:blank')
  const opened = new DemoPage(page, demo)
  await page.goto(demo.url)
  await page
    .locator('.lane.proxied .state.live')
    .waitFor()
    .catch(() => {
      throw new Error(`the page shows no stream: ${opened.errors.join(', ')}; the demo said ${demo.output}`)
    })
  return opened
}
