// What nodes do by way of Redis that a store in memory does not show: a stream that is stopped before it has begun, what
// others write there, and a client that is closed under it.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { type SseProxy, sseProxy } from 'sse-proxy-middleware'
import { redisStore } from 'sse-proxy-middleware/redis'
import { type Front, startFront } from '../support/front.ts'
import { childOf } from '../support/processes/child.ts'
import type { SseProxyOptions } from '../support/proxied.ts'
import { redisClients } from '../support/redis-clients.ts'
import { noRedis, RedisServer } from '../support/redis-server.ts'
import { startUpstream, type Upstream } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

test('a stream is stopped on another node before its upstream has answered', { skip: noRedis }, async (t) => {
  const { upstream, nodes } = await farm(t)
  const [one, other] = nodes
  const client = one.front.request('')
  const exchange = await upstream.next()

  assert.equal(await other.proxy.stop('feed'), true)

  assert.equal((await client.head()).status, 204)
  await exchange.leftByPeer()
})

test('a process whose app has closed its client, and not the proxy, ends', { skip: noRedis }, async (t) => {
  const redis = await RedisServer.start()
  t.after(() => redis.end())
  const child = await childOf(t, 'client-that-quits.ts', { setup: { redisPort: redis.port } })

  await child.ask('quit')

  assert.equal(await child.exited(10_000), 0)
})

interface Node {
  proxy: SseProxy
  front: Front
}

/** Two nodes, mounted before one upstream. */
async function farm(
  t: TestContext,
  options: Partial<SseProxyOptions> = {},
): Promise<{ redis: RedisServer; upstream: Upstream; nodes: [Node, Node] }> {
  const redis = await RedisServer.start()
  const upstream = await startUpstream()
  t.after(async () => {
    await upstream.close()
    await redis.end()
  })
  const start = async (): Promise<Node> => {
    const [kind] = redisClients
    const { client, close } = (await kind?.one(redis.port)) ?? assert.fail('no client')
    const proxy = sseProxy({
      target: `${upstream.url}/stream`,
      keepalive: false,
      share: { key: () => 'feed', lingerMs: 0, store: redisStore({ client, leaseMs: 1000, checkMs: 300 }) },
      ...options,
    } as SseProxyOptions)
    const front = await startFront('http', proxy)
    t.after(async () => {
      await proxy.close({ withinMs: 0 })
      await front.close()
      await close()
    })
    await until(() => proxy.stats().shared.store?.isUp === true, 'the store to be up')
    return { proxy, front }
  }
  return { redis, upstream, nodes: [await start(), await start()] }
}
