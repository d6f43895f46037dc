// Shared streams that do not come to be, or end badly: what each client is told, and that nothing is left behind.
import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { test } from 'node:test'
import { type SseStream, sseProxy } from 'sse-proxy-middleware'
import type { Client } from '../support/client.ts'
import { hostsByProtocol, startFront } from '../support/front.ts'
import { watchLeftovers } from '../support/leftovers.ts'
import { rawProxied } from '../support/proxied.ts'
import { chunk, lastChunk, streamHead } from '../support/raw-upstream.ts'
import { refusingUrl, several } from '../support/several-upstreams.ts'
import { lengthOf, shared, sharedBy, sharedRaw } from '../support/sharing.ts'
import { startUpstream } from '../support/upstream.ts'
import { gate, until, within } from '../support/waiting.ts'

// An answer that is no event stream.

const answers = [
  { name: '401 with JSON', status: 401, type: 'application/json', body: '{"error":"who are you?"}' },
  { name: '204', status: 204, type: '', body: '' },
  { name: '500', status: 500, type: 'text/plain', body: 'it is broken' },
  { name: '200 with HTML', status: 200, type: 'text/html', body: '<form action="/login">' },
  { name: '404 without a body', status: 404, type: 'text/plain', body: '' },
  { name: '503', status: 503, type: 'text/event-stream', body: 'data: not now\n\n' },
]

for (const host of hostsByProtocol) {
  for (const { name, status, type, body } of answers) {
    test(`${name} is given to all who waited, complete, and the next client asks anew (${host})`, async (t) => {
      const room = await shared(t, {}, {}, { host })
      const clients = [room.front.request()]
      const exchange = await room.upstream.next()
      for (let count = 0; count < 4; count += 1) clients.push(room.front.request())
      await room.arrivals(5)

      exchange.answer(
        status,
        { ...(type && { 'content-type': type }), ...(status !== 204 && lengthOf(body)), 'content-language': 'de' },
        body,
      )

      for (const client of clients) {
        await client.ended()
        assert.deepEqual(
          [client.status, client.text, client.ending, client.headers['content-language']],
          [status, body, 'clean', 'de'],
        )
        if (type) assert.equal(client.headers['content-type'], type)
      }
      const next = room.front.request()
      ;(await room.upstream.next()).stream()
      assert.equal((await next.head()).status, 200)
      assert.equal(room.upstream.exchanges.length, 2)
    })
  }
}

test('a client that comes while the answer is on its way gets it whole', async (t) => {
  const room = await shared(t)
  const clients = [room.front.request(), room.front.request()]
  const { res } = await room.upstream.next()
  await room.arrivals(2)
  res.writeHead(403, { 'content-type': 'text/plain', ...lengthOf('you may not') })
  res.write('you may ')
  clients.push(room.front.request())
  await room.arrivals(3)

  res.end('not')

  for (const client of clients) assert.equal(await client.whole(), 'you may not')
  assert.equal(room.upstream.exchanges.length, 1)
})

test('an answer larger than limits.bodyBytes is for the one who asked, and the others ask for themselves', async (t) => {
  const room = await shared(t, {}, { limits: { bodyBytes: 1000 } })
  const clients = [room.front.request()]
  const first = await room.upstream.next()
  for (let count = 0; count < 3; count += 1) clients.push(room.front.request())
  await room.arrivals(4)
  const body = (mark: string): string => mark.repeat(100_000)

  first.answer(200, { 'content-type': 'text/plain', ...lengthOf(body('a')) }, body('a'))
  for (const mark of ['b', 'c', 'd'])
    (await room.upstream.next()).answer(200, { 'content-type': 'text/plain' }, body(mark))

  const bodies = await Promise.all(clients.map((client) => client.whole()))
  assert.equal(bodies[0], body('a'))
  assert.deepEqual(bodies.slice(1).sort(), [body('b'), body('c'), body('d')])
})

test('an answer of exactly limits.bodyBytes is shared', async (t) => {
  const room = await shared(t, {}, { limits: { bodyBytes: 1000 } })
  const clients = [room.front.request(), room.front.request()]
  const first = await room.upstream.next()
  await room.arrivals(2)

  first.answer(200, { 'content-type': 'text/plain', ...lengthOf('a'.repeat(1000)) }, 'a'.repeat(1000))

  for (const client of clients) assert.equal(await client.whole(), 'a'.repeat(1000))
  assert.equal(room.upstream.exchanges.length, 1)
})

test('an answer that breaks in the middle is a 502 for all who waited, and no part of it is told', async (t) => {
  const room = await shared(t)
  const clients = [room.front.request(), room.front.request()]
  const { res } = await room.upstream.next()
  await room.arrivals(2)

  res.writeHead(200, { 'content-type': 'text/plain', 'content-length': '1000' })
  res.write('the first part')
  await sent(res)
  res.destroy()

  for (const client of clients) {
    assert.match(await client.whole(), /"ERR_SSE_PROXY_BAD_ANSWER"/)
    assert.equal(client.status, 502)
    assert.doesNotMatch(client.text, /the first part/)
  }
})

test('an answer that does not say how long it is reaches the one who asked at once, and the others ask for themselves', async (t) => {
  const room = await shared(t)
  const leader = room.front.request()
  const first = await room.upstream.next()
  const waiting = room.front.request()
  await room.arrivals(2)

  first.res.writeHead(200, { 'content-type': 'text/plain' })
  first.res.write('a part')

  await leader.waitFor('a part')
  ;(await room.upstream.next()).answer(200, {}, 'another')
  assert.equal(await waiting.whole(), 'another')
  first.res.end(' and the rest')
  assert.equal(await leader.whole(), 'a part and the rest')
})

test('the upstream of an endless answer is let go when its only client leaves', async (t) => {
  const room = await shared(t)
  const client = room.front.request()
  const exchange = await room.upstream.next()
  exchange.res.writeHead(200, { 'content-type': 'text/plain' })
  exchange.res.write('no end')
  await client.waitFor('no end')

  client.close()

  await exchange.leftByPeer(3000)
})

test('the upstream of an answer that was too large to share is let go when its client leaves', async (t) => {
  const room = await shared(t, {}, { limits: { bodyBytes: 10 } })
  const leader = room.front.request()
  const first = await room.upstream.next()
  const waiting = room.front.request()
  await room.arrivals(2)
  first.res.writeHead(200, { 'content-type': 'text/plain', 'content-length': '100' })
  first.res.write('more than ten bytes')
  await leader.waitFor('bytes')
  const second = await room.upstream.next()
  second.answer(200, {}, 'short')
  await waiting.whole()

  leader.close()

  await first.leftByPeer(3000)
})

test('an answer that is too large is let go when the one who asked for it has gone', async (t) => {
  const room = await shared(t, {}, { limits: { bodyBytes: 10 } })
  const leader = room.front.request()
  const first = await room.upstream.next()
  const waiting = room.front.request()
  await room.arrivals(2)
  leader.close()
  await room.departures(1)

  first.res.writeHead(200, { 'content-type': 'text/plain', 'content-length': '100' })
  first.res.write('more than ten bytes')
  const second = await room.upstream.next()
  second.answer(200, {}, 'short')

  assert.equal(await waiting.whole(), 'short')
  await first.leftByPeer(3000)
})

test('an answer is not waited for any more when all who wanted it have gone', async (t) => {
  const room = await shared(t)
  const clients = [room.front.request(), room.front.request()]
  const exchange = await room.upstream.next()
  await room.arrivals(2)
  exchange.res.writeHead(200, { 'content-type': 'text/plain', 'content-length': '100' })
  exchange.res.write('a part')
  await sent(exchange.res)

  for (const client of clients) client.close()

  await exchange.leftByPeer(3000)
})

test('a 204 that answers one Last-Event-ID does not end those who asked for something else', async (t) => {
  const room = await shared(t)
  const done = room.front.request('', { headers: { 'last-event-id': 'end' } })
  const first = await room.upstream.next()
  const others = [room.front.request(), room.front.request('', { headers: { 'last-event-id': '3' } })]
  await room.arrivals(3)

  first.answer(204)
  await done.ended()
  await until(() => room.upstream.exchanges.length > 1, 'the others to be asked for')
  const served = new Set([first])
  await until(() => {
    for (const exchange of room.upstream.exchanges) {
      if (served.has(exchange)) continue
      served.add(exchange)
      exchange.stream()
    }
    return others.every(({ hasHead }) => hasHead)
  }, 'the others to be served')

  assert.equal(done.status, 204)
  assert.deepEqual(
    others.map(({ status }) => status),
    [200, 200],
  )
})

// No answer at all.

test('all who waited are told that the upstream cannot be reached, each with its own answer', async (t) => {
  const told: unknown[] = []
  const room = await shared(t, {}, { on: { error: (_error, req) => void told.push(req.headers['x-request-id']) } })
  const clients = [1, 2, 3].map((number) => room.front.request('', { headers: { 'x-request-id': String(number) } }))
  const { res } = await room.upstream.next()
  await room.arrivals(3)

  res.socket?.resetAndDestroy()

  for (const client of clients) {
    assert.match(await client.whole(), /ERR_SSE_PROXY_/)
    assert.equal(client.status, 502)
  }
  assert.deepEqual(told.sort(), ['1', '2', '3'])
})

test('when there is no answer in time, all who waited are told and the upstream is let go', async (t) => {
  const room = await shared(t, {}, { timeouts: { responseMs: 100 } })
  const clients = [room.front.request(), room.front.request()]
  const exchange = await room.upstream.next()

  for (const client of clients) {
    await client.ended()
    assert.equal(client.status, 504)
  }
  await exchange.leftByPeer()
})

test("with unavailable: 'reconnect' all who waited are told to come back", async (t) => {
  const upstreamUrl = refusingUrl
  const room = await shared(t, {}, { target: upstreamUrl, unavailable: 'reconnect', clientRetryMs: 7 })
  const clients = [1, 2].map(() => room.front.request('', { headers: { accept: 'text/event-stream' } }))

  for (const client of clients) assert.equal(await client.whole(), 'retry: 7\n\n')
})

test('while it is opening, another upstream is tried once for all who wait', async (t) => {
  const refusing = refusingUrl
  const { upstreams, front, proxy } = await several(
    t,
    ([first]) => ({
      target: [refusing, String(first)],
      balance: 'round-robin',
      share: { lingerMs: 1 },
      keepalive: false,
    }),
    { count: 1 },
  )
  const clients = [front.request(), front.request(), front.request()]
  const exchange = await upstreams[0].next()
  const stream = exchange.stream()
  await Promise.all(clients.map((client) => client.head()))

  stream.send({ data: 'for all' })

  for (const client of clients) await client.waitFor('for all\n\n')
  assert.equal(upstreams[0].exchanges.length, 1)
  assert.ok(proxy.stats().retries <= 1)
})

// Clients that leave before there is a stream.

for (const host of hostsByProtocol) {
  test(`the leader leaves while others wait, and they get their stream (${host})`, async (t) => {
    const room = await shared(t, {}, {}, { host })
    const leader = room.front.request()
    const exchange = await room.upstream.next()
    const waiting = [room.front.request(), room.front.request()]
    await room.arrivals(3)

    leader.close()
    await room.departures(1)
    exchange.stream().send({ data: 'for those who stayed' })

    for (const client of waiting) await client.waitFor('for those who stayed\n\n')
    assert.equal(exchange.isLeft, false)
    assert.equal(room.upstream.exchanges.length, 1)
  })

  test(`all leave while the stream is opening, and the upstream's request is given up at once (${host})`, async (t) => {
    const room = await shared(t, { lingerMs: 60_000 }, {}, { host })
    const leader = room.front.request()
    const exchange = await room.upstream.next()
    const waiting = [room.front.request(), room.front.request()]
    await room.arrivals(3)

    for (const client of [waiting[0]!, leader, waiting[1]!]) client.close()

    await exchange.leftByPeer(3000)
    assert.deepEqual(sharedBy(room.proxy), { streams: 0, clients: 0 })
    const next = room.front.request()
    ;(await room.upstream.next()).stream().end('data: x\n\n')
    assert.equal(await next.whole(), 'data: x\n\n')
  })
}

test('all leave while the upstream is backing off, and it is not asked again', async (t) => {
  const room = await shared(t, {}, { retry: { attempts: 5, backoffMs: 60_000, maxBackoffMs: 60_000 } })
  const clients = [room.front.request(), room.front.request()]
  const exchange = await room.upstream.next()
  await room.arrivals(2)
  exchange.answer(503)
  await until(() => room.proxy.stats().retries === 1, 'the wait for another attempt')

  for (const client of clients) client.close()
  await room.departures(2)

  assert.equal(room.upstream.exchanges.length, 1)
  assert.equal(room.upstream.open, 0)
  const next = room.front.request()
  ;(await room.upstream.next()).stream()
  assert.equal((await next.head()).status, 200)
})

// The upstream is lost.

for (const host of hostsByProtocol) {
  for (const how of ['reset', 'cut'] as const) {
    test(`an upstream that is lost breaks all transfers, and none ends cleanly: ${how} (${host})`, async (t) => {
      const reasons: string[] = []
      const told: string[] = []
      const room = await shared(
        t,
        {},
        {
          onClose: (_stream, reason) => void reasons.push(reason),
          on: { error: (error) => void told.push(error.message) },
        },
        { host },
      )
      const clients = [room.front.request(), room.front.request(), room.front.request()]
      const exchange = await room.upstream.next()
      await room.arrivals(3)
      const stream = exchange.stream()
      stream.write('data: whole\n\ndata: ha')
      for (const client of clients) await client.waitFor('whole')

      stream[how]()

      for (const client of clients) {
        assert.equal(await client.ended(), 'broken')
        assert.equal(client.text, 'data: whole\n\n')
      }
      await until(() => reasons.length === 3 && told.length > 0, 'the endings to be told')
      assert.deepEqual(reasons, ['upstream-lost', 'upstream-lost', 'upstream-lost'])
      assert.equal(told.length, 1)
      assert.deepEqual(sharedBy(room.proxy), { streams: 0, clients: 0 })
      assert.deepEqual(room.proxy.stats().errors, { ERR_SSE_PROXY_UPSTREAM_LOST: 1 })
    })
  }

  test(`an upstream that ends cleanly ends all transfers cleanly (${host})`, async (t) => {
    const room = await shared(t, {}, {}, { host })
    const clients = [room.front.request(), room.front.request()]
    const exchange = await room.upstream.next()
    await room.arrivals(2)
    const stream = exchange.stream()
    await Promise.all(clients.map((client) => client.head()))

    stream.end('data: last\n\ndata: unfinished')

    for (const client of clients) assert.equal(await client.whole(), 'data: last\n\ndata: unfinished')
    assert.equal(room.proxy.stats().closed['upstream-ended'], 2)
  })
}

for (const [how, share] of [
  ['', {}],
  [', each with a hook of its own', { transform: () => undefined }],
] as const) {
  test(`an upstream that is silent for idleMs counts as lost, once for all clients${how}`, async (t) => {
    const room = await shared(t, share, { timeouts: { idleMs: 100 } })
    const clients = [room.front.request(), room.front.request()]
    const exchange = await room.upstream.next()
    await room.arrivals(2)
    exchange.stream().send({ data: 'a' })

    for (const client of clients) assert.equal(await client.ended(), 'broken')
    await exchange.leftByPeer()
    await until(() => room.proxy.stats().shared.streams === 0, 'the stream to be over')
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
    assert.deepEqual(room.proxy.stats().errors, { ERR_SSE_PROXY_IDLE: 1 })
    assert.equal(room.proxy.stats().closed['upstream-lost'], 2)
  })
}

test('an event larger than limits.eventBytes breaks all transfers, and no part of it is sent', async (t) => {
  const room = await shared(t, {}, { limits: { eventBytes: 1000 } })
  const clients = [room.front.request(), room.front.request()]
  const exchange = await room.upstream.next()
  await room.arrivals(2)
  const stream = exchange.stream()
  stream.send({ data: 'small' })
  for (const client of clients) await client.waitFor('small\n\n')

  stream.write(`data: ${'x'.repeat(600)}`)
  stream.write('x'.repeat(600))

  for (const client of clients) {
    assert.equal(await client.ended(), 'broken')
    assert.equal(client.text, 'data: small\n\n')
  }
  await exchange.leftByPeer()
  assert.equal(room.proxy.stats().errors.ERR_SSE_PROXY_EVENT_TOO_LARGE, 1)
})

test('a body that is cut where nothing tells its end breaks all transfers', async (t) => {
  const { upstream, front } = await rawProxied(t, { share: { lingerMs: 1 }, keepalive: false })
  const clients = [front.request()]
  const conversation = await upstream.next()
  await conversation.head()
  conversation.send('HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: whole\n\ndata: ha')
  await clients[0]!.waitFor('whole')
  clients.push(await front.open())

  conversation.finish()

  for (const client of clients) assert.equal(await client.ended(), 'broken')
  assert.deepEqual(
    clients.map(({ text }) => text),
    ['data: whole\n\n', ''],
  )
})

test('a chunk that is none breaks all transfers', async (t) => {
  const { upstream, front } = await rawProxied(t, { share: { lingerMs: 1 }, keepalive: false })
  const client = front.request()
  const conversation = await upstream.next()
  await conversation.head()
  conversation.send(Buffer.concat([Buffer.from(streamHead), chunk('data: whole\n\n')]))
  await client.waitFor('whole')
  const joiner = await front.open()

  conversation.send('zzz\r\n')

  assert.equal(await client.ended(), 'broken')
  assert.equal(await joiner.ended(), 'broken')
})

test('an upstream that answers and ends in one packet serves all who waited', async (t) => {
  const room = await sharedRaw(t)
  const clients = [room.front.request(), room.front.request(), room.front.request()]
  const conversation = await room.upstream.next()
  await room.arrivals(3)

  conversation.send(Buffer.concat([Buffer.from(streamHead), chunk('id: 1\ndata: a\n\n'), Buffer.from(lastChunk)]))

  for (const client of clients) assert.equal(await client.whole(), 'id: 1\ndata: a\n\n')
})

// With resume.

for (const host of hostsByProtocol) {
  test(`with resume a lost upstream is reopened once for all, without loss or double (${host})`, async (t) => {
    const room = await shared(t, {}, { resume: { delayMs: 1 } }, { host })
    const clients = [room.front.request(), room.front.request(), room.front.request()]
    const exchange = await room.upstream.next()
    await room.arrivals(3)
    const stream = exchange.stream()
    stream.write('id: 1\ndata: one\n\nid: 2\ndata: two\n\nid: 3\ndata: ha')
    for (const client of clients) await client.waitFor('two\n\n')

    stream.reset()
    const second = await room.upstream.next()
    const joiner = await room.front.open()
    second.stream().end('id: 3\ndata: three\n\nid: 4\ndata: four\n\n')

    const all = 'id: 1\ndata: one\n\nid: 2\ndata: two\n\nid: 3\ndata: three\n\nid: 4\ndata: four\n\n'
    for (const client of clients) assert.equal(await client.whole(), all)
    assert.equal(await joiner.whole(), 'id: 3\ndata: three\n\nid: 4\ndata: four\n\n')
    assert.equal(second.headers['last-event-id'], '2')
    assert.equal(room.upstream.exchanges.length, 2)
    assert.equal(room.proxy.stats().resumes, 1)
  })
}

test('a client that comes while the upstream is being reopened gets what it has missed, and what follows', async (t) => {
  const room = await shared(t, {}, { resume: { delayMs: 1 } })
  const leader = room.front.request()
  const stream = (await room.upstream.next()).stream()
  stream.write('id: 1\ndata: one\n\nid: 2\ndata: two\n\n')
  await leader.waitFor('two\n\n')
  stream.reset()
  const second = await room.upstream.next()

  const joiner = await room.front.open('', { headers: { 'last-event-id': '1' } })
  await joiner.waitFor('two\n\n')
  second.stream().end('id: 3\ndata: three\n\n')

  assert.equal(await joiner.whole(), 'id: 2\ndata: two\n\nid: 3\ndata: three\n\n')
})

test('with resume the stream goes on although its leader has long left', async (t) => {
  const room = await shared(t, {}, { resume: { delayMs: 1 }, xfwd: true })
  const leader = room.front.request('', { headers: { 'last-event-id': '1' } })
  const first = await room.upstream.next()
  const stream = first.stream()
  await leader.head()
  const joiner = await room.front.open()
  leader.close()
  await room.departures(1)
  stream.send({ id: '2', data: 'two' })
  await joiner.waitFor('two')

  stream.reset()
  const second = await room.upstream.next()
  second.stream().end('id: 3\ndata: three\n\n')

  assert.equal(await joiner.whole(), 'id: 2\ndata: two\n\nid: 3\ndata: three\n\n')
  assert.equal(second.headers['last-event-id'], '2')
})

test('when the upstream cannot be reopened, all transfers break', async (t) => {
  const room = await shared(t, {}, { resume: { attempts: 2, delayMs: 1 } })
  const clients = [room.front.request(), room.front.request()]
  const exchange = await room.upstream.next()
  await room.arrivals(2)
  const stream = exchange.stream()
  stream.send({ id: '1', data: 'one' })
  for (const client of clients) await client.waitFor('one')

  stream.reset()
  for (let count = 0; count < 2; count += 1) (await room.upstream.next()).answer(500)

  for (const client of clients) assert.equal(await client.ended(), 'broken')
})

for (const status of [204, 401]) {
  test(`a resume that is answered with ${status} ends all, so that each meets that answer itself`, async (t) => {
    const room = await shared(t, {}, { resume: { delayMs: 1 } })
    const clients = [room.front.request(), room.front.request()]
    const exchange = await room.upstream.next()
    await room.arrivals(2)
    const stream = exchange.stream()
    stream.send({ id: '1', data: 'one' })
    for (const client of clients) await client.waitFor('one')

    stream.reset()
    ;(await room.upstream.next()).answer(status)

    for (const client of clients) assert.equal(await client.whole(), 'id: 1\ndata: one\n\n')
  })
}

test('all leave while the upstream is being reopened, and it is not asked any more', async (t) => {
  const room = await shared(t, {}, { resume: { delayMs: 60_000, maxDelayMs: 60_000 } })
  const client = room.front.request()
  const stream = (await room.upstream.next()).stream()
  stream.send({ id: '1', data: 'one' })
  await client.waitFor('one')
  stream.reset()

  client.close()

  await until(() => room.proxy.stats().shared.streams === 0, 'the shared stream to be given up')
  assert.equal(room.upstream.exchanges.length, 1)
})

// A client that an async onOpen holds.

for (const how of ['end', 'reset'] as const) {
  test(`a client that onOpen holds learns what became of the upstream meanwhile: ${how}`, async (t) => {
    const hold = gate()
    const room = await shared(
      t,
      {},
      { onOpen: ({ req }) => (req.headers['x-request-id'] === undefined ? undefined : hold.promise) },
    )
    const free = room.front.request()
    const stream = (await room.upstream.next()).stream()
    await free.head()
    const held = await room.front.open('', { headers: { 'x-request-id': '1' } })
    stream.send({ id: '1', data: 'one' })
    await free.waitFor('one')
    stream[how]()
    await free.ended()

    hold.open()

    assert.equal(await held.ended(3000), how === 'end' ? 'clean' : 'broken')
    if (how === 'end') assert.equal(held.text, 'id: 1\ndata: one\n\n')
    assert.equal(room.proxy.stats().active, 0)
  })
}

for (const lingerMs of [0, 1]) {
  test(`the upstream is kept while its only client is held by onOpen, lingerMs ${lingerMs}`, async (t) => {
    const hold = gate()
    const room = await shared(t, { lingerMs }, { onOpen: () => hold.promise })
    const client = room.front.request()
    const exchange = await room.upstream.next()
    const stream = exchange.stream()
    await client.head()
    stream.send({ data: 'one' })
    // Another stream, given up after a longer time, says that this one would have been.
    const clock = await shared(t, { lingerMs: 40 })
    const left = clock.front.request()
    const other = await clock.upstream.next()
    other.stream()
    await left.head()
    left.close()
    await other.leftByPeer()

    hold.open()
    await client.waitFor('one\n\n', 3000)
    stream.send({ data: 'two' })

    await client.waitFor('two\n\n', 3000)
    assert.equal(exchange.isLeft, false)
  })
}

test('a client that onOpen held for longer than the replay reaches gets all that came since it was there', async (t) => {
  const hold = gate()
  const room = await shared(
    t,
    { replay: { events: 2 } },
    { onOpen: ({ req }) => (req.headers['x-request-id'] === undefined ? undefined : hold.promise) },
  )
  const free = room.front.request()
  const stream = (await room.upstream.next()).stream()
  await free.head()
  const held = await room.front.open('', { headers: { 'x-request-id': '1' } })
  for (let id = 1; id <= 5; id += 1) stream.send({ id: String(id), data: `event ${id}` })
  await free.waitFor('event 5\n\n')

  hold.open()
  await held.waitFor('event 5\n\n')

  assert.equal(held.text, [1, 2, 3, 4, 5].map((id) => `id: ${id}\ndata: event ${id}\n\n`).join(''))
})

test('a client that leaves while onOpen holds it leaves the others and the upstream alone', async (t) => {
  const hold = gate()
  const room = await shared(t, {}, { onOpen: ({ req }) => (req.headers['x-request-id'] ? hold.promise : undefined) })
  const free = room.front.request()
  const exchange = await room.upstream.next()
  const stream = exchange.stream()
  await free.head()
  const held = await room.front.open('', { headers: { 'x-request-id': '1' } })

  held.close()
  await room.departures(1)
  hold.open()
  stream.send({ data: 'for the one who stayed' })

  await free.waitFor('for the one who stayed\n\n')
  assert.deepEqual(sharedBy(room.proxy), { streams: 1, clients: 1 })
  free.close()
  await exchange.leftByPeer()
})

for (const transform of [undefined, () => undefined]) {
  test(`a stream that is closed as soon as it opens does not keep the upstream, share.transform ${transform ? 'on' : 'off'}`, async (t) => {
    const room = await shared(t, { ...(transform && { transform }) })
    const close = (message: unknown): void => (message as { stream: SseStream }).stream.close()
    subscribe('sse-proxy:open', close)
    t.after(() => unsubscribe('sse-proxy:open', close))

    const client = room.front.request()
    const exchange = await room.upstream.next()
    exchange.stream()

    assert.equal(await client.whole(), '')
    await exchange.leftByPeer(3000)
    assert.deepEqual(sharedBy(room.proxy), { streams: 0, clients: 0 })
  })
}

test('an onOpen that throws or rejects breaks that client only', async (t) => {
  const room = await shared(
    t,
    {},
    {
      onOpen: ({ req }) => {
        if (req.headers['x-request-id'] === 'throw') throw new Error('no')
        return req.headers['x-request-id'] === 'reject' ? Promise.reject(new Error('no')) : undefined
      },
    },
  )
  const thrown = room.front.request('', { headers: { 'x-request-id': 'throw' } })
  const exchange = await room.upstream.next()
  const others = [room.front.request(), room.front.request('', { headers: { 'x-request-id': 'reject' } })]
  await room.arrivals(3)

  exchange.stream().send({ data: 'for the one' })

  await others[0]!.waitFor('for the one\n\n')
  assert.equal(await thrown.ended(), 'broken')
  assert.equal(await others[1]!.ended(), 'broken')
  assert.deepEqual(sharedBy(room.proxy), { streams: 1, clients: 1 })
})

// A hook that fails.

test('a hook that throws breaks all transfers, and nobody sees the event', async (t) => {
  const room = await shared(
    t,
    {},
    {
      transform: ({ data }) => {
        if (data === 'secret') throw new Error('no')
      },
    },
  )
  const clients = [room.front.request(), room.front.request()]
  const exchange = await room.upstream.next()
  await room.arrivals(2)
  const stream = exchange.stream()
  await Promise.all(clients.map((client) => client.head()))

  stream.write('data: a\n\ndata: secret\n\ndata: b\n\n')

  for (const client of clients) {
    assert.equal(await client.ended(), 'broken')
    assert.equal(client.text, 'data: a\n\n')
  }
  await exchange.leftByPeer()
  assert.equal(room.proxy.stats().closed['hook-failed'], 2)
})

// The end of the whole proxy.

for (const host of hostsByProtocol) {
  test(`close() sends all clients of a shared stream away and leaves nothing (${host})`, async (t) => {
    const leftovers = watchLeftovers(t)
    const upstream = await startUpstream()
    const proxy = sseProxy({ target: `${upstream.url}/stream`, share: { lingerMs: 60_000 }, resume: true })
    const front = await startFront(host, proxy)
    const clients = [front.request(), front.request(), front.request()]
    const exchange = await upstream.next()
    const stream = exchange.stream()
    await Promise.all(clients.map((client) => client.head()))
    stream.send({ id: '1', data: 'one' })
    for (const client of clients) await client.waitFor('one\n\n')

    const result = await proxy.close({ withinMs: 1000, retryMs: [5, 5] })

    assert.deepEqual(result, { drained: 3, aborted: 0, other: 0 })
    for (const client of clients) assert.equal(await client.whole(), 'id: 1\ndata: one\n\nretry: 5\n\n')
    await exchange.leftByPeer()
    assert.deepEqual(sharedBy(proxy), { streams: 0, clients: 0 })
    await front.close()
    await upstream.close()
    await leftovers.assertNone()
  })
}

test('close() gives up streams that linger, those that nobody could join included', async (t) => {
  const leftovers = watchLeftovers(t)
  const upstream = await startUpstream()
  const proxy = sseProxy({ target: `${upstream.url}/stream`, share: { lingerMs: 60_000 }, resume: true })
  const front = await startFront('express5', proxy)
  for (const vary of ['Accept', 'X-Tenant', '*']) {
    const client = front.request(`?${vary}`)
    const stream = (await upstream.next()).stream({ vary })
    stream.send({ id: '1', data: 'one' })
    await client.waitFor('one')
    client.close()
  }
  await until(() => proxy.stats().active === 0, 'the clients to be gone')

  await proxy.close({ withinMs: 100 })

  await until(() => upstream.open === 0, 'the upstream to be let go', 3000)
  assert.equal(upstream.exchanges.length, 3)
  await front.close()
  await upstream.close()
  await leftovers.assertNone()
})

test('close() gives up a stream that another of the same key has kept from being joined', async (t) => {
  const leftovers = watchLeftovers(t)
  const upstream = await startUpstream()
  const proxy = sseProxy({ target: `${upstream.url}/stream`, share: { lingerMs: 60_000 }, resume: true })
  const front = await startFront('express5', proxy)
  t.after(() => Promise.all([front.close(), upstream.close()]))
  const clients = ['5', '3'].map((id) => front.request('', { headers: { 'last-event-id': id } }))
  const first = await upstream.next()
  await until(() => proxy.stats().active === 0 && front.connections === 2, 'both to be connected')
  const second = await upstream.next(500).catch(() => undefined)
  for (const exchange of [first, second]) exchange?.stream({ vary: 'X-Tenant' }).send({ id: '6', data: '6' })
  for (const client of clients) await client.head()
  assert.equal(proxy.stats().shared.clients, 2)
  for (const client of clients) client.close()
  await until(() => proxy.stats().active === 0, 'the clients to be gone')

  await proxy.close({ withinMs: 100 })

  await until(() => upstream.open === 0, 'the upstreams to be let go', 3000)
  await front.close()
  await upstream.close()
  await leftovers.assertNone()
})

test('close() sends away those who wait for a stream, and gives up the request', async (t) => {
  const room = await shared(t)
  const clients = [room.front.request(), room.front.request()]
  const exchange = await room.upstream.next()
  await room.arrivals(2)

  await room.proxy.close({ withinMs: 50 })

  for (const client of clients) {
    await client.ended()
    assert.equal(client.status, 503)
  }
  await exchange.leftByPeer(3000)
})

test('a stream that opens while the proxy is closing is ended too', async (t) => {
  const room = await shared(t)
  const clients = [room.front.request(), room.front.request()]
  const exchange = await room.upstream.next()
  await room.arrivals(2)

  const closed = room.proxy.close({ withinMs: 500, retryMs: [5, 5] })
  exchange.stream()

  await closed
  for (const client of clients) assert.equal(await client.whole(), 'retry: 5\n\n')
  await exchange.leftByPeer()
})

// An answer before the upstream's.

test('with openAfterMs all who wait get their headers early, and the stream when it is there', async (t) => {
  const room = await shared(t, {}, { keepalive: { intervalMs: 20, openAfterMs: 10 } })
  const clients = [room.front.request(), room.front.request()]
  const exchange = await room.upstream.next()
  for (const client of clients) await client.waitFor(': keepalive\n\n')

  const stream = exchange.stream()
  stream.send({ data: 'one' })
  for (const client of clients) await client.waitFor('data: one\n\n')
  stream.end()

  for (const client of clients) assert.equal(await client.ended(), 'clean')
  assert.equal(room.upstream.exchanges.length, 1)
})

test('with openAfterMs an answer that is no stream breaks those who have had their headers', async (t) => {
  const room = await shared(t, {}, { keepalive: { intervalMs: 20, openAfterMs: 10 } })
  const clients = [room.front.request(), room.front.request()]
  const exchange = await room.upstream.next()
  for (const client of clients) await client.head()

  exchange.answer(401, { 'content-type': 'text/plain', ...lengthOf('who are you?') }, 'who are you?')

  for (const client of clients) {
    assert.equal(await client.ended(), 'broken')
    assert.doesNotMatch(client.text, /who are you/)
  }
})

test('a shared stream that thousands of clients come and go at leaves nothing', { timeout: 120_000 }, async (t) => {
  const leftovers = watchLeftovers(t)
  const upstream = await startUpstream()
  const proxy = sseProxy({ target: `${upstream.url}/stream`, share: { lingerMs: 0 } })
  const front = await startFront('http', proxy)
  const clients: Client[] = [front.request()]
  const exchange = await upstream.next()
  for (let count = 1; count < 2000; count += 1) clients.push(front.request())
  const stream = exchange.stream()
  await Promise.all(clients.map((client) => client.head(60_000)))
  stream.send({ id: '1', data: 'for all' })
  await Promise.all(clients.map((client) => client.waitFor('for all\n\n', 60_000)))
  assert.equal(upstream.accepted, 1)
  assert.deepEqual(sharedBy(proxy), { streams: 1, clients: 2000 })

  for (const client of clients) client.close()
  await within(exchange.leftByPeer(), 'the upstream to be let go')
  await until(() => front.connections === 0, 'the connections to be over')

  assert.deepEqual(sharedBy(proxy), { streams: 0, clients: 0 })
  assert.equal(proxy.stats().active, 0)
  assert.equal([...proxy.streams].length, 0)
  await front.close()
  await upstream.close()
  await leftovers.assertNone()
})

/** Resolves when what was written has left for the socket. */
async function sent(res: { write(bytes: string, done: () => void): unknown }): Promise<void> {
  await new Promise<void>((resolve) => res.write('.', () => resolve()))
}
