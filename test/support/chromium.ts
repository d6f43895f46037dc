// The Chromium of the tests as a process: from an npm package that carries the browser inside it, or the one that
// CHROMIUM_PATH names. Started by the runner for all test files, or by a file that runs alone.
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { type BrowserServer, chromium } from 'playwright-core'
import { within } from './waiting.ts'

export const launchMs = 60_000
export const closeMs = 10_000

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

/** The address of the browser that the runner has started, for its test files. */
export function sharedBrowser(): string | undefined {
  return process.env.TEST_BROWSER
}

/** The environment in which a test file uses this browser. */
export function sharing(server: BrowserServer): NodeJS.ProcessEnv {
  return { TEST_BROWSER: server.wsEndpoint() }
}

export async function launchBrowser(): Promise<BrowserServer> {
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

export async function endBrowser(server: BrowserServer): Promise<void> {
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
