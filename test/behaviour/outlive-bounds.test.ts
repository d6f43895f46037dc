// Clients make keys up: what is kept of streams that are over is bounded, in number, in bytes, and before any that runs.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { heapUsed } from '../support/memory.ts'
import { answering, chats, leave, post, wordsOf } from '../support/outliving.ts'
import type { Exchange } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

const keepEndedMs = 600_000
const ending = {
  handler: ({ req, res }: Exchange) =>
    void req.resume().on('end', () => res.writeHead(200, { 'content-type': 'text/event-stream' }).end('data: one\n\n')),
}

test('300 keys of made-up answers take no more memory than share.maxBytes allows', async (t) => {
  const maxBytes = 2 ** 18
  const room = await chats(t, { keepEndedMs, maxBytes }, {}, { host: 'http', upstream: ending })
  const ask = async (from: number): Promise<void> => {
    for (let count = from; count < 300; count += 20) await room.front.request(`/${count}`, post()).whole()
  }
  await Promise.all(Array.from({ length: 20 }, (_, from) => ask(from)))
  // The clients of this test remember what they have read.
  const before = heapUsed()

  const { kept } = room.proxy.stats().shared
  await room.proxy.close({ withinMs: 0 })

  const freed = before - heapUsed()
  assert.ok(kept > 20 && kept < 128, `${kept} are kept`)
  assert.ok(freed < 8 * maxBytes, `${freed} bytes were kept`)
})

test('past share.maxBytes the oldest that are over go first, and those that run lose nothing', async (t) => {
  const room = await chats(t, { keepEndedMs, maxBytes: 400_000 })
  const text = 'x'.repeat(100_000)
  const unread = await answering(room, '/unread')
  await leave(unread.asker, room)
  for (const path of ['/1', '/2']) {
    const { asker, stream } = await answering(room, path)
    stream.end(`data: ${text}\n\n`)
    await asker.whole()
  }

  const { asker, stream } = await answering(room, '/3')
  stream.send({ data: text })
  stream.send({ data: text })
  await asker.waitFor((got) => got.length > 200_000)

  assert.equal((await room.front.open('/1')).status, 204)
  const second = await room.front.open('/2')
  await second.whole()
  assert.deepEqual(wordsOf(second), ['one', text])
  assert.equal(unread.exchange.isLeft, false)
})

for (const [bound, replay] of [
  ['bytes', { bytes: 500 }],
  ['events', { events: 3 }],
] as const) {
  test(`what is kept of one is within replay.${bound}, which was so while it ran`, async (t) => {
    const room = await chats(t, { keepEndedMs, replay: { ids: 'assign', initial: 'all', ...replay } })
    const { asker, stream } = await answering(room)
    for (let count = 0; count < 100; count += 1) stream.send({ data: `${count} ${'x'.repeat(100)}` })
    stream.end()
    await asker.whole()
    await until(() => room.proxy.stats().shared.kept === 1, 'it to be over')

    const reader = await room.front.open()

    await reader.whole()
    assert.ok(wordsOf(reader).length <= 4, `${wordsOf(reader).length} events`)
    assert.match(wordsOf(reader).at(-1) ?? '', /^99 /)
    assert.notEqual(reader.headers['last-event-id'], undefined)
  })
}
