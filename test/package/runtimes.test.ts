// The core of the promises, with the packed package in a process of each runtime that runs Node's programs. Clients and
// upstream are Node's.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { after, before, describe, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { certificate } from '../support/certificate.ts'
import { type Client, headerOf, type RequestOptions, request } from '../support/client.ts'
import { startUpstream, type Upstream } from '../support/upstream.ts'
import { until, within } from '../support/waiting.ts'
import { installIn, packedForFile } from './packed.ts'

interface Runtime {
  name: string
  command: string
  args: string[]
}

const runtimes: Runtime[] = [
  { name: 'Node', command: process.execPath, args: [] },
  { name: 'Bun', command: 'bun', args: ['run'] },
  { name: 'Deno', command: 'deno', args: ['run', '--allow-all', '--node-modules-dir=manual'] },
]

const packed = packedForFile()

/** The app of `fixtures/` in a process of its own, before an upstream. */
class App {
  readonly upstream: Upstream
  /** The same over HTTP/2. */
  readonly multiplexed: Upstream
  readonly #process: ChildProcess
  readonly #exit: Promise<number | null>
  readonly #clients: Client[] = []
  #output = ''

  constructor(upstream: Upstream, multiplexed: Upstream, process: ChildProcess) {
    this.upstream = upstream
    this.multiplexed = multiplexed
    this.#process = process
    this.#exit = once(process, 'exit').then(([code]) => code as number | null)
    for (const stream of [process.stdout, process.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#output += text
      })
    }
  }

  static async start({ command, args }: Runtime): Promise<App> {
    const { folder } = await installIn(await packed(), { type: 'module', program: 'app.mjs', installed: ['express'] })
    const upstream = await startUpstream()
    const multiplexed = await startUpstream({ http2: {} })
    const gone = await startUpstream()
    await gone.close()
    const urls = { TARGET: `${upstream.url}/stream`, MULTIPLEXED: multiplexed.url, NOWHERE: gone.url }
    const env = { ...process.env, NODE_OPTIONS: '', ...urls, KEY: certificate.key, CERT: certificate.cert }
    const child = spawn(command, [...args, 'app.mjs'], { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] })
    const app = new App(upstream, multiplexed, child)
    await until(
      () => app.#ports.length > 0,
      () => `the app to listen: ${app.#output}`,
    )
    return app
  }

  /** What the process has said so far, without its ports. */
  get complaints(): string {
    return this.#output.replace(/^\d+ \d+\n/, '')
  }

  /** For HTTP and for HTTPS. */
  get #ports(): string[] {
    return /^(\d+) (\d+)\n/.exec(this.#output)?.slice(1) ?? []
  }

  ask(path: string, options?: RequestOptions): Client {
    return this.#keep(request(`http://127.0.0.1:${this.#ports[0]}/${path}`, options))
  }

  askSecurely(path: string): Client {
    return this.#keep(request(`https://127.0.0.1:${this.#ports[1]}/${path}`))
  }

  #keep(client: Client): Client {
    this.#clients.push(client)
    return client
  }

  async stats(path: string): Promise<{ active: number; closed: Record<string, number>; resumes: number }> {
    return JSON.parse(await this.ask(`stats/${path}`).whole())
  }

  terminate(): Promise<number | null> {
    this.#process.kill('SIGTERM')
    return within(this.#exit, () => `the end of the process: ${this.#output}`)
  }

  async close(): Promise<void> {
    for (const client of this.#clients) client.close()
    this.#process.kill('SIGKILL')
    await this.#exit
    await this.upstream.close()
    await this.multiplexed.close()
  }
}

for (const runtime of runtimes) {
  const missing = spawnSync(runtime.command, ['--version']).error ? `${runtime.command} is not installed` : false

  describe(`on ${runtime.name}`, { skip: missing }, () => {
    let app: App
    before(async () => {
      app = await App.start(runtime)
    })
    after(() => app?.close())

    test("the head is there before the first event, with the bytes of the upstream's", async () => {
      const client = app.ask('plain')
      const exchange = await app.upstream.next()

      exchange.res.writeHead(200, { 'content-type': 'text/event-stream', 'x-from': 'z\xfcrich' })
      exchange.res.write('', 'latin1')
      await client.head()

      assert.equal(headerOf(client, 'content-type'), 'text/event-stream')
      assert.equal(headerOf(client, 'x-accel-buffering'), 'no')
      assert.equal(headerOf(client, 'x-from'), 'z\xfcrich')
      assert.equal(client.text, '')
    })

    test('each event leaves by itself, byte for byte, and a clean end is one', async () => {
      const client = app.ask('plain?room=1')
      const exchange = await app.upstream.next()
      const stream = exchange.stream()

      for (const bytes of ['id:1\r\ndata:  zwölf\r\n\r\n', ':x\n\ndata\n\n', 'retry: 10\rdata: 3\r\r']) {
        const before = client.text
        stream.write(bytes)
        await client.waitFor(before + bytes)
      }
      stream.end()

      assert.equal(await client.whole(), 'id:1\r\ndata:  zwölf\r\n\r\n:x\n\ndata\n\nretry: 10\rdata: 3\r\r')
      assert.equal(exchange.url, '/stream?room=1')
    })

    test('an event in pieces leaves whole, and what is broken off in the middle never does', async () => {
      const client = app.ask('plain')
      const stream = (await app.upstream.next()).stream()
      stream.write('data: o')
      stream.write('ne\n')
      stream.write('\ndata: tw')
      await client.waitFor('one')

      stream.reset()

      assert.equal(await client.ended(), 'broken')
      assert.equal(client.text, 'data: one\n\n')
    })

    test('what is broken off over TLS never looks complete either', async () => {
      const before = (await app.stats('plain')).closed['upstream-lost'] ?? 0
      const client = app.askSecurely('plain')
      const stream = (await app.upstream.next()).stream()
      stream.send({ data: 'one' })
      await client.waitFor('data: one\n\n')

      stream.reset()

      assert.equal(await client.ended(), 'broken')
      assert.equal((await app.stats('plain')).closed['upstream-lost'], before + 1)
      assert.equal(app.complaints, '')
    })

    test('a client that leaves reaches the upstream, before the head and in the stream', async () => {
      const waiting = app.ask('plain')
      const unanswered = await app.upstream.next()
      const streaming = app.ask('plain')
      const answered = await app.upstream.next()
      answered.stream().send({ data: 'one' })
      await streaming.waitFor('one')

      waiting.close()
      streaming.close()

      await unanswered.leftByPeer()
      await answered.leftByPeer()
    })

    test('a POST whose body a parser has read arrives with it, and one that none has read as well', async () => {
      const body = JSON.stringify({ model: 'one', text: 'zwölf' })
      const headers = { 'content-type': 'application/json' }

      for (const path of ['parsed', 'plain']) {
        const client = app.ask(path, { method: 'POST', headers, body })
        const exchange = await app.upstream.next()
        assert.equal(String(await exchange.body()), body, path)
        exchange.stream().end('data: done\n\n')
        assert.equal(await client.whole(), 'data: done\n\n')
      }
    })

    test('keepalives come in silence', async () => {
      const client = app.ask('kept')
      const stream = (await app.upstream.next()).stream()

      await client.waitFor(': keepalive\n\n: keepalive\n\n')
      stream.end('data: one\n\n')

      assert.match(await client.whole(), /^(: keepalive\n\n)+data: one\n\n$/)
    })

    test('hooks change events, and a compressed upstream is decoded', async () => {
      const client = app.ask('hooked')
      const exchange = await app.upstream.next()

      exchange.answer(
        200,
        { 'content-type': 'text/event-stream', 'content-encoding': 'gzip' },
        gzipSync('data: one\n\nid: 2\ndata: two\n\n'),
      )

      assert.equal(await client.whole(), 'data: ONE\n\nid: 2\ndata: TWO\n\n')
    })

    test('a shared stream is one connection to the upstream for several clients', async () => {
      const clients = [app.ask('shared')]
      const exchange = await app.upstream.next()
      const stream = exchange.stream()
      await clients[0]?.head()
      clients.push(app.ask('shared'))
      await clients[1]?.head()

      stream.send({ data: 'one' })
      for (const client of clients) await client.waitFor('data: one\n\n')
      for (const client of clients) client.close()
      const { active } = await app.stats('shared')

      assert.equal(app.upstream.exchanges.at(-1), exchange)
      assert.ok(active <= 2)
    })

    test('a stream whose upstream is lost goes on in the same response, after its last id', async () => {
      const client = app.ask('resumed')
      const first = (await app.upstream.next()).stream()
      first.send({ id: '1', data: 'one' })
      await client.waitFor('one')

      first.reset()
      const exchange = await app.upstream.next()
      exchange.stream().end('id: 2\ndata: two\n\n')

      assert.equal(await client.whole(), 'id: 1\ndata: one\n\nid: 2\ndata: two\n\n')
      assert.equal(exchange.headers['last-event-id'], '1')
      assert.equal((await app.stats('resumed')).resumes, 1)
    })

    test('what a client gets without an upstream is a 502 in JSON, and of several targets another one', async () => {
      const refused = app.ask('unreachable')
      const clients = [app.ask('several'), app.ask('several')]
      for (const _client of clients) (await app.upstream.next()).stream().end('data: one\n\n')

      const { error } = JSON.parse(await refused.whole())
      for (const client of clients) assert.equal(await client.whole(), 'data: one\n\n')

      assert.equal(refused.status, 502)
      assert.equal(error.code, 'ERR_SSE_PROXY_UNREACHABLE')
    })

    test('past a limit a request is refused, and let in again when a stream is over', async () => {
      const first = app.ask('bounded')
      const exchange = await app.upstream.next()
      exchange.stream()
      await first.head()

      const refused = await app.ask('bounded').head()
      first.close()
      await exchange.leftByPeer()
      const again = app.ask('bounded')
      ;(await app.upstream.next()).stream().end('data: one\n\n')

      assert.equal(refused.status, 503)
      assert.equal(await again.whole(), 'data: one\n\n')
    })

    test('streams over HTTP/2 share a connection, or the option is refused where it cannot work', async () => {
      if (runtime.name === 'Deno') {
        const refused = app.ask('multiplexed')
        assert.match(await refused.whole(), /^http2: expected Node or Bun/)
        return
      }
      const clients = [app.ask('multiplexed'), app.ask('multiplexed')]
      const exchanges = [await app.multiplexed.next(), await app.multiplexed.next()]

      for (const exchange of exchanges) exchange.stream().send({ data: 'one' })
      await Promise.all(clients.map((client) => client.waitFor('data: one\n\n')))
      clients[0]?.close()
      await until(() => exchanges.some(({ isLeft }) => isLeft), 'one of them to be left')
      exchanges.find(({ isLeft }) => !isLeft)?.res.end('data: two\n\n')

      assert.equal(await clients[1]?.whole(), 'data: one\n\ndata: two\n\n')
      assert.equal(app.multiplexed.accepted, 1)
    })

    test('an ordinary answer passes as it is', async () => {
      const client = app.ask('plain', { method: 'POST', body: 'x'.repeat(100_000) })
      const exchange = await app.upstream.next()
      const length = (await exchange.body()).length

      exchange.answer(418, { 'content-type': 'text/plain', 'set-cookie': ['a=1', 'b=2'], etag: '"x"' }, 'short')

      assert.equal(await client.whole(), 'short')
      assert.equal(length, 100_000)
      assert.equal(client.status, 418)
      assert.deepEqual(client.headers['set-cookie'], ['a=1', 'b=2'])
      assert.equal(headerOf(client, 'etag'), '"x"')
    })

    test('a client that does not read slows its own upstream', async () => {
      const client = app.ask('plain')
      const exchange = await app.upstream.next()
      const stream = exchange.stream()
      await client.head()
      client.pause()

      const event = `data: ${'x'.repeat(2 ** 16)}\n\n`
      let sent = 0
      let heldFor = 0
      await until(
        () => {
          heldFor = exchange.res.writableNeedDrain ? heldFor + 1 : 0
          if (heldFor === 0) {
            stream.write(event)
            sent += 1
          }
          return heldFor === 100
        },
        () => `the upstream to be held, after ${sent} events`,
      )
      client.resume()
      stream.end()

      assert.equal((await client.whole()).length, sent * event.length)
    })

    test('the process says nothing of all this', () => {
      assert.equal(app.complaints, '')
    })

    test('SIGTERM ends open streams between events, and then the process', async () => {
      const own = await App.start(runtime)
      const client = own.ask('plain')
      ;(await own.upstream.next()).stream().send({ data: 'one' })
      await client.waitFor('one')

      const code = await own.terminate()

      assert.equal(await client.whole(), 'data: one\n\nretry: 5\n\n')
      assert.equal(code, 0)
      await own.close()
    })
  })
}
