// A shared stream by methods: one opens, one joins, one stops, and the upstream hears of the first alone.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { headerOf } from '../support/client.ts'
import { hostsByProtocol } from '../support/front.ts'
import { watchLeftovers } from '../support/leftovers.ts'
import { answering, chats, keyOf, leave, post, stop, wordsOf } from '../support/outliving.ts'
import { proxied } from '../support/proxied.ts'

for (const host of hostsByProtocol) {
  test(`a POST opens, and a GET of the same key gets all of it from the start (${host})`, async (t) => {
    const room = await chats(t, {}, {}, { host })
    const { asker, stream, exchange } = await answering(room)

    const reader = await room.front.open()
    await reader.waitFor('data: one\n')
    stream.send({ data: 'two' })
    stream.end()

    assert.equal(await reader.ended(), 'clean')
    assert.equal(await asker.ended(), 'clean')
    assert.deepEqual(wordsOf(reader), ['one', 'two'])
    assert.deepEqual(reader.bytes, asker.bytes)
    assert.equal(exchange.method, 'POST')
    assert.equal(room.upstream.exchanges.length, 1)
  })

  test(`a GET that may only join gets 204 when nothing runs, and the upstream hears nothing (${host})`, async (t) => {
    const leftovers = watchLeftovers(t)
    const room = await chats(t, {}, {}, { host })

    const reader = await room.front.open('/quiet')

    assert.deepEqual([reader.status, headerOf(reader, 'cache-control')], [204, 'no-store'])
    assert.equal(await reader.whole(), '')
    assert.equal(room.upstream.exchanges.length, 0)
    await Promise.all([room.front.close(), room.upstream.close()])
    await leftovers.assertNone()
  })

  test(`a DELETE ends the stream for all its readers, between events and cleanly (${host})`, async (t) => {
    const room = await chats(t, {}, {}, { host })
    const { asker, stream, exchange } = await answering(room)
    const reader = await room.front.open()
    await reader.waitFor('data: one\n')
    stream.write('data: half of ')

    const stopped = await room.front.open('', stop)

    assert.equal(stopped.status, 204)
    for (const client of [asker, reader]) {
      assert.equal(await client.ended(), 'clean')
      assert.deepEqual(wordsOf(client), ['one'])
      assert.doesNotMatch(client.text, /half/)
    }
    await exchange.leftByPeer()
    assert.equal((await room.front.open()).status, 204)
    assert.equal(room.upstream.exchanges.length, 1)
  })
}

test('a DELETE where nothing runs is 404, and the upstream hears nothing', async (t) => {
  const room = await chats(t)

  const stopped = await room.front.open('', stop)

  assert.equal(stopped.status, 404)
  assert.match(await stopped.whole(), /"ERR_SSE_PROXY_NO_STREAM"/)
  assert.equal(room.upstream.exchanges.length, 0)
})

test('a GET that asks under a condition, for a part or for JSON is no way around', async (t) => {
  const room = await chats(t)

  for (const headers of [{ 'if-none-match': '"a"' }, { range: 'bytes=0-' }, { accept: 'application/json' }]) {
    assert.equal((await room.front.open('', { headers })).status, 204)
  }

  assert.equal(room.upstream.exchanges.length, 0)
})

test('a method in small letters, which HTTP/2 lets through, is no way around', async (t) => {
  const room = await chats(t, {}, {}, { host: 'connect over http2' })

  assert.equal((await room.front.open('', { method: 'get' })).status, 204)
  assert.equal((await room.front.open('', { method: 'delete' })).status, 404)

  assert.equal(room.upstream.exchanges.length, 0)
})

for (const [method, body] of [['PUT', 'x'], ['HEAD'], ['OPTIONS']] as const) {
  test(`${method}, which share does not name, is the upstream's own affair while a stream runs`, async (t) => {
    const room = await chats(t)
    await answering(room)

    const other = room.front.request('', { method, ...(body && { body }) })
    const exchange = await room.upstream.next()
    exchange.answer(200, { 'x-own': 'yes' })

    assert.equal(headerOf(await other.head(), 'x-own'), 'yes')
    assert.equal(exchange.method, method)
  })
}

test('a request without a key is not shared where it may open, and has nothing to join or stop otherwise', async (t) => {
  const room = await chats(t, { key: () => undefined })

  assert.equal((await room.front.open()).status, 204)
  assert.equal((await room.front.open('', stop)).status, 404)
  const one = room.front.request('', post())
  ;(await room.upstream.next()).stream()
  const other = room.front.request('', post())
  ;(await room.upstream.next()).stream()

  assert.deepEqual([(await one.head()).status, (await other.head()).status], [200, 200])
})

test('GET and POST may both open: a GET follows what a POST has opened', async (t) => {
  const room = await chats(t, { open: ['GET', 'POST'] })
  await answering(room)

  const reader = await room.front.open()
  await reader.waitFor('data: one\n')

  assert.equal(room.upstream.exchanges.length, 1)
  const other = room.front.request('/other')
  const exchange = await room.upstream.next()
  exchange.stream().send({ data: 'of a GET' })
  await other.waitFor('of a GET')
  assert.equal(exchange.method, 'GET')
})

test('a DELETE stops a feed that GETs have opened by the default key, those at other ids too', async (t) => {
  const { front, upstream } = await proxied(t, { share: { stop: ['DELETE'], lingerMs: 0 }, keepalive: false })
  const one = front.request()
  const first = await upstream.next()
  const other = front.request('', { headers: { 'last-event-id': '7' } })
  const second = await upstream.next()
  for (const exchange of [first, second]) exchange.stream().send({ id: '8', data: 'x' })
  await Promise.all([one, other].map((client) => client.waitFor('data: x\n')))

  const stopped = await front.open('', stop)

  assert.equal(stopped.status, 204)
  assert.deepEqual([await one.ended(), await other.ended()], ['clean', 'clean'])
  await Promise.all([first, second].map((exchange) => exchange.leftByPeer()))
})

test('proxy.stop ends the stream of a key, once, whether it is read or not', async (t) => {
  const room = await chats(t)
  const read = await answering(room, '/read')
  const unread = await answering(room, '/unread')
  await leave(unread.asker, room)

  assert.equal(await room.proxy.stop(keyOf('/read')), true)
  assert.equal(await room.proxy.stop(keyOf('/unread')), true)

  assert.equal(await read.asker.ended(), 'clean')
  await unread.exchange.leftByPeer()
  assert.equal(await room.proxy.stop(keyOf('/read')), false)
  assert.equal(await room.proxy.stop(keyOf('/never')), false)
  assert.equal(room.proxy.stats().closed.closed, 1)
})

test('a reader whose stream is stopped while it comes in has nothing to read, and the upstream hears nothing of it', async (t) => {
  let stopIt = (): unknown => undefined
  const clientKey = () => {
    stopIt()
    return 'ada'
  }
  const room = await chats(t, {}, { limits: { streamsPerClient: 5, clientKey } })
  const { asker } = await answering(room)
  stopIt = () => room.proxy.stop(keyOf(''))

  const reader = await room.front.open()

  assert.equal(reader.status, 204)
  assert.equal(await asker.ended(), 'clean')
  assert.equal(room.upstream.exchanges.length, 1)
})

test('a stream that is stopped before the upstream has answered leaves its opener and its readers with nothing', async (t) => {
  const room = await chats(t)
  const asker = room.front.request('', post())
  const exchange = await room.upstream.next()
  const reader = room.front.request()
  await room.arrivals(2)

  const stopped = await room.front.open('', stop)

  assert.equal(stopped.status, 204)
  assert.deepEqual([(await asker.head()).status, (await reader.head()).status], [204, 204])
  await exchange.leftByPeer()
})

test('a stream that is stopped when it was opened early, before the upstream has answered, ends cleanly', async (t) => {
  const room = await chats(t, {}, { keepalive: { openAfterMs: 10 } })
  const asker = await room.front.open('', post())
  const exchange = await room.upstream.next()

  assert.equal(await room.proxy.stop(keyOf('')), true)

  assert.equal(await asker.ended(), 'clean')
  await exchange.leftByPeer()
})

test('stop needs the key function, and what that returns', async (t) => {
  const unshared = await proxied(t)
  const room = await chats(t)

  await assert.rejects(unshared.proxy.stop('x'), /stop: cannot be used without the option share.key/)
  await assert.rejects(room.proxy.stop(5 as never), /stop: expected what share.key returns, a string, got 5 \(number\)/)
})

test('Set-Cookie is for the one who opened', async (t) => {
  const room = await chats(t)
  const asker = room.front.request('', post())
  const exchange = await room.upstream.next()
  exchange.stream({ 'set-cookie': 'session=of-ada', 'x-request-id': '1' }).send({ data: 'one' })
  await asker.waitFor('data: one\n')

  const reader = await room.front.open()

  assert.equal(headerOf(asker, 'set-cookie'), 'session=of-ada')
  assert.deepEqual([headerOf(reader, 'set-cookie'), headerOf(reader, 'x-request-id')], [undefined, undefined])
})
