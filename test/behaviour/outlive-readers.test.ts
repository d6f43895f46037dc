// A stream goes on without its readers: to its end, past every hook, and who comes back gets all of it.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RequestOptions } from '../support/client.ts'
import { hostsByProtocol, type Middleware } from '../support/front.ts'
import { answering, chats, leave, post, wordsOf } from '../support/outliving.ts'
import { gate, until } from '../support/waiting.ts'

for (const host of hostsByProtocol) {
  test(`an answer goes on when its asker leaves, and the one who comes back gets all of it (${host})`, async (t) => {
    const room = await chats(t, {}, {}, { host })
    const { asker, stream, exchange } = await answering(room)
    await leave(asker, room)
    stream.send({ data: 'two' })
    await until(() => room.proxy.stats().eventsIn === 2, 'the word that nobody hears')

    const reader = await room.front.open()
    await reader.waitFor('data: two\n')
    stream.send({ data: 'three' })
    stream.end()

    assert.equal(await reader.ended(), 'clean')
    assert.deepEqual(wordsOf(reader), ['one', 'two', 'three'])
    assert.equal(exchange.isLeft, false)
    assert.equal(room.upstream.exchanges.length, 1)
  })

  test(`an asker that leaves before the upstream has answered loses nothing, and who comes meanwhile waits (${host})`, async (t) => {
    const room = await chats(t, {}, {}, { host })
    const asker = room.front.request('', post())
    const exchange = await room.upstream.next()
    await exchange.body()
    asker.close()
    await room.departures(1)

    const reader = room.front.request()
    await room.arrivals(2)
    exchange.stream().end('data: one\n\n')

    assert.match(await reader.whole(), /data: one\n/)
    assert.equal(room.upstream.exchanges.length, 1)
  })

  test(`an asker that leaves in the middle of its question asks nothing (${host})`, async (t) => {
    const room = await chats(t, {}, {}, { host })
    const half: RequestOptions = { method: 'POST', headers: { 'content-length': '100' }, sendsBodyLater: true }
    const asker = room.front.request('', half)
    asker.send('half a question')
    const exchange = await room.upstream.next()
    const reader = room.front.request()
    await room.arrivals(2)

    asker.close()

    await exchange.leftByPeer()
    assert.equal((await reader.head()).status, 204)
  })
}

test('an asker that leaves in the middle of its question, when the answer has begun, leaves a lost stream', async (t) => {
  const room = await chats(t)
  const asker = room.front.request('', { method: 'POST', headers: { 'content-length': '100' }, sendsBodyLater: true })
  asker.send('half a question')
  const exchange = await room.upstream.next()
  exchange.stream().send({ data: 'one' })
  const reader = await room.front.open()
  await reader.waitFor('data: one\n')

  asker.close()

  assert.equal(await reader.ended(), 'broken')
  await exchange.leftByPeer()
  assert.equal(room.proxy.stats().errors.ERR_SSE_PROXY_UPSTREAM_LOST, 1)
})

test('an asker may leave while its answer is held back until the app commits to it', async (t) => {
  const room = await chats(t, {}, { retry: { commit: ({ data }) => (data === 'go' ? 'commit' : 'hold') } })
  const asker = room.front.request('', post())
  const exchange = await room.upstream.next()
  const stream = exchange.stream()
  stream.send({ data: 'ready' })
  asker.close()
  await room.departures(1)
  const reader = room.front.request()
  await room.arrivals(2)
  assert.equal(reader.hasHead, false)

  stream.send({ data: 'go' })
  stream.end()

  await reader.whole()
  assert.deepEqual(wordsOf(reader), ['ready', 'go'])
})

test('an asker may leave before its question is asked again, and the whole of it is', async (t) => {
  const room = await chats(t, {}, { retry: { methods: ['POST'], backoffMs: 0 } })
  const asker = room.front.request('', post())
  const first = await room.upstream.next()
  await first.body()
  asker.close()
  await room.departures(1)

  first.answer(503)
  const second = await room.upstream.next()
  const asked = String(await second.body())
  const reader = room.front.request()
  await room.arrivals(2)
  second.stream().end('data: one\n\n')

  assert.equal(asked, '{"text":"hello"}')
  assert.match(await reader.whole(), /data: one\n/)
})

test('an answer that is no stream, whose asker has left, is let go, and the key is free', async (t) => {
  const room = await chats(t)
  const asker = room.front.request('', post())
  const exchange = await room.upstream.next()
  await exchange.body()
  asker.close()
  await room.departures(1)

  exchange.res.writeHead(200, { 'content-type': 'application/json' }).write('{"endless": ')

  await exchange.leftByPeer()
  await answering(room)
})

test('an answer of which nobody hears the beginning or the end passes the hooks to its end', async (t) => {
  const counted: string[] = []
  const room = await chats(t, {}, { transform: ({ data }) => void counted.push(data) })
  const asker = room.front.request('', post())
  const exchange = await room.upstream.next()
  await exchange.body()
  asker.close()
  await room.departures(1)

  exchange.stream().end('data: one\n\ndata: usage\n\n')

  await until(() => room.proxy.stats().shared.streams === 0 && counted.length === 2, 'the end of the answer')
  assert.deepEqual(counted, ['one', 'usage'])
})

for (const { way, spoil } of [
  { way: 'ends before isEnd has seen its end', spoil: 'end' as const },
  { way: 'breaks', spoil: 'cut' as const },
]) {
  test(`an answer that nobody reads and that ${way} is lost: onLost is told`, async (t) => {
    const lost = gate<string>()
    const isEnd = ({ data }: { data: string }) => data === '[DONE]'
    const room = await chats(t, {}, { isEnd, onLost: ({ code }) => lost.open(code) })
    const { asker, stream } = await answering(room)
    await leave(asker, room)

    stream[spoil]()

    assert.equal(await lost.promise, spoil === 'end' ? 'ERR_SSE_PROXY_INCOMPLETE' : 'ERR_SSE_PROXY_UPSTREAM_LOST')
    await until(() => room.proxy.stats().shared.streams === 0, 'the stream to be over')
  })
}

test('where readers may come back for a while only, an answer that nobody reads is given up after that', async (t) => {
  const room = await chats(t, { lingerMs: 30 })
  const { asker, exchange } = await answering(room)
  const unanswered = room.front.request('/other', post())
  const other = await room.upstream.next()
  await other.body()

  asker.close()
  unanswered.close()

  await exchange.leftByPeer()
  await other.leftByPeer()
  assert.equal((await room.front.open()).status, 204)
})

test('with lingerMs: 0 an asker that leaves before the upstream has answered is missed at once', async (t) => {
  const room = await chats(t, { lingerMs: 0 })
  const asker = room.front.request('', post())
  const exchange = await room.upstream.next()
  await exchange.body()

  asker.close()

  await exchange.leftByPeer()
})

test('with lingerMs: Infinity a feed that a GET has opened goes on without clients, too', async (t) => {
  const room = await chats(t, { open: ['GET'], stop: [] })
  const client = room.front.request()
  const exchange = await room.upstream.next()
  client.close()
  await room.departures(1)

  exchange.stream().send({ data: 'one' })

  const again = await room.front.open()
  await again.waitFor('data: one\n')
  assert.equal(room.upstream.exchanges.length, 1)
})

test('a reader that comes back to the middle gets what comes after its id', async (t) => {
  const room = await chats(t)
  const { asker, stream } = await answering(room)
  const id = /^id: (.*)$/m.exec(asker.text)?.[1] ?? ''
  stream.send({ data: 'two' })
  await asker.waitFor('data: two\n')

  const reader = await room.front.open('', { headers: { 'last-event-id': id } })
  await reader.waitFor('data: two\n')

  assert.deepEqual(wordsOf(reader), ['two'])
})

test('a reader that was promised all of a stream, and cannot have it, is told where it begins', async (t) => {
  const gaps: unknown[] = []
  const replay = { events: 2, ids: 'assign', initial: 'all' } as const
  const room = await chats(t, { replay, onGap: (_stream, gap) => void gaps.push(gap) })
  const { asker, stream } = await answering(room)
  for (const data of ['two', 'three', 'four']) stream.send({ data })
  await asker.waitFor('data: four\n')
  const idOfTwo = /data: two\nid: (.*)\n/.exec(asker.text)?.[1]

  const reader = await room.front.open()
  await reader.waitFor('data: four\n')

  assert.deepEqual(wordsOf(reader), ['three', 'four'])
  assert.equal(reader.headers['last-event-id'], idOfTwo)
  assert.deepEqual(gaps, [{ requestedId: '', resumedAfterId: idOfTwo }])
})

test('nobody reads, and the upstream is read at its own speed, within the bounds of the replay', async (t) => {
  const room = await chats(t, { replay: { bytes: 1000, ids: 'assign', initial: 'all' } })
  const { asker, stream } = await answering(room)
  await leave(asker, room)

  for (let count = 0; count < 2000; count += 1) stream.send({ data: 'x'.repeat(1000) })
  stream.send({ data: 'last' })
  await until(() => room.proxy.stats().eventsIn === 2002, 'all of it to be read')

  const reader = await room.front.open()
  await reader.waitFor('data: last\n')
  assert.ok(reader.length < 1000, `${reader.length} bytes were kept`)
})

test('the body of a question is let go when it is answered, although its stream goes on', async (t) => {
  const express = await import('express')
  const room = await chats(t, {}, { retry: true }, { before: [express.default.json({ limit: '4mb' })] })
  const before = process.memoryUsage().arrayBuffers
  const text = 'x'.repeat(2 ** 20)

  for (let count = 0; count < 20; count += 1) {
    const asker = room.front.request(`/${count}`, post({}, JSON.stringify({ text })))
    const exchange = await room.upstream.next()
    await exchange.body()
    exchange.stream().send({ data: 'one' })
    await asker.waitFor('data: one\n')
    await leave(asker, room)
  }

  const { collectGarbage } = await import('../support/memory.ts')
  await until(
    () => {
      collectGarbage()
      return process.memoryUsage().arrayBuffers - before < 8 * 2 ** 20
    },
    () => `the bodies to be let go, of which there are ${process.memoryUsage().arrayBuffers - before} bytes`,
  )
  assert.equal(room.proxy.stats().shared.streams, 20)
})

test('a long answer of small events is replayed in few writes', async (t) => {
  let writes = 0
  const count: Middleware = (req, res, next) => {
    for (const stream of req.method === 'GET' ? [res, res.socket] : []) {
      const write = stream.write
      stream.write = (...args: unknown[]) => {
        writes += 1
        return write.apply(stream, args)
      }
    }
    next()
  }
  const replay = { ids: 'assign', initial: 'all', events: 5000 } as const
  const room = await chats(t, { replay }, {}, { before: [count] })
  const { asker, stream } = await answering(room)
  stream.write('data: a word\n\n'.repeat(4000))
  stream.send({ data: 'last' })
  await asker.waitFor('data: last\n')

  const reader = await room.front.open()
  await reader.waitFor('data: last\n')

  assert.ok(writes < 50, `${writes} writes`)
})
