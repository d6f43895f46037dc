// A client that does not keep up with a shared stream is its own affair: it holds nobody up, what waits for it is
// bounded, and when it has been let go it can come back and go on.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { type Client, headerOf } from '../support/client.ts'
import { hostsByProtocol } from '../support/front.ts'
import { interpret } from '../support/oracle.ts'
import { type Arrangement, type Proxied, proxied, type SseProxyOptions } from '../support/proxied.ts'
import { sharedBy } from '../support/sharing.ts'
import type { EventStream, Upstream } from '../support/upstream.ts'
import { gate, until, within } from '../support/waiting.ts'

const kilobyte = 1024
const megabyte = kilobyte * kilobyte
/** More than all the buffers of the kernel on the way can take. */
const tooMuch = 64 * megabyte

const ways: { name: string; share?: Share }[] = [
  { name: 'as they are' },
  { name: 'through hooks of its own', share: { transform: () => {} } },
]

for (const host of hostsByProtocol) {
  for (const { name, share } of ways) {
    test(`a client that does not read is let go, and the others get every event in time, ${name} (${host})`, async (t) => {
      const closed = gate<string>()
      const room = await shared(
        t,
        share,
        { limits: { bufferBytes: 256 * kilobyte }, onClose: (_stream, reason) => closed.open(reason) },
        { host },
      )
      const { stream, exchange, leader: quick } = room
      const slow = await room.front.open()
      slow.pause()

      let sent = 0
      let reason: string | undefined
      void closed.promise.then((value) => {
        reason = value
      })
      const size = 64 * kilobyte
      while (reason === undefined && sent * size < tooMuch) {
        sent += 1
        stream.send({ id: String(sent), data: `${sent} `.padEnd(size, 'x') })
        // In time: each event is there before the next is sent.
        await quick.waitForLength(sent * size)
      }
      slow.resume()

      assert.equal(reason, 'slow-client')
      assert.equal(await slow.ended(), 'broken')
      assert.equal(exchange.isLeft, false)
      stream.send({ id: 'last', data: 'last' })
      await quick.waitFor((text) => text.endsWith('data: last\n\n'))
      assert.equal(interpret(quick.bytes).events.length, sent + 1)
      assert.deepEqual(sharedBy(room.proxy), { streams: 1, clients: 1 })
      assert.equal(room.proxy.stats().closed['slow-client'], 1)
    })
  }
}

test('a client that was let go comes back and goes on where it was', { timeout: 60_000 }, async (t) => {
  const room = await shared(
    t,
    { replay: { events: 100_000, bytes: tooMuch } },
    { limits: { bufferBytes: 64 * kilobyte } },
  )
  const { stream, leader: quick, proxy } = room
  const slow = await room.front.open()
  slow.pause()
  let sent = 0
  const size = 16 * kilobyte
  while (proxy.stats().closed['slow-client'] === 0 && sent * size < tooMuch) {
    sent += 1
    stream.send({ id: String(sent), data: `${sent} `.padEnd(size, 'x') })
    await quick.waitForLength(sent * size)
  }
  slow.resume()
  assert.equal(await slow.ended(), 'broken')
  const before = interpret(slow.bytes)

  const back = await room.front.open('', { headers: { 'last-event-id': before.lastEventId } })
  await back.waitFor((text) => text.includes(`\ndata: ${sent} `) && text.endsWith('x\n\n'))
  stream.send({ id: 'last', data: 'last' })
  await back.waitFor('data: last\n\n')

  assert.equal(headerOf(back, 'last-event-id'), undefined)
  const numbers = [...before.events, ...interpret(back.bytes).events].map(({ lastEventId }) => lastEventId)
  assert.deepEqual(numbers, [...Array.from({ length: sent }, (_, i) => String(i + 1)), 'last'])
})

for (const host of hostsByProtocol) {
  test(`what a client has missed may be more than bufferBytes (${host})`, async (t) => {
    const room = await shared(
      t,
      { replay: { bytes: 10 * megabyte } },
      { limits: { bufferBytes: 10 * kilobyte } },
      { host },
    )
    const { stream, leader } = room
    const size = 9 * kilobyte
    for (let id = 1; id <= 200; id += 1) {
      stream.send({ id: String(id), data: `${id} `.padEnd(size, 'x') })
      await leader.waitForLength(id * size)
    }

    const back = await room.front.open('', { headers: { 'last-event-id': '1' } })
    stream.send({ id: '201', data: '201' })
    await back.waitFor('data: 201\n\n')

    assert.deepEqual(
      interpret(back.bytes).events.map(({ lastEventId }) => lastEventId),
      Array.from({ length: 200 }, (_, i) => String(i + 2)),
    )
  })

  for (const { name, share } of ways) {
    test(`an event larger than bufferBytes is no reason to let a client go that reads, ${name} (${host})`, async (t) => {
      const room = await shared(t, share, { limits: { bufferBytes: kilobyte } }, { host })
      const { stream, leader } = room
      const other = await room.front.open()

      for (const mark of ['x', 'y']) {
        stream.send({ data: mark.repeat(500 * kilobyte) })
        for (const client of [leader, other]) await client.waitFor((text) => text.endsWith(`${mark}\n\n`))
      }

      assert.equal(room.proxy.stats().closed['slow-client'], 0)
    })
  }
}

test('with all defaults an event of nearly 1 MiB reaches every client that reads', async (t) => {
  const room = await shared(t)
  const clients = [room.leader, await room.front.open()]

  for (const mark of ['a', 'b', 'c']) {
    room.stream.send({ data: mark.repeat(megabyte - 100) })
    for (const client of clients) await client.waitFor((text) => text.endsWith(`${mark}\n\n`))
  }

  assert.equal(room.proxy.stats().closed['slow-client'], 0)
})

test('a client that takes nothing for writeMs is let go, although little waits for it', async (t) => {
  const closed = gate<string>()
  const room = await shared(
    t,
    {},
    {
      timeouts: { writeMs: 200 },
      limits: { bufferBytes: tooMuch },
      onClose: (_stream, reason) => closed.open(reason),
    },
  )
  const { stream, leader } = room
  const slow = await room.front.open()
  slow.pause()

  for (let sent = 1; sent <= 10; sent += 1) {
    stream.send({ data: 'x'.repeat(megabyte - 100) })
    await leader.waitForLength(sent * (megabyte - 100))
  }

  assert.equal(await within(closed.promise, 'the slow client to be let go'), 'slow-client')
  assert.equal(room.proxy.stats().active, 1)
})

test('a client that is behind gets no comments on top', async (t) => {
  const room = await shared(t, {}, { keepalive: 20, limits: { bufferBytes: tooMuch }, timeouts: { writeMs: 0 } })
  const { stream, leader } = room
  const slow = await room.front.open()
  slow.pause()
  for (let sent = 1; sent <= 10; sent += 1) {
    stream.send({ data: 'x'.repeat(megabyte - 100) })
    await leader.waitForLength(sent * (megabyte - 100))
  }
  const before = slow.length
  const [, handle] = [...room.proxy.streams]
  const bytes = handle!.bytes
  await leader.waitFor((text) => text.split(': keepalive').length > 4)

  assert.equal(handle!.bytes, bytes)
  assert.equal(slow.length, before)
  slow.resume()
  await slow.waitForLength(10 * (megabyte - 100))
  stream.end()
  await slow.ended()
  assert.equal(interpret(slow.bytes).events.length, 10)
})

test('a hook of its own that never decides costs that client only, and no more than bufferBytes', async (t) => {
  const closed = gate<string>()
  const room = await shared(
    t,
    { transform: (_event, { req }) => (req.headers['x-request-id'] ? new Promise(() => {}) : undefined) },
    { limits: { bufferBytes: 64 * kilobyte }, onClose: (_stream, reason) => closed.open(reason) },
  )
  const { stream, leader } = room
  const stuck = await room.front.open('', { headers: { 'x-request-id': '1' } })

  let sent = 0
  for (; sent < 50; sent += 1) {
    stream.send({ data: 'x'.repeat(4 * kilobyte) })
    await leader.waitForLength((sent + 1) * 4 * kilobyte)
  }

  assert.equal(await within(closed.promise, 'the stuck client to be let go'), 'slow-client')
  assert.equal(await stuck.ended(), 'broken')
  assert.equal(stuck.text, '')
})

test('an onOpen that never decides costs that client only, and no more than bufferBytes', async (t) => {
  const closed = gate<string>()
  const room = await shared(
    t,
    {},
    {
      limits: { bufferBytes: 64 * kilobyte },
      onOpen: ({ req }) => (req.headers['x-request-id'] ? new Promise(() => {}) : undefined),
      onClose: (_stream, reason) => closed.open(reason),
    },
  )
  const { stream, leader } = room
  const stuck = await room.front.open('', { headers: { 'x-request-id': '1' } })

  for (let sent = 1; sent <= 50; sent += 1) {
    stream.send({ data: 'x'.repeat(4 * kilobyte) })
    await leader.waitForLength(sent * 4 * kilobyte)
  }

  assert.equal(await within(closed.promise, 'the stuck client to be let go'), 'slow-client')
  assert.equal(await stuck.ended(), 'broken')
  assert.equal(stuck.text, '')
  assert.deepEqual(sharedBy(room.proxy), { streams: 1, clients: 1 })
})

test('clients that never read what was replayed to them cost the proxy no copy each', {
  timeout: 60_000,
}, async (t) => {
  const room = await shared(t, { replay: { bytes: 8 * megabyte } }, { limits: { bufferBytes: kilobyte } })
  const { stream, leader } = room
  for (let id = 1; id <= 16; id += 1) {
    stream.send({ id: String(id), data: 'x'.repeat(500 * kilobyte) })
    await leader.waitForLength(id * 500 * kilobyte)
  }
  const before = process.memoryUsage().arrayBuffers

  const hostile: Client[] = []
  for (let count = 0; count < 40; count += 1) {
    const client = room.front.request('', { headers: { 'last-event-id': '1' } })
    client.pause()
    hostile.push(client)
  }
  await until(() => room.proxy.stats().active === 41, 'all to be served')

  const grown = process.memoryUsage().arrayBuffers - before
  assert.ok(grown < 150 * megabyte, `${Math.round(grown / megabyte)} MiB for 40 clients`)
})

type Share = Exclude<SseProxyOptions['share'], boolean | undefined>

interface Room extends Proxied<Upstream> {
  leader: Client
  stream: EventStream
  exchange: Awaited<ReturnType<Upstream['next']>>
}

async function shared(
  t: TestContext,
  share: Share = {},
  options: Partial<SseProxyOptions> = {},
  arrangement: Arrangement = {},
): Promise<Room> {
  const arranged = await proxied(t, { share: { lingerMs: 1, ...share }, keepalive: false, ...options }, arrangement)
  const leader = arranged.front.request()
  const exchange = await arranged.upstream.next()
  const stream = exchange.stream()
  await leader.head()
  return { ...arranged, leader, exchange, stream }
}
