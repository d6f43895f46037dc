// A stream that loses its upstream goes on with another connection in the same response: nothing is lost, nothing is
// doubled, and the client does not notice.
import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { test } from 'node:test'
import { brotliCompressSync, constants, gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { type Client, headerOf } from '../support/client.ts'
import { hosts, hostsByProtocol } from '../support/front.ts'
import { watchLeftovers } from '../support/leftovers.ts'
import { interpret } from '../support/oracle.ts'
import { proxied, rawProxied, type SseProxyOptions } from '../support/proxied.ts'
import { chunk, streamHead } from '../support/raw-upstream.ts'
import { several } from '../support/several-upstreams.ts'
import type { EventStream, Exchange, Upstream } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

const resume = { delayMs: 1 }
const one = 'id: 1\ndata: one\n\n'
const two = 'id: 2\ndata: two\n\n'
const three = 'id: 3\ndata: three\n\n'

// The ways of losing an upstream.

const losses: { name: string; then: (stream: EventStream) => void; options?: Partial<SseProxyOptions> }[] = [
  { name: 'a reset', then: (stream) => stream.reset() },
  { name: 'a FIN', then: (stream) => stream.cut() },
  { name: 'silence for idleMs', then: () => {}, options: { timeouts: { idleMs: 60 } } },
]

for (const host of hostsByProtocol) {
  for (const { name, then, options = {} } of losses) {
    for (const [place, unfinished] of [
      ['between two events', ''],
      ['in the middle of an event', 'id: 2\ndata: tw'],
      ['in the middle of an id', 'id: 2'],
      ['before the blank line', 'id: 2\ndata: other\n'],
    ] as const) {
      test(`${name} ${place} is made good in the same response (${host})`, async (t) => {
        const { upstream, front } = await proxied(t, { resume, ...options }, { host })
        const client = front.request()
        const lost = await upstream.next()
        const stream = lost.stream()
        stream.write(one + unfinished)
        await client.waitFor(one)

        then(stream)
        const again = await upstream.next()
        again.stream().end(two + three)

        assert.equal(again.headers['last-event-id'], '1')
        assert.equal(await client.ended(), 'clean')
        assert.equal(client.text, one + two + three)
        await until(() => upstream.open === 0, 'the lost connection to be let go')
      })
    }
  }
}

for (const host of hosts) {
  test(`a loss is made good in ${host}`, async (t) => {
    const { upstream, front } = await proxied(t, { resume: true }, { host })
    const { client, stream } = await opened(upstream, front)

    stream.reset()
    const again = await upstream.next()
    again.stream().end(two)

    assert.equal(await client.ended(), 'clean')
    assert.equal(client.text, one + two)
  })
}

test('a chunk that is cut short, or no chunk at all, is a loss as well', async (t) => {
  for (const unfinished of ['20\r\ndata: tw', 'zz\r\n', '3\r\ndata: two\n\n\r\n']) {
    const { upstream, front } = await rawProxied(t, { resume })
    const client = front.request()
    const lost = await upstream.next()
    await lost.head()
    lost.send(streamHead)
    lost.send(chunk(one))
    await client.waitFor(one)

    lost.send(unfinished)
    lost.finish()
    const again = await upstream.next()
    assert.match(await again.head(), /last-event-id: 1\r\n/i)
    again.send(streamHead)
    again.send(chunk(two))
    again.send('0\r\n\r\n')

    assert.equal(await client.ended(), 'clean')
    assert.equal(client.text, one + two)
  }
})

test('wherever a stream is cut, however often, each of its events arrives once and in order', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.constantFrom('data', 'id-only', 'comment', 'no-id', 'long'), { minLength: 1, maxLength: 12 }),
      fc.constantFrom('\n', '\r\n', '\r'),
      fc.array(fc.record({ at: fc.nat(400), isReset: fc.boolean() }), { maxLength: 6 }),
      async (kinds, lineEnd, cuts) => {
        // The last id before a block tells where to go on, so that a block without one belongs to the next id.
        const blocks = kinds.map((kind, i) => blockOf(kind, i, lineEnd))
        const script = [...cuts]
        const { upstream, front } = await proxied(t, { resume: { delayMs: 0, attempts: 50 } })
        upstream.server.on('request', (req, res) => {
          const from = Number(req.headers['last-event-id'] ?? -1)
          const bytes = Buffer.from(blocks.slice(from + 1).join(''))
          res.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders()
          const cut = script.shift()
          if (cut === undefined) return void res.end(bytes)
          res.write(bytes.subarray(0, cut.at), () => {
            if (cut.isReset) res.socket?.resetAndDestroy()
            else res.socket?.destroy()
          })
        })

        const client = front.request('', { headers: { 'last-event-id': '-1' } })

        assert.equal(await client.ended(), 'clean')
        assert.deepEqual(
          interpret(client.bytes).events.map(({ data }) => data),
          interpret(blocks.join('')).events.map(({ data }) => data),
        )
        await front.close()
        await upstream.close()
      },
    ),
    { numRuns: 40 },
  )
})

// Where it goes on.

test('an id counts when its blank line has passed, with an event or without', async (t) => {
  const { upstream, front } = await proxied(t, { resume })
  const client = front.request()
  const stream = (await upstream.next()).stream()
  stream.write(`${one}id: 1.5\n\nid: 9`)
  await client.waitFor('id: 1.5\n\n')

  stream.cut()

  const again = await upstream.next()
  assert.equal(again.headers['last-event-id'], '1.5')
})

test('the id of the event before counts on where events carry none', async (t) => {
  const { upstream, front } = await proxied(t, { resume })
  const { client, stream } = await opened(upstream, front, 'data: no id\n\n')
  await client.waitFor('no id\n\n')

  stream.cut()

  const again = await upstream.next()
  assert.equal(again.headers['last-event-id'], '1')
})

for (const [name, path, headers] of [
  ['in its header', '', { 'last-event-id': '41' }],
  ['in its query', '?lastEventId=41', {}],
  ['in its query, spelled another way', '?last_event_id=41', {}],
] as const) {
  test(`the id that the client brought ${name} counts until another has passed`, async (t) => {
    const { upstream, front } = await proxied(t, { resume })
    const client = front.request(path, { headers })
    const first = await upstream.next()
    const stream = first.stream()
    stream.write(': hello\n\ndata: x\n\nid: 42')
    await client.waitFor('data: x\n\n')

    stream.reset()
    const second = await upstream.next()
    const again = second.stream()
    again.write('id: 42\ndata: y\n\n')
    await client.waitFor('data: y')
    again.reset()
    const third = await upstream.next()

    assert.deepEqual(
      [first, second, third].map((exchange) => exchange.headers['last-event-id']),
      ['41', '41', '42'],
    )
  })
}

test('a stream that is lost before its first byte goes on from the id that the client brought', async (t) => {
  const { upstream, front } = await proxied(t, { resume })
  const client = front.request('', { headers: { 'last-event-id': '41' } })
  const stream = (await upstream.next()).stream()
  await client.head()

  stream.reset()

  const again = await upstream.next()
  assert.equal(again.headers['last-event-id'], '41')
  again.stream().end('id: 42\ndata: y\n\n')
  assert.equal(await client.whole(), 'id: 42\ndata: y\n\n')
})

for (const [name, options] of [
  ['', {}],
  [', with a hook', { transform: () => {} }],
  [', shared', { share: true }],
] satisfies [string, Partial<SseProxyOptions>][]) {
  test(`a stream of a client without an id that is lost before its first event begins anew${name}`, async (t) => {
    const { upstream, front } = await proxied(t, { resume, ...options })
    const client = front.request()
    const stream = (await upstream.next()).stream()
    stream.write(': hello\n\nid: 1\ndata: on')
    await client.waitFor(': hello\n\n')

    stream.reset()

    const again = await upstream.next()
    assert.equal(again.headers['last-event-id'], undefined)
    again.stream().end(one)
    assert.equal(await client.whole(), `: hello\n\n${one}`)
  })
}

test('ids travel as UTF-8', async (t) => {
  const id = 'größer/✓/😀 "x"'
  const { upstream, front } = await proxied(t, { resume })
  const client = front.request()
  const stream = (await upstream.next()).stream()
  stream.write(`id: ${id}\ndata: x\n\n`)
  await client.waitFor('data: x\n\n')

  stream.reset()

  const again = await upstream.next()
  assert.equal(Buffer.from(String(again.headers['last-event-id']), 'latin1').toString('utf8'), id)
})

const without: { name: string; text: string; headers?: Record<string, string> }[] = [
  { name: 'without ids', text: 'data: x\n\n' },
  { name: 'whose last id was empty', text: `${one}id:\ndata: x\n\n` },
  { name: 'whose last id was empty, the client had one', text: 'id\ndata: x\n\n', headers: { 'last-event-id': '7' } },
  { name: 'whose last id no header can carry', text: `${one}id: a\u0007b\ndata: x\n\n` },
  { name: 'whose last id is longer than any header', text: `${one}id: ${'x'.repeat(30_000)}\ndata: x\n\n` },
]

for (const { name, text, headers = {} } of without) {
  test(`a stream ${name} breaks, since it could go on in the wrong place only`, async (t) => {
    const { upstream, front } = await proxied(t, { resume })
    const client = front.request('', { headers })
    const stream = (await upstream.next()).stream()
    stream.write(text)
    await client.waitFor('data: x\n\n')

    stream.reset()

    assert.equal(await client.ended(), 'broken')
    assert.equal(client.text, text)
    assert.equal(upstream.exchanges.length, 1)
  })

  test(`a stream ${name} goes on, without an id, where the app says that it may`, async (t) => {
    const { upstream, front } = await proxied(t, { resume: { ...resume, withoutIds: true } })
    const client = front.request('', { headers })
    const stream = (await upstream.next()).stream()
    stream.write(text)
    await client.waitFor('data: x\n\n')

    stream.reset()

    const again = await upstream.next()
    assert.equal(again.headers['last-event-id'], undefined)
    again.stream().end('data: y\n\n')
    assert.equal(await client.whole(), `${text}data: y\n\n`)
  })
}

test("a lost stream goes on elsewhere, and comes back to the first only when that one's successor is lost", async (t) => {
  const { upstreams, front } = await several(t, { resume }, { count: 2 })
  const client = front.request()
  await until(() => upstreams.some(({ open }) => open > 0), 'the request')
  const [home, other] = upstreams[0].open > 0 ? upstreams : ([upstreams[1], upstreams[0]] as const)

  for (const [i, upstream] of [home, other, home, other].entries()) {
    const stream = (await upstream.next()).stream()
    stream.send({ id: `${i}`, data: `event ${i}` })
    await client.waitFor(`event ${i}`)
    stream.reset()
  }

  const last = await home.next()
  last.stream().end()
  assert.equal(await client.ended(), 'clean')
})

test('a lost stream goes on at the same upstream where there is no other that is well', async (t) => {
  const { upstreams, front } = await several(
    t,
    { resume, balance: (candidates) => candidates[0] as (typeof candidates)[0] },
    { count: 2, upstream: (at) => (at === 1 ? { handler: ({ req }) => req.socket.resetAndDestroy() } : {}) },
  )
  const client = front.request()
  const stream = (await upstreams[0].next()).stream()
  stream.write(one)
  await client.waitFor(one)

  stream.reset()

  const again = await upstreams[0].next()
  assert.equal(again.headers['last-event-id'], '1')
  assert.equal(upstreams[1].exchanges.length, 1)
})

// What is in the bytes.

test('the byte order mark of the first connection stays, those of the others go', async (t) => {
  const mark = '\ufeff'
  const { upstream, front } = await proxied(t, { resume })
  const client = front.request()
  const stream = (await upstream.next()).stream()
  stream.write(mark + one)
  await client.waitFor(one)

  stream.reset()
  const again = (await upstream.next()).stream()
  const bytes = Buffer.from(mark + two)
  again.write(bytes.subarray(0, 1))
  again.write(bytes.subarray(1, 2))
  again.write(bytes.subarray(2))
  await client.waitFor('two')
  again.reset()
  const last = await upstream.next()
  last.stream().end(mark + three)

  assert.equal(last.headers['last-event-id'], '2')
  assert.equal(await client.ended(), 'clean')
  assert.equal(client.text, mark + one + two + three)
})

test('a byte order mark does not hide the id behind it', async (t) => {
  const { upstream, front } = await proxied(t, { resume })
  const client = front.request()
  const stream = (await upstream.next()).stream()
  stream.write(`\ufeff${one}`)
  await client.waitFor(one)

  stream.reset()

  const again = await upstream.next()
  assert.equal(again.headers['last-event-id'], '1')
})

for (const [name, transform] of [
  ['', []],
  [' with hooks', () => {}],
] as const) {
  test(`a byte order mark of a later connection does not hide the id behind it${name}`, async (t) => {
    const { upstream, front } = await proxied(t, { resume, transform })
    const client = front.request('', { headers: { 'last-event-id': '41' } })
    const stream = (await upstream.next()).stream()
    await client.head()

    for (const id of ['41', '42', '43']) {
      if (id === '41') stream.reset()
      const again = await upstream.next()
      assert.equal(again.headers['last-event-id'], id)
      const next = again.stream()
      next.write(`\ufeffid: ${Number(id) + 1}\ndata: after ${id}\n\n`)
      await client.waitFor(`after ${id}\n\n`)
      next.reset()
    }

    assert.equal((await upstream.next()).headers['last-event-id'], '44')
    assert.deepEqual(
      interpret(client.bytes).events.map(({ data, lastEventId }) => [data, lastEventId]),
      [
        ['after 41', '42'],
        ['after 42', '43'],
        ['after 43', '44'],
      ],
    )
  })
}

test('connections that are compressed, each in its own way, make one plain stream', async (t) => {
  const { upstream, front } = await proxied(t, { resume })
  const client = front.request()
  const gzipped = gzipSync(one, { finishFlush: constants.Z_SYNC_FLUSH })
  const stream = (await upstream.next()).stream({ 'content-encoding': 'gzip' })
  stream.write(gzipped)
  await client.waitFor(one)
  stream.write(gzipSync('id: 2\ndata: tw').subarray(0, 12))

  stream.reset()
  const again = (await upstream.next()).stream({ 'content-encoding': 'br' })
  again.write(brotliCompressSync(two))
  await client.waitFor(two)
  again.cut()
  const last = await upstream.next()
  last.stream().end(three)

  assert.equal(last.headers['last-event-id'], '2')
  assert.equal(await client.ended(), 'clean')
  assert.equal(client.text, one + two + three)
  assert.equal(headerOf(client, 'content-encoding'), undefined)
})

test('lines that end with CR, with CR LF, and with LF go on after each other', async (t) => {
  const { upstream, front } = await proxied(t, { resume })
  const client = front.request()
  let sent = ''
  let last: string | undefined
  for (const [i, lineEnd] of ['\r', '\r\n', '\n', '\r', '\n'].entries()) {
    const exchange = await upstream.next()
    assert.equal(exchange.headers['last-event-id'], last)
    const stream = exchange.stream()
    const block = `id: ${i}\ndata: event ${i}\n\n`.replaceAll('\n', lineEnd)
    sent += block
    last = `${i}`
    stream.write(`${block}data: half`)
    await client.waitFor(sent)
    stream.cut()
  }
  const end = await upstream.next()
  end.stream().end()

  assert.equal(await client.ended(), 'clean')
  assert.equal(client.text, sent)
  assert.equal(interpret(client.bytes).events.length, 5)
})

test('an event that was too large to be held back cannot be taken back: the stream breaks', async (t) => {
  const { upstream, front } = await proxied(t, { resume, limits: { eventBytes: 100 } })
  const { client, stream } = await opened(upstream, front, `id: 2\ndata: ${'x'.repeat(200)}`)
  await client.waitFor('x'.repeat(200))

  stream.reset()

  assert.equal(await client.ended(), 'broken')
  assert.equal(upstream.exchanges.length, 1)
})

test('when such an event is over the stream can go on from it', async (t) => {
  const { upstream, front } = await proxied(t, { resume, limits: { eventBytes: 100 } })
  const large = `id: 2\ndata: ${'x'.repeat(200)}\n\n`
  const { client, stream } = await opened(upstream, front, large.slice(0, 150))
  stream.write(large.slice(150, -1))
  await client.waitFor(large.slice(150, -1))
  stream.write('\ndata: half')
  await client.waitFor(large)

  stream.reset()

  const again = await upstream.next()
  assert.equal(again.headers['last-event-id'], '2')
  again.stream().end(three)
  assert.equal(await client.whole(), one + large + three)
})

test('hooks keep their state, and never see half an event', async (t) => {
  const seen: string[] = []
  const transform: SseProxyOptions['transform'] = ({ data, id }, { locals }) => {
    seen.push(data)
    locals.count = Number(locals.count ?? 0) + 1
    return { data: `${locals.count}: ${data}`, id }
  }
  const { upstream, front } = await proxied(t, { resume, transform })
  const client = front.request()
  const stream = (await upstream.next()).stream()
  stream.write(`${one}id: 2\ndata: tw`)
  await client.waitFor('1: one')

  stream.reset()
  const again = await upstream.next()
  again.stream().end(two + three)

  assert.equal(await client.ended(), 'clean')
  assert.deepEqual(seen, ['one', 'two', 'three'])
  assert.deepEqual(
    interpret(client.bytes).events.map(({ data, lastEventId }) => [data, lastEventId]),
    [
      ['1: one', '1'],
      ['2: two', '2'],
      ['3: three', '3'],
    ],
  )
})

test('events that a hook has dropped are not asked for again', async (t) => {
  const { upstream, front } = await proxied(t, { resume, transform: ({ data }) => (data === 'one' ? null : undefined) })
  const client = front.request()
  const stream = (await upstream.next()).stream()
  stream.write(one)
  await client.waitFor('id: 1\n\n')

  stream.reset()

  assert.equal((await upstream.next()).headers['last-event-id'], '1')
})

test('an event that a hook is thinking about is neither lost nor doubled', async (t) => {
  const decided: (() => void)[] = []
  const transform: SseProxyOptions['transform'] = () =>
    new Promise<undefined>((resolve) => decided.push(() => resolve(undefined)))
  const { upstream, front } = await proxied(t, { resume, transform })
  const client = front.request()
  const stream = (await upstream.next()).stream()
  stream.write(one + two)
  await until(() => decided.length === 1, 'the hook')

  stream.reset()
  decided[0]?.()
  await until(() => decided.length === 2, 'the hook')
  decided[1]?.()

  const again = await upstream.next()
  assert.equal(again.headers['last-event-id'], '2')
  again.stream().end(three)
  await until(() => decided.length === 3, 'the hook')
  decided[2]?.()
  assert.equal(await client.whole(), one + two + three)
})

// When, and how often.

test("the upstream's retry: says how long to wait, and one in half an event does not", async (t) => {
  const { upstream, front } = await proxied(t, { resume: { delayMs: 0, maxDelayMs: 60_000 } })
  const { client, stream } = await opened(upstream, front, 'retry: 200\n\nretry: 1\ndata: ha')
  await client.waitFor('retry: 200\n\n')
  const lostAt = performance.now()

  stream.reset()
  await upstream.next()

  const waited = performance.now() - lostAt
  // Timers of Node may be a millisecond early.
  assert.ok(waited >= 99, `it waited ${waited} ms`)
})

test('tries without an event are counted; when they are used up the client is cut off and told so', async (t) => {
  const errors: { code: string }[] = []
  const reasons: string[] = []
  const { upstream, front, proxy } = await proxied(t, {
    resume: { ...resume, attempts: 3 },
    on: { error: (error) => void errors.push(error as never) },
    onClose: (_stream, reason) => void reasons.push(reason),
  })
  const { client, stream } = await opened(upstream, front)

  stream.reset()
  for (const then of [resetBefore, answer503, (exchange: Exchange) => exchange.stream().reset()]) {
    then(await upstream.next())
  }

  assert.equal(await client.ended(), 'broken')
  assert.equal(client.text, one)
  assert.deepEqual(reasons, ['upstream-lost'])
  await until(() => errors.length === 1, 'the report')
  assert.equal(errors[0]?.code, 'ERR_SSE_PROXY_UPSTREAM_LOST')
  assert.equal(upstream.exchanges.length, 4)
  assert.equal(proxy.stats().resumes, 1)
})

test('an event gives all tries back', async (t) => {
  const { upstream, front } = await proxied(t, { resume: { ...resume, attempts: 2 } })
  let { client, stream } = await opened(upstream, front)

  for (let i = 2; i < 8; i += 1) {
    stream.reset()
    resetBefore(await upstream.next())
    stream = (await upstream.next()).stream()
    stream.send({ id: `${i}`, data: `event ${i}` })
    await client.waitFor(`event ${i}`)
  }

  stream.end()
  assert.equal(await client.ended(), 'clean')
})

for (const status of [204, 401, 404, 410]) {
  test(`a ${status} ends the response cleanly, so that the client asks for itself`, async (t) => {
    const reasons: string[] = []
    const onClose: SseProxyOptions['onClose'] = (_stream, reason) => void reasons.push(reason)
    const { upstream, front } = await proxied(t, { resume, onClose })
    const { client, stream } = await opened(upstream, front, 'data: ha')

    stream.reset()
    const again = await upstream.next()
    again.answer(status, { 'content-type': 'application/json' }, status === 204 ? '' : '{"no":"more"}')

    assert.equal(await client.ended(), 'clean')
    assert.equal(client.text, one)
    assert.deepEqual(reasons, ['upstream-ended'])
  })
}

const failures: { name: string; then: (exchange: Exchange) => void }[] = [
  { name: 'another content type', then: (exchange) => exchange.answer(200, { 'content-type': 'text/html' }, '<html>') },
  { name: 'an unknown coding', then: (exchange) => void exchange.stream({ 'content-encoding': 'smoke' }).write('?') },
  { name: 'a redirection', then: (exchange) => exchange.answer(302, { location: '/elsewhere' }) },
  { name: 'a 500', then: (exchange) => exchange.answer(500, {}, 'oh') },
  { name: 'a 503', then: answer503 },
  { name: 'a reset', then: resetBefore },
  { name: 'no answer in time', then: () => {} },
]

for (const { name, then } of failures) {
  test(`${name} is no way to go on, and the upstream is asked again`, async (t) => {
    const { upstream, front } = await proxied(t, { resume, timeouts: { responseMs: 400 } })
    const { client, stream } = await opened(upstream, front)

    stream.reset()
    then(await upstream.next())
    const again = await upstream.next()
    again.stream().end(two)

    assert.equal(again.headers['last-event-id'], '1')
    assert.equal(await client.ended(), 'clean')
    assert.equal(client.text, one + two)
    await until(() => upstream.open === 0, 'the failed answer to be let go')
  })
}

test('keepalives go on during the gap', async (t) => {
  const policy = { delayMs: 200, maxDelayMs: 200 }
  const { upstream, front } = await proxied(t, { resume: policy, keepalive: { intervalMs: 10, comment: 'alive' } })
  const { client, stream } = await opened(upstream, front, 'id: 2\ndata: tw')

  stream.reset()
  await client.waitFor(`${one}: alive\n\n: alive\n\n: alive\n\n`)
  const again = await upstream.next()
  again.stream().end(two)

  assert.equal(await client.ended(), 'clean')
  assert.equal(client.text.replaceAll(': alive\n\n', ''), one + two)
})

test("events of the app's own go out during the gap", async (t) => {
  const streams: Parameters<NonNullable<SseProxyOptions['onOpen']>>[0][] = []
  const onOpen: SseProxyOptions['onOpen'] = (stream) => void streams.push(stream)
  const { upstream, front } = await proxied(t, { resume: { delayMs: 60_000, maxDelayMs: 60_000 }, onOpen })
  const { client, stream } = await opened(upstream, front, 'data: ha')
  stream.reset()
  await until(() => upstream.open === 0, 'the loss')

  assert.equal(streams[0]?.send({ data: 'one moment, please' }), true)
  await client.waitFor(`${one}data: one moment, please\n\n`)
  streams[0]?.close()

  assert.equal(await client.ended(), 'clean')
})

test('a POST is not resumed, since it would be done twice', async (t) => {
  const { upstream, front } = await proxied(t, { resume })
  const client = front.request('', { method: 'POST', body: '{}' })
  const stream = (await upstream.next()).stream()
  stream.write(one)
  await client.waitFor(one)

  stream.reset()

  assert.equal(await client.ended(), 'broken')
  assert.equal(upstream.exchanges.length, 1)
})

test('without the option a loss breaks the stream', async (t) => {
  const { upstream, front } = await proxied(t)
  const { client, stream } = await opened(upstream, front)

  stream.reset()

  assert.equal(await client.ended(), 'broken')
  assert.equal(upstream.exchanges.length, 1)
})

// Clean ends.

test('a clean end is the end, unfinished tail and all', async (t) => {
  const { upstream, front } = await proxied(t, { resume })
  const { client, stream } = await opened(upstream, front)

  stream.end('id: 2\ndata: tw')

  assert.equal(await client.ended(), 'clean')
  assert.equal(client.text, `${one}id: 2\ndata: tw`)
})

test('with onEnd a clean end is followed by a resume, again and again, until the upstream says that it is over', async (t) => {
  const { upstream, front } = await proxied(t, { resume: { ...resume, onEnd: true } })
  const { client, stream } = await opened(upstream, front, 'id: 2\ndata: tw')

  stream.end()
  const again = await upstream.next()
  again.stream().end(two)
  const third = await upstream.next()
  third.stream().end(three)
  const last = await upstream.next()
  last.answer(204)

  assert.deepEqual(
    [again, third, last].map((exchange) => exchange.headers['last-event-id']),
    ['1', '2', '3'],
  )
  assert.equal(await client.ended(), 'clean')
  assert.equal(client.text, one + two + three)
})

test('with onEnd a stream that ended cleanly and cannot go on has ended cleanly', async (t) => {
  const { upstream, front } = await proxied(t, { resume: { ...resume, attempts: 2, onEnd: true } })
  const { client, stream } = await opened(upstream, front)

  stream.end()
  // The first is on the connection that was kept, which counts for nothing.
  for (let i = 0; i < 3; i += 1) resetBefore(await upstream.next())

  assert.equal(await client.ended(), 'clean')
  assert.equal(client.text, one)
})

// What others see of it.

test('what a resume did is in the statistics, on the channel and in the stream', async (t) => {
  const messages: Record<string, unknown>[] = []
  const hear = (message: unknown): void => void messages.push(message as Record<string, unknown>)
  subscribe('sse-proxy:resume', hear)
  t.after(() => unsubscribe('sse-proxy:resume', hear))
  const closed: [resumes: number, events: number, lastEventId: string, upstream: string][] = []
  const onClose: SseProxyOptions['onClose'] = ({ resumes, events, lastEventId, upstream }) =>
    void closed.push([resumes, events, lastEventId, upstream])
  const { upstreams, urls, front, proxy } = await several(t, { resume, onClose, name: 'feed' }, { count: 2 })
  const client = front.request()
  await until(() => upstreams.some(({ open }) => open > 0), 'the request')
  const [at, other] = upstreams[0].open > 0 ? [0, 1] : [1, 0]
  const stream = (await upstreams[at as 0].next()).stream()
  stream.write(one)
  await client.waitFor(one)

  stream.reset()
  const again = await upstreams[other as 1].next()
  again.stream().end(two)
  await client.ended()

  assert.equal(proxy.stats().resumes, 1)
  assert.equal(proxy.stats().opened, 1)
  assert.deepEqual(
    messages.map(({ proxy: name, upstream, lastEventId, attempt }) => [name, upstream, lastEventId, attempt]),
    [['feed', urls[other as 1], '1', 1]],
  )
  assert.deepEqual(closed, [[1, 2, '2', urls[other as 1]]])
})

test('handlers that set headers do no harm when the client has its headers already', async (t) => {
  const { upstream, front } = await proxied(t, {
    resume,
    on: {
      proxyReq: (proxyReq, _req, res) => {
        proxyReq.setHeader('x-from', 'the app')
        res.setHeader('x-early', 'yes')
      },
      proxyRes: (proxyRes, _req, res) => {
        proxyRes.headers['x-changed'] = 'yes'
        res.setHeader('x-added', 'yes')
        res.appendHeader('x-added', 'again')
        res.removeHeader('x-early')
        res.statusCode = 200
      },
    },
  })
  const { client, stream } = await opened(upstream, front)

  stream.reset()
  const again = await upstream.next()
  again.stream({ 'set-cookie': 'a=1' }).end(two)

  assert.equal(again.headers['x-from'], 'the app')
  assert.equal(await client.ended(), 'clean')
  assert.equal(client.text, one + two)
  assert.equal(headerOf(client, 'x-changed'), 'yes')
  assert.equal(headerOf(client, 'set-cookie'), undefined)
})

test('a request is sent again as the client sent it', async (t) => {
  const { upstream, front } = await proxied(t, { resume, xfwd: true, pathRewrite: { '^/': '/deeper/' } })
  const client = front.request('/path?x=1', { headers: { 'x-own': 'yes', accept: 'text/event-stream' } })
  const first = await upstream.next()
  const stream = first.stream()
  stream.write(one)
  await client.waitFor(one)

  stream.reset()
  const again = await upstream.next()

  assert.equal(again.url, first.url)
  const { 'last-event-id': id, ...headers } = again.headers
  assert.equal(id, '1')
  assert.deepEqual(headers, first.headers)
})

// Clients that are slow, and clients that leave.

test('a slow client holds back the upstream that goes on as it held back the lost one', async (t) => {
  const { upstream, front } = await proxied(t, { resume })
  const client = front.request()
  const lost = await upstream.next()
  const stream = lost.stream()
  stream.write(one)
  await client.waitFor(one)
  client.pause()
  for (let i = 2; i <= 600; i += 1) stream.write(largeBlock(i))
  await someRequests(upstream, front)
  assert.ok(lost.res.writableLength > 1_000_000)

  stream.reset()
  // A connection that is held back does not tell that it is lost.
  client.resume()
  const again = await upstream.next()
  client.pause()
  const from = Number(again.headers['last-event-id'])
  const next = again.stream()
  for (let i = from + 1; i <= from + 600; i += 1) next.write(largeBlock(i))
  next.end()
  await someRequests(upstream, front)
  assert.ok(again.res.writableLength > 1_000_000)
  client.resume()

  assert.equal(await client.ended(), 'clean')
  assert.deepEqual(
    [...client.text.matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id)),
    Array.from({ length: from + 600 }, (_, i) => i + 1),
  )
})

for (const host of hostsByProtocol) {
  const moments: { name: string; policy?: object; then: (upstream: Upstream, client: Client) => Promise<void> }[] = [
    {
      name: 'during the wait',
      policy: { delayMs: 3_600_000, maxDelayMs: 3_600_000 },
      then: async (upstream, client) => {
        await until(() => upstream.open === 0, 'the loss')
        client.close()
      },
    },
    {
      name: 'while the upstream is silent',
      then: async (upstream, client) => {
        const again = await upstream.next()
        client.close()
        await again.leftByPeer()
      },
    },
    {
      name: 'at the very moment it answers',
      then: async (upstream, client) => {
        const again = await upstream.next()
        again.stream().write(two)
        client.close()
        await again.leftByPeer()
      },
    },
    {
      name: 'after it has gone on',
      then: async (upstream, client) => {
        const again = await upstream.next()
        again.stream().write(two)
        await client.waitFor(two)
        client.close()
        await again.leftByPeer()
      },
    },
  ]

  for (const { name, policy = resume, then } of moments) {
    test(`a client that leaves ${name} frees everything (${host})`, async (t) => {
      const leftovers = watchLeftovers(t)
      const { upstream, front, proxy } = await proxied(t, { resume: policy }, { host })
      const { client, stream } = await opened(upstream, front)

      stream.reset()
      await then(upstream, client)

      await until(() => upstream.open === 0 && proxy.stats().active === 0, 'everything to be given back')
      assert.equal(proxy.stats().closed['client-left'], 1)
      assert.equal(proxy.stats().upstreams[0]?.active, 0)
      await proxy.close({ withinMs: 0 })
      await front.close()
      await upstream.close()
      await leftovers.assertNone()
    })
  }
}

interface Opened {
  client: Client
  stream: EventStream
}

/** A stream whose first event has passed, with more that may not be complete. */
async function opened(upstream: Upstream, front: { request(): Client }, more: string = ''): Promise<Opened> {
  const client = front.request()
  const stream = (await upstream.next()).stream()
  stream.write(one + more)
  await client.waitFor(one)
  return { client, stream }
}

function largeBlock(i: number): string {
  return `id: ${i}\ndata: ${'x'.repeat(65_536)}\n\n`
}

/** Gives everything that can move the time to do so. */
async function someRequests(upstream: Upstream, front: { request(): Client }): Promise<void> {
  for (let i = 0; i < 20; i += 1) {
    const client = front.request()
    const exchange = await upstream.next()
    exchange.answer(200)
    await client.ended()
  }
}

function resetBefore({ req }: Exchange): void {
  req.socket.resetAndDestroy()
}

function answer503(exchange: Exchange): void {
  exchange.answer(503, { 'content-type': 'text/event-stream' }, 'data: not one of yours\n\n')
}

function blockOf(kind: string, i: number, lineEnd: string): string {
  const lines: Record<string, string[]> = {
    data: [`id: ${i}`, `data: event ${i}`],
    'id-only': [`id: ${i}`],
    comment: [`: comment ${i}`, `id: ${i}`],
    'no-id': [`data: untold ${i}`, `id: ${i}`, 'retry: 0'],
    long: [`event: long`, `data: ${'ü'.repeat(60)}`, `data: ${i}`, `id: ${i}`],
  }
  return [...(lines[kind] ?? []), '', ''].join(lineEnd)
}
