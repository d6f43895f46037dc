// The metrics as a scraper gets them: over http, read by a strict reader.
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type TestContext, test } from 'node:test'
import {
  AggregatorRegistry,
  Counter,
  Histogram,
  type OpenMetricsContentType,
  Registry,
  type RegistryContentType,
  register,
} from 'prom-client'
import { ConfigError } from '../../src/errors.ts'
import { prometheusMetrics } from '../../src/observe/prometheus.ts'
import { busyProxy, fakeProxy, fakeUpstream } from './fake-proxy.ts'
import { readScrape, type Scrape } from './prometheus-text.ts'

async function scrapeText(
  t: TestContext,
  registry: Pick<Registry<RegistryContentType>, 'metrics' | 'contentType'>,
): Promise<string> {
  const server = createServer((_req, res) => {
    registry.metrics().then(
      (text) => res.setHeader('Content-Type', registry.contentType).end(text),
      (error: unknown) => res.writeHead(500).end(String(error)),
    )
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => server.close())
  const { port } = server.address() as AddressInfo
  const response = await fetch(`http://127.0.0.1:${port}/metrics`, { headers: { connection: 'close' } })
  const text = await response.text()
  assert.equal(response.status, 200, text)
  return text
}

async function scrape(t: TestContext, registry: Registry): Promise<Scrape> {
  return readScrape(await scrapeText(t, registry))
}

const types: Record<string, string> = {
  sse_proxy_streams_active: 'gauge',
  sse_proxy_streams_opened_total: 'counter',
  sse_proxy_streams_closed_total: 'counter',
  sse_proxy_refused_total: 'counter',
  sse_proxy_errors_total: 'counter',
  sse_proxy_retries_total: 'counter',
  sse_proxy_resumes_total: 'counter',
  sse_proxy_keepalives_total: 'counter',
  sse_proxy_events_total: 'counter',
  sse_proxy_bytes_total: 'counter',
  sse_proxy_upstream_active: 'gauge',
  sse_proxy_upstream_healthy: 'gauge',
  sse_proxy_upstream_requests_total: 'counter',
  sse_proxy_upstream_http2_connections: 'gauge',
  sse_proxy_shared_streams: 'gauge',
  sse_proxy_shared_clients: 'gauge',
  sse_proxy_shared_unread_streams: 'gauge',
  sse_proxy_shared_kept_streams: 'gauge',
  sse_proxy_shared_joined_total: 'counter',
  sse_proxy_shared_replayed_total: 'counter',
  sse_proxy_store_up: 'gauge',
  sse_proxy_store_streams: 'gauge',
  sse_proxy_store_takeovers_total: 'counter',
  sse_proxy_store_checks_found_total: 'counter',
  sse_proxy_time_to_headers_seconds: 'histogram',
  sse_proxy_time_to_first_event_seconds: 'histogram',
  sse_proxy_event_gap_seconds: 'histogram',
  sse_proxy_stream_lifetime_seconds: 'histogram',
}

test('a scrape has every metric with its type and its number', async (t) => {
  const registry = new Registry()
  prometheusMetrics(busyProxy('feed'), { registry })

  const { families, value } = await scrape(t, registry)

  assert.deepEqual(Object.fromEntries([...families.values()].map(({ name, type }) => [name, type])), types)
  const proxy = 'feed'
  assert.equal(value('sse_proxy_streams_active', { proxy }), 3)
  assert.equal(value('sse_proxy_streams_opened_total', { proxy }), 60)
  assert.equal(value('sse_proxy_streams_closed_total', { proxy, reason: 'client-left' }), 50)
  assert.equal(value('sse_proxy_streams_closed_total', { proxy, reason: 'hook-failed' }), 0)
  assert.equal(value('sse_proxy_refused_total', { proxy, reason: 'full' }), 2)
  assert.equal(value('sse_proxy_refused_total', { proxy, reason: 'no-upstream' }), 0)
  assert.equal(value('sse_proxy_errors_total', { proxy, code: 'ERR_SSE_PROXY_UPSTREAM_LOST' }), 9)
  assert.equal(value('sse_proxy_retries_total', { proxy }), 4)
  assert.equal(value('sse_proxy_resumes_total', { proxy }), 5)
  assert.equal(value('sse_proxy_keepalives_total', { proxy }), 6)
  assert.equal(value('sse_proxy_events_total', { proxy, direction: 'in' }), 1000)
  assert.equal(value('sse_proxy_events_total', { proxy, direction: 'out' }), 900)
  assert.equal(value('sse_proxy_bytes_total', { proxy, direction: 'in' }), 70_000)
  assert.equal(value('sse_proxy_bytes_total', { proxy, direction: 'out' }), 3_000_000_000)
  assert.equal(value('sse_proxy_upstream_active', { proxy, upstream: 'http://one:8080' }), 2)
  assert.equal(value('sse_proxy_upstream_healthy', { proxy, upstream: 'http://one:8080' }), 1)
  assert.equal(value('sse_proxy_upstream_http2_connections', { proxy, upstream: 'http://one:8080' }), 8)
  assert.equal(value('sse_proxy_upstream_healthy', { proxy, upstream: 'http://two:8080' }), 0)
  assert.equal(value('sse_proxy_upstream_requests_total', { proxy, upstream: 'http://two:8080' }), 20)
  assert.equal(value('sse_proxy_shared_streams', { proxy }), 2)
  assert.equal(value('sse_proxy_shared_clients', { proxy }), 7)
  assert.equal(value('sse_proxy_shared_unread_streams', { proxy }), 1)
  assert.equal(value('sse_proxy_shared_kept_streams', { proxy }), 3)
  assert.equal(value('sse_proxy_shared_joined_total', { proxy }), 4)
  assert.equal(value('sse_proxy_shared_replayed_total', { proxy }), 5)
  assert.equal(value('sse_proxy_store_up', { proxy }), 1)
  assert.equal(value('sse_proxy_store_streams', { proxy, role: 'owner' }), 11)
  assert.equal(value('sse_proxy_store_streams', { proxy, role: 'follower' }), 12)
  assert.equal(value('sse_proxy_store_takeovers_total', { proxy }), 13)
  assert.equal(value('sse_proxy_store_checks_found_total', { proxy }), 14)
})

test('a histogram has its cumulative buckets, its sum in seconds and its count', async (t) => {
  const registry = new Registry()
  prometheusMetrics(busyProxy('feed'), { registry })

  const { value } = await scrape(t, registry)

  const bucket = (le: string) => value('sse_proxy_time_to_headers_seconds_bucket', { proxy: 'feed', le })
  assert.deepEqual(
    ['0.001', '0.025', '0.05', '120', '+Inf'].map((le) => [le, bucket(le)]),
    [
      ['0.001', 1],
      ['0.025', 1],
      ['0.05', 3],
      ['120', 3],
      ['+Inf', 4],
    ],
  )
  assert.equal(value('sse_proxy_time_to_headers_seconds_sum', { proxy: 'feed' }), 0.0004 + 2 * 0.03 + 500)
  assert.equal(value('sse_proxy_time_to_headers_seconds_count', { proxy: 'feed' }), 4)
})

test("a histogram reads exactly as one of prom-client's own with the same bounds and values", async (t) => {
  const own = new Registry()
  const other = new Registry()
  const proxy = fakeProxy('feed')
  const buckets = proxy.stats().eventGapSeconds.buckets.map((bucket) => bucket.le)
  const histogram = new Histogram({
    name: 'sse_proxy_event_gap_seconds',
    help: 'Between two events of a stream.',
    labelNames: ['proxy'],
    registers: [other],
    buckets,
  })
  prometheusMetrics(proxy, { registry: own })

  for (let power = -20; power < 20; power += 1) {
    proxy.counted.eventGap.observe(1.5 ** power)
    histogram.observe({ proxy: 'feed' }, 1.5 ** power)
  }

  const name = 'sse_proxy_event_gap_seconds'
  assert.deepEqual((await scrape(t, own)).families.get(name), (await scrape(t, other)).families.get(name))
})

test('two proxies share a registry, each under its name', async (t) => {
  const registry = new Registry()
  prometheusMetrics(busyProxy('feed'), { registry })
  prometheusMetrics(busyProxy('chat', 10), { registry })

  const { value, families } = await scrape(t, registry)

  assert.equal(families.size, Object.keys(types).length)
  assert.equal(value('sse_proxy_streams_active', { proxy: 'feed' }), 3)
  assert.equal(value('sse_proxy_streams_active', { proxy: 'chat' }), 30)
  assert.equal(value('sse_proxy_event_gap_seconds_count', { proxy: 'feed' }), 800)
  assert.equal(value('sse_proxy_event_gap_seconds_count', { proxy: 'chat' }), 8000)
})

test('a second proxy of the same name is refused, and the first stays', async (t) => {
  const registry = new Registry()
  prometheusMetrics(busyProxy('feed'), { registry })

  assert.throws(() => prometheusMetrics(busyProxy('feed', 2), { registry }), {
    name: 'ConfigError',
    message: "name: a proxy called 'feed' has its metrics in this registry already, give each its own",
  })

  const { value } = await scrape(t, registry)
  assert.equal(value('sse_proxy_streams_active', { proxy: 'feed' }), 3)
})

test('the same proxy may be in several registries, and under several prefixes', async (t) => {
  const one = new Registry()
  const two = new Registry()
  const proxy = busyProxy('feed')
  prometheusMetrics(proxy, { registry: one })
  prometheusMetrics(proxy, { registry: one, prefix: 'app_' })
  prometheusMetrics(proxy, { registry: two, prefix: '' })

  const first = await scrape(t, one)
  const second = await scrape(t, two)

  assert.equal(first.value('sse_proxy_streams_active', { proxy: 'feed' }), 3)
  assert.equal(first.value('app_streams_active', { proxy: 'feed' }), 3)
  assert.equal(second.value('streams_active', { proxy: 'feed' }), 3)
})

test('a prefix that makes no metric name is refused', () => {
  for (const prefix of ['sse-proxy_', '1_', 'sse proxy', 'ä'])
    assert.throws(() => prometheusMetrics(busyProxy('feed'), { registry: new Registry(), prefix }), ConfigError)
})

test("a name that is another metric's is refused before anything is registered", () => {
  const registry = new Registry()
  new Counter({ name: 'sse_proxy_bytes_total', help: 'Not ours.', registers: [registry] })

  assert.throws(() => prometheusMetrics(busyProxy('feed'), { registry }), {
    name: 'ConfigError',
    message: "prefix: the registry has another metric called 'sse_proxy_bytes_total'",
  })

  assert.equal(registry.getMetricsAsArray().length, 1)
})

test('the returned function takes one proxy away, and with the last one the metrics', async (t) => {
  const registry = new Registry()
  const feed = busyProxy('feed')
  const removeFeed = prometheusMetrics(feed, { registry })
  const removeChat = prometheusMetrics(busyProxy('chat'), { registry })

  removeFeed()
  removeFeed()
  const { families } = await scrape(t, registry)
  removeChat()

  const proxies = [...families.values()].flatMap(({ series }) => series.map((one) => one.labels.proxy))
  assert.deepEqual([...new Set(proxies)], ['chat'])
  assert.deepEqual(registry.getMetricsAsArray(), [])
  prometheusMetrics(feed, { registry })
  assert.equal((await scrape(t, registry)).value('sse_proxy_streams_active', { proxy: 'feed' }), 3)
})

test('a registry that was cleared can be used again, and an earlier function leaves the new metrics alone', async (t) => {
  const registry = new Registry()
  const proxy = busyProxy('feed')
  const remove = prometheusMetrics(proxy, { registry })

  registry.clear()
  prometheusMetrics(proxy, { registry })
  remove()

  assert.equal((await scrape(t, registry)).value('sse_proxy_streams_active', { proxy: 'feed' }), 3)
})

test('metrics that an app has removed stay away when another proxy joins', async (t) => {
  const registry = new Registry()
  prometheusMetrics(busyProxy('feed'), { registry })
  registry.removeSingleMetric('sse_proxy_streams_active')
  prometheusMetrics(busyProxy('chat'), { registry })

  const { families, value } = await scrape(t, registry)

  assert.equal(families.has('sse_proxy_streams_active'), false)
  assert.equal(value('sse_proxy_streams_opened_total', { proxy: 'chat' }), 60)
})

test('each proxy is asked once a scrape, and again for the next one', async () => {
  const registry = new Registry()
  const feed = busyProxy('feed')
  const chat = busyProxy('chat')
  prometheusMetrics(feed, { registry })
  prometheusMetrics(chat, { registry })
  const before = [feed.asked(), chat.asked()]

  const first = readScrape(await registry.metrics())
  feed.now.active = 99
  const second = readScrape(await registry.metrics())
  await registry.getMetricsAsJSON()

  assert.equal(first.value('sse_proxy_streams_active', { proxy: 'feed' }), 3)
  assert.equal(second.value('sse_proxy_streams_active', { proxy: 'feed' }), 99)
  assert.deepEqual([feed.asked(), chat.asked()], [before[0]! + 3, before[1]! + 3])
})

test('a scrape fails when a proxy does, and the next one does not', async () => {
  const registry = new Registry()
  const proxy = busyProxy('feed')
  prometheusMetrics(proxy, { registry })
  const { stats } = proxy

  proxy.stats = () => {
    throw new Error('not now')
  }
  await assert.rejects(registry.metrics(), /not now/)
  proxy.stats = stats

  readScrape(await registry.metrics())
})

test('names and URLs reach the scraper as they are, whatever is in them', async (t) => {
  const registry = new Registry()
  const name = 'a "quoted" \\ back\\nslash\nin two lines {x="y"}, é'
  const url = 'http://[::1]:8080/a"b\\c?d={e},f=1'
  const proxy = fakeProxy(name)
  proxy.now.upstreams = [fakeUpstream(url, { active: 4 })]
  prometheusMetrics(proxy, { registry })

  const { value } = await scrape(t, registry)

  assert.equal(value('sse_proxy_upstream_active', { proxy: name, upstream: url }), 4)
})

test('two upstreams with the same URL are one series', async (t) => {
  const registry = new Registry()
  const proxy = fakeProxy('feed')
  proxy.now.upstreams = [
    fakeUpstream('http://one', { active: 4, requests: 10, healthy: false }),
    fakeUpstream('http://one', { active: 5, requests: 20 }),
  ]
  prometheusMetrics(proxy, { registry })

  const { value } = await scrape(t, registry)

  const labels = { proxy: 'feed', upstream: 'http://one' }
  assert.equal(value('sse_proxy_upstream_active', labels), 9)
  assert.equal(value('sse_proxy_upstream_requests_total', labels), 30)
  assert.equal(value('sse_proxy_upstream_healthy', labels), 1)
})

test('the default labels of a registry are added', async (t) => {
  const registry = new Registry()
  registry.setDefaultLabels({ pod: 'a' })
  prometheusMetrics(busyProxy('feed'), { registry })

  const { value } = await scrape(t, registry)

  assert.equal(value('sse_proxy_streams_active', { proxy: 'feed', pod: 'a' }), 3)
  assert.equal(value('sse_proxy_event_gap_seconds_bucket', { proxy: 'feed', pod: 'a', le: '+Inf' }), 800)
})

test('resetting a registry does not undo what proxies have counted', async (t) => {
  const registry = new Registry()
  prometheusMetrics(busyProxy('feed'), { registry })

  registry.resetMetrics()

  assert.equal((await scrape(t, registry)).value('sse_proxy_streams_opened_total', { proxy: 'feed' }), 60)
})

test('an OpenMetrics registry gets counters by the names that format wants', async (t) => {
  const registry = new Registry<OpenMetricsContentType>()
  registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE)
  const remove = prometheusMetrics(busyProxy('feed'), { registry })

  await registry.metrics()
  const text = await scrapeText(t, registry)

  assert.match(text, /^# TYPE sse_proxy_streams_opened counter\nsse_proxy_streams_opened_total\{proxy="feed"\} 60$/m)
  assert.match(text, /^# TYPE sse_proxy_event_gap_seconds histogram\n/m)
  assert.match(text, /\n# EOF\n$/)
  remove()
  assert.deepEqual(registry.getMetricsAsArray(), [])
})

test("prom-client's default registry takes it", async (t) => {
  t.after(prometheusMetrics(busyProxy('feed'), { registry: register }))

  assert.match(await register.getSingleMetricAsString('sse_proxy_streams_active'), /proxy="feed"\} 3$/)
})

test('the aggregation of several processes adds numbers up, and takes the mean of health', async (t) => {
  const processes = [1, 10].map(async (times) => {
    const registry = new Registry()
    const proxy = busyProxy('feed', times)
    proxy.now.upstreams.push(fakeUpstream('http://three', { healthy: times === 1 }))
    prometheusMetrics(proxy, { registry })
    const metrics: object = JSON.parse(JSON.stringify(await registry.getMetricsAsJSON()))
    return metrics
  })

  const { value } = await scrape(t, AggregatorRegistry.aggregate(await Promise.all(processes)))

  assert.equal(value('sse_proxy_streams_active', { proxy: 'feed' }), 33)
  assert.equal(value('sse_proxy_upstream_healthy', { proxy: 'feed', upstream: 'http://three' }), 0.5)
  assert.equal(value('sse_proxy_time_to_headers_seconds_bucket', { proxy: 'feed', le: '0.05' }), 33)
  assert.equal(value('sse_proxy_time_to_headers_seconds_count', { proxy: 'feed' }), 44)
})
