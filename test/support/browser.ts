// A real Chromium for the tests, from an npm package that carries the browser inside it, driven by playwright-core.
//
//   const browser = browserForFile()
//   test('...', async (t) => {
//     const page = await browser.open(t, 'http://localhost:1234/')
//     const source = await page.eventSource('/events', { names: ['progress'] })
//     const event = await source.next()
//   })
//
// One browser serves a whole test file; every page lives in a context of its own (no cookies or connections of another
// page) and ends with its test. Set CHROMIUM_PATH to test with a browser of the machine instead.
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { type Browser, type BrowserServer, chromium, type Page } from 'playwright-core'
import { Arrivals, within } from './waiting.ts'

const launchMs = 60_000
const closeMs = 10_000

/** Why no browser can run here, or false where one can: for the `skip` option of a test. */
export const withoutBrowser: string | false =
  process.env.CHROMIUM_PATH === undefined && (process.platform !== 'linux' || process.arch !== 'x64')
    ? 'the packaged Chromium runs on Linux x64 only: set CHROMIUM_PATH to use another'
    : false

/** Why the browser cannot open an https page here, or false: its certificate store needs a library that is not packaged. */
export const withoutTls: string | false =
  withoutBrowser ||
  (process.env.CHROMIUM_PATH === undefined &&
  !libraryFolders().some((folder) => existsSync(join(folder, 'libsqlite3.so.0')))
    ? 'the packaged Chromium needs libsqlite3.so.0 for https (Debian: apt-get install libsqlite3-0)'
    : false)

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

/** Starts a browser before the tests of a file and ends it after them; to be called at the top of the file. */
export function browserForFile(): FileBrowser {
  let server: BrowserServer | undefined
  let browser: Browser | undefined

  before(
    async () => {
      if (withoutBrowser) return
      server = await launch()
      browser = await chromium.connect(server.wsEndpoint(), { timeout: launchMs })
    },
    { timeout: 2 * launchMs },
  )
  after(() => server && end(server), { timeout: 2 * closeMs })

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

async function launch(): Promise<BrowserServer> {
  const { executablePath, env } = await installedBrowser()

  return await chromium.launchServer({
    executablePath,
    env: { ...process.env, ...env },
    headless: true,
    host: '127.0.0.1',
    timeout: launchMs,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--no-proxy-server',
    ],
  })
}

async function end(server: BrowserServer): Promise<void> {
  try {
    await within(server.close(), 'the browser to close', closeMs)
  } catch {
    await server.kill()
  }
}

interface InstalledBrowser {
  executablePath: string
  env: Record<string, string>
}

async function installedBrowser(): Promise<InstalledBrowser> {
  const ownPath = process.env.CHROMIUM_PATH
  if (ownPath !== undefined) return { executablePath: ownPath, env: {} }

  const folder = await unpackedChromium()
  return {
    executablePath: join(folder, 'chromium'),
    // The package's own copies of the libraries that a bare machine lacks (nss, nspr, expat), and its fonts.
    env: {
      LD_LIBRARY_PATH: [join(folder, 'al2023', 'lib'), process.env.LD_LIBRARY_PATH].filter(Boolean).join(':'),
      FONTCONFIG_FILE: fileURLToPath(new URL('fonts.conf', import.meta.url)),
      XDG_DATA_HOME: join(folder, 'fonts'),
    },
  }
}

/**
 * The package unpacks itself into the temp folder, under fixed names and without a lock. Two test files may start at
 * once, so each unpacks into a folder of its own and the first to be through gives it the name that all use.
 */
async function unpackedChromium(): Promise<string> {
  const packageFolder = fileURLToPath(new URL('..', import.meta.resolve('@sparticuz/chromium')))
  const { version } = JSON.parse(await readFile(join(packageFolder, 'package.json'), 'utf8')) as { version: string }
  const cache = fileURLToPath(new URL('../../node_modules/.cache/', import.meta.url))
  const unpacked = join(cache, `chromium-${version}`)
  if (existsSync(unpacked)) return unpacked

  await mkdir(cache, { recursive: true })
  const partial = await mkdtemp(join(cache, 'unpacking-'))
  try {
    await unpackInto(partial)
    await rename(partial, unpacked)
  } catch (error) {
    await rm(partial, { recursive: true, force: true })
    if (!existsSync(unpacked)) throw error
  }
  return unpacked
}

function libraryFolders(): string[] {
  const own = process.env.LD_LIBRARY_PATH?.split(':').filter(Boolean) ?? []
  return [...own, '/usr/lib/x86_64-linux-gnu', '/lib/x86_64-linux-gnu', '/usr/lib64', '/lib64', '/usr/lib', '/lib']
}

/** In a process of its own, because the temp folder is the whole process's. */
async function unpackInto(folder: string): Promise<void> {
  const script = "const { default: chromium } = await import('@sparticuz/chromium'); await chromium.executablePath()"
  await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script], {
    cwd: fileURLToPath(new URL('.', import.meta.url)),
    // The name of the platform that has none of the libraries makes the package unpack them as well.
    env: { ...process.env, TMPDIR: folder, AWS_EXECUTION_ENV: 'AWS_Lambda_nodejs22.x' },
    timeout: launchMs,
  })
}
