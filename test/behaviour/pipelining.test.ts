// Requests that a client sends without waiting for answers: each is served when its turn comes, and costs nothing before.
import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import type { Front } from '../support/front.ts'
import { type Proxied, proxied, type SseProxyOptions } from '../support/proxied.ts'
import type { Upstream } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

const hosts = ['express5', 'express4', 'connect', 'http'] as const

for (const host of hosts) {
  test(`2,000 requests on one connection open one upstream connection, and not 2,000 at once (${host})`, async (t) => {
    const { upstream, front, socket } = await pipelined(t, 2_000, host)
    await upstream.next()

    // What comes on another connection is served after all that could be parsed.
    const other = front.request()
    const exchange = await upstream.next()
    exchange.stream()
    await other.head()

    assert.equal(upstream.exchanges.length, 2)
    socket.destroy()
  })
}

test('each of 2,000 pipelined requests is served when its turn comes, in order', async (t) => {
  const requests = Array.from({ length: 2_000 }, (_, i) => `/events?${i}`)
  const { upstream, socket } = await pipelined(t, requests)
  const received = reading(socket)
  let atOnce = 0
  const asked: string[] = []

  for (let i = 0; i < requests.length; i++) {
    const exchange = await upstream.next()
    atOnce = Math.max(atOnce, upstream.open)
    asked.push(exchange.url)
    if (i % 2 === 0) exchange.stream().end(`data: <${i}>\n\n`)
    else exchange.answer(200, { 'content-type': 'text/plain' }, `data: <${i}>\n\n`)
  }

  await until(() => received().includes('<1999>'), 'the last answer')
  assert.equal(atOnce, 1)
  assert.deepEqual(
    asked,
    requests.map((_, i) => `/stream?${i}`),
  )
  assert.deepEqual(
    [...received().matchAll(/<(\d+)>/g)].map(([, i]) => Number(i)),
    requests.map((_, i) => i),
  )
})

test('what waits for its turn holds no place of limits.streams', async (t) => {
  const { upstream, front, proxy, socket } = await pipelined(t, 100, 'express5', {
    limits: { streams: 2, streamsPerClient: 2 },
  })
  ;(await upstream.next()).stream()
  await until(() => proxy.stats().active === 1, 'the first stream')

  const other = front.request()
  ;(await upstream.next()).stream()

  assert.equal((await other.head()).status, 200)
  assert.equal(proxy.stats().refused.full, 0)
  assert.equal(proxy.stats().refused['client-limit'], 0)
  socket.destroy()
})

test('what waits for its turn ends with its connection, and asks the upstream nothing', async (t) => {
  const { upstream, front, proxy, socket } = await pipelined(t, 100)
  const first = await upstream.next()
  first.stream()
  await until(() => proxy.stats().active === 1, 'the first stream')

  socket.destroy()
  await first.leftByPeer()
  const other = front.request()
  ;(await upstream.next()).stream()
  await other.head()

  assert.equal(upstream.exchanges.length, 2)
  assert.equal(proxy.stats().active, 1)
})

test('a request waits behind the answer of another route as well', async (t) => {
  let endFirst = (): void => {}
  const { upstream, front } = await proxied(
    t,
    {},
    {
      before: [
        (req, res, next) => {
          if (!req.url.includes('mine')) return next()
          res.write('first')
          endFirst = () => res.end()
        },
      ],
    },
  )
  const socket = connected(t, front)
  const received = reading(socket)
  socket.write('GET /events?mine HTTP/1.1\r\nHost: x\r\n\r\nGET /events HTTP/1.1\r\nHost: x\r\n\r\n')
  await until(() => received().includes('first'), 'the first answer')
  assert.equal(upstream.exchanges.length, 0)

  endFirst()
  ;(await upstream.next()).stream().send({ data: 'second' })

  await until(() => received().includes('data: second'), 'the event')
  socket.destroy()
})

test('a connection with more requests waiting than any client means well with is closed', async (t) => {
  const { upstream, socket } = await pipelined(t, 10_002)
  const first = await upstream.next()

  await first.leftByPeer()

  await until(() => socket.destroyed, 'the end of the connection')
  assert.equal(upstream.exchanges.length, 1)
})

interface Pipelined extends Proxied<Upstream> {
  socket: Socket
}

/** Sends so many requests, or these, on one connection. */
async function pipelined(
  t: TestContext,
  requests: number | readonly string[],
  host: (typeof hosts)[number] = 'express5',
  options: Partial<SseProxyOptions> = {},
): Promise<Pipelined> {
  const arrangement = await proxied(t, options, { host })
  const socket = connected(t, arrangement.front)
  const urls = typeof requests === 'number' ? Array.from({ length: requests }, () => '/events') : requests
  socket.write(urls.map((url) => `GET ${url} HTTP/1.1\r\nHost: x\r\n\r\n`).join(''))
  return { ...arrangement, socket }
}

function connected(t: TestContext, front: Front): Socket {
  const socket = connect(front.port, '127.0.0.1')
  socket.on('error', () => {})
  t.after(() => socket.destroy())
  return socket.resume()
}

function reading(socket: Socket): () => string {
  let text = ''
  socket.on('data', (bytes: Buffer) => {
    text += bytes.toString('latin1')
  })
  return () => text
}
