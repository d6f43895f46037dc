// The orderly end of a proxy: nobody new, everybody sent away at a moment of their own and between two events, and
// what does not go by the deadline is broken off.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { ConfigError } from 'sse-proxy-middleware'
import { type Client, headerOf, openHttp2Session, request } from '../support/client.ts'
import { fakeClock } from '../support/fake-clock.ts'
import { type Front, hostsByProtocol } from '../support/front.ts'
import { childOf } from '../support/processes/child.ts'
import { proxied } from '../support/proxied.ts'
import { type EventStream, type Exchange, startUpstream, type Upstream } from '../support/upstream.ts'
import { until, within } from '../support/waiting.ts'

for (const host of hostsByProtocol) {
  test(`from the first moment of a drain new requests are a 503 with Retry-After (${host})`, async (t) => {
    const clock = fakeClock(t)
    const { upstream, front, proxy } = await proxied(t, {}, { host })
    const [open] = await streams(1, { upstream, front })

    const closing = proxy.close({ withinMs: 400 })
    const refused = await front.open()

    assert.equal(refused.status, 503)
    assert.match(headerOf(refused, 'retry-after') ?? '', /^[1-5]$/)
    assert.equal(headerOf(refused, 'connection'), front.protocol === 'h2' ? undefined : 'close')
    assert.equal(JSON.parse(await refused.whole()).error.code, 'ERR_SSE_PROXY_DRAINING')
    assert.equal(open!.client.ending, undefined)
    assert.deepEqual(await clock.passUntil(closing), { drained: 1, aborted: 0, other: 0 })
    assert.equal(proxy.stats().refused.draining, 1)
    assert.equal((await front.open()).status, 503)
  })

  test(`an open stream ends cleanly, after a whole event and a retry line, and its upstream is let go (${host})`, async (t) => {
    const { upstream, front, proxy } = await proxied(t, {}, { host })
    const [{ client, stream, exchange }] = (await streams(1, { upstream, front })) as [Opened]
    stream.send({ id: '1', data: 'whole' })
    await client.waitFor('whole')
    stream.write('id: 2\ndata: half of')

    const result = await proxy.close({ withinMs: 100, retryMs: [2000, 2000] })
    await exchange.leftByPeer()

    assert.equal(await client.ended(), 'clean')
    assert.equal(client.text, 'id: 1\ndata: whole\n\nretry: 2000\n\n')
    assert.deepEqual(result, { drained: 1, aborted: 0, other: 0 })
    assert.equal(proxy.stats().closed.drained, 1)
  })

  test(`with framing 'bytes' an event that is on its way is finished first (${host})`, async (t) => {
    const { upstream, front, proxy } = await proxied(t, { framing: 'bytes' }, { host })
    const [{ client, stream }] = (await streams(1, { upstream, front })) as [Opened]
    stream.write('data: the first')
    await client.waitFor('the first')

    const closing = proxy.close({ withinMs: 1000, retryMs: [5, 5] })
    // From its turn on it takes nothing of the app's any more.
    const [handle] = proxy.streams
    await until(() => !handle!.send({ data: 'a notice' }), 'its turn')
    stream.write(' half\n\ndata: another')

    assert.deepEqual(await closing, { drained: 1, aborted: 0, other: 0 })
    assert.match(await client.whole(), /^data: the first half\n\n(data: a notice\n\n)*retry: 5\n\n$/)
  })

  test(`what is in the middle of an event at the deadline is broken off, never completed (${host})`, async (t) => {
    const { upstream, front, proxy } = await proxied(t, { framing: 'bytes' }, { host })
    const [{ client, stream }] = (await streams(1, { upstream, front })) as [Opened]
    stream.write('data: half')
    await client.waitFor('half')

    const result = await proxy.close({ withinMs: 100 })

    assert.deepEqual(result, { drained: 0, aborted: 1, other: 0 })
    assert.equal(await client.ended(), 'broken')
    assert.equal(client.text, 'data: half')
  })

  test(`a client that does not read holds up neither the drain nor the server (${host})`, async (t) => {
    const { upstream, front, proxy } = await proxied(t, { timeouts: { writeMs: 60_000 } }, { host })
    const [{ client, exchange }] = (await streams(1, { upstream, front })) as [Opened]
    client.pause()
    await untilHeldBack(exchange)

    const result = await proxy.close({ withinMs: 200 })
    await until(() => front.connections === 0 || front.protocol === 'h2', 'its connection to be gone', 3000)
    client.resume()

    assert.equal(await client.ended(), 'broken')
    assert.deepEqual(result, { drained: 0, aborted: 1, other: 0 })
  })

  test(`requests that wait for their upstream may still have an answer of it (${host})`, async (t) => {
    const { upstream, front, proxy } = await proxied(t, {}, { host })
    const [toStream, toAnswer, toNothing] = [front.request('?1'), front.request('?2'), front.request('?3')]
    const exchanges = [await upstream.next(), await upstream.next(), await upstream.next()]
    const exchangeOf = (query: string): Exchange => exchanges.find(({ url }) => url.endsWith(query))!

    const closing = proxy.close({ withinMs: 600, retryMs: [7, 7] })
    exchangeOf('?1').stream().send({ data: 'in time' })
    exchangeOf('?2').answer(200, { 'content-type': 'text/plain' }, 'an ordinary answer')
    const result = await closing
    await toNothing.head()

    assert.equal(await toStream.whole(), 'data: in time\n\nretry: 7\n\n')
    assert.equal(await toAnswer.whole(), 'an ordinary answer')
    assert.equal(toNothing.status, 503)
    assert.match(await toNothing.whole(), /ERR_SSE_PROXY_DRAINING/)
    assert.deepEqual(result, { drained: 1, aborted: 0, other: 0 })
    assert.equal(proxy.stats().refused.draining, 1)
    await exchangeOf('?3').leftByPeer()
  })

  test(`an ordinary answer that is on its way is waited for, up to the deadline (${host})`, async (t) => {
    const { upstream, front, proxy } = await proxied(t, {}, { host })
    const finishing = front.request('?finishing')
    const finishingExchange = await upstream.next()
    const endless = front.request('?endless')
    const endlessExchange = await upstream.next()
    for (const { res } of [finishingExchange, endlessExchange]) {
      res.writeHead(200, { 'content-type': 'text/plain' })
      res.write('a part')
    }
    await Promise.all([finishing.waitFor('a part'), endless.waitFor('a part')])

    let isClosed = false
    const closing = proxy.close({ withinMs: 400 }).finally(() => {
      isClosed = true
    })
    finishingExchange.res.end(' and the rest')
    assert.equal(await finishing.whole(), 'a part and the rest')
    assert.equal(isClosed, false)
    await closing

    assert.equal(await endless.ended(), 'broken')
    await endlessExchange.leftByPeer()
  })

  test(`a client that was answered early is sent away cleanly as well (${host})`, async (t) => {
    const options = { keepalive: { openAfterMs: 10, intervalMs: 1000 } }
    const { upstream, front, proxy } = await proxied(t, options, { host })
    const client = await front.open()
    const exchange = await upstream.next()

    const result = await proxy.close({ withinMs: 200, retryMs: [9, 9] })

    assert.equal(await client.ended(), 'clean')
    assert.equal(client.text, 'retry: 9\n\n')
    assert.equal(result.aborted, 0)
    await exchange.leftByPeer()
  })
}

test('on HTTP/2 a connection is told to go, its streams end one after the other, then it closes', async (t) => {
  const { upstream, front, proxy } = await proxied(t, {}, { host: 'connect over http2' })
  const session = openHttp2Session(front.origin)
  t.after(() => session.destroy())
  const opened = await streams(5, { upstream, front }, { session })
  const goodbye = once(session, 'goaway')
  const closed = once(session, 'close')

  const closing = proxy.close({ withinMs: 300, retryMs: [1, 9] })
  await within(goodbye, 'the GOAWAY')

  assert.deepEqual(await closing, { drained: 5, aborted: 0, other: 0 })
  for (const { client } of opened) assert.match(await client.whole(), /^retry: [1-9]\n\n$/)
  await within(closed, 'the connection to close')
})

test('on HTTP/1.1 the connection of a stream that was sent away is closed', async (t) => {
  const { upstream, front, proxy } = await proxied(t)
  await streams(3, { upstream, front })

  await proxy.close({ withinMs: 100 })

  await until(() => front.connections === 0, 'the connections to close')
})

test('the streams of a shared upstream end each for itself, and the upstream after the last', async (t) => {
  const { upstream, front, proxy } = await proxied(t, { share: { lingerMs: 60_000 } })
  const clients = [front.request(), front.request(), front.request()]
  const exchange = await upstream.next()
  exchange.stream().send({ data: 'for all' })
  for (const client of clients) await client.waitFor('for all')

  const result = await proxy.close({ withinMs: 200, retryMs: [1, 9] })

  for (const client of clients) assert.match(await client.whole(), /^data: for all\n\nretry: [1-9]\n\n$/)
  assert.deepEqual(result, { drained: 3, aborted: 0, other: 0 })
  await exchange.leftByPeer()
})

test('an event that a hook has not let through is not part of what the client gets', async (t) => {
  const { upstream, front, proxy } = await proxied(t, { transform: () => new Promise<void>(() => {}) })
  const [{ client, stream }] = (await streams(1, { upstream, front })) as [Opened]
  stream.send({ id: '1', data: 'undecided' })

  const result = await proxy.close({ withinMs: 100, retryMs: [5, 5] })

  assert.equal(await client.whole(), 'retry: 5\n\n')
  assert.deepEqual(result, { drained: 1, aborted: 0, other: 0 })
})

test('an upstream that goes on without its client does not outlive the drain', async (t) => {
  const { upstream, front, proxy } = await proxied(t, { onDisconnect: 'drain' })
  const [{ client, exchange }] = (await streams(1, { upstream, front })) as [Opened]
  client.close()
  await until(() => front.connections === 0, 'the client to be gone')

  await proxy.close({ withinMs: 100 })

  await exchange.leftByPeer()
})

test('a mirrored request that nobody answers does not outlive the drain either', async (t) => {
  const mirror = await startUpstream()
  t.after(() => mirror.close())
  const { upstream, front, proxy } = await proxied(t, { forward: mirror.url })
  const [{ client }] = (await streams(1, { upstream, front })) as [Opened]
  const mirrored = await mirror.next()
  client.close()
  await until(() => front.connections === 0, 'the client to be gone')

  await proxy.close({ withinMs: 100 })

  await mirrored.leftByPeer()
})

test('streams that end by themselves in the meantime are counted apart', async (t) => {
  const { upstream, front, proxy } = await proxied(t)
  const [leaving, ending] = (await streams(2, { upstream, front })) as [Opened, Opened]

  const closing = proxy.close({ withinMs: 20_000 })
  leaving.client.close()
  ending.stream.end()

  // Long before the deadline: nobody is left.
  const { drained, aborted, other } = await within(closing, 'the drain to be over', 10_000)
  assert.equal(aborted, 0)
  assert.equal(drained + other, 2)
})

test('withinMs: 0 sends everybody away at once', async (t) => {
  const { upstream, front, proxy } = await proxied(t)
  const opened = await streams(10, { upstream, front })

  const result = await proxy.close({ withinMs: 0 })

  for (const { client } of opened) await client.ended()
  assert.equal(result.drained + result.aborted, 10)
})

test('without a stream the drain is over at once', async (t) => {
  const { proxy } = await proxied(t)

  assert.deepEqual(await within(proxy.close(), 'the drain', 1000), { drained: 0, aborted: 0, other: 0 })
})

test('close() called again is the same drain', async (t) => {
  const { upstream, front, proxy } = await proxied(t)
  await streams(2, { upstream, front })

  const results = await Promise.all([proxy.close({ withinMs: 100 }), proxy.close({ withinMs: 60_000 })])

  assert.deepEqual(results[1], { drained: 2, aborted: 0, other: 0 })
  assert.deepEqual(results[0], results[1])
  assert.deepEqual(await proxy.close(), results[0])
})

const mistakes: { name: string; options: object; message: RegExp }[] = [
  {
    name: 'a negative withinMs',
    options: { withinMs: -1 },
    message: /^close\.withinMs: expected an integer .* got -1/,
  },
  { name: 'a withinMs in words', options: { withinMs: '5s' }, message: /^close\.withinMs: .* got '5s' \(string\)/ },
  { name: 'a retryMs that is no range', options: { retryMs: [5, 1] }, message: /^close\.retryMs\[1\]: / },
  {
    name: 'an unknown key',
    options: { withinms: 5 },
    message: /^close\.withinms: unknown option, did you mean withinMs/,
  },
]
for (const { name, options, message } of mistakes) {
  test(`close() with ${name} changes nothing and says what is wrong`, async (t) => {
    const { upstream, front, proxy } = await proxied(t)
    await streams(1, { upstream, front })

    await assert.rejects(
      async () => proxy.close(options),
      (error) => error instanceof ConfigError && message.test(error.message),
    )

    assert.equal(proxy.ready(), true)
    await streams(1, { upstream, front })
    assert.deepEqual(await proxy.close({ withinMs: 50 }), { drained: 2, aborted: 0, other: 0 })
  })
}

test('a single retryMs is varied by half of it, a range is kept to, and by default clientRetryMs holds', async (t) => {
  const cases: { given?: number | [number, number]; min: number; max: number }[] = [
    { given: 1000, min: 500, max: 1500 },
    { given: [300, 400], min: 300, max: 400 },
    { min: 20, max: 30 },
  ]
  for (const { given, min, max } of cases) {
    const { upstream, front, proxy } = await proxied(t, { clientRetryMs: [20, 30] })
    const opened = await streams(40, { upstream, front })

    await proxy.close({ withinMs: 50, ...(given && { retryMs: given }) })

    const values = await Promise.all(opened.map(async ({ client }) => retryOf(await client.whole())))
    assert.ok(Math.min(...values) >= min && Math.max(...values) <= max, `${values}`)
    assert.ok(new Set(values).size > 5, `${values}`)
  }
})

test('SIGTERM, drain, close, exit: 500 streams end whole and spread, and the process ends by itself', async (t) => {
  const window = { withinMs: 5000, retryMs: [500, 2500] as [number, number] }
  const upstream = await startUpstream({ handler: (exchange) => exchange.stream() })
  const app = await childOf(t, 'draining-app.ts', { setup: { target: upstream.url, ...window } })
  const port = await app.ask<number>('listen')
  const clients = Array.from({ length: 500 }, () => request(`http://127.0.0.1:${port}/events`))
  t.after(async () => {
    for (const client of clients) client.close()
    await upstream.close()
  })
  await Promise.all(clients.map((client) => client.head(30_000)))
  let count = 0
  let rest = ''
  const feed = setInterval(() => {
    // Every third event comes in two halves, so that many turns fall between them.
    const isSecondHalf = rest !== ''
    if (!isSecondHalf) count += 1
    const event = `id: ${count}\ndata: number ${count} of many\n\n`
    const bytes = rest || (count % 3 === 0 ? event.slice(0, 20) : event)
    rest = count % 3 === 0 && !isSecondHalf ? event.slice(20) : ''
    for (const { res } of upstream.exchanges) res.write(bytes)
  }, 40)
  t.after(() => clearInterval(feed))
  await Promise.all(clients.map((client) => client.waitFor('number 2')))

  const started = Date.now()
  const ends: number[] = []
  app.signal('SIGTERM')
  await Promise.all(
    clients.map(async (client) => {
      assert.equal(await client.ended(), 'clean')
      ends.push(Date.now() - started)
    }),
  )
  const code = await app.exited(10_000)
  const took = Date.now() - started

  assert.equal(code, 0)
  assert.ok(took < window.withinMs + 1500, `it took ${took} ms`)
  assert.deepEqual(JSON.parse(app.output), { drained: 500, aborted: 0, other: 0 })
  const whole = /^(id: \d+\ndata: number \d+ of many\n\n)+retry: \d+\n\n$/
  for (const { text } of clients) assert.match(text, whole)
  const returns = clients.map(({ text }, index) => ends[index]! + retryOf(text))
  for (const [what, times] of Object.entries({ ends, returns })) {
    const slices = histogram(times, 500)
    t.diagnostic(`${what}, in slices of 500 ms: ${slices.join(' ')}; the process took ${took} ms in all`)
    assert.ok(Math.max(...slices) < 150, `${what} come in a crowd: ${slices}`)
  }
  assert.ok(histogram(ends, 500).length >= 9, 'the ends use the whole window')
})

interface Opened {
  client: Client
  exchange: Exchange
  stream: EventStream
}

/** Opens streams, one after the other, up to where both sides know of them. */
async function streams(
  count: number,
  { upstream, front }: { upstream: Upstream; front: Front },
  options: Parameters<Front['request']>[1] = {},
): Promise<Opened[]> {
  const opened: Opened[] = []
  for (let made = 0; made < count; made += 1) {
    const client = front.request('', options)
    const exchange = await upstream.next()
    const stream = exchange.stream()
    await client.head()
    opened.push({ client, exchange, stream })
  }
  return opened
}

async function untilHeldBack({ res }: Exchange): Promise<void> {
  let movedAt = Date.now()
  await until(() => {
    if (!res.writableNeedDrain) {
      res.write(`data: ${'x'.repeat(2 ** 20)}\n\n`)
      movedAt = Date.now()
    }
    return Date.now() - movedAt > 400
  }, 'the upstream to be held back')
}

function retryOf(text: string): number {
  return Number(/retry: (\d+)\n\n$/.exec(text)?.[1])
}

function histogram(times: readonly number[], slice: number): number[] {
  const counts: number[] = []
  for (const time of times) counts[Math.floor(time / slice)] = (counts[Math.floor(time / slice)] ?? 0) + 1
  return Array.from(counts, (count) => count ?? 0)
}
