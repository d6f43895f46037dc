// Spans and metrics with OpenTelemetry's own SDK: what is in a span, whose child it is, what reaches the upstream, and that the
// metrics say what `stats()` says.
import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { type TestContext, test } from 'node:test'
import { context, type DiagLogger, DiagLogLevel, diag, propagation, SpanStatusCode } from '@opentelemetry/api'
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics'
import {
  InMemorySpanExporter,
  NodeTracerProvider,
  type ReadableSpan,
  SimpleSpanProcessor,
  type SpanProcessor,
} from '@opentelemetry/sdk-trace-node'
import express from 'express'
import { sseProxy } from 'sse-proxy-middleware'
import { streamMetrics, traceStreams } from 'sse-proxy-middleware/opentelemetry'
import { request } from '../support/client.ts'
import type { Middleware } from '../support/front.ts'
import { proxied } from '../support/proxied.ts'
import { refusingUrl, several } from '../support/several-upstreams.ts'
import { type Exchange, startUpstream } from '../support/upstream.ts'
import { gate, until, within } from '../support/waiting.ts'

// As an app does it: spans are known across awaits, and travel in the headers of the W3C.
new NodeTracerProvider().register()

const one = 'id: 1\ndata: one\n\n'
const two = 'id: 2\ndata: two\n\n'
const incoming = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'

test('a stream is one span, with how far it came and why it ended', async (t) => {
  const { proxy, upstream, front } = await proxied(t)
  const { spans, provider } = traced(t, proxy)
  const client = front.request()
  ;(await upstream.next()).stream().end(one + two)
  await client.whole()

  const [span] = await spans(1)

  assert.equal(span?.name, 'sse-proxy')
  assert.deepEqual(span?.attributes, {
    'sse_proxy.name': 'sse-proxy',
    'http.request.method': 'GET',
    'http.route': '/events',
    'http.response.status_code': 200,
    'sse_proxy.stream': span?.attributes['sse_proxy.stream'],
    'sse_proxy.upstream': `${upstream.url}/stream`,
    'sse_proxy.events': 2,
    'sse_proxy.bytes': Buffer.byteLength(one + two),
    'sse_proxy.close_reason': 'upstream-ended',
  })
  assert.equal(span?.status.code, SpanStatusCode.UNSET)
  await provider.shutdown()
})

test('the span is a child of the one that the client brings, and its upstream is told of it in place of that', async (t) => {
  const { proxy, upstream, front } = await proxied(t)
  const { spans } = traced(t, proxy)
  const client = front.request('', { headers: { traceparent: incoming, baggage: 'user=ada' } })
  const exchange = await upstream.next()
  exchange.stream().end(one)
  await client.whole()

  const [span] = await spans(1)

  assert.equal(span?.parentSpanContext?.spanId, 'b7ad6b7169203331')
  assert.equal(exchange.headers.baggage, 'user=ada')
  assert.equal(exchange.headers.traceparent, traceparentOf(span))
  assert.equal(span?.spanContext().traceId, '0af7651916cd43dd8448eb211c80319c')
})

test("the span is a child of the app's own, where one is active", async (t) => {
  const { provider, ...tracing } = exporting(t)
  const tracer = provider.getTracer('app')
  const inSpan: Middleware = (_req, _res, next) =>
    tracer.startActiveSpan('server', (span) => {
      next()
      span.end()
    })
  const { proxy, upstream, front } = await proxied(t, {}, { before: [inSpan] })
  t.after(traceStreams(proxy, { tracerProvider: provider }))
  const client = front.request('', { headers: { traceparent: incoming } })
  ;(await upstream.next()).stream().end(one)
  await client.whole()

  const [server, stream] = await tracing.spans(2)

  assert.deepEqual([server?.name, stream?.name], ['server', 'sse-proxy'])
  assert.equal(stream?.parentSpanContext?.spanId, server?.spanContext().spanId)
})

test('retries and resumes are events of the span, and each attempt carries the trace on', async (t) => {
  const { proxy, upstreams, urls, front } = await several(
    t,
    (all) => ({ target: [refusingUrl, ...all], balance: 'failover', resume: { delayMs: 1 } }),
    { count: 1 },
  )
  const { spans } = traced(t, proxy)
  const client = front.request()
  const first = await upstreams[0].next()
  const stream = first.stream()
  stream.write(one)
  await client.waitFor(one)
  stream.reset()
  const second = await upstreams[0].next()
  second.stream().end(two)
  await client.whole()

  const [span] = await spans(1)

  assert.deepEqual(
    span?.events.map(({ name, attributes = {} }) => [name, attributes['sse_proxy.upstream'], attributes['error.type']]),
    [
      ['retry', refusingUrl, 'ERR_SSE_PROXY_UNREACHABLE'],
      ['open', undefined, undefined],
      ['retry', refusingUrl, 'ERR_SSE_PROXY_UNREACHABLE'],
      ['resume', urls[0], undefined],
    ],
  )
  assert.deepEqual([first.headers.traceparent, second.headers.traceparent], [traceparentOf(span), traceparentOf(span)])
})

test('a stream that was lost is a span with an error, and its code', async (t) => {
  const { proxy, upstream, front } = await proxied(t)
  const { spans } = traced(t, proxy)
  const client = front.request()
  const stream = (await upstream.next()).stream()
  stream.write(one)
  await client.waitFor(one)
  stream.reset()
  await client.ended()

  const [span] = await spans(1)

  assert.equal(span?.status.code, SpanStatusCode.ERROR)
  assert.equal(span?.attributes['sse_proxy.close_reason'], 'upstream-lost')
  assert.equal(span?.attributes['error.type'], 'ERR_SSE_PROXY_UPSTREAM_LOST')
})

test('the span of a stream that goes on without its client ends with the stream', async (t) => {
  const gone = gate()
  const watching: Middleware = (_req, res, next) => {
    res.once('close', gone.open)
    next()
  }
  const { proxy, upstream, front } = await proxied(t, { onDisconnect: 'drain' }, { before: [watching] })
  const { spans } = traced(t, proxy)
  const client = front.request()
  const stream = (await upstream.next()).stream()
  stream.write(one)
  await client.waitFor(one)
  client.close()
  await within(gone.promise, 'the client to be gone')
  stream.end(two)

  const [span] = await spans(1)

  assert.deepEqual(
    [span?.attributes['sse_proxy.close_reason'], span?.attributes['sse_proxy.events']],
    ['client-left', 2],
  )
})

test('a request without an answer, and one that is no stream, are spans as well', async (t) => {
  const { proxy, upstream, front } = await proxied(t)
  const { spans } = traced(t, proxy)
  const lost = front.request()
  ;(await upstream.next()).res.socket?.resetAndDestroy()
  await lost.head()
  await lost.ended()
  const plain = front.request()
  ;(await upstream.next()).answer(404, { 'content-length': '0' })
  await plain.ended()
  const gone = front.request()
  const waiting = await upstream.next()
  gone.close()
  await waiting.leftByPeer()

  const ended = await spans(3)

  assert.deepEqual(
    ended.map(({ attributes, status }) => [
      attributes['http.response.status_code'],
      attributes['error.type'],
      status.code,
    ]),
    [
      [502, 'ERR_SSE_PROXY_UNREACHABLE', SpanStatusCode.ERROR],
      [404, undefined, SpanStatusCode.UNSET],
      [undefined, undefined, SpanStatusCode.UNSET],
    ],
  )
})

test('a request that is refused at the door is a span with its error', async (t) => {
  const { proxy, upstream, front } = await proxied(t, { limits: { streams: 1 } })
  const { spans, stop } = traced(t, proxy)
  const first = front.request()
  ;(await upstream.next()).stream().write(one)
  await first.waitFor(one)

  await front.request().ended()
  await spans(1)
  stop()
  const [refused] = await spans(2)

  assert.equal(refused?.attributes['http.response.status_code'], 503)
  assert.equal(refused?.attributes['error.type'], 'ERR_SSE_PROXY_FULL')
})

test('each client of a shared stream has a span, and the one that has opened it is known upstream', async (t) => {
  const { proxy, upstream, front } = await proxied(t, { share: { lingerMs: 0 } })
  const { spans } = traced(t, proxy)
  const clients = [front.request(), front.request()]
  const exchange = await upstream.next()
  const stream = exchange.stream()
  await until(() => proxy.stats().shared.clients === 2, 'both clients to share')
  stream.end(one)
  await Promise.all(clients.map((client) => client.whole()))

  const ended = await spans(2)

  assert.equal(ended.filter((span) => traceparentOf(span) === exchange.headers.traceparent).length, 1)
  assert.deepEqual(
    ended.map(({ attributes }) => attributes['sse_proxy.close_reason']),
    ['upstream-ended', 'upstream-ended'],
  )
})

test('another proxy is not traced, and where tracing has ended open spans have too', async (t) => {
  const { proxy, upstream, front } = await proxied(t, { name: 'other' })
  const traces = traced(t, sseProxy({ target: refusingUrl, name: 'one' }))
  const own = traced(t, proxy)
  const client = front.request()
  const exchange = await upstream.next()
  exchange.stream().write(one)
  await client.waitFor(one)

  own.stop()
  exchange.res.end()
  await client.whole()
  const again = front.request()
  const untraced = await upstream.next()
  untraced.stream().end(two)
  await again.whole()

  assert.equal((await own.spans(1)).length, 1)
  assert.equal(untraced.headers.traceparent, undefined)
  assert.equal((await traces.spans(0)).length, 0)
})

test('a processor or an exporter that throws ends no process, and no other span', async (t) => {
  let ended = 0
  const failing: SpanProcessor = {
    forceFlush: async () => {},
    shutdown: async () => {},
    onStart() {},
    onEnd() {
      ended++
      throw new Error('full')
    },
  }
  const { proxy, upstream, front } = await proxied(t)
  const provider = new NodeTracerProvider({ spanProcessors: [failing] })
  const stop = traceStreams(proxy, { tracerProvider: provider })
  t.after(stop)
  const plain = front.request()
  ;(await upstream.next()).answer(404, { 'content-length': '0' })
  await plain.ended()
  const lost = front.request()
  const stream = (await upstream.next()).stream()
  stream.write(one)
  await lost.waitFor(one)
  stream.reset()
  await until(() => ended === 2, 'the spans of what is over')
  const open = [front.request(), front.request()]
  for (const client of open) {
    ;(await upstream.next()).stream().write(one)
    await client.waitFor(one)
  }

  stop()

  assert.equal(ended, 4)
})

test('the spans of streams that a shutdown has ended are there before the exporter is shut down', async (t) => {
  const { proxy, upstream, front } = await proxied(t)
  const { provider, exporter } = traced(t, proxy)
  const client = front.request()
  ;(await upstream.next()).stream().write(one)
  await client.waitFor(one)

  await proxy.close({ withinMs: 0 })
  const reasons = exporter.getFinishedSpans().map(({ attributes }) => attributes['sse_proxy.close_reason'])
  await provider.shutdown()

  assert.deepEqual(reasons, ['drained'])
})

test('each client of a shared stream is in its own trace, whoever has opened it', async (t) => {
  const { provider, spans } = exporting(t)
  const inSpan: Middleware = (req, _res, next) =>
    provider.getTracer('app').startActiveSpan(String(req.headers['x-client']), (span) => {
      next()
      span.end()
    })
  const { proxy, upstream, front } = await proxied(
    t,
    { share: { lingerMs: 0, key: () => 'all' } },
    { before: [inSpan] },
  )
  t.after(traceStreams(proxy, { tracerProvider: provider }))
  const clients = ['one', 'two'].map((name) => front.request('', { headers: { 'x-client': name } }))
  const exchange = await upstream.next()
  const stream = exchange.stream()
  await until(() => proxy.stats().shared.clients === 2, 'both clients to share')
  stream.end(one)
  await Promise.all(clients.map((client) => client.whole()))

  const ended = await spans(4)

  const traceIds = (name: RegExp) =>
    ended
      .filter((span) => name.test(span.name))
      .map((span) => span.spanContext().traceId)
      .sort()
  assert.equal(new Set(traceIds(/./)).size, 2)
  assert.deepEqual(traceIds(/^sse-proxy$/), traceIds(/^(one|two)$/))
})

test('an attempt carries the baggage of its own client, also when the connection was opened for another', async (t) => {
  const inBaggage: Middleware = (req, _res, next) => {
    const user = propagation.createBaggage({ user: { value: req.headers['x-user'] } })
    context.with(propagation.setBaggage(context.active(), user), next)
  }
  const { proxy, upstream, front } = await proxied(t, { resume: { delayMs: 1 } }, { before: [inBaggage] })
  const { spans } = traced(t, proxy)
  const ada = front.request('', { headers: { 'x-user': 'ada' } })
  ;(await upstream.next()).answer(404, { 'content-length': '0' })
  await ada.ended()
  const grace = front.request('', { headers: { 'x-user': 'grace' } })
  const first = await upstream.next()
  const stream = first.stream()
  stream.write(one)
  await grace.waitFor(one)

  stream.reset()
  const second = await upstream.next()
  second.stream().end(two)
  await grace.whole()
  await spans(2)

  assert.equal(upstream.accepted, 2)
  assert.deepEqual([first.headers.baggage, second.headers.baggage], ['user=grace', 'user=grace'])
})

test("what a client brings of a trace does not travel beside the app's own trace", async (t) => {
  const { provider, spans } = exporting(t)
  const inRoot: Middleware = (_req, _res, next) =>
    provider.getTracer('app').startActiveSpan('root', { root: true }, (span) => {
      next()
      span.end()
    })
  const { proxy, upstream, front } = await proxied(t, {}, { before: [inRoot] })
  t.after(traceStreams(proxy, { tracerProvider: provider }))
  const headers = { traceparent: incoming, tracestate: 'vendor=theirs', baggage: 'admin=true' }
  const client = front.request('', { headers })
  const exchange = await upstream.next()
  exchange.stream().end(one)
  await client.whole()

  const [, stream] = await spans(2)

  assert.equal(exchange.headers.traceparent, traceparentOf(stream))
  assert.deepEqual([exchange.headers.tracestate, exchange.headers.baggage], [undefined, undefined])
})

test('neither the name nor an attribute of a span has what a client puts in its path or query', async (t) => {
  const upstream = await startUpstream()
  const proxy = sseProxy({ name: 'rooms', target: `${upstream.url}/stream?key=of-the-upstream` })
  const app = express()
  app.use('/of/:token/events', proxy)
  const server = app.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
    await upstream.close()
  })
  const { spans } = traced(t, proxy)
  const { port } = server.address() as AddressInfo
  const client = request(`http://127.0.0.1:${port}/of/tok-3n/EVENTS/tok-3n?token=tok-3n`)
  ;(await upstream.next()).stream().end(one)
  await client.whole()

  const [span] = await spans(1)

  assert.equal(span?.name, 'rooms')
  assert.equal(span?.attributes['http.route'], '/of/:token/EVENTS')
  assert.doesNotMatch(JSON.stringify([span?.attributes, span?.events, span?.status]), /tok-3n|of-the-upstream/)
})

test('a shared stream that goes on without the client that has opened it writes nothing into the span of that', async (t) => {
  const warnings: string[] = []
  const { proxy, upstream, front } = await proxied(t, { share: { lingerMs: 0 }, resume: { delayMs: 1 } })
  const { spans } = traced(t, proxy)
  const clients = [front.request(), front.request()]
  const exchange = await upstream.next()
  const stream = exchange.stream()
  await until(() => proxy.stats().shared.clients === 2, 'both clients to share')
  stream.write(one)
  await Promise.all(clients.map((client) => client.waitFor(one)))
  diag.setLogger({ ...silent, warn: (text) => void warnings.push(text) }, DiagLogLevel.WARN)
  t.after(() => diag.disable())

  clients[0]?.close()
  await spans(1)
  stream.reset()
  const again = await upstream.next()
  again.stream().end(two)
  await clients[1]?.whole()
  await spans(2)

  assert.deepEqual(warnings, [])
  assert.match(String(again.headers.traceparent), /^00-/)
})

test('two proxies of one name are not traced nor measured as one, and what is no proxy or provider is refused', (t) => {
  const proxies = [sseProxy({ target: refusingUrl }), sseProxy({ target: refusingUrl })]
  const [first, second] = proxies
  if (!first || !second) return
  const end = [traceStreams(first), streamMetrics(first)]
  t.after(() => {
    for (const each of end) each()
  })

  assert.throws(() => traceStreams(second), /^ConfigError.*: name: a proxy called 'sse-proxy' is traced already/)
  assert.throws(() => streamMetrics(second), /^ConfigError.*: name: a proxy called 'sse-proxy' has its metrics/)
  for (const each of end.splice(0)) each()
  end.push(traceStreams(second), streamMetrics(second))
  const call = (work: (...args: never[]) => unknown, ...args: unknown[]) => Reflect.apply(work, undefined, args)
  assert.throws(() => call(traceStreams, undefined), /ConfigError.*: proxy: expected what sseProxy\(\) returns/)
  assert.throws(() => call(traceStreams, first, { tracerProvidr: {} }), /did you mean tracerProvider\?/)
  assert.throws(() => call(traceStreams, first, { tracerProvider: {} }), /tracerProvider: expected a TracerProvider/)
  assert.throws(() => call(streamMetrics, first, { meterProvider: {} }), /meterProvider: expected a MeterProvider/)
})

test('a listener of the channel that throws fails no request', async (t) => {
  const { proxy, upstream, front } = await proxied(t)
  const provider = { getTracer: () => assert.fail('no tracer') }
  assert.throws(() => traceStreams(proxy, { tracerProvider: provider }))
  const failing = {
    getTracer: () => ({ startSpan: () => assert.fail('no span'), startActiveSpan: () => assert.fail() }),
  }
  t.after(traceStreams(proxy, { tracerProvider: failing }))

  const client = front.request()
  ;(await upstream.next()).stream().end(one)

  assert.equal(await client.whole(), one)
})

test('headers that a subscriber of the channel adds reach the upstream, and a target has the last word', async (t) => {
  const add = (message: unknown): void => {
    Object.assign((message as { headers: object }).headers, { 'x-added': 'yes', 'x-key': 'added' })
  }
  subscribe('sse-proxy:attempt', add)
  t.after(() => unsubscribe('sse-proxy:attempt', add))
  const { upstream, front } = await proxied(t, ({ url }) => ({
    target: { url: `${url}/stream`, headers: { 'x-key': 'own' } },
  }))

  const client = front.request()
  const exchange: Exchange = await upstream.next()
  exchange.stream().end()
  await client.whole()

  assert.deepEqual([exchange.headers['x-added'], exchange.headers['x-key']], ['yes', 'own'])
})

test('the metrics have the names and numbers that Prometheus gets', async (t) => {
  const { proxy, upstream, front } = await proxied(t, { name: 'feed' })
  const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE)
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 60_000 })
  const meterProvider = new MeterProvider({ readers: [reader] })
  let asked = 0
  const source = {
    stats: () => {
      asked++
      return proxy.stats()
    },
  }
  const end = streamMetrics(source, { meterProvider })
  asked = 0
  const client = front.request()
  ;(await upstream.next()).stream().write(one)
  await client.waitFor(one)

  await reader.forceFlush()
  const open = valuesOf(exporter)
  const before = asked
  end()
  await reader.forceFlush()
  await meterProvider.shutdown()

  assert.equal(open['sse_proxy_streams_active{proxy=feed}'], 1)
  assert.equal(open['sse_proxy_events_total{direction=in,proxy=feed}'], 1)
  assert.equal(open[`sse_proxy_upstream_active{proxy=feed,upstream=${upstream.url}/stream}`], 1)
  assert.equal(open['sse_proxy_streams_closed_total{proxy=feed,reason=client-left}'], 0)
  assert.equal(open['sse_proxy_time_to_headers_seconds_bucket{le=+Inf,proxy=feed}'], 1)
  assert.equal(open['sse_proxy_time_to_headers_seconds_count{proxy=feed}'], 1)
  assert.ok((open['sse_proxy_time_to_headers_seconds_sum{proxy=feed}'] ?? 0) > 0)
  assert.deepEqual([before, asked], [1, 1])
})

test('a prefix that is none is refused', () => {
  const proxy = sseProxy({ target: refusingUrl })

  assert.throws(() => streamMetrics(proxy, { prefix: '1 x' }), /^ConfigError.*: prefix: expected letters, digits and _/)
})

const silent: DiagLogger = { error() {}, warn() {}, info() {}, debug() {}, verbose() {} }

interface Traces {
  provider: NodeTracerProvider
  exporter: InMemorySpanExporter
  /** The spans that have ended, when there are as many. */
  spans(count: number): Promise<ReadableSpan[]>
}

function exporting(t: TestContext): Traces {
  const exporter = new InMemorySpanExporter()
  const provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] })
  t.after(() => provider.shutdown())
  return {
    provider,
    exporter,
    async spans(count) {
      await until(() => exporter.getFinishedSpans().length >= count, `${count} spans`)
      return exporter.getFinishedSpans()
    },
  }
}

function traced(t: TestContext, proxy: Parameters<typeof traceStreams>[0]): Traces & { stop(): void } {
  const traces = exporting(t)
  const stop = traceStreams(proxy, { tracerProvider: traces.provider })
  t.after(stop)
  return { ...traces, stop }
}

function traceparentOf(span: ReadableSpan | undefined): string {
  const { traceId = '', spanId = '' } = span?.spanContext() ?? {}
  return `00-${traceId}-${spanId}-01`
}

/** Each number by its name and attributes. */
function valuesOf(exporter: InMemoryMetricExporter): Record<string, number> {
  const points = exporter.getMetrics().flatMap(({ scopeMetrics }) =>
    scopeMetrics.flatMap(({ metrics }) =>
      metrics.flatMap(({ descriptor, dataPoints }) =>
        dataPoints.map(({ attributes, value }) => {
          const labels = Object.entries(attributes).map(([name, text]) => `${name}=${text}`)
          return [`${descriptor.name}{${labels.sort().join()}}`, Number(value)] as const
        }),
      ),
    ),
  )
  return Object.fromEntries(points)
}
