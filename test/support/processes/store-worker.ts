// A worker of a cluster that shares one stream with the other workers by way of Redis. The port is shared.
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { createClient } from 'redis-6'
import { sseProxy } from 'sse-proxy-middleware'
import { redisStore } from 'sse-proxy-middleware/redis'

const { TARGET = '', PORT, REDIS_PORT, STREAMS_PER_CLIENT } = process.env
const client = createClient({ url: `redis://127.0.0.1:${REDIS_PORT}` })
client.on('error', () => {})
await client.connect()
const proxy = sseProxy({
  target: TARGET,
  keepalive: false,
  limits: { streamsPerClient: Number(STREAMS_PER_CLIENT) },
  share: { key: () => 'feed', stop: ['DELETE'], lingerMs: 0, store: redisStore({ client }) },
})
const server = createServer((req, res) => {
  res.setHeader('X-Worker', process.pid)
  proxy(req, res)
})
assert.ok(process.send)
server.listen(Number(PORT), '127.0.0.1', () => process.send?.('ready'))
