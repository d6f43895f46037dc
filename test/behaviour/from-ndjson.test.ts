// An upstream that answers with lines of JSON: to the client, and to all that looks at events, they are an event stream.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { constants } from 'node:http2'
import { test } from 'node:test'
import { createGzip, constants as zlib } from 'node:zlib'
import compression from 'compression'
import type { RequestOptions } from '../support/client.ts'
import { headerOf } from '../support/client.ts'
import { hostsByProtocol } from '../support/front.ts'
import { watchLeftovers } from '../support/leftovers.ts'
import { interpret } from '../support/oracle.ts'
import { overHttp2 } from '../support/over-http2.ts'
import { proxied, rawProxied, type SseProxyOptions } from '../support/proxied.ts'
import { chunk, lastChunk } from '../support/raw-upstream.ts'
import { below, parted, seeded } from '../support/seeded.ts'
import { several } from '../support/several-upstreams.ts'
import type { EventStream, Exchange } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

const type = 'application/x-ndjson'
const from: SseProxyOptions['from'] = 'ndjson'
const share: SseProxyOptions['share'] = { lingerMs: 0 }
const post: RequestOptions = { method: 'POST', body: '{"n":1}', headers: { 'content-type': 'application/json' } }
const lines = (exchange: Exchange, headers: Record<string, string> = {}): EventStream =>
  exchange.stream({ 'content-type': type, ...headers })

/** Gives each value the id that it names. */
const withIds: SseProxyOptions['from'] = {
  format: 'ndjson',
  toEvent: (value) => {
    const { id } = value as { id: string }
    return { id, data: `value ${id}` }
  },
}

for (const host of hostsByProtocol) {
  test(`each line arrives as an event before the next one is sent (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, { from }, { host })
    const client = front.request('', post)
    const stream = lines(await upstream.next(), {
      'x-from': 'here',
      etag: '"1"',
      'content-type': `${type}; charset=utf-8`,
    })
    await client.head()

    let sent = ''
    for (let n = 0; n < 10; n += 1) {
      stream.write(`{"n":${n},"text":"ümläut"}\r\n`)
      sent += `data: {"n":${n},"text":"ümläut"}\n\n`
      await client.waitFor(sent)
    }
    stream.end('{"done":true}')

    assert.equal(await client.whole(), `${sent}data: {"done":true}\n\n`)
    assert.equal(client.headers['content-type'], 'text/event-stream')
    assert.equal(client.headers['x-from'], 'here')
    assert.equal(client.headers['cache-control'], 'no-cache, no-transform')
    assert.equal(client.headers.etag, undefined)
  })

  test(`lines that break off are a broken transfer, and half a line is no event (${host})`, async (t) => {
    const { upstream, front, proxy } = await proxied(t, { from }, { host })
    const client = front.request('', post)
    const stream = lines(await upstream.next())
    stream.write('{"n":1}\n{"n":2}')
    await client.waitFor('data: {"n":1}\n\n')

    stream.reset()

    assert.equal(await client.ended(), 'broken')
    assert.equal(client.text, 'data: {"n":1}\n\n')
    assert.equal(proxy.stats().closed['upstream-lost'], 1)
  })

  test(`the client's leaving reaches the upstream, also while a callback is pending (${host})`, async (t) => {
    const leftovers = watchLeftovers(t)
    const pending: SseProxyOptions['from'] = { format: 'ndjson', toEvent: () => new Promise(() => {}) }
    const { upstream, front, proxy } = await proxied(t, { from: pending, keepalive: false }, { host })
    const client = front.request()
    const exchange = await upstream.next()
    lines(exchange).write('1\n2\n')
    await client.head()

    client.close()

    await exchange.leftByPeer()
    await proxy.close({ withinMs: 0 })
    await front.close()
    await upstream.close()
    await leftovers.assertNone()
  })
}

test('lines of an upstream over HTTP/2 are events, and a reset among them is a broken transfer', async (t) => {
  const { upstream, front } = await overHttp2(t, { from })
  const client = front.request('', post)
  const exchange = await upstream.next()
  const stream = exchange.stream({ 'content-type': type })
  stream.write('{"n":1}\n{"n":2}')
  await client.waitFor('data: {"n":1}\n\n')

  exchange.http2Stream.close(constants.NGHTTP2_CANCEL)

  assert.equal(await client.ended(), 'broken')
  assert.equal(client.text, 'data: {"n":1}\n\n')
})

test('lines in gzip arrive one by one', async (t) => {
  const { upstream, front } = await proxied(t, { from })
  const client = front.request()
  const stream = lines(await upstream.next(), { 'content-encoding': 'gzip' })
  const gzip = createGzip().on('data', (bytes: Buffer) => stream.write(bytes))

  for (let n = 0; n < 5; n += 1) {
    gzip.write(`{"n":${n}}\n`)
    await new Promise<void>((resolve) => gzip.flush(zlib.Z_SYNC_FLUSH, resolve))
    await client.waitFor(`data: {"n":${n}}\n\n`)
  }
  gzip.end('"last"')
  await once(gzip, 'end')
  stream.end()

  assert.match(await client.whole(), /data: "last"\n\n$/)
  assert.equal(client.headers['content-encoding'], undefined)
})

test('lines of 1 MiB arrive whole, behind compression()', async (t) => {
  const { upstream, front } = await proxied(t, { from }, { before: [compression({ threshold: 0 })] })
  const client = front.request('', { headers: { 'accept-encoding': 'gzip' } })
  const line = JSON.stringify(`${'é'.repeat(524_286)}xx`)
  const stream = lines(await upstream.next())
  stream.write(`${line}\n`)
  await client.waitForLength(1_048_576)

  stream.end(`1\n${line}`)

  assert.equal(Buffer.byteLength(line), 1_048_576)
  assert.deepEqual(
    interpret(Buffer.from(await client.whole())).events.map(({ data }) => data),
    [line, '1', line],
  )
  assert.equal(client.headers['content-encoding'], undefined)
})

test('a line that is too long breaks the stream off behind what came before, and is not asked for again', async (t) => {
  const { upstream, front, proxy } = await proxied(t, {
    from: withIds,
    limits: { eventBytes: 20 },
    resume: { delayMs: 1 },
  })
  const client = front.request()

  lines(await upstream.next()).write(`{"id":"1"}\n{"id":"${'x'.repeat(20)}"}\n`)

  assert.equal(await client.ended(), 'broken')
  assert.equal(client.text, 'id: 1\ndata: value 1\n\n')
  assert.deepEqual(proxy.stats().errors, { ERR_SSE_PROXY_EVENT_TOO_LARGE: 1 })
  assert.equal(upstream.exchanges.length, 1)
})

test('a line that is not JSON is a failure of the callback, and is not asked for again', async (t) => {
  const { upstream, front, proxy } = await proxied(t, { from: withIds, resume: { delayMs: 1 }, isEnd: () => true })
  const client = front.request()

  lines(await upstream.next()).write('{"id":"1"}\n<html>\n')

  assert.equal(await client.ended(), 'broken')
  assert.equal(client.text, 'id: 1\ndata: value 1\n\n')
  assert.equal(proxy.stats().closed['hook-failed'], 1)
  assert.equal(upstream.exchanges.length, 1)
})

test('a body that ends with its connection, inside a line, is broken', async (t) => {
  const { upstream, front } = await rawProxied(t, { from })
  const client = front.request()
  const conversation = await upstream.next()

  conversation.send(`HTTP/1.1 200 OK\r\nContent-Type: ${type}\r\nConnection: close\r\n\r\n1\n{"n":2`)
  conversation.socket.end()

  assert.equal(await client.ended(), 'broken')
  assert.equal(client.text, 'data: 1\n\n')
})

const others: Record<string, (exchange: Exchange) => void> = {
  'an event stream': (exchange) => exchange.stream().end('id: 1\ndata: {"n":1}\n\n'),
  'plain JSON': (exchange) => exchange.answer(200, { 'content-type': 'application/json' }, '{"n":1}\n'),
  'lines with another status': (exchange) => exchange.answer(429, { 'content-type': type }, '{"error":"later"}\n'),
}
for (const [what, handler] of Object.entries(others)) {
  test(`${what} passes as it is`, async (t) => {
    const [translating, plain] = await Promise.all(
      [{ from }, {}].map((options) => proxied(t, options, { upstream: { handler } })),
    )

    const client = await translating!.front.open()
    const expected = await plain!.front.open()

    assert.equal(await client.whole(), await expected.whole())
    assert.equal(client.status, expected.status)
    assert.equal(headerOf(client, 'content-type'), headerOf(expected, 'content-type'))
  })
}

const accepts: [own: Record<string, string>, method: string, asked: string][] = [
  [{}, 'GET', 'application/x-ndjson, text/event-stream;q=0.9, */*;q=0.8'],
  [{ accept: '*/*' }, 'POST', 'application/x-ndjson, text/event-stream;q=0.9, */*;q=0.8'],
  [{ accept: 'text/event-stream' }, 'GET', 'text/event-stream'],
  [{ accept: 'application/json' }, 'POST', 'application/json'],
]
for (const [headers, method, asked] of accepts) {
  test(`a ${method} with Accept ${headers.accept ?? 'missing'} asks the upstream for ${asked}`, async (t) => {
    const { upstream, front } = await proxied(t, { from })
    const client = front.request('', { method, headers })

    const exchange = await upstream.next()
    lines(exchange).end('1\n')
    await client.whole()

    assert.equal(exchange.headers.accept, asked)
  })
}

test('a HEAD is answered with the head of the stream', async (t) => {
  const { upstream, front } = await proxied(t, { from })
  const client = front.request('', { method: 'HEAD' })

  ;(await upstream.next()).answer(200, { 'content-type': type, 'content-length': '10' })
  await client.head()

  assert.equal(client.headers['content-type'], 'text/event-stream')
  assert.equal(client.headers['content-length'], undefined)
})

test('hooks, isEnd and onLost see the events', async (t) => {
  const { upstream, front, proxy } = await proxied(t, {
    from,
    transform: ({ data }) => (data === '2' ? null : { data: `hooked ${data}` }),
    isEnd: ({ data }) => data === '"end"',
    onLost: ({ code }) => ({ event: 'lost', data: code }),
  })
  const client = front.request()

  lines(await upstream.next()).end('1\n2\n3\n')

  assert.equal(await client.ended(), 'broken')
  assert.equal(client.text, 'data: hooked 1\n\ndata: hooked 3\n\nevent: lost\ndata: ERR_SSE_PROXY_INCOMPLETE\n\n')
  assert.equal(proxy.stats().eventsIn, 3)
})

test('retry.commit is asked about the events, and another upstream is asked after an error among the lines', async (t) => {
  const { front, upstreams } = await several(
    t,
    {
      from,
      balance: 'failover',
      retry: { methods: ['POST'], commit: ({ data }) => (data.includes('error') ? 'retry' : 'commit') },
    },
    {
      count: 2,
      upstream: (at) => ({
        handler: (exchange) => lines(exchange).end(at === 0 ? '{"error":"overloaded"}\n' : '{"n":1}\n'),
      }),
    },
  )

  const client = front.request('', post)

  assert.equal(await client.whole(), 'data: {"n":1}\n\n')
  assert.equal(upstreams[0]?.exchanges.length, 1)
})

test('lines that end before isEnd has seen the end count against the health of their upstream', async (t) => {
  const { front, proxy } = await several(
    t,
    { from, balance: 'failover', isEnd: ({ data }) => data === '"end"', health: { failures: 1 } },
    { count: 2, upstream: () => ({ handler: (exchange) => lines(exchange).end('1\n') }) },
  )

  await front.request().ended()

  assert.equal(proxy.stats().upstreams[0]?.healthy, false)
})

test('a callback that fails before retry.commit has said anything is told as what it is', async (t) => {
  const { upstream, front } = await proxied(t, { from: withIds, retry: { commit: () => 'hold', attempts: 0 } })
  const client = front.request()

  lines(await upstream.next()).end('not JSON\n')
  await client.head()

  assert.equal(client.status, 502)
  assert.match(await client.whole(), /ERR_SSE_PROXY_HOOK/)
})

test('a stream whose callback gives ids goes on after a loss', async (t) => {
  const { upstream, front } = await proxied(t, { from: withIds, resume: { delayMs: 1 } })
  const client = front.request()
  const stream = lines(await upstream.next())
  stream.write('{"id":"7"}\n{"id":')
  await client.waitFor('value 7')

  stream.reset()
  const again = await upstream.next()
  lines(again).end('{"id":"8"}\n')

  assert.equal(await client.whole(), 'id: 7\ndata: value 7\n\nid: 8\ndata: value 8\n\n')
  assert.equal(again.headers['last-event-id'], '7')
})

test('clients share one upstream, and who comes back gets what it has missed', async (t) => {
  const { upstream, front } = await proxied(t, { from, share: { ...share, replay: { ids: 'assign' } } })
  const first = front.request()
  const stream = lines(await upstream.next())
  await first.head()
  const second = await front.open()
  stream.write('1\n2\n')
  await Promise.all([first.waitFor('data: 2'), second.waitFor('data: 2')])
  const id = interpret(first.bytes).events[0]?.lastEventId as string

  const late = front.request('', { headers: { 'last-event-id': id } })
  await late.waitFor('data: 2')
  stream.end('3')

  assert.equal(await second.whole(), await first.whole())
  assert.deepEqual(
    interpret(Buffer.from(await late.whole())).events.map(({ data }) => data),
    ['2', '3'],
  )
  assert.equal(upstream.exchanges.length, 1)
})

test('an empty line counts for idleMs, and is no event for eventMs', async (t) => {
  const silence = await proxied(t, { from, timeouts: { eventMs: 60, idleMs: 0 } })
  const client = silence.front.request()
  const stream = lines(await silence.upstream.next())
  stream.write('1\n')
  const beating = setInterval(() => stream.write('\n'), 10)
  t.after(() => clearInterval(beating))

  const ending = await client.ended()

  assert.equal(ending, 'broken')
  await until(() => silence.proxy.stats().errors.ERR_SSE_PROXY_IDLE === 1, 'the loss to be counted')

  const beaten = await proxied(t, { from, timeouts: { idleMs: 150 } })
  const other = beaten.front.request()
  const alive = lines(await beaten.upstream.next())
  await other.head()
  let beats = 0
  await new Promise<void>((resolve) => {
    const timer = setInterval(() => {
      alive.write('\n')
      if (++beats < 30) return
      clearInterval(timer)
      resolve()
    }, 15)
  })
  alive.end('1\n')

  assert.equal(await other.whole(), 'data: 1\n\n')
})

test('keepalives go on in silence, and a drain ends the stream behind an event', async (t) => {
  const { upstream, front, proxy } = await proxied(t, { from, keepalive: 10 })
  const client = front.request()
  const stream = lines(await upstream.next())
  stream.write('1\n2')
  await client.waitFor('data: 1\n\n: keepalive\n\n')

  await proxy.close({ withinMs: 50, retryMs: 7 })

  assert.match(await client.whole(), /^data: 1\n\n(: keepalive\n\n)+retry: \d+\n\n$/)
})

for (const fastLane of [false, true]) {
  test(`lines in chunks, cut anywhere, are the same events ${fastLane ? "past Node's parser" : 'through it'}`, async (t) => {
    let answer: IncomingMessage | undefined
    const proxyRes = (proxyRes: IncomingMessage): void => {
      answer = proxyRes
    }
    const { upstream, front } = await rawProxied(t, { from, fastLane, on: { proxyRes } })
    const client = front.request()
    const conversation = await upstream.next()
    conversation.send(`HTTP/1.1 200 OK\r\nContent-Type: ${type}\r\nTransfer-Encoding: chunked\r\n\r\n`)
    await client.head()
    const chance = seeded(19)
    const sent = Array.from({ length: 300 }, (_, n) => `{"n":${n},"text":"${'é'.repeat(below(chance, 40))}"}`)
    const chunks = parted(chance, Buffer.from(sent.join('\n')), 200).map(chunk)

    for (const part of parted(chance, Buffer.concat(chunks), 60)) {
      const bytesRead = (answer?.socket.bytesRead ?? 0) + part.length
      conversation.send(part)
      await until(() => (answer?.socket.bytesRead ?? 0) >= bytesRead, 'the proxy to read')
    }
    // Node's parser listens under this name.
    const isPast = answer?.socket.listeners('data')[0]?.name !== 'socketOnData'
    conversation.send(lastChunk)

    assert.deepEqual(
      interpret(Buffer.from(await client.whole())).events.map(({ data }) => data),
      sent,
    )
    assert.equal(isPast, fastLane)
  })
}

test('a client that does not read pauses an upstream of lines', async (t) => {
  const { upstream, front } = await proxied(t, { from, keepalive: false })
  const client = front.request()
  const stream = lines(await upstream.next())
  await client.head()
  client.pause()
  const line = `${JSON.stringify('x'.repeat(60_000))}\n`

  let written = 0
  while (stream.write(line) || written < 10) if (++written > 5000) break
  const waited = upstream.open
  client.resume()
  stream.end('"end"\n')
  await client.waitFor('data: "end"')

  assert.ok(written < 5000, 'the upstream was never held up')
  assert.equal(waited, 1)
})

test('without the option, lines pass as they are', async (t) => {
  const { upstream, front } = await rawProxied(t)
  const client = front.request()
  const conversation = await upstream.next()

  conversation.send(`HTTP/1.1 200 OK\r\nContent-Type: ${type}\r\nTransfer-Encoding: chunked\r\n\r\n`)
  conversation.send(chunk('1\n2'))
  conversation.send('0\r\n\r\n')

  assert.equal(await client.whole(), '1\n2')
  assert.equal(client.headers['content-type'], type)
})
