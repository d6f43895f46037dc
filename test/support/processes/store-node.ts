// A node of several: a proxy that shares its streams by way of Redis.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createClient } from 'redis-6'
import { sseProxy } from 'sse-proxy-middleware'
import { redisStore } from 'sse-proxy-middleware/redis'
import { answer, setup } from './child.ts'

const { target, redisPort, leaseMs, keptEvents } = setup<{
  target: string
  redisPort: number
  leaseMs: number
  keptEvents: number
}>()
const url = `redis://127.0.0.1:${redisPort}`
// The connection for messages has the same name.
const client = createClient({ url, name: `node-${process.pid}`, socket: { reconnectStrategy: 50 } })
client.on('error', () => {})
await client.connect()
const proxy = sseProxy({
  target,
  keepalive: false,
  share: {
    key: () => 'feed',
    lingerMs: 200,
    replay: { events: keptEvents },
    onGap: () => ({ event: 'gap', data: 'events are missing here' }),
    store: redisStore({ client, leaseMs, checkMs: 2000 }),
  },
})
const server = createServer((req, res) => proxy(req, res))

answer({
  listen: () =>
    new Promise((resolve) =>
      server.listen(0, '127.0.0.1', 1024, () => resolve((server.address() as AddressInfo).port)),
    ),
  store: () => proxy.stats().shared.store,
  close: () => proxy.close({ withinMs: 50 }),
})
