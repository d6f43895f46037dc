// Every method and every body reaches the upstream, whether or not something in front has read it already.
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'
import express from 'express'
import express4 from 'express4'
import { fixRequestBody } from 'http-proxy-middleware'
import type { Headers } from '../support/client.ts'
import { type Host, hosts, hostsByProtocol, type Middleware } from '../support/front.ts'
import { proxied } from '../support/proxied.ts'
import type { Exchange } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

const question = { model: 'm', stream: true, messages: [{ role: 'user', content: 'grüße 😀' }] }

for (const host of hosts) {
  test(`a POST that answers with an event stream works (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, {}, { host })
    const headers = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' }
    const client = front.request('/v1/chat?x=1', { method: 'POST', headers, body: JSON.stringify(question) })
    const exchange = await upstream.next()

    const body = await exchange.body()
    const stream = exchange.stream()
    stream.send({ data: '{"delta":"a"}' })
    await client.waitFor('"a"')
    stream.end('data: [DONE]\n\n')

    assert.equal(await client.whole(), 'data: {"delta":"a"}\n\ndata: [DONE]\n\n')
    assert.deepEqual(JSON.parse(body.toString()), question)
    assert.equal(exchange.method, 'POST')
    assert.equal(exchange.url, '/stream/v1/chat?x=1')
  })

  test(`a body that nobody has read streams through (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, {}, { host })
    const client = front.request('', { method: 'POST', headers: { 'content-length': '10' }, sendsBodyLater: true })
    client.send('first')
    const exchange = await upstream.next()
    let received = ''
    exchange.req.on('data', (bytes: Buffer) => {
      received += bytes
    })

    await until(() => received === 'first', 'the first half of the body')
    client.send('later')
    client.finish()
    await until(() => received === 'firstlater', 'the second half of the body')
    exchange.answer(200, {}, 'thanks')

    assert.equal(await client.whole(), 'thanks')
    assert.equal(exchange.headers['content-length'], '10')
  })

  test(`a large body arrives whole (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, {}, { host })
    const sent = randomBytes(8 * 1024 * 1024)
    const client = front.request('', { method: 'PUT', body: sent })
    const exchange = await upstream.next()

    const received = await exchange.body()
    exchange.answer(200)
    await client.ended()

    assert.equal(hashOf(received), hashOf(sent))
  })

  for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']) {
    test(`${method} without a body reaches the upstream as it is (${host})`, async (t) => {
      const { upstream, front } = await proxied(t, {}, { host })
      const client = front.request('?a=1', { method })
      const exchange = await upstream.next()

      const body = await exchange.body()
      exchange.answer(200, { 'x-method': method, 'content-length': '2' }, method === 'HEAD' ? '' : 'ok')
      await client.head()

      assert.equal(exchange.method, method)
      assert.equal(exchange.url, '/stream?a=1')
      assert.equal(body.length, 0)
      assert.equal(await client.whole(), method === 'HEAD' ? '' : 'ok')
      assert.equal(client.headers['x-method'], method)
    })
  }

  test(`HEAD on an event stream gives its headers and ends (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, { keepalive: 20 }, { host })
    const client = front.request('', { method: 'HEAD' })
    const exchange = await upstream.next()

    exchange.stream({ 'x-own': 'yes' }).end()
    await client.head()

    assert.equal(client.headers['x-own'], 'yes')
    assert.equal(await client.whole(), '')
  })
}

/** The parsers of Express 5 and 4, each in its own framework and in a program without one. */
const parsersByHost: [Host, typeof express][] = [
  ['express5', express],
  ['express4', express4],
  ['connect', express],
  ['connect over http2', express],
  ['express5 over http2', express],
]

interface ParsedBody {
  name: string
  parser: (from: typeof express) => Middleware
  headers: Headers
  body: string | Buffer
  /** What the upstream must understand; by default the very bytes. */
  sameAs?: (received: Buffer) => void
}

const parsed: ParsedBody[] = [
  {
    name: 'JSON',
    parser: (from) => from.json(),
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(question, null, 2),
    sameAs: (received) => assert.deepEqual(JSON.parse(received.toString()), question),
  },
  {
    name: 'JSON with a charset',
    parser: (from) => from.json(),
    headers: { 'content-type': 'application/json; charset=utf-8' },
    body: '{"a":"ü"}',
  },
  {
    name: 'JSON of another type',
    parser: (from) => from.json({ type: '*/*' }),
    headers: { 'content-type': 'application/vnd.api+json' },
    body: '{"a":1}',
  },
  {
    name: 'an empty JSON object',
    parser: (from) => from.json(),
    headers: { 'content-type': 'application/json' },
    body: '{}',
  },
  {
    name: 'an empty JSON array',
    parser: (from) => from.json(),
    headers: { 'content-type': 'application/json' },
    body: '[]',
  },
  ...['null', 'false', '0', '""', '"text"', '17'].map((body) => ({
    name: `the JSON value ${body}`,
    parser: (from: typeof express) => from.json({ strict: false }),
    headers: { 'content-type': 'application/json' },
    body,
  })),
  {
    name: 'JSON that was compressed',
    parser: (from) => from.json(),
    headers: { 'content-type': 'application/json', 'content-encoding': 'gzip' },
    body: gzipSync('{"a":"ü"}'),
    sameAs: (received) => assert.equal(received.toString(), '{"a":"ü"}'),
  },
  {
    name: 'a form',
    parser: (from) => from.urlencoded({ extended: false }),
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: 'a=1&b=two+words&b=again&c=%C3%BC',
    sameAs: (received) => {
      const fields = new URLSearchParams(received.toString())
      assert.deepEqual([fields.get('a'), fields.getAll('b'), fields.get('c')], ['1', ['two words', 'again'], 'ü'])
    },
  },
  {
    name: 'an extended form',
    parser: (from) => from.urlencoded({ extended: true }),
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: 'user[name]=x&user[tags][]=a&user[tags][]=b&plain=1',
    sameAs: (received) => {
      const fields = new Map(new URLSearchParams(received.toString()))
      assert.equal(fields.get('user[name]'), 'x')
      assert.equal(fields.get('plain'), '1')
      assert.match(decodeURIComponent(received.toString()), /user\[tags\](\[\d?\])?=a&user\[tags\](\[\d?\])?=b/)
    },
  },
  {
    name: 'a text',
    parser: (from) => from.text(),
    headers: { 'content-type': 'text/plain' },
    body: 'grüße\r\n😀',
  },
  {
    name: 'raw bytes',
    parser: (from) => from.raw(),
    headers: { 'content-type': 'application/octet-stream' },
    body: Buffer.from([0, 255, 13, 10, 128, 0]),
  },
  {
    name: 'raw bytes of a JSON type',
    parser: (from) => from.raw({ type: '*/*' }),
    headers: { 'content-type': 'application/json' },
    body: '{ "spaces":  "kept" }',
  },
  {
    name: 'a large JSON body',
    parser: (from) => from.json({ limit: '8mb' }),
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ text: 'ü'.repeat(500_000) }),
  },
]

for (const [host, from] of parsersByHost) {
  for (const { name, parser, headers, body, sameAs } of parsed) {
    test(`${name} that a parser in front has read arrives again (${host})`, async (t) => {
      const { upstream, front } = await proxied(t, {}, { host, before: [parser(from)] })
      const client = front.request('', { method: 'POST', headers, body })
      const exchange = await upstream.next()

      const received = await exchange.body()
      exchange.stream().end('data: done\n\n')

      assert.equal(await client.whole(), 'data: done\n\n')
      if (sameAs) sameAs(received)
      else assert.deepEqual(received, Buffer.from(body as string))
      assertFraming(exchange, received)
      assert.equal(exchange.headers['content-type'], headers['content-type'])
      assert.equal(exchange.headers['content-encoding'], undefined)
    })
  }

  for (const method of ['PUT', 'PATCH', 'DELETE']) {
    test(`${method} with a body that a parser has read arrives again (${host})`, async (t) => {
      const { upstream, front } = await proxied(t, {}, { host, before: [from.json()] })
      const client = front.request('', { method, headers: { 'content-type': 'application/json' }, body: '{"a":1}' })
      const exchange = await upstream.next()

      const received = await exchange.body()
      exchange.answer(200, {}, 'ok')

      assert.equal(await client.whole(), 'ok')
      assert.equal(exchange.method, method)
      assert.equal(received.toString(), '{"a":1}')
      assertFraming(exchange, received)
    })
  }

  test(`a GET and an empty POST behind a parser stay without a body (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, {}, { host, before: [from.json()] })

    for (const method of ['GET', 'POST']) {
      const client = front.request('', { method })
      const exchange = await upstream.next()
      const received = await exchange.body()
      exchange.answer(200, {}, 'ok')

      assert.equal(await client.whole(), 'ok')
      assert.equal(received.length, 0)
    }
  })

  test(`a body that the parser in front did not want streams through (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, {}, { host, before: [from.json(), from.urlencoded()] })
    const client = front.request('', { method: 'POST', headers: { 'content-type': 'text/csv' }, body: 'a,b\n1,2\n' })
    const exchange = await upstream.next()

    const received = await exchange.body()
    exchange.answer(200, {}, 'ok')

    assert.equal(await client.whole(), 'ok')
    assert.equal(received.toString(), 'a,b\n1,2\n')
  })
}

for (const host of hostsByProtocol) {
  test(`an upstream that answers before it has read the body is heard (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, {}, { host })
    const client = front.request('', { method: 'POST', headers: { 'content-length': '10' }, sendsBodyLater: true })
    client.send('first')
    const exchange = await upstream.next()

    exchange.answer(413, { connection: 'close' }, 'too large')
    await client.head()

    assert.equal(client.status, 413)
    assert.equal(await client.whole(), 'too large')
  })
}

test('a body whose length the client does not say is passed on in chunks', async (t) => {
  const { upstream, front } = await proxied(t)
  const headers = { 'transfer-encoding': 'chunked' }
  const client = front.request('', { method: 'POST', headers, body: '5\r\nhello\r\n0\r\n\r\n' })
  const exchange = await upstream.next()

  const received = await exchange.body()
  exchange.answer(200, {}, 'ok')

  assert.equal(await client.whole(), 'ok')
  assert.equal(received.toString(), 'hello')
})

function assertFraming(exchange: Exchange, received: Buffer): void {
  const length = exchange.headers['content-length']
  if (length !== undefined) assert.equal(Number(length), received.length)
  assert.ok(length === undefined || exchange.headers['transfer-encoding'] === undefined)
}

function hashOf(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}

test('a parsed body that fixRequestBody writes is sent once, and once more with another attempt', async (t) => {
  const { upstream, front } = await proxied(
    t,
    { on: { proxyReq: fixRequestBody }, retry: { attempts: 1, backoffMs: 0, methods: ['POST'] } },
    { before: [express.json()] },
  )
  const body = JSON.stringify(question)
  const client = front.request('', { method: 'POST', headers: { 'content-type': 'application/json' }, body })
  const first = await upstream.next()
  const sentFirst = String(await first.body())

  first.answer(503)
  const second = await upstream.next()
  const sentSecond = String(await second.body())
  second.answer(200, {}, 'done')

  assert.equal(await client.whole(), 'done')
  assert.deepEqual([sentFirst, sentSecond], [body, body])
  assert.equal(upstream.exchanges.length, 2)
})

test('a handler that ends the request itself has said what the body is', async (t) => {
  const { upstream, front } = await proxied(
    t,
    {
      on: {
        proxyReq: (proxyReq) => {
          proxyReq.setHeader('content-length', 3)
          proxyReq.end('own')
        },
      },
    },
    { before: [express.json()] },
  )
  front.request('', { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"a":1}' })
  const exchange = await upstream.next()

  const sent = String(await exchange.body())
  exchange.answer(200)

  assert.equal(sent, 'own')
})

test('a handler that sends the head at once leaves the body to the proxy', async (t) => {
  const { upstream, front } = await proxied(
    t,
    { on: { proxyReq: (proxyReq) => proxyReq.flushHeaders() } },
    { before: [express.json()] },
  )
  front.request('', { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"a":1}' })
  const exchange = await upstream.next()

  const sent = String(await exchange.body())
  exchange.answer(200)

  assert.equal(sent, '{"a":1}')
})
