// The middlewares that most apps have in front, as they come from npm.
import assert from 'node:assert/strict'
import type { ServerResponse } from 'node:http'
import { connect } from 'node:net'
import { test } from 'node:test'
import compression from 'compression'
import cors from 'cors'
import helmet from 'helmet'
import { headerOf } from '../support/client.ts'
import { hosts, hostsByProtocol, type Middleware } from '../support/front.ts'
import { proxied } from '../support/proxied.ts'
import { until } from '../support/waiting.ts'

const megabyte = 1024 * 1024
const page = 'https://app.example'

/** Lets in who has the token, after a look-up that takes a turn of the event loop. */
const requireUser: Middleware = (req, res, next) => {
  setImmediate(() => {
    if (req.headers.authorization === 'Bearer good') return next()
    res.statusCode = 401
    res.end('who are you?')
  })
}

for (const host of hostsByProtocol) {
  test(`a middleware whose \`write\` returns nothing does not stop the events, nor repeat them (${host})`, async (t) => {
    const loose: Middleware = (_req, res, next) => {
      const { write } = res
      res.write = (...given: unknown[]) => void write.apply(res, given)
      next()
    }
    const { upstream, front } = await proxied(t, {}, { host, before: [loose] })
    const client = front.request()
    const stream = (await upstream.next()).stream()

    for (const data of ['one', 'two', 'three']) {
      stream.send({ data })
      await client.waitFor(`data: ${data}\n\n`)
    }
    stream.end()

    assert.equal(await client.ended(), 'clean')
    assert.equal(client.bytes.toString(), 'data: one\n\ndata: two\n\ndata: three\n\n')
  })
}

for (const host of hosts) {
  test(`compression() in front neither holds nor encodes the events (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, {}, { host, before: [compression({ threshold: 0 })] })
    const client = front.request('', { headers: { 'accept-encoding': 'gzip, deflate, br' } })
    const exchange = await upstream.next()
    const stream = exchange.stream()

    await client.head()
    for (const data of ['one', 'two', 'three']) {
      stream.send({ data })
      await client.waitFor(`data: ${data}\n\n`)
    }

    assert.equal(client.headers['content-encoding'], undefined)
    assert.match(headerOf(client, 'cache-control') ?? '', /no-transform/)
  })

  for (const type of [
    'multipart/mixed; boundary="-"',
    ...['application/grpc-web+proto', 'application/grpc-web-text', 'application/grpc-web+json'],
    ...['application/connect+json', 'application/stream+json;charset=UTF-8'],
  ]) {
    test(`compression() in front does not hold an ordinary response of ${type} (${host})`, async (t) => {
      const { upstream, front } = await proxied(t, {}, { host, before: [compression({ threshold: 0 })] })
      const client = front.request('', {
        method: 'POST',
        headers: { 'accept-encoding': 'gzip, deflate, br' },
        body: 'x',
      })
      const exchange = await upstream.next()

      exchange.res.writeHead(200, { 'content-type': type })
      exchange.res.write('one')
      await client.waitFor('one')
      exchange.res.write('two')
      await client.waitFor('onetwo')
      exchange.res.end()

      assert.equal(await client.whole(), 'onetwo')
      assert.equal(headerOf(client, 'content-type'), type)
    })
  }

  test(`the headers of helmet() win over those of the upstream (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, {}, { host, before: [helmet()] })
    const client = front.request()
    const exchange = await upstream.next()

    exchange.stream({ 'content-security-policy': "default-src 'none'", 'x-frame-options': 'DENY', 'x-own': 'kept' })
    await client.head()

    assert.match(headerOf(client, 'content-security-policy') ?? '', /default-src 'self'/)
    assert.equal(client.headers['x-frame-options'], 'SAMEORIGIN')
    assert.equal(client.headers['x-content-type-options'], 'nosniff')
    assert.equal(client.headers['x-own'], 'kept')
  })

  test(`the headers of cors() win over those of the upstream, and Vary is merged (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, {}, { host, before: [cors({ origin: page, credentials: true })] })
    const client = front.request('', { headers: { origin: page } })
    const exchange = await upstream.next()

    exchange.stream({ 'access-control-allow-origin': '*', vary: 'Accept' })
    await client.head()

    assert.equal(client.headers['access-control-allow-origin'], page)
    assert.equal(client.headers['access-control-allow-credentials'], 'true')
    const vary = (headerOf(client, 'vary') ?? '').split(/,\s*/).map((name) => name.toLowerCase())
    assert.ok(vary.includes('origin') && vary.includes('accept'), `Vary: ${vary}`)
  })

  test(`an answer of the proxy itself carries the headers of cors(), so that a page can read it (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, {}, { host, before: [cors({ origin: page })] })
    await upstream.close()

    const client = await front.open('', { headers: { origin: page } })

    assert.equal(client.status, 502)
    assert.equal(client.headers['access-control-allow-origin'], page)
  })

  test(`who is not let in does not reach the upstream (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, {}, { host, before: [requireUser] })

    const refused = await front.open()
    const admitted = front.request('', { headers: { authorization: 'Bearer good' } })
    const exchange = await upstream.next()
    exchange.stream().send({ data: 'welcome' })
    await admitted.waitFor('welcome')

    assert.equal(refused.status, 401)
    assert.equal(upstream.exchanges.length, 1)
  })

  test(`all of them together let every event through at once (${host})`, async (t) => {
    const before = [helmet(), cors({ origin: page }), compression({ threshold: 0 }), requireUser]
    const { upstream, front } = await proxied(t, {}, { host, before })
    const headers = { origin: page, authorization: 'Bearer good', 'accept-encoding': 'gzip' }
    const client = front.request('', { headers })
    const exchange = await upstream.next()
    const stream = exchange.stream()

    for (let count = 0; count < 20; count += 1) {
      stream.send({ data: `${count}` })
      await client.waitFor(`data: ${count}\n\n`)
    }
    stream.end()

    assert.equal(await client.ended(), 'clean')
    assert.equal(client.headers['access-control-allow-origin'], page)
    assert.equal(client.headers['x-content-type-options'], 'nosniff')
  })
}

test('an ordinary response is still compressed by compression()', async (t) => {
  const { upstream, front } = await proxied(t, {}, { before: [compression({ threshold: 0 })] })
  const client = front.request('', { headers: { 'accept-encoding': 'gzip' } })
  const exchange = await upstream.next()

  exchange.answer(200, { 'content-type': 'application/json' }, JSON.stringify({ text: 'x'.repeat(5_000) }))
  await client.ended()

  assert.equal(client.headers['content-encoding'], 'gzip')
})

for (const version of ['1.0', '1.1']) {
  test(`what the app ends in the middle of a shared stream stays ended (HTTP/${version})`, async (t) => {
    const responses: ServerResponse[] = []
    const remember: Middleware = (_req, res, next) => {
      responses.push(res)
      next()
    }
    const options = { share: { key: () => 'all', lingerMs: 0 }, limits: { bufferBytes: 256 * megabyte } }
    const { upstream, front } = await proxied(t, options, { before: [remember] })
    const quick = front.request()
    const stream = (await upstream.next()).stream()
    stream.send({ data: 'first' })
    await quick.waitFor('first')
    const slow = connect(front.port, '127.0.0.1')
    t.after(() => slow.destroy())
    let received = ''
    slow.setEncoding('latin1').on('data', (text) => {
      received += text
    })
    slow.write(`GET /events HTTP/${version}\r\nHost: x\r\nConnection: keep-alive\r\n\r\n`)
    await until(() => received.includes('text/event-stream'), 'the stream of the slow client')
    slow.pause()
    const [, res] = responses
    const fill = async () => {
      const length = quick.length + megabyte
      stream.send({ data: 'x'.repeat(megabyte) })
      await quick.waitForLength(length)
    }
    while (res && res.writableLength < 2 * megabyte) await fill()

    res?.end()
    await fill()
    slow.resume()
    slow.write('GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
    await until(() => slow.closed, 'the end of the connection')

    if (version === '1.1') assert.match(received, /\r\n0\r\n\r\nHTTP\/1\.1 404 /)
    stream.send({ data: 'last' })
    await quick.waitFor('last')
  })
}
