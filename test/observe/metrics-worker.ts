// A worker of the cluster test: a registry of its own with the metrics of a fake proxy, WORKER times as busy as another.
import assert from 'node:assert/strict'
import { AggregatorRegistry, Registry } from 'prom-client'
import { prometheusMetrics } from '../../src/observe/prometheus.ts'
import { busyProxy } from './fake-proxy.ts'

const registry = new Registry()
prometheusMetrics(busyProxy('feed', Number(process.env.WORKER)), { registry })
AggregatorRegistry.setRegistries(registry)
// Only its constructor makes a worker answer.
new AggregatorRegistry()

assert.ok(process.send)
process.send('ready')
