// What a second question gets while the first is being answered: a refusal, the same answer, or one of its own.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { hostsByProtocol, type Middleware } from '../support/front.ts'
import { answering, chats, leave, post, wordsOf } from '../support/outliving.ts'
import { until } from '../support/waiting.ts'

for (const host of hostsByProtocol) {
  test(`of two POSTs at the same moment one opens, and the other is refused (${host})`, async (t) => {
    const room = await chats(t, {}, {}, { host })

    const both = [room.front.request('', post()), room.front.request('', post())]
    const exchange = await room.upstream.next()
    await until(() => both.some(({ hasHead }) => hasHead), 'one of them to be refused')
    exchange.stream().end('data: one\n\n')

    const statuses = (await Promise.all(both.map((client) => client.head()))).map(({ status }) => status)
    assert.deepEqual(statuses.sort(), [200, 409])
    const refused = both.find(({ status }) => status === 409)
    assert.match((await refused?.whole()) ?? '', /"ERR_SSE_PROXY_BUSY"/)
    assert.equal(room.upstream.exchanges.length, 1)
  })

  test(`with busy: 'join' the other gets the same answer, and its own question is not asked (${host})`, async (t) => {
    const room = await chats(t, { busy: 'join' }, {}, { host })

    const both = [room.front.request('', post()), room.front.request('', post())]
    const exchange = await room.upstream.next()
    await room.arrivals(2)
    const stream = exchange.stream()
    stream.send({ data: 'one' })
    await Promise.all(both.map((client) => client.waitFor('data: one\n')))
    const third = await room.front.open('', post())
    await third.waitFor('data: one\n')
    stream.end()

    for (const client of [...both, third]) assert.deepEqual(wordsOf(client), ['one'], await client.ended())
    assert.equal(room.upstream.exchanges.length, 1)
  })

  test(`with busy: 'replace' the first ends cleanly for all its readers before the second begins (${host})`, async (t) => {
    const room = await chats(t, { busy: 'replace' }, {}, { host })
    const { asker, stream, exchange } = await answering(room)
    const reader = await room.front.open()
    await reader.waitFor('data: one\n')
    stream.write('data: half of ')

    const second = room.front.request('', post())
    const other = await room.upstream.next()

    assert.deepEqual([await asker.ended(), await reader.ended()], ['clean', 'clean'])
    assert.deepEqual([wordsOf(asker), wordsOf(reader)], [['one'], ['one']])
    await exchange.leftByPeer()
    other.stream().send({ data: 'another' })
    await second.waitFor('another')
    const late = await room.front.open()
    await late.waitFor('another')
    assert.deepEqual(wordsOf(late), ['another'])
  })
}

test("with busy: 'replace' a question that has no answer yet is refused, and its readers wait for the other's", async (t) => {
  const room = await chats(t, { busy: 'replace' })
  const asker = room.front.request('', post())
  const exchange = await room.upstream.next()
  const reader = room.front.request()
  await room.arrivals(2)

  const second = room.front.request('', post())
  const other = await room.upstream.next()
  other.stream().send({ data: 'one' })

  assert.equal((await asker.head()).status, 409)
  await exchange.leftByPeer()
  await Promise.all([reader, second].map((client) => client.waitFor('data: one\n')))
})

test("with busy: 'replace' twenty questions at once leave one stream, and one upstream request", async (t) => {
  const room = await chats(t, { busy: 'replace' }, {}, { upstream: { handler: (exchange) => void exchange.stream() } })

  const clients = Array.from({ length: 20 }, () => room.front.request('', post()))
  await room.arrivals(20)
  await until(() => clients.filter(({ ending }) => ending === undefined).length === 1, 'all but one to be over')

  await until(() => room.upstream.open === 1, 'the others to be let go')
  await until(() => room.proxy.stats().shared.streams === 1, 'the last to be answered')
  assert.ok(clients.every(({ ending }) => ending !== 'broken'))
})

test("with busy: 'replace' readers of a question without an answer have nothing to read where the other cannot be asked", async (t) => {
  const consume: Middleware = (req, _res, next) => {
    if (req.headers['x-consumed'] === undefined) return next()
    req.resume().once('end', () => setImmediate(next))
  }
  const room = await chats(t, { busy: 'replace' }, {}, { before: [consume] })
  room.front.request('', post())
  const exchange = await room.upstream.next()
  const reader = room.front.request()
  await room.arrivals(2)

  const second = await room.front.open('', post({ 'x-consumed': '1' }))

  assert.deepEqual([second.status, (await reader.head()).status], [500, 204])
  await exchange.leftByPeer()
  assert.equal(room.upstream.exchanges.length, 1)
})

test("with busy: 'replace' a GET that may open waits for the other answer, too", async (t) => {
  const room = await chats(t, { busy: 'replace', open: ['GET', 'POST'] })
  room.front.request('', post())
  await room.upstream.next()
  const reader = room.front.request()
  await room.arrivals(2)

  room.front.request('', post())
  const other = await room.upstream.next()
  other.stream().send({ data: 'one' })

  await reader.waitFor('data: one\n')
})

test("with busy: 'replace' a feed ends for those who stand elsewhere in it, too", async (t) => {
  const room = await chats(t, { busy: 'replace', open: ['GET', 'POST'], replay: { initial: 'all' } })
  const readers = [room.front.request(), room.front.request('', { headers: { 'last-event-id': '7' } })]
  const exchanges = [await room.upstream.next(), await room.upstream.next()]
  for (const exchange of exchanges) exchange.stream().send({ data: 'one' })
  await Promise.all(readers.map((reader) => reader.waitFor('data: one\n')))

  room.front.request('', post())
  await room.upstream.next()

  assert.deepEqual(await Promise.all(readers.map((reader) => reader.ended())), ['clean', 'clean'])
})

test('a refusal does not disturb what it was refused for', async (t) => {
  const room = await chats(t)
  const { asker, stream } = await answering(room)

  for (let count = 0; count < 3; count += 1) assert.equal((await room.front.open('', post())).status, 409)
  stream.end('data: two\n\n')

  await asker.whole()
  assert.deepEqual(wordsOf(asker), ['one', 'two'])
  assert.equal(room.proxy.stats().errors.ERR_SSE_PROXY_BUSY, 3)
})

test('a question is busy while nobody reads its answer, and not any more when it is over', async (t) => {
  const room = await chats(t)
  const { asker, stream } = await answering(room)
  await leave(asker, room)
  assert.equal((await room.front.open('', post())).status, 409)

  stream.end()
  await until(() => room.proxy.stats().shared.streams === 0, 'the answer to be over')

  const next = await answering(room)
  next.stream.end()
  assert.deepEqual(wordsOf(next.asker), ['one'])
})

for (const status of [429, 500]) {
  test(`an answer that is no stream (${status}) is the asker's, its readers have nothing to follow, and the key is free`, async (t) => {
    const room = await chats(t)
    const asker = room.front.request('', post())
    const exchange = await room.upstream.next()
    const reader = room.front.request()
    await room.arrivals(2)

    exchange.answer(status, { 'content-type': 'application/json', 'content-length': '9' }, '{"no": 1}')

    assert.equal(await asker.whole(), '{"no": 1}')
    assert.deepEqual([asker.status, (await reader.head()).status], [status, 204])
    await answering(room)
  })
}

test('a question that reaches no upstream is a 502 for its asker, and 204 for its readers', async (t) => {
  const room = await chats(t)
  const asker = room.front.request('', post())
  const exchange = await room.upstream.next()
  const reader = room.front.request()
  await room.arrivals(2)

  exchange.res.socket?.destroy()

  assert.deepEqual([(await asker.head()).status, (await reader.head()).status], [502, 204])
})
