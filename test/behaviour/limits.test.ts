// How many may be inside: who is refused with what, that a page can read it, and that a place is free again however
// its holder's request ended.
import assert from 'node:assert/strict'
import type { IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { type TestContext, test } from 'node:test'
import cors from 'cors'
import fc from 'fast-check'
import { type Client, headerOf } from '../support/client.ts'
import { type Front, type Host, hostsByProtocol, type Middleware } from '../support/front.ts'
import { type Proxied, proxied, type SseProxy, type SseProxyOptions } from '../support/proxied.ts'
import { EventStream, type Exchange, type Upstream } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

const origin = 'https://page.example'
const readable = cors({ origin, credentials: true, exposedHeaders: ['Retry-After'] })
// As Express sets it where it trusts a proxy.
const addressFromHeader: Middleware = (req, _res, next) => {
  Object.defineProperty(req, 'ip', { value: req.headers['x-address'] })
  next()
}
const byHeader = (req: IncomingMessage): string => String(req.headers['x-user'])

for (const host of hostsByProtocol) {
  test(`past limits.streams a request is a 503 that a page of another origin can read (${host})`, async (t) => {
    const { proxy, front } = await answered(t, { limits: { streams: 2 } }, host)
    await front.open()
    const leaving = await front.open()

    const refused = await front.open('', { headers: { origin } })
    await assertRefused(refused, 503, 'ERR_SSE_PROXY_FULL')
    leaving.close()
    await until(() => proxy.stats().active === 1, 'the place to be free')

    assert.equal((await front.open()).status, 200)
    assert.equal(proxy.stats().refused.full, 1)
  })

  test(`past limits.streamsPerClient a request of that client is a 429 that its page can read (${host})`, async (t) => {
    const limits = { streamsPerClient: 2, clientKey: byHeader }
    const { proxy, front } = await answered(t, { limits }, host)
    const ofAda = { headers: { origin, 'x-user': 'ada' } }
    const leaving = await front.open('', ofAda)
    await front.open('', ofAda)

    const refused = await front.open('', ofAda)
    const other = await front.open('', { headers: { 'x-user': 'grace' } })
    await assertRefused(refused, 429, 'ERR_SSE_PROXY_CLIENT_LIMIT')
    leaving.close()
    await until(() => proxy.stats().active === 2, 'the place to be free')
    const again = await front.open('', ofAda)

    assert.equal(other.status, 200)
    assert.equal(again.status, 200)
    assert.equal(proxy.stats().refused['client-limit'], 1)
  })
}

test('without a clientKey the address of the client is what counts', async (t) => {
  const { front } = await answered(t, { limits: { streamsPerClient: 1 } })
  await front.open('?one', { headers: { 'x-user': 'ada' } })

  const second = await front.open('?two', { headers: { 'x-user': 'grace' } })

  assert.equal(second.status, 429)
})

test('a client that takes another IPv6 address of its /64 for each request has one limit, and its neighbours their own', async (t) => {
  const { front } = await proxied(
    t,
    { limits: { streamsPerClient: 1 } },
    { upstream: { handler: (exchange) => void exchange.stream() }, before: [addressFromHeader] },
  )
  const from = (address: string) => front.open('', { headers: { 'x-address': address } })
  await from('2001:db8:1:2::1')

  const again = await from('2001:db8:1:2:ffff:ffff:ffff:ffff')
  const neighbour = await from('2001:db8:1:3::1')

  assert.equal(again.status, 429)
  assert.equal(neighbour.status, 200)
})

test('with limits.ipv6Subnet as many bits as the app says are one client', async (t) => {
  const { front } = await proxied(
    t,
    { limits: { streamsPerClient: 1, ipv6Subnet: 128 } },
    { upstream: { handler: (exchange) => void exchange.stream() }, before: [addressFromHeader] },
  )
  const from = (address: string) => front.open('', { headers: { 'x-address': address } })
  await from('2001:db8:1:2::1')

  const other = await from('2001:db8:1:2::2')
  const again = await from('2001:db8:1:2:0:0:0:1')

  assert.equal(other.status, 200)
  assert.equal(again.status, 429)
})

test('a request that was pipelined holds a place from its turn on, and gives back one when its connection goes', async (t) => {
  const { upstream, front, proxy } = await answered(t, { limits: { streams: 2 } })
  const socket = connect(front.port, '127.0.0.1')
  t.after(() => socket.destroy())
  socket.resume().write('GET /events HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(2))
  await until(() => proxy.stats().active === 1, 'the first stream')
  const other = await front.open()
  other.close()
  await until(() => proxy.stats().active === 1, 'the other client to have left')
  upstream.exchanges[0]?.res.end()
  await until(() => upstream.exchanges.length === 3, 'the turn of the second')
  socket.destroy()
  await upstream.exchanges[2]?.leftByPeer()

  await front.open()
  await front.open()
  const third = await front.open('', { headers: { origin } })

  await assertRefused(third, 503, 'ERR_SSE_PROXY_FULL')
})

test('a request that is refused reaches no upstream', async (t) => {
  const { upstream, front } = await answered(t, { limits: { streams: 1 } })
  await front.open()

  for (let count = 0; count < 5; count += 1) await (await front.open()).ended()

  assert.equal(upstream.exchanges.length, 1)
})

test('requests that wait for their upstream hold a place like streams', async (t) => {
  const { upstream, front } = await proxied(t, { limits: { streams: 1 } })
  front.request()
  await upstream.next()

  const second = await front.open()

  assert.equal(second.status, 503)
})

test("with unavailable: 'reconnect' an EventSource is told to come back instead, past either limit", async (t) => {
  for (const limits of [{ streams: 1 }, { streamsPerClient: 1 }]) {
    const { front } = await answered(t, { limits, unavailable: 'reconnect', clientRetryMs: [300, 400] })
    await front.open()

    const refused = await front.open('', { headers: { accept: 'text/event-stream', origin } })

    assert.equal(refused.status, 200)
    assert.equal(headerOf(refused, 'access-control-allow-origin'), origin)
    assert.match(await refused.whole(), /^retry: (3\d\d|400)\n\n$/)
  }
})

test('a clientKey that throws is the error of the app, and no place is lost', async (t) => {
  let isBroken = true
  const clientKey = (): string => {
    if (isBroken) throw new Error('no session')
    return 'one'
  }
  const { front } = await answered(t, { limits: { streams: 1, streamsPerClient: 1, clientKey } })

  const failed = await front.open()
  isBroken = false
  const client = await front.open()

  assert.equal(failed.status, 500)
  assert.equal(String(front.errors[0]), 'Error: no session')
  assert.equal(client.status, 200)
})

interface Scene {
  client: Client
  exchange: () => Promise<Exchange>
  stream: () => Promise<EventStream>
  proxy: SseProxy
  upstream: Upstream
}

interface Ending {
  name: string
  options?: Partial<SseProxyOptions>
  request?: Parameters<Front['open']>[1]
  /** Makes the request end in this way. */
  run: (scene: Scene) => unknown
}

const bang = (): never => {
  throw new Error('bang')
}

const endings: Ending[] = [
  {
    name: 'left before the upstream answered',
    run: async ({ client, exchange }) => {
      await exchange()
      client.close()
    },
  },
  {
    name: 'left in the middle of the stream',
    run: async ({ client, stream }) => {
      await stream()
      await client.head()
      client.close()
    },
  },
  {
    name: 'left, and its upstream goes on without it',
    options: { onDisconnect: 'drain' },
    run: async ({ client, stream, proxy }) => {
      const upstreamSide = await stream()
      await client.head()
      client.close()
      await until(() => proxy.stats().closed['client-left'] === 0, 'the stream to go on')
      upstreamSide.end()
    },
  },
  { name: 'was ended by its upstream', run: async ({ stream }) => (await stream()).end('data: x\n\n') },
  { name: 'was broken off by its upstream', run: async ({ stream }) => (await stream()).reset() },
  {
    name: 'was given up after resumes in vain',
    options: { resume: { attempts: 2, delayMs: 1, maxDelayMs: 2 } },
    run: async ({ client, stream, upstream }) => {
      const upstreamSide = await stream()
      upstreamSide.send({ id: '1', data: 'x' })
      await client.waitFor('data: x')
      upstream.server.close()
      upstreamSide.reset()
    },
  },
  {
    name: 'met an upstream that breaks off before its answer',
    run: async ({ exchange }) => (await exchange()).req.socket.destroy(),
  },
  { name: 'met an upstream that does not answer in time', options: { timeouts: { responseMs: 50 } }, run: () => {} },
  {
    name: 'met only upstreams that fail, retries and all',
    options: { retry: { attempts: 2, backoffMs: 1 } },
    run: async ({ upstream }) => {
      for (let count = 0; count < 3; count += 1) (await upstream.next()).req.socket.destroy()
    },
  },
  {
    name: 'was answered with something else than a stream',
    run: async ({ exchange }) => (await exchange()).answer(200, { 'content-type': 'text/plain' }, 'no'),
  },
  {
    name: 'was answered with something else that broke off',
    run: async ({ exchange }) => {
      const { res } = await exchange()
      res.writeHead(200, { 'content-length': '100' })
      res.write('a part')
      res.socket?.resetAndDestroy()
    },
  },
  { name: 'was a HEAD request', request: { method: 'HEAD' }, run: ({ stream }) => stream() },
  {
    name: 'came to a silent upstream after idleMs',
    options: { timeouts: { idleMs: 50 } },
    run: ({ stream }) => stream(),
  },
  { name: 'was too old', options: { timeouts: { lifetimeMs: 50 } }, run: ({ stream }) => stream() },
  { name: 'had a lifetimeMs that threw', options: { timeouts: { lifetimeMs: bang } }, run: ({ stream }) => stream() },
  { name: 'had an onOpen that threw', options: { onOpen: bang }, run: ({ stream }) => stream() },
  {
    name: 'had an onOpen that never ended and left',
    options: { onOpen: () => new Promise<void>(() => {}) },
    run: async ({ client, stream, proxy }) => {
      await stream()
      await until(() => proxy.stats().opened === 1, 'the stream')
      client.close()
    },
  },
  { name: 'had an onEnd that threw', options: { onEnd: bang }, run: async ({ stream }) => (await stream()).end() },
  { name: 'had an onClose that threw', options: { onClose: bang }, run: async ({ stream }) => (await stream()).end() },
  {
    name: 'had a hook that threw',
    options: { transform: bang },
    run: async ({ stream }) => (await stream()).send({ data: 'x' }),
  },
  {
    name: 'had a hook at work and left',
    options: { transform: () => new Promise<void>(() => {}) },
    run: async ({ client, stream }) => {
      ;(await stream()).send({ data: 'x' })
      await client.head()
      client.close()
    },
  },
  {
    name: 'had an event that is too large for its hook',
    options: { transform: () => {}, limits: { eventBytes: 100 } },
    run: async ({ stream }) => (await stream()).send({ data: 'x'.repeat(200) }),
  },
  {
    name: 'was closed by the app',
    options: { onOpen: (stream) => stream.close() },
    run: ({ stream }) => stream(),
  },
  {
    name: 'did not read',
    options: { timeouts: { writeMs: 100 } },
    run: async ({ client, exchange }) => {
      const upstreamSide = await exchange()
      upstreamSide.stream()
      await client.head()
      client.pause()
      await until(() => {
        if (!upstreamSide.res.writableNeedDrain) upstreamSide.res.write(`data: ${'x'.repeat(2 ** 20)}\n\n`)
        return upstreamSide.res.closed
      }, 'the upstream to be let go')
    },
  },
  {
    name: 'was answered early and left',
    options: { keepalive: { openAfterMs: 10, intervalMs: 20 } },
    run: async ({ client }) => {
      await client.waitFor('keepalive')
      client.close()
    },
  },
  {
    name: 'was answered early and then found no stream',
    options: { keepalive: { openAfterMs: 10 } },
    run: async ({ client, exchange }) => {
      await client.head()
      ;(await exchange()).answer(404)
    },
  },
  {
    name: 'shared a stream and left',
    options: { share: { lingerMs: 0 } },
    run: async ({ client, stream }) => {
      await stream()
      await client.head()
      client.close()
    },
  },
  {
    name: 'shared a stream that broke',
    options: { share: { lingerMs: 0 } },
    run: async ({ client, stream }) => {
      const upstreamSide = await stream()
      await client.head()
      upstreamSide.reset()
    },
  },
  {
    name: 'waited for a shared stream and left',
    options: { share: { lingerMs: 0 } },
    run: async ({ client, exchange }) => {
      await exchange()
      client.close()
    },
  },
  { name: 'found no upstream', options: { target: ['http://one', 'http://two'], balance: bang }, run: () => {} },
  { name: 'met a router that threw', options: { router: bang }, run: () => {} },
  { name: 'met an on.proxyReq that threw', options: { on: { proxyReq: bang } }, run: () => {} },
  {
    name: 'was answered by the app in its on.error',
    options: {
      on: { error: (_error, _req, res) => void ('writeHead' in res && res.writeHead(500).end('mine')) },
    },
    run: async ({ exchange }) => (await exchange()).req.socket.destroy(),
  },
]

for (const host of hostsByProtocol) {
  for (const { name, options = {}, request, run } of endings) {
    test(`a place is free again after a request that ${name} (${host})`, async (t) => {
      const limits = { ...options.limits, streams: 1, streamsPerClient: 1 }
      const { upstream, front, proxy } = await proxied(t, { ...options, limits }, { host })
      const client = front.request('', request)
      const exchange = (): Promise<Exchange> => upstream.next()

      await run({ client, exchange, stream: async () => (await exchange()).stream(), proxy, upstream })
      client.resume()
      await client.ended()

      await untilAdmitted(front, upstream)
      await until(() => proxy.stats().active === 0, 'no stream to be open')
    })
  }

  test(`150 random comings, goings and failures leave as many places as there were (${host})`, async (t) => {
    const limits = { streams: 6, streamsPerClient: 3, clientKey: byHeader }
    const options = { limits, timeouts: { responseMs: 1000 }, transform: failOnDemand }
    const { upstream, front, proxy } = await proxied(t, options, { host })

    const kinds = ['open', 'open', 'open', 'leave', 'end', 'reset', 'fail', 'answer', 'drop'] as const
    const step = fc.record({ kind: fc.constantFrom(...kinds), which: fc.nat(20) })
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 10 }), async (steps) => {
        const clients: Client[] = []
        for (const { kind, which } of steps) await act(kind, which, { front, upstream, clients })
        for (const client of clients) client.close()
        await until(() => upstream.open === 0 && proxy.stats().active === 0, 'all to be over')
      }),
      { numRuns: 150 },
    )

    const users = ['ada', 'ada', 'ada', 'grace', 'grace', 'grace']
    for (const user of users) await untilAdmitted(front, upstream, user, true)
    const seventh = await front.open('', { headers: { 'x-user': 'edsger' } })
    assert.match(await seventh.whole(), /ERR_SSE_PROXY_FULL/)
  })
}

/** One random step on whatever is open. */
async function act(
  kind: 'open' | 'leave' | 'end' | 'reset' | 'fail' | 'answer' | 'drop',
  which: number,
  { front, upstream, clients }: { front: Front; upstream: Upstream; clients: Client[] },
): Promise<void> {
  const open = upstream.exchanges.filter(({ res }) => !res.closed)
  const exchange = open[which % Math.max(open.length, 1)]
  if (kind === 'open') {
    const client = front.request('', { headers: { 'x-user': ['ada', 'grace', 'edsger'][which % 3]! } })
    const before = upstream.exchanges.length
    clients.push(client)
    // Half of them go on while this one is on its way.
    if (which % 2 === 0)
      await until(() => client.hasHead || upstream.exchanges.length > before, 'the request to arrive')
  } else if (kind === 'leave') {
    clients[which % Math.max(clients.length, 1)]?.close()
  } else if (exchange && kind === 'drop') {
    exchange.req.socket.destroy()
  } else if (exchange && kind === 'answer' && !exchange.res.headersSent) {
    exchange.answer(404)
  } else if (exchange && !exchange.res.writableEnded) {
    const stream = exchange.res.headersSent ? new EventStream(exchange.res) : exchange.stream()
    if (kind === 'end') stream.end()
    else if (kind === 'reset') stream.reset()
    else stream.send({ data: 'fail' })
  }
}

function failOnDemand({ data }: { data: string }): void {
  if (data === 'fail') bang()
}

/** Nothing tells a client from outside when a place is free but that it gets it. */
async function untilAdmitted(front: Front, upstream: Upstream, user = 'ada', stays = false): Promise<void> {
  for (let tries = 0; tries < 500; tries += 1) {
    const before = upstream.exchanges.length
    const client = front.request('', { headers: { 'x-user': user } })
    await until(() => client.hasHead || upstream.exchanges.length > before, 'an answer')
    if (client.status >= 400) await client.ended()
    if (!stays) client.close()
    if (!/ERR_SSE_PROXY_(FULL|CLIENT_LIMIT)/.test(client.text)) return
  }
  assert.fail('the place is still taken')
}

async function answered(
  t: TestContext,
  options: Partial<SseProxyOptions>,
  host: Host = 'express5',
): Promise<Proxied<Upstream>> {
  const handler = (exchange: Exchange): unknown => exchange.stream()
  return await proxied(t, options, { host, before: [readable], upstream: { handler } })
}

async function assertRefused(client: Client, status: number, code: string): Promise<void> {
  assert.equal(client.status, status)
  assert.match(headerOf(client, 'retry-after') ?? '', /^[1-5]$/)
  assert.equal(headerOf(client, 'access-control-allow-origin'), origin)
  assert.equal(headerOf(client, 'access-control-allow-credentials'), 'true')
  assert.equal(headerOf(client, 'access-control-expose-headers'), 'Retry-After')
  assert.equal(headerOf(client, 'cache-control'), 'no-store')
  assert.equal(JSON.parse(await client.whole()).error.code, code)
}
