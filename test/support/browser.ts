// A real Chromium for the tests, from an npm package that carries the browser inside it, driven by playwright-core.
//
//   const browser = browserForFile()
//   test('...', async (t) => {
//     const page = await browser.open(t, 'http://localhost:1234/')
//     const source = await page.eventSource('/events', { names: ['progress'] })
//     const event = await source.next()
//   })
//
// One browser serves a whole test file, or all of them where the runner has started one; every page lives in a context of
// its own (no cookies or connections of another page) and ends with its test.
import { after, before, type TestContext } from 'node:test'
import { type Browser, type BrowserServer, chromium, type Page } from 'playwright-core'
import { closeMs, endBrowser, launchBrowser, launchMs, sharedBrowser, withoutBrowser } from './chromium.ts'
import { Arrivals } from './waiting.ts'

/** What an EventSource of a page has dispatched: a message, a named event, `open` or `error`. */
export interface PageEvent {
  type: string
  data: string | null
  lastEventId: string | null
  /** 0 connecting, 1 open, 2 closed, as the source said when the event was dispatched. */
  readyState: number
}

export interface EventSourceOptions {
  withCredentials?: boolean
  /** The named events to listen to; `message`, `open` and `error` always are. */
  names?: string[]
}

/** An EventSource inside a page. What it dispatches is taken one by one with `next()`. */
export class PageEventSource {
  readonly #arrivals = new Arrivals<PageEvent>()
  readonly #close: () => Promise<void>
  readonly url: string

  constructor(url: string, close: () => Promise<void>) {
    this.url = url
    this.#close = close
  }

  get all(): readonly PageEvent[] {
    return this.#arrivals.all
  }

  next(ms?: number): Promise<PageEvent> {
    return this.#arrivals.next(`an event of the page's EventSource of ${this.url}`, ms)
  }

  close(): Promise<void> {
    return this.#close()
  }

  /** For the page alone. */
  add(event: PageEvent): void {
    this.#arrivals.add(event)
  }
}

export class TestPage {
  readonly page: Page
  readonly #sources = new Map<number, PageEventSource>()

  private constructor(page: Page) {
    this.page = page
  }

  static async open(page: Page, url: string): Promise<TestPage> {
    const opened = new TestPage(page)
    await page.exposeFunction('reportSourceEvent', (key: number, event: PageEvent) =>
      opened.#sources.get(key)?.add(event),
    )
    await page.addInitScript(pageScript)
    await page.goto(url)
    return opened
  }

  async eventSource(
    url: string,
    { withCredentials = false, names = [] }: EventSourceOptions = {},
  ): Promise<PageEventSource> {
    const key = this.#sources.size
    const source = new PageEventSource(url, () => this.page.evaluate(`closeSource(${key})`))
    this.#sources.set(key, source)
    await this.page.evaluate(`openSource(${JSON.stringify({ key, url, withCredentials, names })})`)
    return source
  }
}

// Text, not a function: what a TypeScript loader adds to functions does not exist inside the page.
const pageScript = `
  const sources = new Map()
  window.openSource = ({ key, url, withCredentials, names }) => {
    const source = new EventSource(url, { withCredentials })
    sources.set(key, source)
    for (const name of ['open', 'error', 'message', ...names]) {
      source.addEventListener(name, (event) => reportSourceEvent(key, {
        type: event.type,
        data: event.data ?? null,
        lastEventId: event.lastEventId ?? null,
        readyState: source.readyState,
      }))
    }
  }
  window.closeSource = (key) => sources.get(key).close()
`

export interface FileBrowser {
  /** Opens the page in a fresh context, which ends with the test. */
  open(t: TestContext, url: string): Promise<TestPage>
}

/** A browser from before the tests of a file until after them; to be called at the top of the file. */
export function browserForFile(): FileBrowser {
  let server: BrowserServer | undefined
  let browser: Browser | undefined

  before(
    async () => {
      if (withoutBrowser) return
      const shared = sharedBrowser()
      if (shared === undefined) server = await launchBrowser()
      browser = await chromium.connect(shared ?? server?.wsEndpoint() ?? '', { timeout: launchMs })
    },
    { timeout: 2 * launchMs },
  )
  after(
    async () => {
      await browser?.close()
      if (server) await endBrowser(server)
    },
    { timeout: 2 * closeMs },
  )

  return {
    async open(t, url) {
      if (!browser) throw new Error('no browser is running: call browserForFile() at the top of the file')
      // The certificate of the tests is signed by nobody.
      const context = await browser.newContext({ ignoreHTTPSErrors: true })
      t.after(() => context.close())
      context.setDefaultTimeout(15_000)
      return await TestPage.open(await context.newPage(), url)
    },
  }
}
