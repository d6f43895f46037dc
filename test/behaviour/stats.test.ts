// Every number of stats() against what really happened, and a real scrape against stats().
import assert from 'node:assert/strict'
import type { IncomingMessage } from 'node:http'
import { type TestContext, test } from 'node:test'
import { Registry } from 'prom-client'
import { type ProxyStats, sseProxy } from 'sse-proxy-middleware'
import { prometheusMetrics } from 'sse-proxy-middleware/prometheus'
import { readScrape } from '../observe/prometheus-text.ts'
import type { Client } from '../support/client.ts'
import { type Front, startFront } from '../support/front.ts'
import { proxied, type SseProxyOptions } from '../support/proxied.ts'
import { type EventStream, startUpstream, type Upstream } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

type Numbers = Omit<ProxyStats, 'upstreams' | 'shared' | `${string}Seconds`>

/** What a proxy says that has seen nothing. */
const nothing: Numbers = {
  name: 'sse-proxy',
  active: 0,
  opened: 0,
  refused: { full: 0, 'client-limit': 0, draining: 0, 'no-upstream': 0 },
  closed: {
    'client-left': 0,
    'upstream-ended': 0,
    'upstream-lost': 0,
    'slow-client': 0,
    drained: 0,
    expired: 0,
    'hook-failed': 0,
    closed: 0,
  },
  errors: {},
  retries: 0,
  resumes: 0,
  keepalives: 0,
  eventsIn: 0,
  eventsOut: 0,
  bytesIn: 0,
  bytesOut: 0,
}

interface Counts {
  headers?: number
  first?: number
  gap?: number
  lifetime?: number
}

test('a new proxy has every number there is, at 0, and its upstreams in their order', () => {
  const { stats } = sseProxy({ target: ['http://user:secret@one/a', { url: 'http://two', weight: 3 }], name: 'feed' })

  assertNumbers(stats(), { name: 'feed' }, {})
  const upstreams = stats().upstreams.map(({ url, weight, healthy, active, requests }) => [
    url,
    weight,
    healthy,
    active,
    requests,
  ])
  assert.deepEqual(upstreams, [
    ['http://one/a', 1, true, 0, 0],
    ['http://two', 3, true, 0, 0],
  ])
  assert.deepEqual(stats().shared, { streams: 0, clients: 0, unread: 0, kept: 0, joined: 0, replayed: 0 })
})

test('a stream that is open, then left', async (t) => {
  const { upstream, front, stats } = await watched(t)
  const { client, stream } = await open(front, upstream)

  assertNumbers(stats(), { active: 1, opened: 1 }, { headers: 1 })
  stream.write('id: 1\ndata: one\n\n')
  await client.waitFor('one')
  stream.write(': a comment\n\nid: 2\ndata: two\n\nid: 3\ndata: three\n\n')
  await client.waitFor('three')
  const open1 = { active: 1, opened: 1, eventsIn: 3, eventsOut: 3, bytesIn: client.length, bytesOut: client.length }
  assertNumbers(stats(), open1, { headers: 1, first: 1, gap: 2 })
  assert.equal(stats().upstreams[0]?.active, 1)
  client.close()
  await until(() => stats().active === 0, 'the end')

  assertNumbers(
    stats(),
    { ...open1, active: 0, closed: { ...nothing.closed, 'client-left': 1 } },
    { headers: 1, first: 1, gap: 2, lifetime: 1 },
  )
  await until(() => stats().upstreams[0]?.active === 0, 'the upstream to be free')
  assert.equal(stats().upstreams[0]?.requests, 1)
})

interface Way {
  name: string
  options?: Partial<SseProxyOptions>
  run: (scene: { client: Client; stream: EventStream; front: Front; upstream: Upstream }) => unknown
  then: { closed: keyof Numbers['closed']; errors?: Numbers['errors']; numbers?: Partial<Numbers>; counts?: Counts }
}

const bang = (): never => {
  throw new Error('bang')
}
const oneEvent = { eventsIn: 1, bytesIn: 9 }

const ways: Way[] = [
  {
    name: 'its upstream ends',
    run: ({ stream }) => stream.end('data: x\n\n'),
    then: { closed: 'upstream-ended', numbers: { ...oneEvent, eventsOut: 1, bytesOut: 9 }, counts: { first: 1 } },
  },
  {
    name: 'its upstream breaks off',
    run: ({ stream }) => stream.reset(),
    then: { closed: 'upstream-lost', errors: { ERR_SSE_PROXY_UPSTREAM_LOST: 1 } },
  },
  {
    name: 'its upstream is silent',
    options: { timeouts: { idleMs: 30 } },
    run: () => {},
    then: { closed: 'upstream-lost', errors: { ERR_SSE_PROXY_IDLE: 1 } },
  },
  {
    name: 'a hook throws',
    options: { transform: bang },
    run: ({ stream }) => stream.write('data: x\n\n'),
    then: { closed: 'hook-failed', errors: { ERR_SSE_PROXY_HOOK: 1 }, numbers: oneEvent, counts: { first: 1 } },
  },
  {
    name: 'onEnd throws',
    options: { onEnd: bang },
    run: ({ stream }) => stream.end(),
    then: { closed: 'hook-failed', errors: { ERR_SSE_PROXY_HOOK: 1 } },
  },
  {
    name: 'an event is too large for its hook',
    options: { transform: () => {}, limits: { eventBytes: 20 } },
    run: ({ stream }) => stream.write(`data: ${'x'.repeat(50)}`),
    then: { closed: 'upstream-lost', errors: { ERR_SSE_PROXY_EVENT_TOO_LARGE: 1 }, numbers: { bytesIn: 56 } },
  },
  {
    name: 'it is too old',
    options: { timeouts: { lifetimeMs: 30 }, clientRetryMs: 5 },
    run: () => {},
    then: { closed: 'expired', numbers: { bytesOut: 'retry: 5\n\n'.length } },
  },
  {
    name: 'the app closes it',
    options: { onOpen: (stream) => void setImmediate(() => stream.close()) },
    run: () => {},
    then: { closed: 'closed' },
  },
]

for (const { name, options = {}, run, then } of ways) {
  test(`a stream whose end is that ${name}`, async (t) => {
    const { upstream, front, stats } = await watched(t, options)
    const { client, stream } = await open(front, upstream)

    await run({ client, stream, front, upstream })
    await client.ended()
    await until(() => stats().active === 0, 'the end')
    // Failures are told when the stream is over.
    await until(() => Object.keys(stats().errors).length === Object.keys(then.errors ?? {}).length, 'the error')

    const { closed, errors = {}, numbers, counts } = then
    assertNumbers(
      stats(),
      { opened: 1, ...numbers, errors, closed: { ...nothing.closed, [closed]: 1 } },
      { headers: 1, lifetime: 1, ...counts },
    )
  })
}

test('a client that does not read', async (t) => {
  const { upstream, front, stats } = await watched(t, { timeouts: { writeMs: 100 } })
  const { client, stream } = await open(front, upstream)
  client.pause()

  const piece = `data: ${'x'.repeat(2 ** 20)}\n\n`
  let canWrite = true
  upstream.exchanges[0]!.res.on('drain', () => {
    canWrite = true
  })
  await until(() => {
    if (canWrite) canWrite = stream.write(piece)
    return stats().errors.ERR_SSE_PROXY_SLOW_CLIENT === 1
  }, 'it to be let go')

  assert.equal(stats().closed['slow-client'], 1)
  assert.equal(stats().active, 0)
})

test('refusals, each by its reason, and none of them opens anything', async (t) => {
  const limits = { streams: 2, streamsPerClient: 1, clientKey: (req: IncomingMessage) => String(req.url) }
  const { upstream, front, proxy, stats } = await watched(t, { limits })
  await open(front, upstream, '?a')
  await (await front.open('?a')).ended()
  await open(front, upstream, '?b')
  for (const path of ['?c', '?d']) await (await front.open(path)).ended()
  const closing = proxy.close({ withinMs: 50 })
  for (const path of ['?e', '?f', '?g']) await (await front.open(path)).ended()
  await closing

  const { refused, errors, opened } = stats()
  assert.deepEqual(refused, { full: 2, 'client-limit': 1, draining: 3, 'no-upstream': 0 })
  assert.deepEqual(errors, { ERR_SSE_PROXY_FULL: 2, ERR_SSE_PROXY_CLIENT_LIMIT: 1, ERR_SSE_PROXY_DRAINING: 3 })
  assert.equal(opened, 2)
})

test('no upstream to be had, and failures before an answer', async (t) => {
  const none = await watched(t, { target: ['http://one', 'http://two'], balance: () => undefined as never })
  await (await none.front.open()).ended()
  const { upstream, front, stats } = await watched(t, { timeouts: { responseMs: 50 } })
  await (await front.open()).ended()
  const client = front.request()
  await upstream.next()
  ;(await upstream.next()).req.socket.destroy()
  await client.ended()
  await upstream.close()
  await (await front.open()).ended()

  assertNumbers(
    none.stats(),
    { refused: { ...nothing.refused, 'no-upstream': 1 }, errors: { ERR_SSE_PROXY_NO_UPSTREAM: 1 } },
    {},
  )
  const { errors, opened, upstreams } = stats()
  assert.deepEqual(errors, { ERR_SSE_PROXY_RESPONSE_TIMEOUT: 1, ERR_SSE_PROXY_UNREACHABLE: 2 })
  assert.equal(opened, 0)
  assert.deepEqual([upstreams[0]?.failures, upstreams[0]?.healthy], [3, false])
  assert.ok((upstreams[0]?.ejectedUntil ?? 0) > Date.now())
})

test('retries, and which upstream was asked how often', async (t) => {
  const gone = await startUpstream()
  await gone.close()
  const upstream = await startUpstream()
  const proxy = sseProxy({ target: [gone.url, upstream.url], balance: (candidates) => candidates[0]! })
  const front = await startFront('express5', proxy)
  t.after(async () => {
    await front.close()
    await upstream.close()
  })
  await open(front, upstream)
  await open(front, upstream)

  const { retries, opened, errors, upstreams } = proxy.stats()
  assert.deepEqual([retries, opened, errors], [2, 2, {}])
  assert.deepEqual(
    upstreams.map(({ requests, active, failures }) => [requests, active, failures]),
    [
      [2, 0, 2],
      [2, 2, 0],
    ],
  )
})

test('resumes: one stream, several upstream connections, and every event once', async (t) => {
  const { upstream, front, stats } = await watched(t, { resume: { delayMs: 1, maxDelayMs: 2 } })
  const { client, stream } = await open(front, upstream)
  stream.write('id: 1\ndata: one\n\nid: 2\ndata: lo')
  await client.waitFor('one')
  stream.reset()
  const second = (await upstream.next()).stream()
  second.write('id: 2\ndata: two\n\n')
  await client.waitFor('two')
  second.reset()
  ;(await upstream.next()).stream().end('id: 3\ndata: three\n\n')
  await client.whole()
  await until(() => stats().active === 0, 'the end')

  assertNumbers(
    stats(),
    {
      opened: 1,
      resumes: 2,
      eventsIn: 3,
      eventsOut: 3,
      bytesOut: client.length,
      bytesIn: client.length + 'id: 2\ndata: lo'.length,
      closed: { ...nothing.closed, 'upstream-ended': 1 },
    },
    { headers: 1, first: 1, gap: 2, lifetime: 1 },
  )
})

test('keepalives are counted with their bytes, and are no events', async (t) => {
  const { upstream, front, stats } = await watched(t, { keepalive: 20 })
  const { client, stream } = await open(front, upstream)
  await client.waitFor((text) => text.split(': keepalive').length > 3)
  stream.end()
  await client.ended()
  await until(() => stats().active === 0, 'the end')

  const { keepalives, bytesOut, bytesIn, eventsOut } = stats()
  assert.equal(keepalives, client.text.split(': keepalive').length - 1)
  assert.deepEqual([bytesOut, bytesIn, eventsOut], [client.length, 0, 0])
})

test('events and bytes in and out with hooks that drop, split and replace, and with what the app sends', async (t) => {
  const transform: SseProxyOptions['transform'] = ({ data }) => {
    if (data === 'drop') return null
    if (data === 'split') return [{ data: 'a' }, { data: 'b' }, { data: 'c' }]
    if (data === 'later') return Promise.resolve({ data: 'später' })
    return undefined
  }
  const { upstream, front, proxy, stats } = await watched(t, { transform })
  const { client, stream } = await open(front, upstream)
  const sent = ['drop', 'keep', 'split', 'later'].map((data, id) => `id: ${id}\ndata: ${data}\n\n`).join('')
  stream.write(sent)
  await client.waitFor('später')
  for (const one of proxy.streams) one.send({ data: 'für dich' })
  await client.waitFor('dich')

  const { eventsIn, eventsOut, bytesIn, bytesOut } = stats()
  assert.deepEqual({ eventsIn, eventsOut }, { eventsIn: 4, eventsOut: 6 })
  assert.deepEqual({ bytesIn, bytesOut }, { bytesIn: sent.length, bytesOut: client.length })
  const [one] = proxy.streams
  assert.equal(one?.bytes, client.length)
  assert.equal(one?.events, 4)
})

for (const perClient of [false, true]) {
  test(`a shared stream counts once as it comes and for each client as it goes${perClient ? ', through a hook each' : ''}`, async (t) => {
    const share = { lingerMs: 0, replay: { initial: 10 }, ...(perClient && { transform: () => {} }) }
    const { upstream, front, stats } = await watched(t, { share })
    const clients = [front.request(), front.request()]
    const exchange = await upstream.next()
    const stream = exchange.stream()
    await Promise.all(clients.map((client) => client.head()))
    stream.write('id: 1\ndata: one\n\n')
    for (const client of clients) await client.waitFor('one')
    stream.write('id: 2\ndata: two\n\n')
    for (const client of clients) await client.waitFor('two')
    const late = front.request()
    await late.waitFor('two')

    const bytes = 'id: 1\ndata: one\n\nid: 2\ndata: two\n\n'.length
    const numbers = { opened: 3, eventsIn: 2, bytesIn: bytes, eventsOut: 6, bytesOut: 3 * bytes }
    assertNumbers(stats(), { ...numbers, active: 3 }, { headers: 3, first: 3 })
    assert.deepEqual(stats().shared, { streams: 1, clients: 3, unread: 0, kept: 0, joined: 2, replayed: 0 })
    assert.deepEqual([stats().upstreams[0]?.active, stats().upstreams[0]?.requests], [1, 1])
    front.closeClients()
    await until(() => stats().shared.streams === 0, 'the shared stream to be over')

    assertNumbers(
      stats(),
      { ...numbers, closed: { ...nothing.closed, 'client-left': 3 } },
      { headers: 3, first: 3, lifetime: 3 },
    )
  })
}

test('a shared stream that breaks is one error, and the end of each of its streams', async (t) => {
  const { upstream, front, stats } = await watched(t, { share: true })
  const clients = [front.request(), front.request()]
  const stream = (await upstream.next()).stream()
  await Promise.all(clients.map((client) => client.head()))

  stream.reset()
  for (const client of clients) assert.equal(await client.ended(), 'broken')
  await until(() => stats().errors.ERR_SSE_PROXY_UPSTREAM_LOST !== undefined, 'the error')

  assertNumbers(
    stats(),
    { opened: 2, errors: { ERR_SSE_PROXY_UPSTREAM_LOST: 1 }, closed: { ...nothing.closed, 'upstream-lost': 2 } },
    { headers: 2, lifetime: 2 },
  )
})

test('an answer that is no stream is a request of its upstream and nothing else', async (t) => {
  const { upstream, front, stats } = await watched(t)
  const client = front.request()
  ;(await upstream.next()).answer(200, { 'content-type': 'application/json' }, '{}')
  await client.whole()

  await until(() => stats().upstreams[0]?.active === 0, 'the upstream to be free')
  assertNumbers(stats(), {}, {})
  assert.equal(stats().upstreams[0]?.requests, 1)
})

test('an answer that is no stream and breaks off is an error', async (t) => {
  const { upstream, front, stats } = await watched(t)
  const client = front.request()
  const { res } = await upstream.next()
  res.writeHead(200, { 'content-length': '100' })
  res.write('a part')
  await client.waitFor('a part')
  res.socket?.resetAndDestroy()
  await client.ended()

  await until(() => stats().errors.ERR_SSE_PROXY_UPSTREAM_LOST === 1, 'the error')
})

test('the numbers are plain: through JSON and back they are the same, and they stay what they were', async (t) => {
  const { upstream, front, stats } = await watched(t, { share: { lingerMs: 0 } })
  await open(front, upstream)

  const snapshot = stats()
  const copy = JSON.parse(JSON.stringify(snapshot))
  front.closeClients()
  await until(() => stats().active === 0, 'the end')

  assert.deepEqual(copy, snapshot)
})

test('times are in seconds and where they belong', async (t) => {
  const { upstream, front, stats } = await watched(t)
  const startedAt = performance.now()
  const client = front.request()
  const exchange = await upstream.next()
  await passed(60)
  const stream = exchange.stream()
  await client.head()
  await passed(60)
  stream.write('data: 1\n\n')
  await client.waitFor('1')
  await passed(60)
  stream.end('data: 2\n\n')
  await client.whole()
  await until(() => stats().active === 0, 'the end')
  const whole = (performance.now() - startedAt) / 1000

  const { timeToHeadersSeconds, timeToFirstEventSeconds, eventGapSeconds, lifetimeSeconds } = stats()
  const [headers, first, gap, lifetime] = [
    timeToHeadersSeconds,
    timeToFirstEventSeconds,
    eventGapSeconds,
    lifetimeSeconds,
  ].map(({ sum }) => sum) as [number, number, number, number]
  assert.ok(headers > 0.05 && headers < whole - 0.1, `headers after ${headers} s`)
  assert.ok(first > headers + 0.05 && first < whole - 0.05, `the first event after ${first} s`)
  assert.ok(gap > 0.05 && gap < whole - 0.1, `a gap of ${gap} s`)
  assert.ok(lifetime > 0.11 && lifetime <= whole, `open for ${lifetime} s`)
})

test('a scrape of a real proxy over HTTP shows the same numbers', async (t) => {
  const { upstream, front, proxy, stats } = await watched(t, { name: 'feed "1"', limits: { streams: 2 } })
  const registry = new Registry()
  prometheusMetrics(proxy, { registry })
  const metrics = await startFront(
    'express5',
    async (_req, res) => res.set('content-type', registry.contentType).send(await registry.metrics()),
    { mount: '/metrics' },
  )
  t.after(() => metrics.close())
  const { client, stream } = await open(front, upstream)
  stream.write('id: 1\ndata: one\n\nid: 2\ndata: two\n\n')
  await client.waitFor('two')
  const broken = await open(front, upstream)
  await (await front.open()).ended()
  broken.stream.reset()
  await until(() => stats().errors.ERR_SSE_PROXY_UPSTREAM_LOST === 1, 'the error')

  const scrape = await metrics.open()
  const { value } = readScrape(await scrape.whole())

  const label = { proxy: 'feed "1"' }
  assert.match(String(scrape.headers['content-type']), /^text\/plain; version=0\.0\.4/)
  assert.equal(value('sse_proxy_streams_active', label), 1)
  assert.equal(value('sse_proxy_streams_opened_total', label), 2)
  assert.equal(value('sse_proxy_streams_closed_total', { ...label, reason: 'upstream-lost' }), 1)
  assert.equal(value('sse_proxy_refused_total', { ...label, reason: 'full' }), 1)
  assert.equal(value('sse_proxy_errors_total', { ...label, code: 'ERR_SSE_PROXY_FULL' }), 1)
  assert.equal(value('sse_proxy_events_total', { ...label, direction: 'in' }), 2)
  assert.equal(value('sse_proxy_events_total', { ...label, direction: 'out' }), 2)
  assert.equal(value('sse_proxy_bytes_total', { ...label, direction: 'out' }), client.length)
  const url = stats().upstreams[0]!.url
  assert.equal(value('sse_proxy_upstream_requests_total', { ...label, upstream: url }), 2)
  assert.equal(value('sse_proxy_upstream_healthy', { ...label, upstream: url }), 1)
  assert.equal(value('sse_proxy_time_to_headers_seconds_count', label), 2)
  assert.equal(value('sse_proxy_time_to_first_event_seconds_count', label), 1)
  assert.equal(value('sse_proxy_event_gap_seconds_count', label), 1)
  assert.equal(value('sse_proxy_stream_lifetime_seconds_count', label), 1)
})

async function watched(
  t: TestContext,
  options: Partial<SseProxyOptions> = {},
): Promise<{
  upstream: Upstream
  front: Front
  proxy: ReturnType<typeof sseProxy>
  stats: () => ProxyStats
}> {
  const { upstream, front, proxy } = await proxied(t, options)
  return { upstream, front, proxy, stats: () => proxy.stats() }
}

async function open(front: Front, upstream: Upstream, path = ''): Promise<{ client: Client; stream: EventStream }> {
  const client = front.request(path)
  const stream = (await upstream.next()).stream()
  await client.head()
  return { client, stream }
}

/** All plain numbers and the counts of all histograms: what is not named must be as in a new proxy. */
function assertNumbers(stats: ProxyStats, numbers: Partial<Numbers>, counts: Counts): void {
  const { upstreams: _, shared: __, ...rest } = stats
  const { timeToHeadersSeconds, timeToFirstEventSeconds, eventGapSeconds, lifetimeSeconds, ...plain } = rest
  assert.deepEqual(plain, { ...nothing, ...numbers })
  assert.deepEqual(
    {
      headers: timeToHeadersSeconds.count,
      first: timeToFirstEventSeconds.count,
      gap: eventGapSeconds.count,
      lifetime: lifetimeSeconds.count,
    },
    { headers: 0, first: 0, gap: eventGapSeconds.count * Number(counts.gap === undefined), lifetime: 0, ...counts },
  )
}

/** Time itself is what is measured here. */
function passed(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
