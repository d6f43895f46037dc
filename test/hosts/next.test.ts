// The middleware as an API route of Next.js: in pages/api, where a handler gets Node's own request and response.
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import { after } from 'node:test'
import { promisify } from 'node:util'
import { checkHost } from '../support/host-checks.ts'
import { importFrom, missing, modulesWith } from '../support/installed-elsewhere.ts'
import type { SseProxy } from '../support/proxied.ts'

const run = promisify(execFile)

interface Next {
  default: (options: object) => {
    prepare(): Promise<void>
    getRequestHandler(): RequestListener
    close(): Promise<void>
  }
}

// Asked by the route for the proxy of the test that runs. Next compiles it, and cannot be handed anything else.
const underTest = Symbol.for('sse-proxy under test')

const route = `
export const config = { api: { externalResolver: true } }

export default function handler(req, res) {
  req.url = req.url.slice('/api/events'.length) || '/'
  return globalThis[Symbol.for('sse-proxy under test')](req, res)
}
`

interface Running {
  readonly handler: RequestListener
  close(): Promise<void>
}

// One for all tests: to build it takes seconds.
let app: Promise<Running> | undefined
after(async () => await (await app)?.close())

checkHost('Next.js', {
  skip: missing('next'),
  async start(proxy) {
    app ??= startNext()
    const { handler } = await app
    Reflect.set(globalThis, underTest, proxy satisfies SseProxy)
    const server = createServer(handler)
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    return {
      origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}/api`,
      async close() {
        if (!server.listening) return
        const closed = new Promise((resolve) => server.close(resolve))
        server.closeIdleConnections()
        await closed
      },
    }
  },
})

async function startNext(): Promise<Running> {
  // Beside what is installed: Next takes no packages from outside of its folder.
  const root = dirname(modulesWith('next') ?? '')
  const dir = await mkdtemp(join(root, 'next-'))
  await mkdir(join(dir, 'pages/api'), { recursive: true })
  await writeFile(join(dir, 'package.json'), '{ "private": true, "type": "module" }')
  await writeFile(join(dir, 'next.config.js'), `export default { turbopack: { root: ${JSON.stringify(root)} } }`)
  await writeFile(join(dir, 'pages/api/events.js'), route)
  const env = { ...process.env, NEXT_TELEMETRY_DISABLED: '1' }
  await run(process.execPath, [join(root, 'node_modules/next/dist/bin/next'), 'build', dir], { env, timeout: 90_000 })
  const { default: next } = await importFrom<Next>('next', 'next')
  const server = next({ dev: false, dir, quiet: true })
  await server.prepare()
  return {
    handler: server.getRequestHandler(),
    async close() {
      await server.close()
      await rm(dir, { recursive: true, force: true })
    },
  }
}
