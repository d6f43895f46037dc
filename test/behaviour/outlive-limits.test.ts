// A stream without readers is held by the proxy: it counts, it gives way, and a drain waits for its end.
import assert from 'node:assert/strict'
import { Agent, type IncomingMessage } from 'node:http'
import { test } from 'node:test'
import { answering, chats, leave, post, wordsOf } from '../support/outliving.ts'
import { shared } from '../support/sharing.ts'
import { until } from '../support/waiting.ts'

const clientKey = ({ headers }: IncomingMessage) => String(headers['x-user'] ?? 'ada')

test('an answer that nobody reads takes the place of its asker, who may come back to it', async (t) => {
  const room = await chats(t, {}, { limits: { streamsPerClient: 1, clientKey } })
  const { asker, stream } = await answering(room, '/1')
  await leave(asker, room)

  const reader = await room.front.open('/1')
  await reader.waitFor('data: one\n')
  const refused = await room.front.open('/2', post())
  stream.end()

  assert.equal(await reader.ended(), 'clean')
  assert.equal(refused.status, 429)
})

test('a question that nobody waits for takes the place of its asker, and gives way when that is needed', async (t) => {
  const room = await chats(t, {}, { limits: { streams: 1, streamsPerClient: 1, clientKey } })
  const asker = room.front.request('/1', post())
  const exchange = await room.upstream.next()
  await exchange.body()
  asker.close()
  await room.departures(1)
  assert.equal(exchange.isLeft, false)

  const other = await answering(room, '/2')

  await exchange.leftByPeer()
  other.stream.end()
  assert.equal(await other.asker.ended(), 'clean')
})

test('a refusal, a 204 and a 404 take no place', async (t) => {
  const room = await chats(t, {}, { limits: { streams: 1 } })
  await answering(room, '/1')

  assert.equal((await room.front.open('/2')).status, 204)
  assert.equal((await room.front.open('/2', { method: 'DELETE' })).status, 404)
  assert.equal((await room.front.open('/1', post())).status, 409)
  assert.equal((await room.front.open('/1')).status, 503)
})

test('a drain ends the readers with a retry, and waits for the end of the answer', async (t) => {
  const counted: string[] = []
  const room = await chats(t, {}, { transform: ({ data }) => void counted.push(data) })
  const { asker, stream, exchange } = await answering(room, '/1')
  const unread = await answering(room, '/2')
  await leave(unread.asker, room)
  let isOver = false

  const closing = room.proxy.close({ withinMs: 3000, retryMs: 5 }).finally(() => {
    isOver = true
  })
  assert.equal(await asker.ended(), 'clean')
  assert.match(asker.text, /retry: \d+\n\n$/)
  assert.equal((await room.front.open('/1')).status, 503)
  // Another process may have what this one has not, so that a browser is not to stop here.
  assert.equal((await room.front.open('/quiet')).status, 503)
  unread.stream.end()
  // Another proxy that begins to drain now, and looks as often whether all are over, is drained later.
  const clock = await chats(t)
  await answering(clock)
  await clock.proxy.close({ withinMs: 50 })
  stream.send({ data: 'two' })
  await until(() => counted.length === 3, 'the word that nobody hears')
  assert.equal(isOver, false)
  stream.end()

  await closing
  assert.deepEqual(counted, ['one', 'one', 'two'])
  assert.equal(exchange.isLeft, false)
})

test('a drain breaks off what has not ended in its time: nothing is left', async (t) => {
  // The connections of an agent of the app's are not the proxy's to close.
  const agent = new Agent()
  t.after(() => agent.destroy())
  const room = await chats(t, {}, { agent })
  const { asker, exchange } = await answering(room, '/1')
  await leave(asker, room)
  const unanswered = room.front.request('/2', post())
  const other = await room.upstream.next()
  await other.body()
  unanswered.close()
  const waiting = room.front.request('/3', post())
  const third = await room.upstream.next()
  await third.body()

  await room.proxy.close({ withinMs: 50 })

  await Promise.all([exchange, other, third].map((each) => each.leftByPeer()))
  assert.equal((await waiting.head()).status, 503)
  assert.equal(room.proxy.stats().shared.streams, 0)
})

test('a drain does not wait for a feed that a GET has opened and nobody reads', async (t) => {
  const room = await chats(t, { open: ['GET'], stop: [], lingerMs: 60_000 })
  const client = room.front.request()
  const exchange = await room.upstream.next()
  exchange.stream().send({ data: 'one' })
  await client.waitFor('data: one\n')
  await leave(client, room)

  await room.proxy.close({ withinMs: 60_000 })

  await exchange.leftByPeer()
})

test('past share.maxBytes the answer that nobody reads is given up before another one loses what it has', async (t) => {
  const room = await chats(t, { maxBytes: 300_000 })
  const text = 'x'.repeat(100_000)
  const unread = await answering(room, '/1')
  unread.stream.send({ data: text })
  await unread.asker.waitFor((got) => got.length > 100_000)
  await leave(unread.asker, room)

  const read = await answering(room, '/2')
  for (const data of [text, text, 'last']) read.stream.send({ data })
  await read.asker.waitFor('data: last\n')

  await unread.exchange.leftByPeer()
  const reader = await room.front.open('/2')
  await reader.waitFor('data: last\n')
  assert.deepEqual(wordsOf(reader), ['one', text, text, 'last'])
})

test('during a drain, a reader that turns out to want another answer is refused, and its asker has its own', async (t) => {
  const room = await shared(t, { join: ['GET', 'POST'], lingerMs: 0 })
  const asker = room.front.request('', { headers: { 'accept-language': 'de' } })
  const exchange = await room.upstream.next()
  const reader = room.front.request('', { method: 'POST', headers: { 'accept-language': 'en' } })
  await room.arrivals(2)
  const closing = room.proxy.close({ withinMs: 1000, retryMs: 5 })

  exchange.stream({ vary: 'accept-language' }).send({ data: 'one' })

  assert.deepEqual([(await asker.head()).status, (await reader.head()).status], [200, 503])
  await closing
})
