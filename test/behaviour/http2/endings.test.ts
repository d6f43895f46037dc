// `http2`: an answer is complete when its stream has ended, and in no other way; so is a request.
import assert from 'node:assert/strict'
import { constants } from 'node:http2'
import { test } from 'node:test'
import { hostsByProtocol } from '../../support/front.ts'
import { dataFrame, goawayFrame } from '../../support/http2-frames.ts'
import { goAway, overHttp2, reset } from '../../support/over-http2.ts'
import { until } from '../../support/waiting.ts'

const codes = {
  NO_ERROR: 0,
  PROTOCOL_ERROR: 1,
  INTERNAL_ERROR: 2,
  REFUSED_STREAM: 7,
  CANCEL: 8,
  ENHANCE_YOUR_CALM: 11,
  HTTP_1_1_REQUIRED: 13,
  'an unknown code': 99,
}

for (const host of hostsByProtocol) {
  for (const [name, code] of Object.entries(codes)) {
    test(`RST_STREAM with ${name} in the middle breaks the transfer (${host})`, async (t) => {
      const { upstream, front, proxy } = await overHttp2(t, {}, { host })
      const client = front.request()
      const exchange = await upstream.next()
      exchange.stream().send({ data: 'one' })
      await client.waitFor('data: one\n\n')

      reset(exchange, code)

      assert.equal(await client.ended(), 'broken')
      assert.equal(client.text, 'data: one\n\n')
      assert.equal(proxy.stats().closed['upstream-lost'], 1)
    })
  }
}

for (const code of [0, 8]) {
  test(`RST_STREAM with code ${code} in the middle of a Content-Length breaks the transfer`, async (t) => {
    const { upstream, front } = await overHttp2(t)
    const client = front.request()
    const exchange = await upstream.next()
    exchange.res.writeHead(200, { 'content-length': '10' })
    exchange.res.write('01234')
    await client.waitFor('01234')

    reset(exchange, code)

    assert.equal(await client.ended(), 'broken')
  })
}

test('all of a Content-Length is not complete before the stream has ended', async (t) => {
  const { upstream, front } = await overHttp2(t)
  const client = front.request()
  const exchange = await upstream.next()
  exchange.res.writeHead(200, { 'content-length': '10' })
  exchange.res.write('01234')
  await client.waitFor('01234')

  exchange.res.write('56789')
  await new Promise((resolve) => exchange.http2Stream.session?.ping(resolve))
  reset(exchange, 8)

  assert.equal(await client.ended(), 'broken')
})

test('RST_STREAM with NO_ERROR before the head is a 502', async (t) => {
  const { upstream, front } = await overHttp2(t)
  const client = front.request('', { method: 'POST', body: 'x' })
  const exchange = await upstream.next()

  reset(exchange, 0)

  assert.equal((await client.head()).status, 502)
  assert.equal(upstream.exchanges.length, 1)
})

test('RST_STREAM with NO_ERROR behind the end is no loss', async (t) => {
  const { upstream, front } = await overHttp2(t)
  const client = front.request('', { method: 'POST', headers: { 'content-length': '9' }, sendsBodyLater: true })
  client.send('x')
  const exchange = await upstream.next()
  exchange.http2Stream.respond({ ':status': 200, 'content-type': 'text/event-stream' })
  exchange.http2Stream.write('data: x\n\n')
  await client.waitFor('data: x\n\n')

  exchange.socket?.write(dataFrame(exchange.http2Stream.id ?? 0, 'data: y\n\n', true))
  reset(exchange, 0)

  await client.waitFor('data: y\n\n')
  client.send('x'.repeat(8))
  assert.equal(await client.ended(), 'clean')
})

test('a connection that is torn breaks all its streams, and the next request opens another', async (t) => {
  const { upstream, front } = await overHttp2(t)
  const clients = [front.request('?1'), front.request('?2'), front.request('?3')]
  const streams = [await upstream.next(), await upstream.next(), await upstream.next()].map((each) => each.stream())
  for (const stream of streams) stream.send({ data: 'x' })
  await Promise.all(clients.map((client) => client.waitFor('x')))

  streams[0]?.reset()
  const endings = await Promise.all(clients.map((client) => client.ended()))
  const next = front.request()
  const exchange = await upstream.next()
  exchange.stream().end('data: y\n\n')

  assert.deepEqual(endings, ['broken', 'broken', 'broken'])
  assert.equal(await next.whole(), 'data: y\n\n')
  assert.equal(upstream.accepted, 2)
})

for (const ending of ['reset', 'cut'] as const) {
  test(`a GET whose connection is ${ending} before the head is sent once more, a POST is a 502`, async (t) => {
    const { upstream, front } = await overHttp2(t)
    const before = front.request()
    ;(await upstream.next()).answer(204)
    await before.head()
    const get = front.request('?get')
    const first = await upstream.next()
    const post = front.request('?post', { method: 'POST', body: 'x' })
    await upstream.next()

    first.socket?.[ending === 'reset' ? 'resetAndDestroy' : 'destroy']()
    const again = await upstream.next()
    again.answer(204)

    assert.equal((await post.head()).status, 502)
    assert.equal((await get.head()).status, 204)
    assert.equal(again.url, '/stream?get')
    assert.equal(upstream.exchanges.length, 4)
  })
}

test('GOAWAY with an error breaks the streams of its connection', async (t) => {
  const { upstream, front } = await overHttp2(t)
  const client = front.request()
  const exchange = await upstream.next()
  exchange.stream().send({ data: 'x' })
  await client.waitFor('x')

  goAway(exchange, 1, constants.NGHTTP2_INTERNAL_ERROR)

  assert.equal(await client.ended(), 'broken')
})

test('an answer that has ended, and is lost with its connection before all of it was read, is broken', async (t) => {
  const { upstream, front } = await overHttp2(t, { limits: { bufferBytes: 16_000_000 } })
  const client = front.request()
  client.pause()
  const exchange = await upstream.next()
  exchange.res.end('x'.repeat(15_000_000))
  await until(() => exchange.http2Stream.closed, 'the answer to be sent')
  await new Promise((resolve) => exchange.socket?.write(goawayFrame(1, constants.NGHTTP2_INTERNAL_ERROR), resolve))
  await until(() => exchange.socket?.destroyed !== false, 'the connection to end')

  client.resume()

  assert.equal(await client.ended(), 'broken')
})

test('a POST whose connection is torn after GOAWAY is not sent again', async (t) => {
  const { upstream, front } = await overHttp2(t)
  const client = front.request('', { method: 'POST', body: 'x' })
  const exchange = await upstream.next()
  goAway(exchange, exchange.http2Stream.id ?? 0)
  await new Promise((resolve) => exchange.http2Stream.session?.ping(resolve))

  exchange.socket?.destroy()

  assert.equal((await client.head()).status, 502)
  assert.equal(upstream.exchanges.length, 1)
})

test('bytes that are no HTTP/2 break the streams of their connection, and nothing else', async (t) => {
  // Node 20 does not end the connection then; the PING finds that out.
  const { upstream, front } = await overHttp2(t, { http2: { mode: 'prior-knowledge', pingMs: 40 } })
  const client = front.request()
  const exchange = await upstream.next()
  exchange.stream().send({ data: 'x' })
  await client.waitFor('x')

  exchange.socket?.write(Buffer.alloc(100, 255))
  const ending = await client.ended()
  const next = front.request()
  ;(await upstream.next()).answer(204)

  assert.equal(ending, 'broken')
  assert.equal((await next.head()).status, 204)
})

for (const framing of ['with a length', 'in chunks'] as const) {
  test(`an upload ${framing} that its client gives up does not look complete`, async (t) => {
    const { upstream, front } = await overHttp2(t)
    const headers = framing === 'with a length' ? { 'content-length': '100' } : { 'transfer-encoding': 'chunked' }
    const client = front.request('', { method: 'POST', headers, sendsBodyLater: true })
    client.send(framing === 'with a length' ? 'the beginning' : 'd\r\nthe beginning\r\n')
    const exchange = await upstream.next()
    let hasEnded = false
    exchange.http2Stream.on('end', () => {
      hasEnded = !exchange.http2Stream.aborted
    })
    await new Promise((resolve) => exchange.http2Stream.once('data', resolve))

    client.close()
    await exchange.leftByPeer()

    assert.equal(exchange.http2Stream.rstCode, constants.NGHTTP2_CANCEL)
    assert.equal(exchange.http2Stream.aborted, true)
    assert.equal(hasEnded, false)
  })
}
