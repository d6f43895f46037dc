// `http2`: which requests go over HTTP/2, and how it is found out whether the upstream speaks it.
import assert from 'node:assert/strict'
import http from 'node:http'
import { constants } from 'node:http2'
import { createServer as createTlsServer } from 'node:https'
import { connect } from 'node:net'
import { type TestContext, test } from 'node:test'
import type { TlsOptions } from 'node:tls'
import { sseProxy } from 'sse-proxy-middleware'
import { certificate } from '../../support/certificate.ts'
import { hostsByProtocol, startFront } from '../../support/front.ts'
import { proxied, rawProxied } from '../../support/proxied.ts'
import { type Exchange, startUpstream } from '../../support/upstream.ts'
import { within } from '../../support/waiting.ts'

const overTls = { tls: certificate, http2: {} }
const auto = { http2: 'auto', secure: false } as const

/** Remembers which protocols each connection was offered. */
function offering(protocol: string): { tls: TlsOptions; offers: string[][] } {
  const offers: string[][] = []
  const ALPNCallback = ({ protocols }: { protocols: string[] }): string | undefined => {
    offers.push(protocols)
    return protocols.includes(protocol) ? protocol : undefined
  }
  return { tls: { ...certificate, ALPNCallback }, offers }
}

for (const host of hostsByProtocol) {
  test(`the connection on which an upstream was asked carries the requests, one beside the other (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, auto, { host, upstream: overTls })
    const clients = [front.request('?1'), front.request('?2'), front.request('?3')]
    const exchanges = [await upstream.next(), await upstream.next(), await upstream.next()]

    for (const exchange of exchanges) exchange.stream().end(`data: ${exchange.url}\n\n`)
    const texts = await Promise.all(clients.map((client) => client.whole()))

    assert.deepEqual(texts, ['data: /stream?1\n\n', 'data: /stream?2\n\n', 'data: /stream?3\n\n'])
    assert.deepEqual(
      exchanges.map(({ req }) => req.httpVersion),
      ['2.0', '2.0', '2.0'],
    )
    assert.equal(upstream.accepted, 1)
  })
}

test('a burst of 100 requests to an upstream that was never asked opens one connection', async (t) => {
  const handler = (exchange: Exchange): void => exchange.answer(204)
  const { upstream, front } = await proxied(t, auto, { upstream: { ...overTls, handler } })

  const clients = await Promise.all(Array.from({ length: 100 }, () => front.open()))

  assert.deepEqual(new Set(clients.map(({ status }) => status)), new Set([204]))
  assert.equal(upstream.accepted, 1)
})

for (const [host, asked] of [
  ['backend.example:8443', ['backend.example']],
  ['backend.example', ['backend.example']],
  ['192.0.2.1:8443', []],
  ['[2001:db8::1]:8443', []],
] as const) {
  test(`TLS asks for the name that is in Host, where that is one (${host})`, async (t) => {
    const names: string[] = []
    const SNICallback = (name: string, done: (error: null) => void): void => {
      names.push(name)
      done(null)
    }
    const handler = (exchange: Exchange): void => exchange.answer(204)
    const upstream = { tls: { ...certificate, SNICallback }, http2: {}, handler }
    const { front } = await proxied(t, { ...auto, headers: { host } }, { upstream })

    assert.equal((await front.request().head()).status, 204)

    assert.deepEqual(names, asked)
  })
}

test('an upstream that speaks HTTP/1.1 alone is asked once, and what waits meanwhile gets its answers', async (t) => {
  const { tls, offers } = offering('http/1.1')
  const handler = (exchange: Exchange): void => exchange.answer(200, {}, exchange.url)
  const { front } = await proxied(t, auto, { upstream: { tls, handler } })

  const first = await Promise.all(Array.from({ length: 5 }, (_, i) => front.request(`?${i}`).whole()))
  const later = [await front.request('?5').whole(), await front.request('?6').whole()]

  assert.deepEqual(
    [...first, ...later],
    Array.from({ length: 7 }, (_, i) => `/stream?${i}`),
  )
  assert.deepEqual(offers[0], ['h2', 'http/1.1'])
  assert.deepEqual(new Set(offers.slice(1).flat()), new Set(['http/1.1']))
})

test('an answer over HTTP/1.1 on the connection that was asked on is broken where that breaks', async (t) => {
  const { upstream, front } = await proxied(t, auto, { upstream: { tls: certificate } })
  const client = front.request()
  const stream = (await upstream.next()).stream()
  stream.send({ data: 'x' })
  await client.waitFor('x')

  stream.cut()

  assert.equal(await client.ended(), 'broken')
})

test('what was found out of an upstream is forgotten where it could not be reached', async (t) => {
  const down = createTlsServer(certificate)
  await new Promise<void>((resolve) => down.listen(0, '127.0.0.1', resolve))
  const { port } = down.address() as { port: number }
  await new Promise((resolve) => down.close(resolve))
  const front = await startFront('express5', sseProxy({ target: `https://localhost:${port}`, ...auto }))
  t.after(() => front.close())

  const refused = await front.open()
  const upstream = await startUpstream({ ...overTls, port, handler: (exchange) => exchange.answer(204) })
  t.after(() => upstream.close())
  const answered = await front.open()

  assert.deepEqual([refused.status, answered.status], [502, 204])
  assert.equal(upstream.exchanges[0]?.req.httpVersion, '2.0')
})

test("'prior-knowledge' speaks HTTP/2 without TLS", async (t) => {
  const { upstream, front } = await proxied(t, { http2: 'prior-knowledge' }, { upstream: { http2: {} } })
  const client = front.request()
  const exchange = await upstream.next()

  exchange.stream().end('data: x\n\n')

  assert.equal(await client.whole(), 'data: x\n\n')
  assert.equal(exchange.req.httpVersion, '2.0')
})

test("'auto' speaks HTTP/1.1 without TLS", async (t) => {
  const { upstream, front } = await proxied(t, { http2: 'auto' })
  const client = front.request()
  const exchange = await upstream.next()

  exchange.answer(204)

  assert.equal((await client.head()).status, 204)
  assert.equal(exchange.req.httpVersion, '1.1')
})

for (const mode of ['auto', 'prior-knowledge'] as const) {
  test(`a certificate that nobody vouches for is a 502 (${mode})`, async (t) => {
    const { upstream, front } = await proxied(t, { http2: mode }, { upstream: overTls })

    const client = await front.open()

    assert.equal(client.status, 502)
    assert.equal(upstream.exchanges.length, 0)
  })
}

test("an upstream that speaks HTTP/1.1 behind 'prior-knowledge' is a 502 without TLS", async (t) => {
  const { upstream, front } = await rawProxied(t, { http2: 'prior-knowledge' })
  const client = front.request()
  const conversation = await upstream.next()

  conversation.send('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n')

  assert.equal((await client.head()).status, 502)
})

test("an upstream that speaks HTTP/1.1 behind 'prior-knowledge' is a 502 with TLS", async (t) => {
  const { front } = await proxied(t, { http2: 'prior-knowledge', secure: false }, { upstream: { tls: certificate } })

  const client = await front.open()

  assert.equal(client.status, 502)
})

test('an upstream that wants a request over HTTP/1.1 gets it, a POST too', async (t) => {
  const { upstream, front } = await proxied(t, auto, { upstream: overTls })
  const client = front.request('', { method: 'POST', body: 'x' })

  ;(await upstream.next()).http2Stream.close(constants.NGHTTP2_HTTP_1_1_REQUIRED)
  const again = await upstream.next()
  again.answer(200, {}, await again.body())

  assert.equal(await client.whole(), 'x')
  assert.equal(again.req.httpVersion, '1.1')
})

for (const [http2, upstreamOptions] of [
  ['prior-knowledge', { http2: {} }],
  ['auto', overTls],
] as const) {
  test(`an upstream is probed over HTTP/2, on the connection of its requests (${http2})`, async (t) => {
    const health = { probe: { path: '/health', intervalMs: 10, fall: 1 } }
    const { upstream, front, proxy } = await proxied(t, { http2, health, secure: false }, { upstream: upstreamOptions })

    const probes = [await upstream.next(), undefined]
    probes[0]?.answer(200)
    probes[1] = await upstream.next()
    const client = front.request()
    const request = await upstream.next()
    probes[1]?.answer(200)
    request.answer(204)
    await client.head()

    assert.deepEqual(
      probes.map((probe) => [probe?.url, probe?.req.httpVersion]),
      [
        ['/health', '2.0'],
        ['/health', '2.0'],
      ],
    )
    assert.equal(request.url, '/stream')
    assert.equal(upstream.accepted, 1)
    assert.equal(proxy.ready(), true)
    await proxy.close({ withinMs: 0 })
  })
}

test('a request with an agent of the app goes over HTTP/1.1', async (t) => {
  const agent = new http.Agent({ keepAlive: false })
  const { upstream, front } = await proxied(t, { http2: 'prior-knowledge', agent })
  const client = front.request()
  const exchange = await upstream.next()

  exchange.answer(204)

  assert.equal((await client.head()).status, 204)
  assert.equal(exchange.req.httpVersion, '1.1')
})

test('a WebSocket goes over HTTP/1.1', async (t: TestContext) => {
  const { upstream, front, proxy } = await rawProxied(t, { http2: 'prior-knowledge' })
  front.server.on('upgrade', proxy.upgrade)
  const socket = connect(front.port, '127.0.0.1')
  t.after(() => socket.destroy())

  socket.write('GET /events HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n')
  const conversation = await upstream.next()
  const head = await conversation.head()
  conversation.send('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n')
  const answer = await within(new Promise((resolve) => socket.once('data', resolve)), 'the upgrade')

  assert.match(head, /^GET \S+ HTTP\/1\.1\r\n/)
  assert.match(String(answer), /^HTTP\/1\.1 101 /)
})
