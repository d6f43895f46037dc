// What a client of a shared stream gets that comes late or comes back: all it has missed, then what follows, without a
// gap, a double or a change of order; and where something is gone for good, a word about it.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { type TestContext, test } from 'node:test'
import { EventSource } from 'eventsource'
import { type Client, headerOf, openHttp2Session } from '../support/client.ts'
import { hostsByProtocol } from '../support/front.ts'
import { interpret } from '../support/oracle.ts'
import { type Arrangement, type Proxied, proxied, type SseProxyOptions } from '../support/proxied.ts'
import { sharedBy } from '../support/sharing.ts'
import { type EventStream, eventText, type Upstream } from '../support/upstream.ts'
import { Arrivals, gate, until, within } from '../support/waiting.ts'

const after = (id: string) => ({ headers: { 'last-event-id': id } })

for (const host of hostsByProtocol) {
  test(`a client gets what came after its id, then what follows (${host})`, async (t) => {
    const { front, leader, stream, upstream } = await open(t, {}, {}, { host })
    for (const id of ['1', '2', '3']) stream.send({ id, data: id })
    await leader.waitFor('data: 3\n\n')

    const client = await front.open('', after('1'))
    await client.waitFor('data: 3\n\n')
    stream.send({ id: '4', data: '4' })
    await client.waitFor('data: 4\n\n')

    assert.deepEqual(dataOf(client), ['2', '3', '4'])
    assert.equal(headerOf(client, 'last-event-id'), undefined)
    assert.equal(upstream.exchanges.length, 1)
  })

  test(`a client that comes back within lingerMs gets what it has missed, from the same upstream (${host})`, async (t) => {
    const { front, leader, stream, upstream, proxy } = await open(t, { lingerMs: 5000 }, {}, { host })
    stream.send({ id: '1', data: '1' })
    await leader.waitFor('data: 1\n\n')
    leader.close()
    await until(() => proxy.stats().active === 0, 'the client to be gone')
    stream.send({ id: '2', data: '2' })
    stream.send({ id: '3', data: '3' })
    await until(() => proxy.stats().eventsIn === 3, 'the events that nobody hears')

    const client = await front.open('', after('1'))
    await client.waitFor('data: 3\n\n')

    assert.deepEqual(dataOf(client), ['2', '3'])
    assert.equal(upstream.exchanges.length, 1)
    client.close()
    await until(() => proxy.stats().active === 0, 'the client to be gone')
    await proxy.close({ withinMs: 10 })
  })
}

test('the upstream is let go lingerMs after the last client has left, and the next client opens another', async (t) => {
  const { front, leader, exchange, upstream, proxy } = await open(t, { lingerMs: 30 })
  const other = await front.open()
  leader.close()
  await until(() => proxy.stats().active === 1, 'one client to be gone')
  assert.deepEqual(sharedBy(proxy), { streams: 1, clients: 1 })

  other.close()
  await exchange.leftByPeer()

  const next = front.request('', after('7'))
  const second = await upstream.next()
  second.stream().send({ id: '8', data: '8' })
  await next.waitFor('data: 8')
  assert.equal(second.headers['last-event-id'], '7')
})

test('a client that comes back keeps the upstream beyond lingerMs', async (t) => {
  const { front, leader, exchange, stream, proxy } = await open(t, { lingerMs: 60 })
  leader.close()
  await until(() => proxy.stats().active === 0, 'the client to be gone')
  const client = await front.open()

  // A stream that is left now is given up when the other would have been.
  const clock = await open(t, { lingerMs: 120 })
  clock.leader.close()
  await clock.exchange.leftByPeer()

  stream.send({ data: 'still here' })
  await client.waitFor('still here')
  assert.equal(exchange.isLeft, false)
})

test('an upstream that ends while it lingers is over, and the next client opens another', async (t) => {
  const { front, leader, stream, upstream, proxy } = await open(t, { lingerMs: 60_000 })
  leader.close()
  await until(() => proxy.stats().active === 0, 'the client to be gone')

  stream.end()
  await until(() => proxy.stats().shared.streams === 0, 'the shared stream to be over')

  const next = front.request()
  ;(await upstream.next()).stream().end('data: x\n\n')
  assert.equal(await next.whole(), 'data: x\n\n')
})

test('a client without an id starts with what comes next', async (t) => {
  const { front, leader, stream } = await open(t)
  stream.send({ id: '1', data: '1' })
  await leader.waitFor('data: 1\n\n')

  const client = await front.open()
  stream.send({ id: '2', data: '2' })
  await client.waitFor('data: 2\n\n')

  assert.deepEqual(dataOf(client), ['2'])
})

test('with replay.initial a client without an id gets so many events first, whatever lies between them', async (t) => {
  const { front, leader, stream } = await open(t, { replay: { initial: 2 } })
  stream.write(': hello\n\nid: 1\ndata: 1\n\n: a\n\nid: 2\ndata: 2\n\n: b\n\nid: 3\ndata: 3\n\n: c\n\nid: 4\n\n')
  await leader.waitFor('id: 4\n\n')

  const client = await front.open()
  stream.send({ id: '5', data: '5' })
  await client.waitFor('data: 5\n\n')

  assert.deepEqual(dataOf(client), ['2', '3', '5'])
  assert.equal(headerOf(client, 'last-event-id'), undefined)
})

test('with replay.initial larger than what there is a client gets all of it, and one with an id what it misses', async (t) => {
  const { front, leader, stream } = await open(t, { replay: { initial: 10 } })
  for (const id of ['1', '2', '3']) stream.send({ id, data: id })
  await leader.waitFor('data: 3\n\n')

  const fresh = await front.open()
  const back = await front.open('', after('2'))
  stream.send({ id: '4', data: '4' })
  await Promise.all([fresh, back].map((client) => client.waitFor('data: 4\n\n')))

  assert.deepEqual(dataOf(fresh), ['1', '2', '3', '4'])
  assert.deepEqual(dataOf(back), ['3', '4'])
})

test('an id in the query is as good as one in the header', async (t) => {
  const { front, leader, stream, upstream } = await open(t)
  for (const id of ['1', 'zwei & 2', '3']) stream.send({ id, data: id })
  await leader.waitFor('data: 3\n\n')

  for (const name of ['lastEventId', 'last_event_id']) {
    const client = await front.open(`?${name}=${encodeURIComponent('zwei & 2')}`)
    await client.waitFor('data: 3\n\n')
    assert.deepEqual(dataOf(client), ['3'])
  }
  assert.equal(upstream.exchanges.length, 1)
})

test('ids of more than ASCII are known, in the header both ways', async (t) => {
  const { front, leader, stream } = await open(t, { replay: { events: 1 } })
  for (const id of ['日本', 'é', 'ü😀']) stream.send({ id, data: id })
  await leader.waitFor('data: ü😀\n\n')

  const known = await front.open('', after('é'))
  const unknown = await front.open('', after('日本'))
  await Promise.all([known, unknown].map((client) => client.waitFor('\n\n')))

  assert.deepEqual([dataOf(known), dataOf(unknown)], [['ü😀'], ['ü😀']])
  assert.equal(headerOf(known, 'last-event-id'), undefined)
  assert.equal(Buffer.from(headerOf(unknown, 'last-event-id') ?? '', 'latin1').toString(), 'é')
})

test('blocks with an id only, comments and fields inside events and odd spacing are replayed as they came', async (t) => {
  const { front, leader, stream } = await open(t)
  const rest = 'id:2\n\n: note\nretry: 10\nevent:e\rdata:a\r\rx: y\r\ndata:  b\r\n\r\nid: 3\ndata\n\n'
  stream.write('id: 1\ndata: 1\n\n')
  await leader.waitFor('data: 1')
  stream.write(rest)
  await leader.waitFor('data\n\n')

  const client = await front.open('', after('1'))
  await client.waitFor('data\n\n')

  assert.equal(client.text, rest)
  const last = await front.open('', after('2'))
  await last.waitFor('data\n\n')
  assert.equal(last.text, rest.slice('id:2\n\n'.length))
})

test('what a hook has made of an event is what is replayed', async (t) => {
  let calls = 0
  const { front, leader, stream } = await open(
    t,
    {},
    {
      transform: (event) => {
        calls += 1
        if (event.data === 'dropped') return null
        return event.data === 'two' ? [{ ...event, data: 'two a' }, { data: 'two b' }] : undefined
      },
    },
  )
  for (const [i, data] of ['one', 'two', 'dropped', 'three'].entries()) stream.send({ id: String(i + 1), data })
  await leader.waitFor('data: three\n\n')

  const client = await front.open('', after('1'))
  await client.waitFor('data: three\n\n')

  assert.deepEqual(dataOf(client), ['two a', 'two b', 'three'])
  assert.equal(calls, 4)
})

test('events that the app sends to all from a hook are replayed as well', async (t) => {
  const { front, leader, stream } = await open(
    t,
    {},
    { transform: (event, stream) => void (event.data === '2' && stream.send({ id: '2a', data: 'from the app' })) },
  )
  for (const id of ['1', '2', '3']) stream.send({ id, data: id })
  await leader.waitFor('data: 3\n\n')

  const client = await front.open('', after('1'))
  await client.waitFor('data: 3\n\n')

  assert.deepEqual(dataOf(client), dataOf(leader).slice(1))
  assert.deepEqual([...dataOf(client)].sort(), ['2', '3', 'from the app'])
})

// The bounds, and what is told when something is gone.

for (const { name, replay } of [
  { name: 'number', replay: { events: 3 } },
  { name: 'bytes', replay: { bytes: 3 * eventText({ id: '10', data: '10' }).length } },
]) {
  test(`an id that is no longer kept: all that is kept, and the id before it in the headers: bound by ${name}`, async (t) => {
    const gaps: unknown[] = []
    const { front, leader, stream } = await open(t, { replay, onGap: ({ req }, gap) => void gaps.push([req.url, gap]) })
    for (let id = 10; id < 20; id += 1) stream.send({ id: String(id), data: String(id) })
    await leader.waitFor('data: 19\n\n')

    const lost = await front.open('?lastEventId=12')
    const fine = await front.open('', after('16'))
    stream.send({ id: '20', data: '20' })
    await Promise.all([lost, fine].map((client) => client.waitFor('data: 20\n\n')))

    assert.deepEqual(dataOf(lost), ['17', '18', '19', '20'])
    assert.deepEqual(dataOf(fine), ['17', '18', '19', '20'])
    assert.equal(headerOf(lost, 'last-event-id'), '16')
    assert.equal(headerOf(fine, 'last-event-id'), undefined)
    assert.deepEqual(gaps, [['/?lastEventId=12', { requestedId: '12', resumedAfterId: '16' }]])
  })
}

test('an id that is no longer kept because of its age: all that is kept, which may be nothing', async (t) => {
  const { front, leader, stream } = await open(t, { replay: { ageMs: 40 } })
  stream.send({ id: '1', data: '1' })
  stream.send({ id: '2', data: '2' })
  await leader.waitFor('data: 2\n\n')
  // A stream that is given up after a longer time says that this one's events are old.
  const clock = await open(t, { lingerMs: 80 })
  clock.leader.close()
  await clock.exchange.leftByPeer()

  const client = await front.open('', after('1'))
  stream.send({ id: '3', data: '3' })
  await client.waitFor('data: 3\n\n')

  assert.deepEqual(dataOf(client), ['3'])
  assert.equal(headerOf(client, 'last-event-id'), '2')
})

test('an id that the upstream never gave is a gap, too', async (t) => {
  const { front, leader, stream } = await open(t)
  stream.send({ id: '1', data: '1' })
  await leader.waitFor('data: 1\n\n')

  const client = await front.open('', after('from another life'))
  await client.waitFor('data: 1\n\n')

  assert.equal(headerOf(client, 'last-event-id'), '')
  assert.deepEqual(dataOf(client), ['1'])
})

test("an upstream's own Last-Event-ID header does not stand beside ours", async (t) => {
  const { front, leader, stream } = await open(t, { replay: { events: 1 } }, {}, {}, { 'Last-Event-ID': 'theirs' })
  for (const id of ['1', '2', '3']) stream.send({ id, data: id })
  await leader.waitFor('data: 3\n\n')

  const client = await front.open('', after('1'))

  assert.equal(headerOf(client, 'last-event-id'), '2')
})

test('an onGap that throws breaks that client only', async (t) => {
  const { front, leader, stream } = await open(t, {
    onGap: () => {
      throw new Error('no')
    },
  })

  const client = front.request('', after('unknown'))

  assert.equal(await client.ended(), 'broken')
  stream.send({ data: 'for the leader' })
  await leader.waitFor('for the leader')
})

test('events without an id that were dropped after the last id are a gap, not a loss in silence', async (t) => {
  const { front, leader, stream } = await open(t, { replay: { events: 2 } })
  stream.send({ id: '1', data: 'one' })
  for (const data of ['a', 'b', 'c']) stream.send({ data })
  await leader.waitFor('data: c\n\n')

  const client = await front.open('', after('1'))
  await client.waitFor('data: c\n\n')

  assert.deepEqual(dataOf(client), ['b', 'c'])
  assert.equal(headerOf(client, 'last-event-id'), '1')
})

test('comments of the upstream do not push events out', async (t) => {
  const { front, leader, stream } = await open(t, { replay: { events: 3 } })
  for (const id of ['1', '2', '3']) stream.write(`id: ${id}\ndata: ${id}\n\n: ping\n\n: ping\n\n: ping\n\n`)
  await until(() => leader.text.split(': ping').length === 10, 'all comments')

  const client = await front.open('', after('1'))
  stream.send({ id: '4', data: '4' })
  await client.waitFor('data: 4\n\n')

  assert.deepEqual(dataOf(client), ['2', '3', '4'])
  assert.equal(headerOf(client, 'last-event-id'), undefined)
})

test('those who waited with other ids than the leader lose nothing in silence', async (t) => {
  const gaps: string[] = []
  let arrived = 0
  const { upstream, front } = await proxied(
    t,
    { share: { lingerMs: 1, onGap: (_stream, { requestedId }) => void gaps.push(requestedId) }, keepalive: false },
    {
      before: [
        (_req, _res, next) => {
          next()
          arrived += 1
        },
      ],
    },
  )
  const leader = front.request('', after('5'))
  const exchange = await upstream.next()
  const behind = front.request('', after('3'))
  const ahead = front.request('', after('7'))
  await until(() => arrived === 3, 'all requests to reach the middleware')
  const respond = (stream: EventStream, from: number): void => {
    for (let id = from + 1; id <= 9; id += 1) stream.send({ id: String(id), data: String(id) })
  }

  respond(exchange.stream(), 5)
  // Others may be asked for themselves.
  await leader.waitFor('data: 9\n\n')
  for (const each of upstream.exchanges.slice(1)) {
    if (!each.res.headersSent) respond(each.stream(), Number(each.headers['last-event-id']))
  }
  await Promise.all([behind, ahead].map((client) => client.waitFor('data: 9\n\n')))

  assert.deepEqual(dataOf(leader), ['6', '7', '8', '9'])
  if (dataOf(behind)[0] !== '4') assert.ok(gaps.includes('3'), 'events 4 and 5 are missing without a word')
  assert.deepEqual(dataOf(ahead).slice(-2), ['8', '9'])
  if (dataOf(ahead).length !== 2) assert.ok(gaps.includes('7'), 'event 7 came twice without a word')
})

// The seam.

const seams: { name: string; options?: Partial<SseProxyOptions>; share?: Share }[] = [
  { name: 'as they are' },
  { name: 'through a hook', options: { transform: (event) => ({ ...event }) } },
  { name: 'through an async hook', options: { transform: async (event) => void event } },
  { name: 'through hooks of their own', share: { transform: () => {} } },
  { name: 'through async hooks of their own', share: { transform: async (event) => ({ ...event }) } },
  { name: 'with ids of our own', share: { replay: { events: 60, ids: 'assign' } } },
]

for (const host of hostsByProtocol) {
  for (const { name, options, share } of host === 'express5' ? seams : seams.slice(0, 1)) {
    test(`hundreds of clients that join at any moment, with any id, get exact sequences, ${name} (${host})`, async (t) => {
      const random = dice(`${host} ${name}`)
      const assigns = share?.replay?.ids === 'assign'
      const { front, leader, stream, upstream } = await open(t, { replay: { events: 60 }, ...share }, options, { host })
      const total = 800
      const clients: { client: Client; asked: number | undefined }[] = []
      const connection = host === 'express5' ? {} : { session: openHttp2Session(front.origin) }
      t.after(() => connection.session?.destroy())
      // Of ids of our own, only those that the leader has seen can be asked for.
      const idsSeen = (): string[] => [...leader.text.matchAll(/^id: (.*)\n\n/gm)].map(([, id = '']) => id)
      let sent = 0
      while (sent < total) {
        let text = ''
        for (let count = random(8); count >= 0 && sent < total; count -= 1) {
          sent += 1
          text += random(4) === 0 ? ': a comment\n\n' : ''
          text += `id: ${sent}\r\ndata: ${sent}${random(10) === 0 ? 'x'.repeat(random(2000)) : ''}\n\n`
        }
        // Cut somewhere, so that joins happen in the middle of events as well.
        const cut = random(text.length)
        stream.write(text.slice(0, cut))
        await turn()
        if (clients.length < 200) {
          const known = assigns ? idsSeen() : []
          const newest = assigns ? known.length : sent
          const asked = random(4) === 0 || newest < 2 ? undefined : Math.max(1, newest - random(90))
          const id = asked === undefined ? undefined : assigns ? known[asked - 1]! : String(asked)
          clients.push({ asked, client: front.request('', { ...(id === undefined ? {} : after(id)), ...connection }) })
        }
        stream.write(text.slice(cut))
        await turn()
      }
      await Promise.all(clients.map(({ client }) => client.head()))
      stream.end(eventText({ id: 'last', data: 'last' }))

      const numberOf = new Map(assigns ? idsSeen().map((id, i) => [id, i + 1]) : [])
      for (const { client, asked } of [{ client: leader, asked: 0 }, ...clients]) {
        assert.notEqual(await client.ended(30_000), 'broken')
        const data = [...client.text.matchAll(/^data: (.*)$/gm)].map(([, value = '']) => value)
        const numbers = data.slice(0, -1).map((value) => Number.parseInt(value, 10))
        const gap = headerOf(client, 'last-event-id')
        const from = gap === undefined ? asked : assigns ? numberOf.get(gap) : Number(gap)
        const first = from === undefined ? (numbers[0] ?? total + 1) : from + 1
        assert.deepEqual(numbers, sequence(first, total), `asked for ${asked}, told ${gap}`)
        if (gap !== undefined) assert.ok(asked !== undefined && first > asked + 1, `a gap after ${asked} at ${first}`)
        assert.equal(data.at(-1), 'last')
      }
      assert.equal(upstream.exchanges.length, 1)
    })
  }
}

test('clients that leave and come back again and again see every event once', { timeout: 60_000 }, async (t) => {
  const random = dice('again and again')
  const { front, stream, upstream, leader } = await open(t, { replay: { events: 500 }, lingerMs: 1000 })
  const total = 500
  const wander = async (): Promise<number[]> => {
    const seen: number[] = []
    for (;;) {
      const client = front.request('', seen.length === 0 ? {} : after(String(seen.at(-1))))
      const until = 1 + random(30)
      await client.waitFor((text) => text.split('\n\n').length > until || text.includes(`data: ${total}\n\n`))
      const { events } = interpret(client.bytes)
      client.close()
      assert.equal(headerOf(client, 'last-event-id'), undefined)
      seen.push(...events.map(({ data }) => Number(data)))
      if (seen.at(-1) === total) return seen
    }
  }
  const wanderers = Array.from({ length: 10 }, wander)

  for (let sent = 1; sent <= total; sent += 1) {
    stream.send({ id: String(sent), data: String(sent) })
    await turn()
  }
  for (const seen of await within(Promise.all(wanderers), 'all to be through', 40_000)) {
    assert.deepEqual(seen, sequence(seen[0]!, total))
  }

  assert.equal(upstream.exchanges.length, 1)
  await leader.waitFor(`data: ${total}\n\n`)
})

// A real client.

test('an EventSource that loses its connection goes on where it was', async (t) => {
  const { front, proxy, upstream, leader, stream } = await open(t)
  const events = new Arrivals<string>()
  const source = new EventSource(front.url)
  const opened = gate()
  source.onopen = () => opened.open()
  source.onmessage = ({ data, lastEventId }) => events.add(`${lastEventId}: ${data}`)
  await within(opened.promise, 'the EventSource to open')
  stream.write('retry: 10\nid: 1\ndata: one\n\n')
  assert.equal(await events.next('an event'), '1: one')
  const reopened = gate()
  source.onopen = () => reopened.open()
  // The proxy lets go of the client, as a drain would; the other one stays.
  for (const each of proxy.streams) if (each.req.headers.accept) each.close()
  stream.send({ id: '2', data: 'two' })
  stream.send({ id: '3', data: 'three' })
  await leader.waitFor('three')
  await within(reopened.promise, 'the EventSource to come back')
  stream.send({ id: '4', data: 'four' })

  assert.equal(await events.next('an event'), '2: two')
  assert.equal(await events.next('an event'), '3: three')
  assert.equal(await events.next('an event'), '4: four')
  source.close()
  assert.equal(upstream.exchanges.length, 1)
})

// Ids of our own.

test('an upstream without ids gets them, and a client can go on from them', async (t) => {
  const { front, leader, stream, exchange } = await open(
    t,
    { replay: { ids: 'assign' } },
    {},
    {},
    {},
    after('from before'),
  )
  for (const data of ['one', 'two', 'three']) stream.send({ data })
  await leader.waitFor('three\n')
  await leader.waitFor((text) => text.endsWith('\n\n'))
  const [first, second, third] = interpret(leader.bytes).events

  const client = await front.open('', after(first!.lastEventId))
  stream.send({ data: 'four' })
  await client.waitFor((text) => text.includes('four') && text.endsWith('\n\n'))

  assert.deepEqual(interpret(client.bytes).events.slice(0, 2), [second, third])
  assert.deepEqual(dataOf(client), ['two', 'three', 'four'])
  assert.equal(new Set(interpret(client.bytes).events.map(({ lastEventId }) => lastEventId)).size, 3)
  assert.equal(headerOf(client, 'last-event-id'), undefined)
  assert.equal(headerOf(leader, 'last-event-id'), '')
  assert.equal(exchange.headers['last-event-id'], undefined)
})

test('ids of an earlier process are known as such: all that is kept, and the gap is told', async (t) => {
  const gaps: unknown[] = []
  const share: Share = { replay: { ids: 'assign', initial: 100 }, onGap: (_stream, gap) => void gaps.push(gap) }
  const earlier = await open(t, share)
  for (const data of ['a', 'b', 'c']) earlier.stream.send({ data })
  await earlier.leader.waitFor((text) => interpret(text).events.length === 3)
  const old = interpret(earlier.leader.bytes).events.map(({ lastEventId }) => lastEventId)
  const later = await open(t, share)
  for (const data of ['A', 'B', 'C']) later.stream.send({ data })
  await later.leader.waitFor((text) => interpret(text).events.length === 3)
  const fresh = interpret(later.leader.bytes).events.map(({ lastEventId }) => lastEventId)

  const client = await later.front.open('', after(old[1]!))
  await client.waitFor((text) => interpret(text).events.length === 3)

  assert.deepEqual(dataOf(client), ['A', 'B', 'C'])
  assert.ok(old.every((id) => !fresh.includes(id)))
  assert.equal(headerOf(client, 'last-event-id'), '')
  assert.deepEqual(gaps, [{ requestedId: old[1], resumedAfterId: '' }])
})

test('with ids of our own those who wait are served from one upstream, whatever ids they bring', async (t) => {
  const { upstream, front, proxy } = await proxied(t, {
    share: { lingerMs: 1, replay: { ids: 'assign' } },
    keepalive: false,
  })
  const clients = ['a-1', 'a-2', 'a-3'].map((id) => front.request('', after(id)))
  const exchange = await upstream.next()
  await until(() => front.connections === 3, 'all clients to be connected')

  const stream = exchange.stream()
  await Promise.all(clients.map((client) => client.head()))
  stream.send({ data: 'one' })

  for (const client of clients) await client.waitFor('one\n')
  assert.equal(upstream.exchanges.length, 1)
  assert.deepEqual(sharedBy(proxy), { streams: 1, clients: 3 })
})

test("ids of our own take the place of the upstream's, which meet it again at a resume", async (t) => {
  const { front, leader, stream, upstream } = await open(t, { replay: { ids: 'assign' } }, { resume: { delayMs: 1 } })
  stream.write('id: u1\ndata: one\n\ndata: two\nid: u2\n\n')
  await leader.waitFor((text) => interpret(text).events.length === 2)
  const [, second] = interpret(leader.bytes).events
  stream.reset()
  const again = await upstream.next()
  const client = await front.open('', after(second!.lastEventId))
  again.stream().end('id: u3\ndata: three\n\n')

  assert.equal(again.headers['last-event-id'], 'u2')
  await leader.ended()
  await client.ended()
  assert.deepEqual(dataOf(leader), ['one', 'two', 'three'])
  assert.deepEqual(dataOf(client), ['three'])
  for (const { lastEventId } of interpret(leader.bytes).events) assert.doesNotMatch(lastEventId, /^u/)
})

for (const { name, text, options = {} } of [
  { name: 'a block with an id only', text: 'data: one\n\nid: theirs\n\n' },
  {
    name: 'an event that a hook dropped',
    text: 'data: one\n\nid: theirs\ndata: dropped\n\n',
    options: { transform: ({ data }) => (data === 'dropped' ? null : undefined) } satisfies Partial<SseProxyOptions>,
  },
]) {
  test(`with ids of our own a client can go on although the upstream sent ${name}`, async (t) => {
    const { front, leader, stream } = await open(t, { replay: { ids: 'assign' } }, options)
    stream.write(text)
    stream.send({ data: 'two' })
    await leader.waitFor((all) => interpret(all).events.length === 2)
    const upToTheBlock = leader.text.slice(0, leader.text.indexOf('data: two'))
    const { lastEventId } = interpret(upToTheBlock)

    const client = await front.open('', after(lastEventId))
    await client.waitFor('data: two')

    assert.equal(headerOf(client, 'last-event-id'), undefined)
    assert.deepEqual(dataOf(client), ['two'])
  })
}

test('with ids of our own the last event of a stream that ends in the middle of it is forwarded as it is', async (t) => {
  const { leader, stream } = await open(t, { replay: { ids: 'assign' } })

  stream.end('data: one\n\ndata: half')

  await leader.ended()
  assert.ok(leader.text.endsWith('\n\ndata: half'), leader.text)
  assert.deepEqual(dataOf(leader), ['one'])
})

type Share = Exclude<SseProxyOptions['share'], boolean | undefined>

interface Opened extends Proxied<Upstream> {
  leader: Client
  exchange: Awaited<ReturnType<Upstream['next']>>
  stream: EventStream
}

/** A shared stream with its first client. */
async function open(
  t: TestContext,
  share: Share = {},
  options: Partial<SseProxyOptions> = {},
  arrangement: Arrangement = {},
  headers: Record<string, string> = {},
  request: { headers?: Record<string, string> } = {},
): Promise<Opened> {
  const arranged = await proxied(t, { share: { lingerMs: 1, ...share }, keepalive: false, ...options }, arrangement)
  const leader = arranged.front.request('', request)
  const exchange = await arranged.upstream.next()
  const stream = exchange.stream(headers)
  await leader.head()
  return { ...arranged, leader, exchange, stream }
}

function dataOf(client: Client): string[] {
  return interpret(client.bytes).events.map(({ data }) => data)
}

function sequence(from: number, to: number): number[] {
  return Array.from({ length: Math.max(to - from + 1, 0) }, (_, i) => from + i)
}

async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve))
}

/** Numbers from 0 to below a bound, the same in each run. */
function dice(seed: string): (below: number) => number {
  let state = seed
  return (below) => {
    state = createHash('sha256').update(state).digest('hex')
    return Number.parseInt(state.slice(0, 8), 16) % Math.max(below, 1)
  }
}
