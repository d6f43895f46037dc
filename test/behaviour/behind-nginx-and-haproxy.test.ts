// Another proxy in front, as many apps have it: real ones, with the settings they come with.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { type Client, headerOf, type RequestOptions, request } from '../support/client.ts'
import { freePort } from '../support/ports.ts'
import { type Proxied, proxied, type SseProxyOptions } from '../support/proxied.ts'
import type { EventStream, Exchange, Upstream } from '../support/upstream.ts'
import { until, within } from '../support/waiting.ts'

interface Program {
  name: string
  command: string
  args: (folder: string) => string[]
  config: (port: number, target: number, folder: string) => string
}

/** How long each of them bears silence here: a second, in place of their minute. */
const patience = '1s'

const nginx = (name: string, settings: string): Program => ({
  name,
  command: 'nginx',
  args: (folder) => ['-p', folder, '-c', join(folder, 'config'), '-e', 'stderr'],
  config: (port, target, folder) => `
    daemon off;
    master_process off;
    pid ${folder}/pid;
    error_log stderr crit;
    events {}
    http {
      access_log off;
      client_body_temp_path ${folder}/body;
      proxy_temp_path ${folder}/proxy;
      fastcgi_temp_path ${folder}/fastcgi;
      uwsgi_temp_path ${folder}/uwsgi;
      scgi_temp_path ${folder}/scgi;
      server {
        listen 127.0.0.1:${port};
        location / {
          proxy_pass http://127.0.0.1:${target};
          proxy_read_timeout ${patience};
          ${settings}
        }
      }
    }`,
})

const programs: Program[] = [
  nginx('nginx as it comes, with buffering and HTTP/1.0', ''),
  nginx('nginx with HTTP/1.1', 'proxy_http_version 1.1;'),
  {
    name: 'haproxy',
    command: 'haproxy',
    args: (folder) => ['-db', '-f', join(folder, 'config')],
    config: (port, target) => `
defaults
  mode http
  timeout connect 5s
  timeout client ${patience}
  timeout server ${patience}
frontend front
  bind 127.0.0.1:${port}
  default_backend app
backend app
  server one 127.0.0.1:${target}
`,
  },
]

for (const program of programs) {
  const { name, command } = program
  const missing = spawnSync(command, ['-v']).error ? `${command} is not installed` : false

  test(`events pass ${name} at once, one by one`, { skip: missing }, async (t) => {
    const { client, stream } = await opened(t, program, { keepalive: false })

    for (let count = 1; count <= 20; count += 1) {
      stream.send({ id: `${count}`, data: `number ${count}` })
      await client.waitFor(`number ${count}\n\n`, 900)
    }
    stream.end()

    assert.equal(await client.ended(), 'clean')
    assert.equal(headerOf(client, 'content-encoding'), undefined)
  })

  test(`keepalives pass ${name} and keep a silent stream open past its timeouts`, { skip: missing }, async (t) => {
    const { client, stream } = await opened(t, program, { keepalive: 200 })

    await client.waitFor((text) => text.split(': keepalive\n\n').length > 12)
    stream.send({ data: 'after the silence' })
    await client.waitFor('after the silence')

    assert.equal(client.ending, undefined)
  })

  test(`without keepalives ${name} does end a silent stream, so the test before means something`, {
    skip: missing,
  }, async (t) => {
    const { client, exchange } = await opened(t, program, { keepalive: false })

    await client.ended()

    await exchange.leftByPeer()
  })

  test(`a client that leaves ${name} reaches the upstream`, { skip: missing }, async (t) => {
    const { client, exchange, stream, proxy } = await opened(t, program, { keepalive: 200 })
    stream.send({ data: 'x' })
    await client.waitFor('x')

    client.close()
    await exchange.leftByPeer()

    await until(() => proxy.stats().closed['client-left'] === 1, 'the stream to be closed')
    assert.equal(proxy.stats().active, 0)
  })

  test(`a client that leaves ${name} before there is an answer reaches the upstream`, { skip: missing }, async (t) => {
    const { upstream, ask } = await inFront(t, program)
    const client = ask()
    const exchange = await upstream.next()

    client.close()

    await exchange.leftByPeer()
  })

  test(`an upstream that breaks off is a broken transfer through ${name}`, { skip: missing }, async (t) => {
    const { client, stream } = await opened(t, program)
    stream.send({ data: 'x' })
    await client.waitFor('x')

    stream.reset()

    assert.equal(await client.ended(), 'broken')
    assert.equal(client.text, 'data: x\n\n')
  })

  test(`a refusal passes ${name} with its Retry-After, and so does the end of a drain`, {
    skip: missing,
  }, async (t) => {
    const { client, ask, proxy } = await opened(t, program, { limits: { streams: 1 } })

    const refused = await ask().head()
    const result = await proxy.close({ withinMs: 200, retryMs: [5, 5] })

    assert.equal(refused.status, 503)
    assert.match(headerOf(refused, 'retry-after') ?? '', /^\d+$/)
    assert.deepEqual(result, { drained: 1, aborted: 0, other: 0 })
    assert.equal(await client.whole(), 'retry: 5\n\n')
  })

  test(`a client that does not read ${name} is let go`, { skip: missing }, async (t) => {
    const { client, exchange, proxy } = await opened(t, program, { timeouts: { writeMs: 300 } })
    client.pause()

    const event = `data: ${'x'.repeat(2 ** 20)}\n\n`
    await until(() => {
      if (!exchange.res.writableNeedDrain) exchange.res.write(event)
      return exchange.res.closed
    }, 'the upstream to be let go')

    const { closed } = proxy.stats()
    // Whoever loses patience first: both have a second or less.
    assert.equal(closed['slow-client'] + closed['client-left'], 1)
  })
}

interface InFront extends Proxied<Upstream> {
  ask: (options?: RequestOptions) => Client
}

async function inFront(t: TestContext, program: Program, options: Partial<SseProxyOptions> = {}): Promise<InFront> {
  const clients: Client[] = []
  // Before anything else is asked to be free of them.
  t.after(() => {
    for (const client of clients) client.close()
  })
  const arrangement = await proxied(t, options)
  const folder = await mkdtemp(join(tmpdir(), 'sse-proxy-'))
  const port = await freePort()
  await writeFile(join(folder, 'config'), program.config(port, arrangement.front.port, folder))
  const child = spawn(program.command, program.args(folder), { stdio: ['ignore', 'ignore', 'pipe'] })
  let complaints = ''
  child.stderr.on('data', (bytes: Buffer) => {
    complaints += bytes
  })
  const exited = once(child, 'exit')
  t.after(async () => {
    child.kill('SIGKILL')
    await exited
    await rm(folder, { recursive: true })
  })
  await within(
    Promise.race([untilListening(port), exited.then(() => assert.fail(`${program.command} has ended: ${complaints}`))]),
    () => `${program.command} to listen: ${complaints}`,
  )
  const ask = (more?: RequestOptions): Client => {
    const client = request(`http://127.0.0.1:${port}/events`, more)
    clients.push(client)
    return client
  }
  return { ...arrangement, ask }
}

async function opened(
  t: TestContext,
  program: Program,
  options?: Partial<SseProxyOptions>,
): Promise<InFront & { client: Client; exchange: Exchange; stream: EventStream }> {
  const arrangement = await inFront(t, program, options)
  const client = arrangement.ask()
  const exchange = await arrangement.upstream.next()
  const stream = exchange.stream()
  await client.head()
  return { ...arrangement, client, exchange, stream }
}

async function untilListening(port: number): Promise<void> {
  for (let isUp = false; !isUp; ) {
    const socket = connect(port, '127.0.0.1')
    isUp = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true))
      socket.once('error', () => setTimeout(() => resolve(false), 20))
    })
    socket.destroy()
  }
}
