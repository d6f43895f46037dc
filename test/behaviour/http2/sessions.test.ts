// `http2`: how many connections there are, which of them takes a request, what is sent again, and when a connection ends.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { sseProxy } from 'sse-proxy-middleware'
import type { Client } from '../../support/client.ts'
import { type Front, startFront } from '../../support/front.ts'
import { goawayFrame, headersFrame, settingsAckFrame, settingsFrame } from '../../support/http2-frames.ts'
import { watchLeftovers } from '../../support/leftovers.ts'
import { goAway, overHttp2, reset } from '../../support/over-http2.ts'
import { rawProxied } from '../../support/proxied.ts'
import { type Exchange, startUpstream, type Upstream } from '../../support/upstream.ts'
import { until } from '../../support/waiting.ts'

interface Opened {
  clients: Client[]
  exchanges: Exchange[]
}

/** So many streams, all open, each with an event. */
async function openStreams(front: Front, upstream: Upstream, count: number): Promise<Opened> {
  const clients = Array.from({ length: count }, (_, i) => front.request(`?${i}`))
  const exchanges: Exchange[] = []
  for (const _ of clients) exchanges.push(await upstream.next())
  for (const exchange of exchanges) exchange.stream().send({ data: 'x' })
  await Promise.all(clients.map((client) => client.waitFor('x')))
  return { clients, exchanges }
}

const answering = (exchange: Exchange): void => exchange.answer(200, {}, exchange.method)

test('streams beyond what an upstream takes on a connection go over another', async (t) => {
  const { upstream, front, proxy } = await overHttp2(t, {}, { upstream: { http2: { maxConcurrentStreams: 10 } } })

  await openStreams(front, upstream, 25)

  assert.equal(upstream.accepted, 3)
  const { active, http2Connections } = proxy.stats().upstreams[0] ?? {}
  assert.deepEqual([active, http2Connections], [25, 3])
})

test('a place that is free again is taken before another connection is opened', async (t) => {
  const { upstream, front } = await overHttp2(t, {}, { upstream: { http2: { maxConcurrentStreams: 2 } } })
  const { exchanges, clients } = await openStreams(front, upstream, 2)

  exchanges[0]?.res.end()
  await clients[0]?.whole()
  await openStreams(front, upstream, 1)

  assert.equal(upstream.accepted, 1)
})

test('a limit that is lowered holds for the next stream, and the open ones go on', async (t) => {
  const { upstream, front } = await overHttp2(t)
  const { exchanges, clients } = await openStreams(front, upstream, 3)
  const session = exchanges[0]?.http2Stream.session

  await new Promise<void>((resolve) => session?.settings({ maxConcurrentStreams: 2 }, () => resolve()))
  await openStreams(front, upstream, 1)
  for (const { res } of exchanges) res.end('data: end\n\n')

  for (const client of clients) assert.match(await client.whole(), /end\n\n$/)
  assert.equal(upstream.accepted, 2)
})

test('an upstream that takes no streams is a 503, after few connections', async (t) => {
  const { upstream, front } = await overHttp2(t, {}, { upstream: { http2: { maxConcurrentStreams: 0 } } })

  const client = await front.open()

  assert.equal(client.status, 503)
  assert.ok(Number(client.headers['retry-after']) >= 1)
  assert.equal(JSON.parse(client.text).error.code, 'ERR_SSE_PROXY_REFUSED')
  assert.equal(upstream.accepted, 4)
})

for (const method of ['GET', 'POST']) {
  test(`a ${method} that is refused is sent again, its body too`, async (t) => {
    const { upstream, front, proxy } = await overHttp2(t)
    const client = front.request('', { method, ...(method === 'POST' && { body: 'the body' }) })

    reset(await upstream.next(), 7)
    const exchange = await upstream.next()
    exchange.answer(200, {}, await exchange.body())

    assert.equal(await client.whole(), method === 'POST' ? 'the body' : '')
    assert.equal(upstream.exchanges.length, 2)
    assert.equal(proxy.stats().retries, 1)
  })
}

for (const [retry, times] of [
  [false, 4],
  [{ attempts: 1, backoffMs: 1 }, 2],
] as const) {
  test(`a POST that is refused each time is a 503 after ${times} times`, async (t) => {
    const handler = (exchange: Exchange): void => reset(exchange, 7)
    const { upstream, front, proxy } = await overHttp2(t, { retry }, { upstream: { handler } })

    const client = front.request('', { method: 'POST', body: 'x' })
    await client.whole()

    assert.equal(client.status, 503)
    assert.equal(upstream.exchanges.length, times)
    assert.equal(proxy.stats().upstreams[0]?.failures, 0)
  })
}

test('a POST that was begun is not sent again', async (t) => {
  const { upstream, front } = await overHttp2(t)
  const client = front.request('', { method: 'POST', body: 'x' })

  reset(await upstream.next(), 2)

  assert.equal((await client.head()).status, 502)
  assert.equal(upstream.exchanges.length, 1)
})

test('a POST that an upstream which may speak HTTP/1.1 wants over that is refused, and sent again', async (t) => {
  const { upstream, front } = await overHttp2(t)
  const client = front.request('', { method: 'POST', body: 'x' })

  reset(await upstream.next(), 13)
  ;(await upstream.next()).answer(204)

  assert.equal((await client.head()).status, 204)
})

test('after GOAWAY streams end by themselves, and new ones go over another connection', async (t) => {
  const { upstream, front } = await overHttp2(t)
  const { clients, exchanges } = await openStreams(front, upstream, 2)
  const [first] = exchanges

  if (first) goAway(first, 3)
  await new Promise((resolve) => first?.http2Stream.session?.ping(resolve))
  const later = await openStreams(front, upstream, 1)
  for (const { res } of [...exchanges, ...later.exchanges]) res.end('data: end\n\n')

  for (const client of [...clients, ...later.clients]) assert.equal(await client.whole(), 'data: x\n\ndata: end\n\n')
  assert.equal(upstream.accepted, 2)
})

for (const code of [0, 11]) {
  test(`what is above the last stream of a GOAWAY with code ${code} is sent again, a POST too`, async (t) => {
    const { upstream, front } = await overHttp2(t)
    const begun = front.request('?begun')
    const first = await upstream.next()
    const post = front.request('?post', { method: 'POST', body: 'the body' })
    await upstream.next()

    goAway(first, first.http2Stream.id ?? 0, code)
    const again = await upstream.next()
    again.answer(200, {}, await again.body())
    if (code === 0) first.answer(204)

    assert.equal(await post.whole(), 'the body')
    assert.equal(again.url, '/stream?post')
    assert.equal(upstream.accepted, code === 0 ? 2 : upstream.accepted)
    if (code === 0) assert.equal((await begun.head()).status, 204)
    begun.close()
  })
}

test('a request that an upstream has taken, and drops with its GOAWAY, is a failure of the upstream and no refusal', async (t) => {
  const { upstream, front, proxy } = await overHttp2(t)
  const client = front.request()
  const { http2Stream } = await upstream.next()

  http2Stream.session?.destroy()

  assert.equal(JSON.parse(await client.whole()).error.code, 'ERR_SSE_PROXY_UNREACHABLE')
  assert.equal(client.status, 502)
  assert.equal(proxy.stats().upstreams[0]?.failures, 1)
})

test('a GET that meets a connection in use which drops it with a GOAWAY is sent on a new one', async (t) => {
  const { upstream, front, proxy } = await overHttp2(t)
  const earlier = front.request()
  const first = await upstream.next()
  first.answer(204)
  await earlier.ended()

  const client = front.request()
  const { http2Stream } = await upstream.next()
  http2Stream.session?.destroy()
  const again = await upstream.next()
  again.answer(200, {}, 'fine')

  assert.equal(await client.whole(), 'fine')
  assert.equal(proxy.stats().upstreams[0]?.failures, 0)
})

test('a GOAWAY that comes with the first settings is no end of it: another connection is opened', async (t) => {
  const { upstream, front } = await rawProxied(t, { http2: 'prior-knowledge' })
  const client = front.request('', { method: 'POST', body: 'x' })
  const first = await upstream.next()

  first.send(Buffer.concat([settingsFrame, goawayFrame(0, 0)]))
  const second = await upstream.next()
  second.send(Buffer.concat([settingsFrame, settingsAckFrame]))
  await until(() => second.received.length > 100, 'the request')
  second.send(headersFrame(1, { 'content-length': '0' }, 1))

  assert.equal((await client.head()).status, 200)
})

test('an upstream that is silent on PING is lost after two more intervals; one that answers is not', async (t) => {
  const http2 = { mode: 'prior-knowledge', pingMs: 40 } as const
  const answers = await overHttp2(t, { http2 })
  const live = await openStreams(answers.front, answers.upstream, 1)
  const { upstream, front, proxy } = await rawProxied(t, { http2 })
  const client = front.request()
  const conversation = await upstream.next()
  conversation.send(Buffer.concat([settingsFrame, settingsAckFrame]))
  await until(() => conversation.received.length > 100, 'the request')
  conversation.send(headersFrame(1, { 'content-type': 'text/event-stream' }))
  await client.head()
  const start = performance.now()

  const ending = await client.ended()
  const ms = performance.now() - start

  assert.equal(ending, 'broken')
  assert.ok(ms > 100, `after ${ms} ms`)
  assert.equal(proxy.stats().closed['upstream-lost'], 1)
  assert.equal(live.clients[0]?.ending, undefined)
})

test('requests that a client gives up by the thousand do not make an upstream end the streams of others', async (t) => {
  const { upstream, front, proxy } = await overHttp2(t)
  const { clients, exchanges } = await openStreams(front, upstream, 1)

  for (let given = 0; given < 1200; given += 50) {
    const opened = await openStreams(front, upstream, 50)
    for (const client of opened.clients) client.close()
    await Promise.all(opened.exchanges.map((exchange) => exchange.leftByPeer()))
  }
  exchanges[0]?.res.end('data: end\n\n')

  assert.match((await clients[0]?.whole()) ?? '', /end\n\n$/)
  assert.ok(upstream.accepted <= 7)
  await until(
    () => (proxy.stats().upstreams[0]?.http2Connections ?? 0) <= 1,
    'the connections to end with their streams',
  )
})

test('a connection without streams is closed after idleMs, one with streams is not', async (t) => {
  const { upstream, front } = await overHttp2(t, { http2: { mode: 'prior-knowledge', idleMs: 30 } })
  const { exchanges, clients } = await openStreams(front, upstream, 1)
  await new Promise((resolve) => exchanges[0]?.http2Stream.session?.ping(resolve))
  const before = upstream.connections

  exchanges[0]?.res.end()
  await clients[0]?.whole()
  await until(() => upstream.connections === 0, 'the connection to be closed')

  assert.equal(before, 1)
})

test('a client that does not read stops its own upstream, and no sibling', async (t) => {
  const { upstream, front } = await overHttp2(t, { limits: { bufferBytes: 100_000 } })
  const { clients, exchanges } = await openStreams(front, upstream, 30)
  const slow = clients.slice(1)
  for (const client of slow) client.pause()
  // As much as goes out, to each of them.
  for (const { res } of exchanges.slice(1)) res.write(`data: ${'y'.repeat(8_000_000)}\n\n`)
  const windowOf = ({ http2Stream }: Exchange): number => http2Stream.session?.state.remoteWindowSize ?? 0
  const [reader, ...stopped] = exchanges
  await until(() => stopped.every(({ http2Stream }) => http2Stream.bufferSize > 0), 'the windows to be used up')

  for (let i = 0; i < 50; i++) reader?.res.write(`data: ${i}${'z'.repeat(10_000)}\n\n`)
  await clients[0]?.waitFor('data: 49z')

  assert.ok(reader && windowOf(reader) > 100_000_000)
  assert.equal(reader.http2Stream.session?.remoteSettings.initialWindowSize, 100_000)
  assert.equal(upstream.accepted, 1)
})

test('a client that does not read stops its upstream where its window ends', async (t) => {
  const { upstream, front } = await overHttp2(t)
  const { clients, exchanges } = await openStreams(front, upstream, 1)
  clients[0]?.pause()
  const [{ socket, http2Stream, res } = assert.fail()] = exchanges
  res.write(`data: ${'y'.repeat(50_000_000)}\n\n`)

  // As long as something goes out between two round trips.
  for (let before = -1, still = 0; still < 20; ) {
    await new Promise((resolve) => http2Stream.session?.ping(resolve))
    const sent = socket?.bytesWritten ?? 0
    still = sent - before < 1000 ? still + 1 : 0
    before = sent
  }

  assert.ok((socket?.bytesWritten ?? 0) < 25_000_000, `${socket?.bytesWritten} bytes went out`)
})

test('an upstream that never opens its window for a body gets no more of it, and the client is not read', async (t) => {
  const { upstream, front } = await overHttp2(
    t,
    { timeouts: { responseMs: 100 } },
    { upstream: { http2: { initialWindowSize: 0 } } },
  )
  const client = front.request('', { method: 'POST', body: 'x'.repeat(10_000) })
  const exchange = await upstream.next()

  await exchange.leftByPeer()

  assert.equal((await client.head()).status, 504)
})

test('the connection to a target that went ends with its last stream', async (t) => {
  const { upstream, front, proxy } = await overHttp2(t)
  const other = await startUpstream({ http2: {}, handler: answering })
  t.after(() => other.close())
  const { clients, exchanges } = await openStreams(front, upstream, 1)

  proxy.setTargets(other.url)
  const next = await front.request().whole()
  exchanges[0]?.res.end('data: end\n\n')

  assert.equal(next, 'GET')
  assert.match((await clients[0]?.whole()) ?? '', /end\n\n$/)
  await until(() => upstream.connections === 0, 'the connection to be closed')
})

test('close() ends the connections, also those without streams, and nothing is left', async (t: TestContext) => {
  const leftovers = watchLeftovers(t)
  const upstream = await startUpstream({ http2: {}, handler: answering })
  const proxy = sseProxy({ target: upstream.url, http2: 'prior-knowledge' })
  const front = await startFront('express5', proxy)
  await front.request().whole()
  const before = upstream.connections

  await proxy.close({ withinMs: 0 })
  await until(() => upstream.connections === 0, 'the connection to be closed')
  await front.close()
  await upstream.close()

  assert.equal(before, 1)
  await leftovers.assertNone()
})
