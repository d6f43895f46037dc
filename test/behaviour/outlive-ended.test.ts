// A stream that is over is kept for a while: who comes late gets what is kept of it, and then the same ending.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { headerOf } from '../support/client.ts'
import { hostsByProtocol } from '../support/front.ts'
import { type Answering, answering, chats, keyOf, leave, post, stop, wordsOf } from '../support/outliving.ts'
import type { Room } from '../support/sharing.ts'
import { until } from '../support/waiting.ts'

const keepEndedMs = 60_000
const idOf = (text: string, word: string): string => new RegExp(`data: ${word}\\nid: (.*)\\n`).exec(text)?.[1] ?? ''

for (const host of hostsByProtocol) {
  test(`who comes after the end gets all of it and a clean end (${host})`, async (t) => {
    const room = await chats(t, { keepEndedMs }, {}, { host })
    const { asker, stream } = await answering(room)
    stream.end('data: two\n\n')
    await asker.whole()

    for (let count = 0; count < 2; count += 1) {
      const reader = await room.front.open()
      assert.equal(await reader.ended(), 'clean')
      assert.deepEqual(reader.bytes, asker.bytes)
    }

    assert.equal(room.upstream.exchanges.length, 1)
    const { streams, unread, kept, joined, replayed } = room.proxy.stats().shared
    assert.deepEqual(
      { streams, unread, kept, joined, replayed },
      { streams: 0, unread: 0, kept: 1, joined: 0, replayed: 2 },
    )
  })

  test(`who comes after a break gets all that came, what onLost said, and a break (${host})`, async (t) => {
    const onLost = () => ({ data: 'sorry' })
    const room = await chats(t, { keepEndedMs }, { onLost }, { host })
    const { asker, stream } = await answering(room)
    await leave(asker, room)
    stream.cut()
    await until(() => room.proxy.stats().shared.kept === 1, 'the stream to be lost')

    const reader = await room.front.open()

    assert.equal(await reader.ended(), 'broken')
    assert.deepEqual(wordsOf(reader), ['one', 'sorry'])
  })

  test(`who has all of it by its last id gets 204, and who has a part of it the rest (${host})`, async (t) => {
    const room = await chats(t, { keepEndedMs }, {}, { host })
    const { asker, stream } = await answering(room)
    stream.end('data: two\n\n')
    const text = await asker.whole()

    const one = await room.front.open('', { headers: { 'last-event-id': idOf(text, 'one') } })
    const two = await room.front.open('', { headers: { 'last-event-id': idOf(text, 'two') } })

    await one.whole()
    assert.deepEqual([wordsOf(one), two.status], [['two'], 204])
  })
}

test('hooks of each client run over what is kept', async (t) => {
  const room = await chats(t, {
    keepEndedMs,
    transform: ({ data }, { req }) => ({ data: `${data} for ${String(req.headers['x-name'])}` }),
  })
  const asker = room.front.request('', post({ 'x-name': 'first' }))
  const exchange = await room.upstream.next()
  exchange.stream().end('data: one\n\n')
  await asker.whole()

  const reader = await room.front.open('', { headers: { 'x-name': 'late' } })

  await reader.whole()
  assert.deepEqual([wordsOf(asker), wordsOf(reader)], [['one for first'], ['one for late']])
})

test('who comes late with an id that is not kept is told of the gap, and so is the app', async (t) => {
  const gaps: unknown[] = []
  const room = await chats(t, { keepEndedMs, onGap: (_stream, gap) => void gaps.push(gap) })
  const { asker, stream } = await answering(room)
  stream.end()
  await asker.whole()

  const reader = await room.front.open('', { headers: { 'last-event-id': 'of another' } })

  await reader.whole()
  assert.deepEqual(wordsOf(reader), ['one'])
  assert.equal(headerOf(reader, 'last-event-id'), '')
  assert.deepEqual(gaps, [{ requestedId: 'of another', resumedAfterId: '' }])
})

test("what is kept does not show the head that was its opener's alone", async (t) => {
  const room = await chats(t, { keepEndedMs })
  const asker = room.front.request('', post())
  const exchange = await room.upstream.next()
  exchange.stream({ 'set-cookie': 'session=1', 'x-token': 'secret', 'content-language': 'de' }).end('data: one\n\n')
  await asker.whole()

  const reader = await room.front.open()

  const { 'set-cookie': cookie, 'x-token': token, 'content-language': language } = reader.headers
  assert.deepEqual([cookie, token, language], [undefined, undefined, 'de'])
})

test('the next question takes the place of the answer that is kept', async (t) => {
  const room = await chats(t, { keepEndedMs })
  const first = await answering(room)
  first.stream.end()
  await first.asker.whole()

  const asker = room.front.request('', post())
  const exchange = await room.upstream.next()
  const reader = room.front.request()
  await room.arrivals(3)
  exchange.stream().end('data: another\n\n')

  await Promise.all([asker.whole(), reader.whole()])
  assert.deepEqual([wordsOf(asker), wordsOf(reader)], [['another'], ['another']])
  assert.equal(room.proxy.stats().shared.kept, 1)
})

test('who comes late to what has ended gets all that is kept, also where a joiner gets what comes next alone', async (t) => {
  const room = await chats(t, { keepEndedMs, replay: {} })
  const { asker, stream } = await answering(room)
  stream.end()
  await asker.whole()

  const reader = await room.front.open()

  assert.equal(await reader.whole(), asker.text)
})

test('behind the next question that was stopped there is no earlier answer', async (t) => {
  const room = await chats(t, { keepEndedMs })
  const first = await answering(room)
  first.stream.end()
  await first.asker.whole()
  await answering(room)

  assert.equal(await room.proxy.stop(keyOf('')), true)

  assert.equal((await room.front.open()).status, 204)
})

for (const { how, end } of [
  { how: 'was stopped', end: async ({ proxy }: Room) => assert.equal(await proxy.stop(keyOf('')), true) },
  { how: 'was stopped by a request', end: async ({ front }: Room) => void (await front.open('', stop)) },
]) {
  test(`an answer that ${how} is not kept`, async (t) => {
    const room = await chats(t, { keepEndedMs })
    const { asker } = await answering(room)

    await end(room)

    await asker.whole()
    assert.equal((await room.front.open()).status, 204)
    assert.equal(room.proxy.stats().shared.kept, 0)
  })
}

test('an answer that is over cannot be stopped, and stays', async (t) => {
  const room = await chats(t, { keepEndedMs })
  const { asker, stream } = await answering(room)
  stream.end()
  await asker.whole()

  assert.equal((await room.front.open('', stop)).status, 404)
  assert.equal(await room.proxy.stop(keyOf('')), false)
  assert.equal((await room.front.open()).status, 200)
})

test('after keepEndedMs there is nothing', async (t) => {
  const room = await chats(t, { keepEndedMs: 30 })
  const { asker, stream } = await answering(room)
  stream.end()
  await asker.whole()

  await until(() => room.proxy.stats().shared.kept === 0, 'it to be dropped')

  assert.equal((await room.front.open()).status, 204)
})

test('a feed that GETs open and join is replayed after a clean end, and opened anew after a break', async (t) => {
  const room = await chats(t, { open: ['GET'], stop: [], keepEndedMs })
  const fed = async (end: (answering: Pick<Answering, 'stream'>) => void) => {
    const client = room.front.request()
    const stream = (await room.upstream.next()).stream()
    stream.send({ data: 'one' })
    await client.waitFor('data: one\n')
    end({ stream })
    return await client.ended()
  }

  assert.equal(await fed(({ stream }) => stream.cut()), 'broken')
  assert.equal(await fed(({ stream }) => stream.end()), 'clean')
  const late = await room.front.open()

  assert.equal(await late.ended(), 'clean')
  assert.deepEqual(wordsOf(late), ['one'])
  assert.equal(room.upstream.exchanges.length, 2)
})

test('what is kept is gone with the proxy', async (t) => {
  const room = await chats(t, { keepEndedMs })
  const { asker, stream } = await answering(room)
  stream.end()
  await asker.whole()
  assert.equal(room.proxy.stats().shared.kept, 1)

  await room.proxy.close()

  assert.equal(room.proxy.stats().shared.kept, 0)
})
