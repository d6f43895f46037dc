// Many clients on one upstream stream: what each gets, what runs once and what runs for each, and what ends when.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import compression from 'compression'
import { type Client, headerOf, openHttp2Session, request } from '../support/client.ts'
import { fakeClock } from '../support/fake-clock.ts'
import { hosts, hostsByProtocol } from '../support/front.ts'
import { interpret } from '../support/oracle.ts'
import { proxied } from '../support/proxied.ts'
import { several } from '../support/several-upstreams.ts'
import { shared, sharedBy, three } from '../support/sharing.ts'
import { gate, until } from '../support/waiting.ts'

for (const host of hosts) {
  test(`many clients are served from one upstream connection, those that came while it was opening too (${host})`, async (t) => {
    const room = await shared(t, {}, {}, { host })
    const clients = [room.front.request()]
    const exchange = await room.upstream.next()
    for (let count = 0; count < 10; count += 1) clients.push(room.front.request())
    await room.arrivals(11)
    const stream = exchange.stream({ 'content-language': 'de' })
    for (let count = 0; count < 10; count += 1) clients.push(await room.front.open())

    stream.send({ data: 'one', id: '1' })
    stream.send({ data: 'two', id: '2' })
    stream.end()

    for (const client of clients) {
      assert.equal(await client.whole(), 'id: 1\ndata: one\n\nid: 2\ndata: two\n\n')
      assert.equal(headerOf(client, 'content-language'), 'de')
      assert.match(headerOf(client, 'content-type') ?? '', /^text\/event-stream/)
      assert.match(headerOf(client, 'cache-control') ?? '', /no-transform/)
    }
    assert.equal(room.upstream.accepted, 1)
  })
}

test('share: true is enough', async (t) => {
  const { upstream, front, proxy } = await proxied(t, { share: true })
  const clients = [front.request(), front.request()]
  const exchange = await upstream.next()
  const stream = exchange.stream()
  await Promise.all(clients.map((client) => client.head()))

  stream.send({ data: 'one' })
  for (const client of clients) await client.waitFor('one\n\n')

  assert.equal(upstream.exchanges.length, 1)
  await proxy.close({ withinMs: 10 })
  await exchange.leftByPeer()
})

test('without share each client has an upstream connection of its own', async (t) => {
  const { upstream, front } = await proxied(t)
  const clients = [front.request(), front.request()]

  for (let count = 0; count < 2; count += 1) (await upstream.next()).stream().end('data: x\n\n')

  for (const client of clients) assert.equal(await client.whole(), 'data: x\n\n')
})

test('clients of HTTP/1.1 and HTTP/2 share a stream', async (t) => {
  const room = await shared(t, {}, {}, { host: 'connect over http2' })
  const leader = room.front.request()
  const stream = (await room.upstream.next()).stream()
  await leader.head()
  const session = openHttp2Session(room.front.origin)
  t.after(() => session.destroy())
  const clients = [
    leader,
    await room.front.open('', { session }),
    await room.front.open('', { session }),
    await room.front.open('', { protocol: 'http/1.1' }),
    await room.front.open('', { protocol: 'http/1.1' }),
  ]

  clients[3]!.close()
  await room.departures(1)
  stream.send({ data: 'one' })
  for (const client of clients.filter((_, i) => i !== 3)) await client.waitFor('one\n\n')
  stream.end()

  for (const client of clients.filter((_, i) => i !== 3)) assert.equal(await client.ended(), 'clean')
  assert.equal(room.upstream.exchanges.length, 1)
})

for (const host of hostsByProtocol) {
  test(`a complete event leaves at once to all, and a part of one to nobody (${host})`, async (t) => {
    const room = await shared(t, {}, {}, { host })
    const { stream, clients } = await three(room)

    stream.write('data: one\n\ndata: tw')
    for (const client of clients) await client.waitFor('one\n\n')
    assert.ok(clients.every(({ text }) => text === 'data: one\n\n'))
    stream.write('o\n\n')

    for (const client of clients) await client.waitFor('two\n\n')
  })

  test(`the last client's leaving ends the upstream's request, the leaving of others does not (${host})`, async (t) => {
    const room = await shared(t, {}, {}, { host })
    const { exchange, stream, clients } = await three(room)

    clients[0]!.close()
    clients[1]!.close()
    await room.departures(2)
    stream.send({ data: 'for the last' })
    await clients[2]!.waitFor('for the last\n\n')
    assert.equal(exchange.isLeft, false)
    clients[2]!.close()

    await exchange.leftByPeer()
    assert.equal(room.proxy.stats().closed['client-left'], 3)
    assert.deepEqual(sharedBy(room.proxy), { streams: 0, clients: 0 })
  })

  test(`a silent stream gets comments, all clients the same (${host})`, async (t) => {
    const room = await shared(t, {}, { keepalive: 20 }, { host })
    const { stream, clients } = await three(room)

    for (const client of clients) await client.waitFor(': keepalive\n\n: keepalive\n\n')
    const late = await room.front.open()
    await late.waitFor(': keepalive\n\n')
    stream.write('data: x\ndata:')
    for (const client of clients) await client.waitFor((text) => text.split('keepalive').length > 5)
    stream.end(' y\n\n')

    for (const client of [...clients, late]) {
      await client.ended()
      assert.deepEqual(dataOf(client), ['x\ny'])
    }
  })
}

for (const [whose, transform, share] of [
  ["the upstream's", () => null, {}],
  ['its own', undefined, { transform: () => null }],
] as const) {
  test(`a client gets comments although events come, where a hook drops ${whose}`, async (t) => {
    const room = await shared(t, share, { keepalive: 300, transform })
    const { stream, clients } = await three(room)
    const sender = setInterval(() => stream.send({ data: 'dropped' }), 4)
    t.after(() => clearInterval(sender))

    for (const client of clients) await client.waitFor(': keepalive\n\n: keepalive\n\n')
  })
}

test('a stream in which events come gets no comments', async (t) => {
  const clock = fakeClock(t)
  const room = await shared(t, {}, { keepalive: 60 })
  const { stream, clients } = await three(room)
  const sends = async (data: string): Promise<void> => {
    stream.send({ data })
    for (const client of clients) await client.waitFor(`data: ${data}\n\n`)
  }

  for (let i = 0; i < 10; i += 1) {
    await sends(`number ${i}.`)
    clock.pass(45)
  }
  await sends('the last.')

  for (const { text } of clients) assert.doesNotMatch(text, /keepalive/)
  clock.pass(70)
  for (const client of clients) await client.waitFor('the last.\n\n: keepalive\n\n')
})

test('what the upstream compressed is decoded once, and what it marked is forwarded without the mark', async (t) => {
  const { gzipSync } = await import('node:zlib')
  const room = await shared(t)
  const clients = [room.front.request(), room.front.request()]
  const exchange = await room.upstream.next()
  await room.arrivals(2)

  exchange.stream({ 'content-encoding': 'gzip' }).end(gzipSync('\uFEFFdata: one\n\ndata: two\n\n'))

  for (const client of clients) {
    await client.ended()
    assert.deepEqual(dataOf(client), ['one', 'two'])
    assert.equal(headerOf(client, 'content-encoding'), undefined)
  }
})

test('compression() in front of some clients changes nothing for them or for others', async (t) => {
  const compress = compression({ threshold: 0 })
  const room = await shared(
    t,
    {},
    { keepalive: 20 },
    { before: [(req, res, next) => (req.headers['x-request-id'] ? compress(req, res, next) : next())] },
  )
  const leader = room.front.request('', { headers: { 'x-request-id': '1', 'accept-encoding': 'gzip' } })
  const stream = (await room.upstream.next()).stream()
  await leader.head()
  const plain = await room.front.open()

  for (const data of ['one', 'x'.repeat(100_000), 'three']) {
    stream.send({ data })
    for (const client of [leader, plain]) await client.waitFor((text) => dataIn(text).at(-1) === data)
  }
  stream.end()

  for (const client of [leader, plain]) {
    assert.equal(await client.ended(), 'clean')
    assert.deepEqual(dataOf(client), ['one', 'x'.repeat(100_000), 'three'])
  }
})

test('an event of any size arrives as it was, whatever the size of a write', async (t) => {
  for (const host of hostsByProtocol) {
    const room = await shared(t, {}, {}, { host })
    const { stream, clients } = await three(room)
    const sizes = [0, 1, 9, 10, 255, 256, 4095, 4096, 16_383, 16_384, 65_529, 65_536, 131_072, 300_000]

    for (const [i, size] of sizes.entries()) {
      stream.send({ data: 'é'.repeat(size), id: String(i) })
      for (const client of clients) await client.waitFor((text) => text.endsWith('\n\n') && text.includes(`id: ${i}\n`))
    }
    stream.end()

    for (const client of clients) {
      assert.equal(await client.ended(), 'clean')
      assert.deepEqual(
        [...client.text.matchAll(/^data: (.*)$/gm)].map(([, data = '']) => data.length),
        sizes,
      )
    }
  }
})

// Hooks.

for (const { name, transform } of [
  {
    name: 'that return at once',
    transform: (calls: string[]) => (event: { data: string }) => void calls.push(event.data),
  },
  {
    name: 'that return promises',
    transform: (calls: string[]) => async (event: { data: string }) => {
      await new Promise((resolve) => setImmediate(resolve))
      calls.push(event.data)
    },
  },
]) {
  test(`hooks ${name} run once for an event of the upstream, however many clients there are`, async (t) => {
    const calls: string[] = []
    const room = await shared(t, {}, { transform: transform(calls) })
    const { stream, clients } = await three(room)

    stream.write('data: one\n\ndata: two\n\n')
    stream.end('data: three\n\n')

    for (const client of clients) assert.equal(await client.whole(), 'data: one\n\ndata: two\n\ndata: three\n\n')
    assert.deepEqual(calls, ['one', 'two', 'three'])
    assert.equal(room.proxy.stats().eventsIn, 3)
    assert.equal(room.proxy.stats().eventsOut, 9)
  })
}

test('what hooks change, drop and add reaches all alike', async (t) => {
  const room = await shared(
    t,
    {},
    {
      transform: [
        (event) => (event.data === 'drop' ? null : undefined),
        (event) => [{ ...event, data: event.data.toUpperCase() }, { data: 'and more' }],
      ],
    },
  )
  const { stream, clients } = await three(room)

  stream.end('id: 1\ndata: a\n\nid: 2\ndata: drop\n\nid: 3\ndata: b\n\n')

  for (const client of clients) {
    await client.whole()
    assert.deepEqual(dataOf(client), ['A', 'and more', 'B', 'and more'])
    assert.equal(interpret(client.bytes).lastEventId, '3')
  }
})

test("share.transform runs for each client with that client's request", async (t) => {
  const room = await shared(t, {
    transform: (event, { req }) => {
      const user = String(req.headers['x-request-id'])
      const [to, data] = event.data.split(': ') as [string, string]
      return to === user || to === 'all' ? { ...event, data: `${user} reads ${data}` } : null
    },
  })
  const users = ['a', 'b', 'c']
  const clients = [room.front.request('', { headers: { 'x-request-id': 'a' } })]
  const exchange = await room.upstream.next()
  const stream = exchange.stream()
  await clients[0]!.head()
  for (const user of users.slice(1)) clients.push(await room.front.open('', { headers: { 'x-request-id': user } }))

  stream.end('id: 1\ndata: a: secret\n\nid: 2\ndata: all: news\n\nid: 3\ndata: b: hint\n\n')

  const [a, b, c] = clients as [Client, Client, Client]
  for (const client of clients) {
    assert.equal(await client.ended(), 'clean')
    assert.equal(interpret(client.bytes).lastEventId, '3')
  }
  assert.deepEqual(dataOf(a), ['a reads secret', 'a reads news'])
  assert.deepEqual(dataOf(b), ['b reads news', 'b reads hint'])
  assert.deepEqual(dataOf(c), ['c reads news'])
  assert.equal(room.upstream.exchanges.length, 1)
})

test("share.transform filters what is replayed, too, with the late client's own request", async (t) => {
  const room = await shared(t, {
    transform: (event, { req }) => (event.data.startsWith(String(req.headers['x-request-id'])) ? undefined : null),
  })
  const leader = room.front.request('', { headers: { 'x-request-id': 'a' } })
  const stream = (await room.upstream.next()).stream()
  for (const [i, data] of ['a1', 'b1', 'a2', 'b2'].entries()) stream.send({ id: String(i), data })
  await leader.waitFor('id: 3\n\n')

  const client = await room.front.open('', { headers: { 'x-request-id': 'b', 'last-event-id': '0' } })
  await client.waitFor('b2\n\n')

  assert.deepEqual(dataOf(client), ['b1', 'b2'])
  assert.deepEqual(dataOf(leader), ['a1', 'a2'])
})

test('an async share.transform keeps the order, and holds nobody else up', async (t) => {
  const hold = gate()
  const room = await shared(t, {
    transform: async (event, { req }) => {
      if (req.headers['x-request-id']) await hold.promise
      return { ...event, data: `${event.data}!` }
    },
  })
  const quick = room.front.request()
  const stream = (await room.upstream.next()).stream()
  await quick.head()
  const slow = await room.front.open('', { headers: { 'x-request-id': '1' } })

  for (const data of ['one', 'two', 'three']) stream.send({ data })
  await quick.waitFor('three!\n\n')
  assert.equal(slow.text, '')
  hold.open()
  stream.end()

  assert.equal(await slow.ended(), 'clean')
  assert.deepEqual(dataOf(slow), ['one!', 'two!', 'three!'])
  assert.deepEqual(dataOf(quick), ['one!', 'two!', 'three!'])
})

for (const how of ['throws', 'rejects'] as const) {
  test(`a share.transform that ${how} breaks that client only, and its event is not sent`, async (t) => {
    const reasons: string[] = []
    const room = await shared(
      t,
      {
        transform: (event, { req }) => {
          if (!req.headers['x-request-id'] || event.data !== 'two') return undefined
          if (how === 'rejects') return Promise.reject(new Error('no'))
          throw new Error('no')
        },
      },
      { onClose: (_stream, reason) => void reasons.push(reason) },
    )
    const good = room.front.request()
    const stream = (await room.upstream.next()).stream()
    await good.head()
    const bad = await room.front.open('', { headers: { 'x-request-id': '1' } })

    for (const data of ['one', 'two', 'three']) stream.send({ data })

    assert.equal(await bad.ended(), 'broken')
    assert.equal(bad.text, 'data: one\n\n')
    await good.waitFor('three\n\n')
    assert.deepEqual(reasons, ['hook-failed'])
    assert.deepEqual(sharedBy(room.proxy), { streams: 1, clients: 1 })
  })
}

test('both lists of hooks: the first once, the second for each client with what the first has made', async (t) => {
  let first = 0
  let second = 0
  const room = await shared(
    t,
    {
      transform: (event) => {
        second += 1
        return { ...event, data: `${event.data} second` }
      },
    },
    {
      transform: (event) => {
        first += 1
        return { ...event, data: `${event.data} first` }
      },
    },
  )
  const { stream, clients } = await three(room)

  stream.end('data: a\n\ndata: b\n\n')

  for (const client of clients) {
    await client.ended()
    assert.deepEqual(dataOf(client), ['a first second', 'b first second'])
  }
  assert.deepEqual([first, second], [2, 6])
  assert.equal(room.proxy.stats().eventsIn, 2)
  assert.equal(room.proxy.stats().eventsOut, 6)
})

// The app's own events.

test('stream.send on one client reaches that client only, between two events', async (t) => {
  const room = await shared(t)
  const { stream, clients } = await three(room)
  stream.write('data: one\n\ndata: tw')
  for (const client of clients) await client.waitFor('one\n\n')
  const [first] = [...room.proxy.streams]

  assert.equal(first!.send({ data: 'for one' }), true)
  stream.end('o\n\n')

  for (const client of clients) await client.ended()
  const all = clients.map(dataOf).sort()
  assert.deepEqual(all, [
    ['one', 'for one', 'two'],
    ['one', 'two'],
    ['one', 'two'],
  ])
})

test('stream.send from a hook on the shared stream reaches all, in its place', async (t) => {
  const room = await shared(
    t,
    {},
    { transform: (event, stream) => void (event.data === 'two' && stream.send({ data: 'before two' })) },
  )
  const { stream, clients } = await three(room)

  stream.end('data: one\n\ndata: two\n\ndata: three\n\n')

  for (const client of clients) {
    await client.ended()
    assert.deepEqual(dataOf(client), ['one', 'before two', 'two', 'three'])
  }
})

test('stream.send from a hook of its own reaches that client only', async (t) => {
  const room = await shared(t, {
    transform: (event, stream) => {
      if (stream.req.headers['x-request-id']) stream.send({ data: `hello before ${event.data}` })
    },
  })
  const greeted = room.front.request('', { headers: { 'x-request-id': '1' } })
  const stream = (await room.upstream.next()).stream()
  await greeted.head()
  const other = await room.front.open()

  stream.end('data: one\n\ndata: two\n\n')

  await Promise.all([greeted.ended(), other.ended()])
  assert.deepEqual(dataOf(greeted), ['hello before one', 'one', 'hello before two', 'two'])
  assert.deepEqual(dataOf(other), ['one', 'two'])
})

test('stream.send in onOpen comes before everything else, for each client', async (t) => {
  const room = await shared(t, {}, { onOpen: (stream) => void stream.send({ data: `hello ${stream.req.url}` }) })
  const leader = room.front.request('?lastEventId=1')
  const stream = (await room.upstream.next()).stream()
  await leader.head()
  stream.send({ id: '2', data: 'two' })
  await leader.waitFor('two\n\n')

  const joiner = await room.front.open('?lastEventId=1')
  await joiner.waitFor('two\n\n')

  assert.equal(dataOf(leader)[0], 'hello /?lastEventId=1')
  assert.deepEqual(dataOf(joiner), ['hello /?lastEventId=1', 'two'])
})

test('what onEnd sends is not mixed with an event that the upstream left unfinished', async (t) => {
  const room = await shared(t, {}, { onEnd: (stream) => void stream.send({ data: 'bye' }) })
  const { stream, clients } = await three(room)

  stream.end('data: one\n\ndata: half')

  for (const client of clients) {
    assert.equal(await client.ended(), 'clean')
    assert.ok(!dataOf(client).some((data) => data.includes('half')), client.text)
    assert.equal(dataOf(client)[0], 'one')
  }
})

test('an async onOpen holds one client back, which then gets all it has missed, in order', async (t) => {
  const hold = gate()
  const room = await shared(t, {}, { onOpen: ({ req }) => (req.headers['x-request-id'] ? hold.promise : undefined) })
  const free = room.front.request()
  const stream = (await room.upstream.next()).stream()
  await free.head()
  const held = await room.front.open('', { headers: { 'x-request-id': '1' } })
  stream.send({ data: 'one' })
  stream.send({ data: 'two' })
  await free.waitFor('two\n\n')
  assert.equal(held.text, '')

  hold.open()
  await held.waitFor('two\n\n')
  stream.send({ data: 'three' })
  await held.waitFor('three\n\n')

  assert.deepEqual(dataOf(held), ['one', 'two', 'three'])
})

test('stream.close() ends that client cleanly and nobody else', async (t) => {
  const reasons: string[] = []
  const room = await shared(t, {}, { onClose: (_stream, reason) => void reasons.push(reason) })
  const { stream, clients } = await three(room)
  const [first] = [...room.proxy.streams]

  first!.close()
  await room.departures(1)
  await Promise.race(clients.map((client) => client.ended()))
  stream.send({ data: 'for the others' })

  const endings = clients.map(({ ending }) => ending)
  await Promise.all(clients.filter(({ ending }) => !ending).map((client) => client.waitFor('for the others\n\n')))
  assert.deepEqual(
    endings.filter((ending) => ending),
    ['clean'],
  )
  assert.deepEqual(reasons, ['closed'])
})

test('stream.close() in a hook ends all cleanly after what has come before, as closed by the app', async (t) => {
  const reasons: string[] = []
  const room = await shared(
    t,
    {},
    {
      transform: (event, stream) => {
        if (event.data === 'stop') {
          stream.close()
          return null
        }
        return undefined
      },
      onClose: (_stream, reason) => void reasons.push(reason),
    },
  )
  const { stream, exchange, clients } = await three(room)

  stream.write('data: one\n\ndata: two\n\ndata: stop\n\ndata: three\n\n')

  for (const client of clients) {
    assert.equal(await client.ended(), 'clean')
    assert.deepEqual(dataOf(client), ['one', 'two'])
  }
  await exchange.leftByPeer()
  assert.deepEqual(reasons, ['closed', 'closed', 'closed'])
})

// What is told.

test('each client is told of and counted as a stream of its own, and the upstream once', async (t) => {
  const opened: string[] = []
  const room = await shared(t, {}, { onOpen: ({ id }) => void opened.push(id) })
  const { stream, clients } = await three(room)
  stream.send({ id: '1', data: 'one' })
  for (const client of clients) await client.waitFor('one\n\n')
  const late = await room.front.open('', { headers: { 'last-event-id': 'x' } })
  await late.waitFor('one\n\n')
  stream.send({ id: '2', data: 'two' })
  for (const client of [...clients, late]) await client.waitFor('two\n\n')

  const stats = room.proxy.stats()
  const streams = [...room.proxy.streams]

  assert.equal(new Set(opened).size, 4)
  assert.deepEqual(new Set(streams.map(({ id }) => id)), new Set(opened))
  assert.deepEqual([stats.active, stats.opened, sharedBy(room.proxy)], [4, 4, { streams: 1, clients: 4 }])
  assert.deepEqual([stats.eventsIn, stats.eventsOut], [2, 8])
  assert.equal(stats.bytesIn, 'id: 1\ndata: one\n\n'.length * 2)
  assert.equal(stats.bytesOut, 'id: 1\ndata: one\n\n'.length * 8)
  for (const { lastEventId, events, bytes, upstream } of streams) {
    assert.deepEqual([lastEventId, events, bytes], ['2', 2, 'id: 1\ndata: one\n\n'.length * 2])
    assert.equal(upstream, `${room.upstream.url}/stream`)
  }
})

test("a stream knows its own client's place, not another's", async (t) => {
  const room = await shared(t)
  const leader = room.front.request('', { headers: { 'last-event-id': '0', 'x-request-id': 'leader' } })
  const stream = (await room.upstream.next()).stream()
  stream.send({ id: '1', data: 'one' })
  stream.send({ id: '2', data: 'two' })
  await leader.waitFor('two\n\n')
  await room.front.open('', { headers: { 'x-request-id': 'fresh' } })
  const back = await room.front.open('', { headers: { 'last-event-id': '1', 'x-request-id': 'back' } })
  await back.waitFor('two\n\n')

  const places = Object.fromEntries(
    [...room.proxy.streams].map(({ req, lastEventId, events }) => [req.headers['x-request-id'], [lastEventId, events]]),
  )

  assert.deepEqual(places, { leader: ['2', 2], fresh: ['', 0], back: ['2', 1] })
})

test('with several targets a shared stream counts as one', async (t) => {
  const { upstreams, front, proxy } = await several(t, { share: { lingerMs: 1 }, keepalive: false }, { count: 2 })
  const clients = [front.request('?a'), front.request('?a'), front.request('?a')]
  await until(() => upstreams.some(({ open }) => open > 0), 'the first request')
  const busy = upstreams.find(({ open }) => open > 0)!
  busy.exchanges[0]!.stream()
  await Promise.all(clients.map((client) => client.head()))
  const idle = upstreams.find((upstream) => upstream !== busy)!

  const other = front.request('?b')
  ;(await idle.next()).stream()
  await other.head()

  assert.deepEqual(
    proxy.stats().upstreams.map(({ active, requests }) => [active, requests]),
    [
      [1, 1],
      [1, 1],
    ],
  )
})

test('limits count clients, not shared streams', async (t) => {
  const room = await shared(t, {}, { limits: { streams: 2 } })
  const leader = room.front.request()
  const exchange = await room.upstream.next()
  const joiner = room.front.request()
  await room.arrivals(2)

  const refused = await room.front.open()
  exchange.stream().end('data: x\n\n')

  assert.equal(refused.status, 503)
  assert.equal(await leader.whole(), 'data: x\n\n')
  assert.equal(await joiner.whole(), 'data: x\n\n')
})

test('each client has a lifetime of its own, and a word to come back at its end', async (t) => {
  const room = await shared(
    t,
    {},
    { timeouts: { lifetimeMs: (req) => (req.headers['x-request-id'] ? 30 : 0) }, clientRetryMs: 5 },
  )
  const long = room.front.request()
  const stream = (await room.upstream.next()).stream()
  await long.head()

  const short = await room.front.open('', { headers: { 'x-request-id': '1' } })

  assert.equal(await short.whole(), 'retry: 5\n\n')
  stream.send({ data: 'for the other' })
  await long.waitFor('for the other\n\n')
  assert.equal(room.proxy.stats().closed.expired, 1)
})

for (const onDisconnect of ['drain', { graceMs: 60_000 }] as const) {
  test(`a shared stream is kept by lingerMs alone: onDisconnect ${JSON.stringify(onDisconnect)}`, async (t) => {
    const room = await shared(t, {}, { onDisconnect })
    const { exchange, clients } = await three(room)

    for (const client of clients) client.close()

    await exchange.leftByPeer()
    assert.equal(room.proxy.stats().active, 0)
  })
}

test('the proxy of one app and that of another share nothing', async (t) => {
  const one = await shared(t)
  const other = await shared(t, {}, { target: `${one.upstream.url}/stream` })
  const clients = [request(one.front.url)]
  ;(await one.upstream.next()).stream().send({ data: '1' })
  await clients[0]!.waitFor('1')
  clients.push(request(other.front.url))
  ;(await one.upstream.next()).stream().send({ data: '2' })
  await clients[1]!.waitFor('2')

  assert.deepEqual(clients.map(dataOf), [['1'], ['2']])
  for (const client of clients) client.close()
})

function dataOf(client: Client): string[] {
  return dataIn(client.text)
}

function dataIn(text: string): string[] {
  return interpret(text).events.map(({ data }) => data)
}
