// A worker of a cluster, as an app would write it: the port is shared, a client finds its upstream through any of
// them, and the primary collects the metrics of all.
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { AggregatorRegistry, Registry } from 'prom-client'
import { sseProxy } from 'sse-proxy-middleware'
import { prometheusMetrics } from 'sse-proxy-middleware/prometheus'

const { TARGETS = '', PORT } = process.env
const registry = new Registry()
const proxy = sseProxy({ target: TARGETS.split(' '), sticky: { header: 'x-user' }, name: 'feed' })
prometheusMetrics(proxy, { registry })
AggregatorRegistry.setRegistries(registry)
// Only its constructor makes a worker answer.
new AggregatorRegistry()

const server = createServer((req, res) => {
  res.setHeader('X-Worker', process.pid)
  proxy(req, res)
})
assert.ok(process.send)
server.listen(Number(PORT), '127.0.0.1', () => process.send?.('ready'))
