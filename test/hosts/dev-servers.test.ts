// The middleware in the servers that front ends are developed with, beside their own hot reloading.
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { request as httpRequest } from 'node:http'
import type { AddressInfo, Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { sseProxy } from 'sse-proxy-middleware'
import { request } from '../support/client.ts'
import type { Middleware } from '../support/front.ts'
import { checkHost, type Hosting } from '../support/host-checks.ts'
import { importFrom, missing } from '../support/installed-elsewhere.ts'
import { startUpstream } from '../support/upstream.ts'
import { until, within } from '../support/waiting.ts'

checkHost('Vite', { skip: missing('vite'), start: async (proxy) => await startVite(proxy) })

checkHost('webpack-dev-server', { skip: missing('webpack-dev-server'), start: startWebpack })

test('Vite: hot reloading goes on beside an open stream', { skip: missing('vite') }, async (t) => {
  const upstream = await startUpstream()
  const proxy = sseProxy({ target: `${upstream.url}/stream` })
  const hosting = await startVite(proxy)
  const client = request(`${hosting.origin}/events`)
  t.after(async () => {
    client.close()
    await hosting.close()
    await upstream.close()
  })
  const stream = (await upstream.next()).stream()
  stream.send({ data: 'one' })
  await client.waitFor('data: one\n\n')

  const reloads = await hotSocket(t, `${hosting.origin}/?token=${hosting.token}`)
  await hosting.change()
  await until(
    () => /"type":"(full-reload|update)"/.test(reloads()),
    () => `a reload in ${reloads()}`,
  )
  stream.send({ data: 'two' })
  await client.waitFor('data: two\n\n')

  assert.equal(client.text, 'data: one\n\ndata: two\n\n')
})

interface Vite {
  createServer(config: object): Promise<{
    config: { webSocketToken: string }
    httpServer: Server
    listen(): Promise<unknown>
    close(): Promise<void>
  }>
}

interface ViteServer {
  middlewares: { use(path: string, middleware: Middleware): void }
}

async function startVite(proxy: Middleware): Promise<Hosting & { token: string; change(): Promise<void> }> {
  const { createServer } = await importFrom<Vite>('vite', 'vite')
  const root = await mkdtemp(join(tmpdir(), 'vite-'))
  const page = join(root, 'index.html')
  await writeFile(page, '<script type="module" src="/@vite/client"></script>')
  const events = {
    name: 'events',
    configureServer({ middlewares }: ViteServer) {
      middlewares.use('/events', proxy)
    },
  }
  const server = await createServer({
    root,
    configFile: false,
    logLevel: 'silent',
    server: { host: '127.0.0.1', port: 0 },
    plugins: [events],
  })
  await server.listen()
  return {
    origin: `http://127.0.0.1:${(server.httpServer.address() as AddressInfo).port}`,
    token: server.config.webSocketToken,
    change: () => writeFile(page, `<title>${Date.now()}</title>`),
    async close() {
      await server.close()
      await rm(root, { recursive: true, force: true })
    },
  }
}

type Webpack = (config: object) => { close(done: () => void): void }

interface DevServer {
  server: Server
  start(): Promise<void>
  stop(): Promise<void>
}

async function startWebpack(proxy: Middleware): Promise<Hosting> {
  const { default: webpack } = await importFrom<{ default: Webpack }>('webpack-dev-server', 'webpack')
  const { default: DevServer } = await importFrom<{
    default: new (options: object, compiler: object) => DevServer
  }>('webpack-dev-server', 'webpack-dev-server')
  const context = await mkdtemp(join(tmpdir(), 'webpack-'))
  await writeFile(join(context, 'index.js'), 'console.log(1)')
  const compiler = webpack({
    context,
    mode: 'development',
    entry: './index.js',
    infrastructureLogging: { level: 'none' },
    stats: 'none',
  })
  const server = new DevServer(
    {
      host: '127.0.0.1',
      port: 0,
      client: false,
      hot: false,
      setupExitSignals: false,
      setupMiddlewares(middlewares: object[]) {
        middlewares.unshift({ name: 'events', path: '/events', middleware: proxy })
        return middlewares
      },
    },
    compiler,
  )
  await server.start()
  return {
    origin: `http://127.0.0.1:${(server.server.address() as AddressInfo).port}`,
    async close() {
      await server.stop()
      await rm(context, { recursive: true, force: true })
    },
  }
}

/** Opens Vite's WebSocket; returns what has come, in whose frames the text stands as it is. */
async function hotSocket(t: TestContext, url: string): Promise<() => string> {
  let text = ''
  const headers = {
    connection: 'Upgrade',
    upgrade: 'websocket',
    origin: new URL(url).origin,
    'sec-websocket-version': '13',
    'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==',
    'sec-websocket-protocol': 'vite-hmr',
  }
  const upgraded = new Promise<void>((resolve, reject) => {
    httpRequest(url, { headers })
      .once('upgrade', (_answer, socket, head) => {
        t.after(() => socket.destroy())
        text += head
        socket.on('data', (part) => (text += part))
        resolve()
      })
      .once('response', (answer) => reject(new Error(`answered ${answer.statusCode}`)))
      .once('error', reject)
      .end()
  })
  await within(upgraded, 'the WebSocket')
  await until(() => text.includes('"type":"connected"'), 'the greeting')
  return () => text
}
