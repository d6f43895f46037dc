// A client that asks for lines of JSON gets a line for each event of the stream, as it comes.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import compression from 'compression'
import cors from 'cors'
import { fixtures } from '../stream/fixtures.ts'
import { headerOf } from '../support/client.ts'
import { hostsByProtocol } from '../support/front.ts'
import { watchLeftovers } from '../support/leftovers.ts'
import { interpret } from '../support/oracle.ts'
import { proxied, rawProxied, type SseProxyOptions } from '../support/proxied.ts'
import { chunk, streamHead } from '../support/raw-upstream.ts'
import { shared } from '../support/sharing.ts'
import type { Exchange } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

const accept = { accept: 'application/x-ndjson' }
const to: SseProxyOptions['to'] = {
  format: ({ headers }) => (headers.accept === accept.accept ? 'ndjson' : 'event-stream'),
}

for (const host of hostsByProtocol) {
  test(`each event is a line before the next one is sent (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, { to }, { host })
    const client = front.request('', { headers: accept })
    const exchange = await upstream.next()
    const stream = exchange.stream({ vary: 'Origin', 'x-from': 'here' })
    await client.head()
    const events: [event: string, line: string][] = [
      ['event: e\nid: 1\ndata: {"n":1,"big":12345678901234567890}\n\n', '{"n":1,"big":12345678901234567890}\n'],
      ['data: plain "text"\r\n\r\n', '"plain \\"text\\""\n'],
      ['data: {\ndata:   "n": 2\ndata: }\n\n', '{   "n": 2 }\n'],
      ['data: two\ndata: lines\n\n', '"two\\nlines"\n'],
      ['data\n\n', '""\n'],
      ['data: [DONE]\n\ndata: ümläut\u2028\n\n', '"[DONE]"\n"ümläut\u2028"\n'],
    ]

    let expected = ''
    for (const [event, line] of events) {
      stream.write(event)
      expected += line
      await client.waitFor(expected)
    }
    stream.end('data: null\n\ndata: unfinished\n')

    assert.equal(await client.whole(), `${expected}null\n"unfinished"\n`)
    assert.equal(client.headers['content-type'], 'application/x-ndjson')
    assert.equal(client.headers.vary, 'Accept, Origin')
    assert.equal(client.headers['x-from'], 'here')
    assert.equal(exchange.headers.accept, 'text/event-stream, application/x-ndjson')
  })

  test(`a loss is a broken transfer behind the last whole event (${host})`, async (t) => {
    const onLost: SseProxyOptions['onLost'] = ({ code }) => ({ data: code })
    const { upstream, front } = await proxied(t, { to, onLost }, { host })
    const client = front.request('', { headers: accept })
    const stream = (await upstream.next()).stream()
    stream.write('data: 1\n\ndata: 2\n')
    await client.waitFor('1\n')

    stream.reset()

    assert.equal(await client.ended(), 'broken')
    assert.equal(client.text, '1\n"ERR_SSE_PROXY_UPSTREAM_LOST"\n')
  })

  test(`a drain and the end of lifetimeMs break lines off: nothing in them says that there is more (${host})`, async (t) => {
    const drained = await proxied(t, { to }, { host })
    const expired = await proxied(t, { to, timeouts: { lifetimeMs: 30 } }, { host })

    for (const { upstream, front, proxy } of [drained, expired]) {
      const client = front.request('', { headers: accept })
      const stream = (await upstream.next()).stream()
      stream.write('data: 1\n\n')
      await client.waitFor('1\n')
      if (proxy === drained.proxy) void proxy.close({ withinMs: 20, retryMs: 1 })

      assert.equal(await client.ended(), 'broken')
      assert.equal(client.text, '1\n')
    }
    assert.equal(drained.proxy.stats().closed.drained, 1)
    assert.equal(expired.proxy.stats().closed.expired, 1)
  })
}

test('a stream that the app closes ends cleanly, and what it sends is a line', async (t) => {
  const { upstream, front, proxy } = await proxied(t, { to })
  const client = front.request('', { headers: accept })
  ;(await upstream.next()).stream().write('data: 1\n\n')
  await client.waitFor('1\n')

  for (const stream of proxy.streams) {
    stream.send({ event: 'bye', data: '{"why":"closed"}' })
    stream.close()
  }

  assert.equal(await client.whole(), '1\n{"why":"closed"}\n')
})

test('keepalives are empty lines, and so is what has no event in it', async (t) => {
  const { upstream, front } = await proxied(t, { to, keepalive: 10 })
  const client = front.request('', { headers: accept })
  const stream = (await upstream.next()).stream()
  await client.waitFor('\n\n')

  stream.write('id: 7\n\n')
  stream.end('data: 1\n\n')

  assert.match(await client.whole(), /^\n\n+1\n$/)
})

test('keepalives are empty lines where they are comments without a blank line, too', async (t) => {
  const { upstream, front } = await proxied(t, { to, keepalive: { intervalMs: 10, blankLine: false } })
  const client = front.request('', { headers: accept })
  const stream = (await upstream.next()).stream()
  await client.waitFor('\n\n')

  stream.write('data: 1\n\n')
  await client.waitFor('1\n\n\n')
  stream.end('data: 2\n\n')

  assert.match(await client.whole(), /^\n\n+1\n\n\n+2\n$/)
})

test('comments of the upstream do not hide it from the client that the stream is alive', async (t) => {
  const { upstream, front } = await proxied(t, { to, keepalive: 10_000 })
  const client = front.request('', { headers: accept })
  const stream = (await upstream.next()).stream()

  stream.write(': ping\n\n')

  await client.waitFor('\n')
  assert.equal(client.text, '\n')
})

test('an event that is too large breaks the lines off, where an event stream would pass it', async (t) => {
  const { upstream, front, proxy } = await proxied(t, { to, limits: { eventBytes: 20 } })
  const client = front.request('', { headers: accept })
  const stream = (await upstream.next()).stream()

  stream.write(`data: 1\n\ndata: ${'x'.repeat(30)}`)

  assert.equal(await client.ended(), 'broken')
  assert.equal(client.text, '1\n')
  await until(() => proxy.stats().errors.ERR_SSE_PROXY_EVENT_TOO_LARGE === 1, 'the failure to be counted')
})

test('hooks see events, and what they make are lines', async (t) => {
  const { upstream, front } = await proxied(t, {
    to,
    transform: ({ data, event }) => ({ data: JSON.stringify({ event, data }) }),
  })
  const client = front.request('', { headers: accept })

  ;(await upstream.next()).stream().end('event: a\ndata: 1\n\n')

  assert.equal(await client.whole(), '{"event":"a","data":"1"}\n')
})

test('lines pass through compression() and behind cors() at once', async (t) => {
  const { upstream, front } = await proxied(
    t,
    { to },
    { before: [compression({ threshold: 0 }), cors({ origin: 'https://a.example' })] },
  )
  const client = front.request('', { headers: { ...accept, 'accept-encoding': 'gzip' } })
  const stream = (await upstream.next()).stream()

  stream.write('data: 1\n\n')
  await client.waitFor('1\n')

  assert.equal(client.headers['content-encoding'], undefined)
  assert.equal(headerOf(client, 'vary'), 'Origin, Accept')
})

test('a client that asks for events gets them byte for byte, with Vary', async (t) => {
  const { upstream, front } = await proxied(t, { to })
  const client = front.request()

  ;(await upstream.next()).stream().end(': hi\nid: 1\ndata: 1\n\n')

  assert.equal(await client.whole(), ': hi\nid: 1\ndata: 1\n\n')
  assert.equal(client.headers.vary, 'Accept')
})

test('what is no event stream passes as it is: JSON, errors, and the answer to HEAD', async (t) => {
  const { upstream, front } = await proxied(t, { to })
  const json = front.request('', { headers: accept })
  ;(await upstream.next()).answer(200, { 'content-type': 'application/json' }, '{"n":1}')
  const failed = front.request('', { headers: accept })
  ;(await upstream.next()).answer(429, { 'retry-after': '1' }, 'later')
  const head = front.request('', { method: 'HEAD', headers: accept })
  ;(await upstream.next()).answer(200, { 'content-type': 'text/event-stream' })

  assert.equal(await json.whole(), '{"n":1}')
  assert.equal(await failed.whole(), 'later')
  assert.equal(failed.status, 429)
  await head.head()
  assert.equal(head.headers['content-type'], 'text/event-stream')
  assert.equal(head.headers.vary, 'Accept')
})

test('chunks of an upstream are lines too, cut anywhere', async (t) => {
  const { upstream, front } = await rawProxied(t, { to, keepalive: false })
  const text = 'data: {"n":1}\n\ndata: é\r\n\r\n'

  for (let cut = 1; cut < Buffer.byteLength(text); cut += 1) {
    const client = front.request('', { headers: accept })
    const conversation = await upstream.next()
    conversation.send(streamHead)
    await client.head()
    conversation.send(chunk(Buffer.from(text).subarray(0, cut)))
    conversation.send(chunk(Buffer.from(text).subarray(cut)))
    conversation.send('0\r\n\r\n')

    assert.equal((await client.whole()).replace(/^\n/, ''), '{"n":1}\n"é"\n')
    conversation.socket.destroy()
  }
})

test('whatever an event stream is made of, the lines are the events that a browser would dispatch', async (t) => {
  let body: Buffer = Buffer.alloc(0)
  const handler = (exchange: Exchange): void => exchange.stream().end(body)
  const { front } = await proxied(t, { to, keepalive: false }, { upstream: { handler } })

  for (const { name, bytes } of fixtures) {
    body = bytes
    const client = front.request('', { headers: accept })
    const lines = (await client.whole()).split('\n').filter((line) => line !== '')

    // An event that is unfinished at a clean end counts.
    const { events } = interpret(Buffer.concat([bytes, Buffer.from('\n\n')]))
    assert.deepEqual(
      lines.map((line) => JSON.parse(line)),
      events.map(({ data }) => parsedOrText(data)),
      name,
    )
  }
})

function parsedOrText(data: string): unknown {
  try {
    return JSON.parse(data)
  } catch {
    return data
  }
}

test('clients that share a stream have a format each', async (t) => {
  const room = await shared(t, { replay: { initial: 10 } }, { to })
  const lines = room.front.request('', { headers: accept })
  const stream = (await room.upstream.next()).stream()
  await lines.head()
  const events = await room.front.open()
  stream.write('id: 1\ndata: 1\n\n')
  await Promise.all([lines.waitFor('1\n'), events.waitFor('data: 1')])
  const late = room.front.request('', { headers: accept })
  await late.waitFor('1\n')
  stream.end('id: 2\ndata: two\n\n')

  assert.equal(await lines.whole(), '1\n"two"\n')
  assert.equal(await late.whole(), '1\n"two"\n')
  assert.equal(await events.whole(), 'id: 1\ndata: 1\n\nid: 2\ndata: two\n\n')
  assert.equal(room.upstream.exchanges.length, 1)
})

test('lines become lines again: an upstream and a client of NDJSON with hooks between', async (t) => {
  const { upstream, front } = await proxied(t, {
    from: 'ndjson',
    to,
    transform: ({ data }) => ({ data: data.replace('1', '2') }),
  })
  const client = front.request('', { headers: accept })

  const exchange = await upstream.next()
  exchange.stream({ 'content-type': 'application/x-ndjson' }).end('{"n":1}\n')

  assert.equal(await client.whole(), '{"n":2}\n')
  assert.equal(exchange.headers.accept, 'application/x-ndjson')
})

test('a format function that throws is an error of the app, and no upstream is asked', async (t) => {
  const format = (): never => {
    throw new Error('a mistake')
  }
  const { upstream, front } = await proxied(t, { to: { format } })

  const client = await front.open()

  assert.equal(client.status, 500)
  assert.equal((front.errors[0] as Error).message, 'a mistake')
  assert.equal(upstream.exchanges.length, 0)
})

test('a reader of lines that leaves frees its upstream', async (t) => {
  const leftovers = watchLeftovers(t)
  const { upstream, front, proxy } = await proxied(t, { to, keepalive: false })
  const client = front.request('', { headers: accept })
  const exchange = await upstream.next()
  exchange.stream().write('data: 1\n\n')
  await client.waitFor('1\n')

  client.close()

  await exchange.leftByPeer()
  await proxy.close({ withinMs: 0 })
  await front.close()
  await upstream.close()
  await leftovers.assertNone()
})
