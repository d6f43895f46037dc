// DEBUG=sse-proxy:* in a process of its own: one stream can be followed by its id, and nobody's secrets are in it.
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { after, before, type TestContext, test } from 'node:test'
import { type Client, request } from '../support/client.ts'
import { type Child, childOf, startChild } from '../support/processes/child.ts'
import type { ProxySetup } from '../support/processes/proxy.ts'
import { startUpstream, type Upstream } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

let child: Child
before(async () => {
  child = await startChild('proxy.ts', {
    env: { DEBUG: 'sse-proxy:*', DEBUG_COLORS: 'no', DEBUG_HIDE_DATE: 'yes' },
  })
})
after(() => child.end())
let proxies = 0

/** Wherever this is found, something of a client's has been told. */
const secret = 's3cr3t-5up3r'
const headers = {
  authorization: `Bearer ${secret}`,
  cookie: `session=${secret}`,
  'proxy-authorization': `Basic ${secret}`,
  'x-api-key': secret,
  'last-event-id': '17',
}
const path = `/events?token=${secret}&access_token=${secret}`

test('one stream is followed from its request to its close by its id', async (t) => {
  const { upstream, proxy, url } = await started(t, { options: {} })
  const one = request(url + path, { headers })
  ;(await upstream.next()).stream().send({ data: 'x' })
  await one.waitFor('x')
  const two = request(`${url}/other`)
  ;(await upstream.next()).stream()
  await two.head()
  one.close()
  two.close()
  await untilSays(proxy, /closed:.*\n(.*\n)*.*closed:/)

  const ids = [...proxy.output.matchAll(/sse-proxy:stream (\S+) opened/g)].map(([, id]) => id!)
  const [first = '', second = ''] = ids
  assert.equal(new Set(ids).size, 2)
  assert.deepEqual(linesOf(proxy, first), [
    `request ${first} came: GET`,
    `upstream ${first} GET /events at ${upstream.url} answered 200`,
    `stream ${first} opened: GET /events from ${upstream.url}`,
    `stream ${first} closed: client-left after 1 events, 9 bytes`,
  ])
  assert.match(linesOf(proxy, second).join('\n'), /opened: GET \/other from/)
})

test('a stream that is retried, resumed and lost is followed by its id all the way', async (t) => {
  const gone = await startUpstream()
  await gone.close()
  const { upstream, proxy, url } = await started(t, (target) => ({
    options: {
      target: [gone.url, target],
      balance: 'round-robin',
      resume: { attempts: 1, delayMs: 1, maxDelayMs: 2 },
      health: false,
    },
  }))
  const client = request(url + path, { headers })
  const stream = (await upstream.next()).stream()
  stream.send({ id: secret, data: secret })
  await client.waitFor(secret)
  stream.reset()
  const second = (await upstream.next()).stream()
  await until(() => /goes on with/.test(proxy.output), 'the resume')
  await upstream.close()
  second.reset()
  await client.ended()
  await untilSays(proxy, /ERR_SSE_PROXY_UPSTREAM_LOST/)

  const [, id = ''] = /sse-proxy:stream (\S+) opened/.exec(proxy.output) ?? []
  const lines = linesOf(proxy, id).join('\n')
  for (const word of ['GET', 'attempt 1', 'opened', 'lost', 'goes on with', 'closed: upstream-lost', 'UPSTREAM_LOST']) {
    assert.ok(lines.includes(word), `${word} in\n${proxy.output}`)
  }
  assertNoSecret(proxy)
})

test('the clients of a shared stream are followed as well, and it is said which stream they share', async (t) => {
  const { upstream, proxy, url } = await started(t, { options: { share: true, resume: { delayMs: 1 } } })
  // What names a caller is never shared.
  const { 'proxy-authorization': _proxy, 'x-api-key': _key, ...shareable } = headers
  const clients = [1, 2].map(() => request(url + path, { headers: shareable }))
  const stream = (await upstream.next()).stream()
  stream.send({ id: '1', data: 'x' })
  for (const client of clients) await client.waitFor('x')
  stream.reset()
  ;(await upstream.next()).stream()
  await until(() => /goes on with/.test(proxy.output), 'the resume')
  for (const client of clients) client.close()
  await untilSays(proxy, /closed:.*\n(.*\n)*.*closed:/)

  const [, shared = ''] = /stream (\S+) goes on with/.exec(proxy.output) ?? []
  const ids = [...proxy.output.matchAll(/sse-proxy:stream (\S+) opened/g)].map(([, id]) => id!)
  assert.equal(ids.length, 2)
  for (const id of ids) {
    const lines = linesOf(proxy, id)
    assert.match(lines.join('\n'), new RegExp(`^request ${id} came: GET`, 'm'))
    assert.ok(
      lines.some((line) => line.includes(shared)),
      `${shared} beside ${id} in\n${proxy.output}`,
    )
  }
  assertNoSecret(proxy)
})

interface Failure {
  name: string
  setup: (target: string) => ProxySetup
  run: (scene: { upstream: Upstream; url: string; ask: () => Client }) => unknown
  /** What tells that it happened. */
  says: RegExp
}

const plain = (target: string): ProxySetup => ({ options: { target } })

const failures: Failure[] = [
  {
    name: 'an upstream that is gone',
    setup: plain,
    run: async ({ upstream, ask }) => {
      await upstream.close()
      await ask().ended()
    },
    says: /UNREACHABLE/,
  },
  {
    name: 'an upstream that resets in the middle',
    setup: plain,
    run: async ({ upstream, ask }) => {
      const client = ask()
      const stream = (await upstream.next()).stream({ 'set-cookie': `session=${secret}` })
      stream.send({ data: secret })
      await client.waitFor(secret)
      stream.reset()
    },
    says: /UPSTREAM_LOST/,
  },
  {
    name: 'an upstream that does not speak HTTP',
    setup: plain,
    run: async ({ upstream, ask }) => {
      const client = ask()
      ;(await upstream.next()).req.socket.end(`HTTP/1.1 ${secret} ${secret}\r\nSet-Cookie: ${secret}\r\n\r\n`)
      await client.ended()
    },
    says: /BAD_ANSWER/,
  },
  {
    name: 'an upstream whose head has what no head may have',
    setup: plain,
    run: async ({ upstream, ask }) => {
      const client = ask()
      const { socket } = (await upstream.next()).req
      socket.end(`HTTP/1.1 200 OK\r\nSet-Cookie: session=${secret}\0\r\nContent-Type: text/event-stream\r\n\r\n`)
      await client.ended()
    },
    says: /BAD_ANSWER/,
  },
  {
    name: 'an upstream that is too slow',
    setup: (target) => ({ options: { target, timeouts: { responseMs: 30 } } }),
    run: ({ ask }) => ask().ended(),
    says: /RESPONSE_TIMEOUT/,
  },
  {
    name: 'credentials in the target',
    setup: (target) => ({ options: { target: target.replace('//', `//user:${secret}@`) } }),
    run: async ({ upstream, ask }) => {
      const client = ask()
      const stream = (await upstream.next()).stream()
      await client.head()
      stream.reset()
    },
    says: /UPSTREAM_LOST/,
  },
  {
    name: 'a query in the target',
    setup: (target) => ({ options: { target: `${target}/stream?key=${secret}` } }),
    run: async ({ upstream, ask }) => {
      const client = ask()
      const stream = (await upstream.next()).stream()
      await client.head()
      stream.reset()
    },
    says: /UPSTREAM_LOST/,
  },
  {
    name: 'a query in targets of which all fail',
    setup: () => ({
      options: {
        target: [`http://127.0.0.1:9/?key=${secret}`, `http://u:${secret}@127.0.0.1:10/`],
        health: { failures: 1 },
      },
    }),
    run: ({ ask }) => ask().ended(),
    says: /UNREACHABLE/,
  },
  {
    name: 'a name that nobody resolves',
    setup: () => ({ options: { target: `http://nobody.invalid/?key=${secret}` } }),
    run: ({ ask }) => ask().ended(),
    says: /UNREACHABLE/,
  },
  {
    name: 'a hook that throws',
    setup: (target) => ({ options: { target }, throwsAt: secret }),
    run: async ({ upstream, ask }) => {
      ask()
      ;(await upstream.next()).stream().send({ data: secret })
    },
    says: /ERR_SSE_PROXY_HOOK/,
  },
  {
    name: 'a refusal',
    setup: (target) => ({ options: { target, limits: { streams: 1 } } }),
    run: async ({ upstream, ask }) => {
      ask()
      await upstream.next()
      await ask().ended()
    },
    says: /FULL/,
  },
  {
    name: 'an answer to a resume that is none',
    setup: (target) => ({ options: { target, resume: { attempts: 2, delayMs: 1 } } }),
    run: async ({ upstream, ask }) => {
      const client = ask()
      const stream = (await upstream.next()).stream()
      stream.send({ id: secret, data: secret })
      await client.waitFor(secret)
      stream.reset()
      for (const status of [500, 502]) (await upstream.next()).answer(status, { 'set-cookie': secret }, secret)
      await client.ended()
    },
    says: /UPSTREAM_LOST/,
  },
  {
    name: 'a body that cannot be decoded',
    setup: plain,
    run: async ({ upstream, ask }) => {
      const client = ask()
      ;(await upstream.next()).stream({ 'content-encoding': 'gzip' }).end(secret)
      await client.ended()
    },
    says: /ERR_SSE_PROXY/,
  },
  {
    name: 'a request whose path is no URL',
    setup: plain,
    run: async ({ url }) => {
      for (const target of [`//[half?token=${secret}`, `http://[::half/?token=${secret}`, `?token=${secret}`]) {
        const socket = connect(Number(new URL(url).port), '127.0.0.1')
        socket.write(`GET ${target} HTTP/1.1\r\nHost: ${secret}]\r\nCookie: ${secret}\r\nConnection: close\r\n\r\n`)
        socket.on('error', () => {}).resume()
        socket.setTimeout(500, () => socket.destroy())
        await new Promise((resolve) => socket.once('close', resolve))
      }
      await request(`${url}/last?token=${secret}`, { headers }).head()
    },
    says: /opened: GET \/last/,
  },
]

test('no Authorization, no Cookie, no query and no password is told, whatever fails', async (t) => {
  for (const { name, setup, run, says } of failures) {
    await t.test(name, async (t) => {
      const { upstream, proxy, url } = await started(t, setup)
      if (says.test('opened: GET /last')) {
        upstream.server.on('request', (_req, res) =>
          res.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders(),
        )
      }
      const clients: Client[] = []
      t.after(() => {
        for (const client of clients) client.close()
      })
      const ask = (): Client => {
        const client = request(url + path, { headers })
        clients.push(client)
        return client
      }

      await run({ upstream, url, ask })
      await untilSays(proxy, says)

      assertNoSecret(proxy)
    })
  }
})

test('without DEBUG there is no output at all', async (t) => {
  const upstream = await startUpstream()
  t.after(() => upstream.close())
  const proxy = await childOf(t, 'proxy.ts', { env: { DEBUG: '' } })
  const port = await proxy.ask<number>('start', { options: { target: upstream.url } })
  const client = request(`http://127.0.0.1:${port}${path}`, { headers })
  const stream = (await upstream.next()).stream()
  await client.head()
  stream.reset()
  await client.ended()
  await proxy.ask('stats')

  assert.equal(proxy.output, '')
})

/** What one of the proxies that the process has had has told. */
class Told {
  readonly #heading: string

  constructor(heading: string) {
    this.#heading = heading
  }

  get output(): string {
    return child.output.split(this.#heading)[1] ?? ''
  }
}

async function started(
  t: TestContext,
  given: ProxySetup | ((target: string) => ProxySetup),
): Promise<{ upstream: Upstream; proxy: Told; url: string }> {
  const upstream = await startUpstream()
  t.after(() => upstream.close().catch(() => {}))
  const made = typeof given === 'function' ? given(upstream.url) : given
  const heading = `proxy ${++proxies}\n`
  const setup: ProxySetup = { ...made, options: { target: upstream.url, ...made.options }, heading }
  const port = await child.ask<number>('start', setup)
  return { upstream, proxy: new Told(heading), url: `http://127.0.0.1:${port}` }
}

async function untilSays(proxy: Told, what: RegExp): Promise<void> {
  await until(
    () => what.test(proxy.output),
    () => `${what} in\n${proxy.output}`,
  )
}

/** The lines with this id, without what debug puts before the namespace's last part. */
function linesOf(proxy: Told, id: string): string[] {
  const lines = proxy.output.split('\n').filter((line) => line.includes(id))
  return lines.map((line) => line.replace(/^.*?sse-proxy:/, ''))
}

function assertNoSecret(proxy: Told): void {
  const spellings = [
    secret,
    Buffer.from(secret)
      .toString('hex')
      .replace(/(..)(?!$)/g, '$1 '),
    encodeURIComponent(secret),
  ]
  for (const spelling of spellings) assert.ok(!proxy.output.includes(spelling), proxy.output)
}
