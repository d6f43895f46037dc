// A client that asks for plain JSON gets the whole stream as one answer when it has ended, or an error with a status.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import compression from 'compression'
import type { StreamEvent } from 'sse-proxy-middleware'
import { hostsByProtocol } from '../support/front.ts'
import { watchLeftovers } from '../support/leftovers.ts'
import { type Arrangement, type Proxied, proxied, type SseProxyOptions } from '../support/proxied.ts'
import { refusingUrl } from '../support/several-upstreams.ts'
import { shared } from '../support/sharing.ts'
import type { EventStream, Upstream } from '../support/upstream.ts'
import { gate, until } from '../support/waiting.ts'

const headers = { accept: 'application/json' }
const format = ({ headers: { accept } }: { headers: { accept?: string | undefined } }): 'json' | 'event-stream' =>
  accept === headers.accept ? 'json' : 'event-stream'
const to: SseProxyOptions['to'] = { format }

/** As of an LLM: the text of all events but the last. */
const collect = (events: readonly StreamEvent[]): unknown => ({
  text: events
    .slice(0, -1)
    .map(({ data }) => data)
    .join(''),
})

interface Room extends Proxied<Upstream> {
  client: ReturnType<Proxied<Upstream>['front']['request']>
  stream: EventStream
}

/** A client that waits for the whole stream. */
async function collecting(
  t: TestContext,
  options: Partial<SseProxyOptions> = {},
  arrangement: Arrangement = {},
): Promise<Room> {
  const room = await proxied(t, { to, ...options }, arrangement)
  const client = room.front.request('', { headers })
  const exchange = await room.upstream.next()
  assert.equal(exchange.headers.accept, 'text/event-stream, application/json')
  return { ...room, client, stream: exchange.stream({ 'x-from': 'here', 'set-cookie': 'a=1' }) }
}

function codeOf(text: string): string {
  return (JSON.parse(text) as { error: { code: string } }).error.code
}

for (const host of hostsByProtocol) {
  test(`the events are a list, with a length, and nothing leaves before the end (${host})`, async (t) => {
    const { client, stream, proxy } = await collecting(t, { keepalive: 10 }, { host })
    stream.write(': hi\n\nevent: e\nid: 1\ndata: {"n":1}\n\n')
    stream.write('id: 2\n\n')
    await until(() => proxy.stats().eventsIn === 1, 'the first event')
    const before = client.hasHead

    stream.end('data: two\ndata: lines\n\ndata: unfinished')

    const text = await client.whole()
    assert.equal(before, false)
    assert.deepEqual(JSON.parse(text), [
      { event: 'e', id: '1', data: '{"n":1}' },
      { data: 'two\nlines' },
      { data: 'unfinished' },
    ])
    assert.equal(client.headers['content-length'], String(Buffer.byteLength(text)))
    assert.equal(client.headers['content-type'], 'application/json')
    assert.equal(client.headers.vary, 'Accept')
    assert.equal(client.headers['x-from'], 'here')
    assert.equal(String(client.headers['set-cookie']), 'a=1')
    assert.equal(proxy.stats().keepalives, 0)
  })

  test(`the answer is what collect makes of the events, behind hooks and compression() (${host})`, async (t) => {
    const before = [compression({ threshold: 0 })]
    const transform: SseProxyOptions['transform'] = ({ data }) => ({ data: data.toUpperCase() })
    const { client, stream } = await collecting(t, { to: { format, collect }, transform }, { host, before })

    stream.end('data: a\n\ndata: b\n\ndata: [done]\n\n')

    assert.equal(await client.whole(), '{"text":"AB"}')
    assert.equal(client.headers['content-length'], '13')
  })

  test(`a stream that breaks is answered 502, once, and told (${host})`, async (t) => {
    const errors: string[] = []
    const on = { error: (error: Error): void => void errors.push((error as Error & { code: string }).code) }
    const { client, stream, proxy } = await collecting(t, { on }, { host })
    stream.write('data: 1\n\n')
    await until(() => proxy.stats().eventsIn === 1, 'the first event')

    stream.reset()

    assert.equal(codeOf(await client.whole()), 'ERR_SSE_PROXY_UPSTREAM_LOST')
    assert.equal(client.status, 502)
    assert.deepEqual(errors, ['ERR_SSE_PROXY_UPSTREAM_LOST'])
    assert.equal(proxy.stats().errors.ERR_SSE_PROXY_UPSTREAM_LOST, 1)
    assert.equal(proxy.stats().closed['upstream-lost'], 1)
  })

  test(`the client's leaving while the events are collected reaches the upstream (${host})`, async (t) => {
    const leftovers = watchLeftovers(t)
    const { upstream, front, proxy } = await proxied(t, { to, keepalive: false }, { host })
    const client = front.request('', { headers })
    const exchange = await upstream.next()
    exchange.stream().write('data: 1\n\n')
    await until(() => proxy.stats().eventsIn === 1, 'the first event')

    client.close()

    await exchange.leftByPeer()
    await until(() => proxy.stats().closed['client-left'] === 1, 'the stream to be over')
    await proxy.close({ withinMs: 0 })
    await front.close()
    await upstream.close()
    await leftovers.assertNone()
  })

  test(`a drain answers 503, and the end of lifetimeMs 502: neither passes for the whole (${host})`, async (t) => {
    const drained = await collecting(t, {}, { host })
    drained.stream.write('data: 1\n\n')
    await until(() => drained.proxy.stats().eventsIn === 1, 'the first event')
    const expired = await collecting(t, { timeouts: { lifetimeMs: 30 } }, { host })

    const result = await drained.proxy.close({ withinMs: 300 })

    assert.equal(codeOf(await drained.client.whole()), 'ERR_SSE_PROXY_DRAINING')
    assert.equal(drained.client.status, 503)
    assert.ok(drained.client.headers['retry-after'])
    assert.deepEqual(result, { drained: 1, aborted: 0, other: 0 })
    assert.equal(codeOf(await expired.client.whole()), 'ERR_SSE_PROXY_INCOMPLETE')
    assert.equal(expired.client.status, 502)
  })
}

const losses: Record<string, [code: string, options: Partial<SseProxyOptions>, then: (stream: EventStream) => void]> = {
  'ends before isEnd has seen the end': [
    'ERR_SSE_PROXY_INCOMPLETE',
    { isEnd: ({ data }) => data === 'end' },
    (stream) => stream.end('data: 1\n\n'),
  ],
  'falls silent': ['ERR_SSE_PROXY_IDLE', { timeouts: { idleMs: 30 } }, () => {}],
  'meets a hook that throws': [
    'ERR_SSE_PROXY_HOOK',
    { transform: () => Promise.reject(new Error('a mistake')) },
    (stream) => stream.end('data: 1\n\n'),
  ],
  'has an event that is too large': [
    'ERR_SSE_PROXY_EVENT_TOO_LARGE',
    { limits: { eventBytes: 20 } },
    (stream) => stream.write(`data: ${'x'.repeat(40)}`),
  ],
  'is larger than limits.bufferBytes': [
    'ERR_SSE_PROXY_TOO_LARGE',
    { limits: { bufferBytes: 100 } },
    (stream) => {
      for (let n = 0; n < 20; n += 1) stream.write('data: 12345\n\n')
    },
  ],
}
for (const [what, [code, options, then]] of Object.entries(losses)) {
  test(`a stream that ${what} is answered 502`, async (t) => {
    const { client, stream, upstream, proxy } = await collecting(t, options)

    then(stream)

    assert.equal(codeOf(await client.whole()), code)
    assert.equal(client.status, 502)
    await until(() => upstream.open === 0, 'the upstream to be given up')
    assert.equal(proxy.stats().errors[code as 'ERR_SSE_PROXY_HOOK'], 1)
    assert.equal(proxy.stats().active, 0)
  })
}

test('a flood of comments takes no memory, and is no answer that is too large', async (t) => {
  const { client, stream } = await collecting(t, { limits: { bufferBytes: 100 } })
  for (let n = 0; n < 100; n += 1) stream.write(': a comment of some length\n\n')

  stream.end('data: 1\n\n')

  assert.equal(await client.whole(), '[{"data":"1"}]')
})

test('a loss that resume makes good is none', async (t) => {
  const { client, stream, upstream, proxy } = await collecting(t, { resume: { delayMs: 1 } })
  stream.write('id: 1\ndata: 1\n\n')
  await until(() => proxy.stats().eventsIn === 1, 'the first event')

  stream.reset()
  ;(await upstream.next()).stream().end('id: 2\ndata: 2\n\n')

  assert.deepEqual(JSON.parse(await client.whole()), [
    { id: '1', data: '1' },
    { id: '2', data: '2' },
  ])
})

test('a handler of on.error may answer in place of the proxy', async (t) => {
  const on: SseProxyOptions['on'] = {
    error: (_error, _req, res) => {
      if ('writeHead' in res) res.writeHead(418).end('a teapot')
    },
  }
  const { client, stream } = await collecting(t, { on })

  stream.reset()

  assert.equal(await client.whole(), 'a teapot')
  assert.equal(client.status, 418)
})

test('what is no stream, and a failure before there is one, are as always', async (t) => {
  const { front, upstream } = await proxied(t, { to })
  const json = front.request('', { headers })
  ;(await upstream.next()).answer(404, { 'content-type': 'application/json' }, '{"error":"none"}')
  const refused = await proxied(t, { to, target: refusingUrl, unavailable: 'reconnect' })
  const failed = refused.front.request('', { headers: { accept: 'application/json' } })

  assert.equal(await json.whole(), '{"error":"none"}')
  assert.equal(json.status, 404)
  assert.equal(codeOf(await failed.whole()), 'ERR_SSE_PROXY_UNREACHABLE')
})

test('a client of JSON is not told to reconnect, whatever else it accepts', async (t) => {
  const { front } = await proxied(t, { to: { format: () => 'json' }, target: refusingUrl, unavailable: 'reconnect' })

  const client = await front.open('', { headers: { accept: 'application/json, text/event-stream' } })

  assert.equal(client.status, 502)
})

test('keepalive.openAfterMs does not open a response that is to have a status', async (t) => {
  const { front, upstream } = await proxied(t, { to, keepalive: { openAfterMs: 10 } })
  const client = front.request('', { headers })
  const exchange = await upstream.next()
  const events = front.request()
  await upstream.next()
  await events.head()

  exchange.answer(503, {}, 'down')

  assert.equal(await client.whole(), 'down')
  assert.equal(client.status, 503)
})

test('an event of the app is one of the list, and a stream that it closes is complete', async (t) => {
  const { client, stream, proxy } = await collecting(t)
  stream.write('data: 1\n\n')
  await until(() => proxy.stats().eventsIn === 1, 'the first event')

  for (const open of proxy.streams) {
    open.send({ data: 'mine' })
    open.close()
  }

  assert.deepEqual(JSON.parse(await client.whole()), [{ data: '1' }, { data: 'mine' }])
})

test('an event of the app is not taken where it would make the answer too large', async (t) => {
  const { client, stream, proxy } = await collecting(t, { limits: { bufferBytes: 100 } })
  await until(() => proxy.stats().active === 1, 'the stream to be open')
  const [open] = proxy.streams
  const event = { data: 'x'.repeat(60) }

  const taken = [open?.send(event), open?.send(event)]
  stream.end()

  assert.deepEqual(taken, [true, false])
  assert.deepEqual(JSON.parse(await client.whole()), [event])
})

test('nothing is kept alive where nothing leaves', async (t) => {
  const { front, upstream, proxy } = await collecting(t, { keepalive: 10 })
  await until(() => proxy.stats().active === 1, 'the stream to be open')
  const [whole] = proxy.streams
  const events = front.request()
  ;(await upstream.next()).stream()

  await events.waitFor((text) => text.split(': keepalive').length > 5)

  assert.equal(whole?.bytes, 0)
})

test('onOpen, onEnd and onClose are called as for any stream', async (t) => {
  const calls: string[] = []
  const ready = gate()
  const { client, stream } = await collecting(t, {
    onOpen: () => void calls.push('open'),
    onEnd: () => ready.promise,
    onClose: (_stream, reason) => void calls.push(reason),
  })
  stream.end('data: 1\n\n')

  ready.open()

  assert.equal(await client.whole(), '[{"data":"1"}]')
  assert.deepEqual(calls, ['open', 'upstream-ended'])
})

const failures: Record<string, () => unknown> = {
  throws: () => {
    throw new Error('a mistake')
  },
  'returns nothing': () => undefined,
  'returns what is no JSON': () => 1n,
  'returns a promise': () => Promise.resolve({}),
}
for (const [what, fail] of Object.entries(failures)) {
  test(`a collect that ${what} is an error of the app: 500`, async (t) => {
    const { client, stream, front } = await collecting(t, { to: { format, collect: fail } })

    stream.end('data: 1\n\n')

    await client.ended()
    assert.equal(client.status, 500)
    assert.equal(front.errors.length, 1)
  })
}

test('clients of one shared stream wait for the whole, or have its events at once', async (t) => {
  const room = await shared(t, { replay: { initial: 10 } }, { to: { format, collect } })
  const whole = room.front.request('', { headers })
  const stream = (await room.upstream.next()).stream()
  const events = room.front.request()
  stream.write('data: a\n\n')
  await events.waitFor('data: a')
  const late = room.front.request('', { headers })
  await room.arrivals(3)
  stream.end('data: b\n\ndata: end\n\n')

  assert.equal(await whole.whole(), '{"text":"ab"}')
  assert.equal(await late.whole(), '{"text":"ab"}')
  assert.match(await events.whole(), /data: end\n\n$/)
  assert.equal(room.upstream.exchanges.length, 1)
})

for (const transform of [undefined, () => undefined]) {
  test(`a shared stream that is lost is 502 for those who wait for the whole (${transform ? 'with' : 'without'} hooks)`, async (t) => {
    const room = await shared(t, { transform }, { to })
    const whole = room.front.request('', { headers })
    const stream = (await room.upstream.next()).stream()
    const events = room.front.request()
    await events.head()
    stream.write('data: a\n\n')
    await events.waitFor('data: a')

    stream.reset()

    assert.equal(codeOf(await whole.whole()), 'ERR_SSE_PROXY_UPSTREAM_LOST')
    assert.equal(whole.status, 502)
    assert.equal(await events.ended(), 'broken')
  })
}

test('a drain that has no time left answers who waits for the whole', async (t) => {
  const { client, proxy } = await collecting(t, { onEnd: () => new Promise(() => {}) })

  await proxy.close({ withinMs: 0 })

  assert.equal(codeOf(await client.whole()), 'ERR_SSE_PROXY_DRAINING')
  assert.equal(client.status, 503)
})

test('a client of a large answer that does not read is let go', async (t) => {
  const { client, stream, front } = await collecting(t, {
    limits: { bufferBytes: 100_000_000 },
    timeouts: { writeMs: 50 },
  })
  client.pause()
  const event = `data: ${'x'.repeat(1_000_000)}\n\n`
  for (let n = 0; n < 20; n += 1) stream.write(event)

  stream.end()

  await until(() => front.connections === 0, 'the client to be let go')
  client.resume()
  assert.equal(await client.ended(), 'broken')
})
