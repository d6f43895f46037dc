// `http2`: requests and answers mean what they mean over HTTP/1.1, and so do the options and handlers of http-proxy-middleware.
import assert from 'node:assert/strict'
import type { IncomingMessage } from 'node:http'
import { test } from 'node:test'
import express from 'express'
import { hostsByProtocol } from '../../support/front.ts'
import { headersFrame } from '../../support/http2-frames.ts'
import { overHttp2 } from '../../support/over-http2.ts'
import type { Exchange } from '../../support/upstream.ts'
import { gate, within } from '../../support/waiting.ts'

const echo = async (exchange: Exchange): Promise<void> => exchange.answer(200, {}, await exchange.body())

for (const host of hostsByProtocol) {
  test(`options and handlers that change a request do so (${host})`, async (t) => {
    const { upstream, front } = await overHttp2(
      t,
      {
        changeOrigin: true,
        auth: 'me:secret',
        headers: { 'x-of-the-app': '1' },
        pathRewrite: { '^/': '/v2/' },
        on: { proxyReq: (proxyReq) => proxyReq.setHeader('x-of-a-handler', '2') },
      },
      { host },
    )
    const client = front.request('/a?b=c', { headers: { 'x-of-the-client': '3' } })
    const exchange = await upstream.next()
    const { url, headers } = exchange
    exchange.answer(204)
    await client.head()

    assert.equal(url, '/stream/v2/a?b=c')
    assert.equal(headers[':authority'], `127.0.0.1:${upstream.port}`)
    assert.equal(headers.authorization, `Basic ${Buffer.from('me:secret').toString('base64')}`)
    assert.equal(headers['x-of-the-app'], '1')
    assert.equal(headers['x-of-a-handler'], '2')
    assert.equal(headers['x-of-the-client'], '3')
    assert.equal(headers.via, `${host === 'express5' ? '1.1' : '2'} sse-proxy-middleware`)
    assert.equal(headers.host, undefined)
  })

  test(`an ordinary answer keeps its status, its headers and its cookies, rewritten as asked (${host})`, async (t) => {
    const { upstream, front } = await overHttp2(t, { cookieDomainRewrite: 'app.example' }, { host })
    const client = front.request()

    const exchange = await upstream.next()
    exchange.answer(
      201,
      { 'set-cookie': ['a=1; Domain=x.example', 'b=2'], 'content-length': '5', 'x-one': '1' },
      'hello',
    )
    const text = await client.whole()

    assert.equal(text, 'hello')
    assert.equal(client.status, 201)
    assert.deepEqual(client.headers['set-cookie'], ['a=1; Domain=app.example', 'b=2'])
    assert.equal(client.headers['content-length'], '5')
    assert.equal(client.headers['x-one'], '1')
  })
}

test('cookies that a client has split arrive as one', async (t) => {
  const { upstream, front } = await overHttp2(t, {}, { host: 'connect over http2' })
  const client = front.request('', { headers: { cookie: ['a=1', 'b=2'] } })
  const exchange = await upstream.next()

  exchange.answer(204)
  await client.head()

  assert.equal(exchange.headers.cookie, 'a=1; b=2')
})

test('a Last-Event-ID outside of ASCII arrives as it was sent', async (t) => {
  const { upstream, front } = await overHttp2(t)
  const client = front.request('', { headers: { 'last-event-id': 'grüße-✓' } })
  const exchange = await upstream.next()

  exchange.stream({ 'x-echo': 'é' }).end()
  await client.whole()

  assert.equal(Buffer.from(String(exchange.headers['last-event-id']), 'latin1').toString(), 'grüße-✓')
})

test('an answer to HEAD, and one without a body, end with their heads', async (t) => {
  const { upstream, front } = await overHttp2(t)
  const head = front.request('', { method: 'HEAD' })
  const asked = await upstream.next()
  asked.answer(200, { 'content-length': '5' })
  const none = front.request()
  const other = await upstream.next()
  other.answer(304, { etag: '"1"' })

  assert.equal(await head.whole(), '')
  assert.equal(await none.whole(), '')
  assert.equal(asked.method, 'HEAD')
  assert.deepEqual([head.status, head.headers['content-length'], none.status], [200, '5', 304])
})

const body = 'x'.repeat(300_000)

for (const [name, headers] of [
  ['with a length', { 'content-length': String(body.length) }],
  ['in chunks', { 'transfer-encoding': 'chunked' }],
] as const) {
  test(`a body ${name} arrives whole`, async (t) => {
    const { upstream, front } = await overHttp2(t, {}, { upstream: { handler: (exchange) => void echo(exchange) } })

    const answer = await fetch(front.url, {
      method: 'POST',
      body: name === 'with a length' ? body : new Blob([body]).stream(),
      duplex: 'half',
    } as RequestInit)

    assert.equal(await answer.text(), body)
    const length = upstream.exchanges[0]?.headers['content-length']
    assert.equal(length, name === 'with a length' ? headers['content-length' as never] : undefined)
  })
}

test('a body that a parser has read, and one that a handler writes, arrive', async (t) => {
  const before = [express.json()]
  const handler = (exchange: Exchange) => void echo(exchange)
  const { front } = await overHttp2(t, {}, { before, upstream: { handler } })
  const headers = { 'content-type': 'application/json' }

  const answer = await fetch(front.url, { method: 'POST', headers, body: '{ "a": 1 }' })

  assert.equal(await answer.text(), '{"a":1}')
})

test('an upstream that answers before the end of the body is passed on', async (t) => {
  const { upstream, front } = await overHttp2(t)
  const client = front.request('', { method: 'POST', headers: { 'content-length': '10' }, sendsBodyLater: true })
  client.send('01234')
  const exchange = await upstream.next()

  exchange.answer(413, {}, 'too much')

  await client.waitFor('too much')
  assert.equal(client.status, 413)
})

test('trailers and interim answers reach the handlers of the app', async (t) => {
  const ended = gate<IncomingMessage>()
  const interim: number[] = []
  const { upstream, front } = await overHttp2(t, {
    on: {
      proxyReq: (proxyReq) => void proxyReq.on('information', ({ statusCode }) => interim.push(statusCode)),
      proxyRes: (proxyRes) => void proxyRes.on('end', () => ended.open(proxyRes)),
    },
  })
  const client = front.request()
  const exchange = await upstream.next()

  exchange.http2Stream.additionalHeaders({ ':status': 103, link: '</a>' })
  exchange.res.addTrailers({ 'x-sum': '42' })
  exchange.stream().end('data: x\n\n')

  assert.equal(await client.whole(), 'data: x\n\n')
  const { trailers, httpVersion } = await within(ended.promise, 'the end of the answer')
  assert.deepEqual({ ...trailers }, { 'x-sum': '42' })
  assert.deepEqual(interim, [103])
  assert.equal(httpVersion, '1.1')
})

test('an interim answer that would take the connection out of HTTP is a 502', async (t) => {
  const { upstream, front } = await overHttp2(t)
  const client = front.request()
  const exchange = await upstream.next()
  const { id = 0 } = exchange.http2Stream

  // Status 101, without the end of the headers' stream.
  const frame = headersFrame(id)
  const literal = Buffer.concat([Buffer.from([0x08, 3]), Buffer.from('101')])
  exchange.socket?.write(Buffer.concat([Buffer.from([0, 0, literal.length]), frame.subarray(3, 9), literal]))

  assert.equal((await client.head()).status, 502)
})

test('headers that are too large for HTTP/1.1 are a 502', async (t) => {
  const { upstream, front } = await overHttp2(t)
  const client = front.request()
  const exchange = await upstream.next()

  exchange.http2Stream.respond({ ':status': 200, ...manyHeaders(40, 1000) })

  assert.equal((await client.head()).status, 502)
})

test('headers that are too many for Node are a 502, and the connection goes on', async (t) => {
  const { upstream, front } = await overHttp2(t)
  const clients = [front.request('?1'), front.request('?2')]
  const first = await upstream.next()
  const second = await upstream.next()

  first.http2Stream.respond({ ':status': 200, ...manyHeaders(2100, 1) })
  await clients[0]?.head()
  second.answer(204)
  await clients[1]?.head()

  assert.deepEqual(
    clients.map(({ status }) => status),
    [502, 204],
  )
})

function manyHeaders(count: number, bytes: number): Record<string, string> {
  return Object.fromEntries(Array.from({ length: count }, (_, i) => [`x-${i}`, 'x'.repeat(bytes)]))
}

test('the wait for an answer that a handler has set ends the request', async (t) => {
  const { upstream, front } = await overHttp2(t, {
    on: { proxyReq: (proxyReq) => void proxyReq.setTimeout(40, () => proxyReq.destroy()) },
  })
  const client = front.request()
  const exchange = await upstream.next()

  await exchange.leftByPeer()

  assert.ok((await client.head()).status >= 500)
})
