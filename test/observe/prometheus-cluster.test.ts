// prom-client's cluster aggregation over real processes: what the primary shows is the sum of its workers.
import assert from 'node:assert/strict'
import cluster, { type Worker } from 'node:cluster'
import { once } from 'node:events'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { AggregatorRegistry } from 'prom-client'
import { within } from '../support/waiting.ts'
import { readScrape } from './prometheus-text.ts'

test('the primary of a cluster shows the sums of its workers', async (t) => {
  cluster.setupPrimary({
    exec: fileURLToPath(new URL('metrics-worker.ts', import.meta.url)),
    execArgv: ['--import', 'tsx'],
  })
  const workers = [1, 10].map((times) => cluster.fork({ WORKER: `${times}` }))
  t.after(() => Promise.all(workers.map(end)))
  await within(Promise.all(workers.map((worker) => once(worker, 'message'))), 'both workers')

  const { families, value } = readScrape(await new AggregatorRegistry().clusterMetrics())

  const proxy = 'feed'
  assert.equal(families.get('sse_proxy_event_gap_seconds')?.type, 'histogram')
  assert.equal(value('sse_proxy_streams_active', { proxy }), 33)
  assert.equal(value('sse_proxy_streams_closed_total', { proxy, reason: 'client-left' }), 550)
  assert.equal(value('sse_proxy_errors_total', { proxy, code: 'ERR_SSE_PROXY_UPSTREAM_LOST' }), 99)
  assert.equal(value('sse_proxy_bytes_total', { proxy, direction: 'out' }), 33_000_000_000)
  assert.equal(value('sse_proxy_upstream_active', { proxy, upstream: 'http://one:8080' }), 22)
  assert.equal(value('sse_proxy_upstream_healthy', { proxy, upstream: 'http://one:8080' }), 1)
  assert.equal(value('sse_proxy_upstream_healthy', { proxy, upstream: 'http://two:8080' }), 0)
  assert.equal(value('sse_proxy_event_gap_seconds_bucket', { proxy, le: '0.01' }), 0)
  assert.equal(value('sse_proxy_event_gap_seconds_bucket', { proxy, le: '0.025' }), 8800)
  assert.equal(value('sse_proxy_event_gap_seconds_bucket', { proxy, le: '+Inf' }), 8800)
  assert.equal(value('sse_proxy_time_to_headers_seconds_count', { proxy }), 44)
})

async function end(worker: Worker): Promise<void> {
  if (worker.isDead()) return
  const exit = once(worker, 'exit')
  worker.disconnect()
  await within(exit, `the end of worker ${worker.id}`)
}
