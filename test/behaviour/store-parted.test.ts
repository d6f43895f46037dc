// Nodes whose way to Redis is broken: messages that do not come any more, a node that is cut off, a primary that its replica
// takes over from, a cluster. Clients get each event once and in order all the same.
import assert from 'node:assert/strict'
import type { IncomingMessage } from 'node:http'
import { type TestContext, test } from 'node:test'
import { type SseProxy, sseProxy } from 'sse-proxy-middleware'
import { redisStore } from 'sse-proxy-middleware/redis'
import type { Client, RequestOptions } from '../support/client.ts'
import { startFront } from '../support/front.ts'
import { NumberedFeed, startNumberedUpstream } from '../support/numbered-upstreams.ts'
import { type ConnectedClient, redisClients } from '../support/redis-clients.ts'
import { type RedisRelay, startRedisRelay } from '../support/redis-relay.ts'
import { noRedis, noSentinel, RedisCluster, RedisSentinel, RedisServer } from '../support/redis-server.ts'
import { until } from '../support/waiting.ts'

const leaseMs = 1000
// Leases, sentinels and clients that reconnect take their time.
const slow = !process.env.STORE_PARTED && 'takes minutes: STORE_PARTED=1 runs it'
const [kind] = redisClients
assert.ok(kind)

for (const { name, one } of redisClients) {
  test(`a node to which no message comes any more over ${name} misses no event`, {
    skip: noRedis || slow,
  }, async (t) => {
    const { feed, nodes, relays } = await relayed(t, one)
    await allReach(nodes, 20)
    const [, follower] = relays

    follower?.freeze('subscribers')
    await allReach(nodes, feed.last + 100)

    assertWhole(nodes)
  })

  test(`a node that is cut off from Redis with ${name} goes on alone, and joins the others again`, {
    skip: noRedis || slow,
  }, async (t) => {
    const { feed, nodes, relays, upstreams } = await relayed(t, one)
    await allReach(nodes, 20)
    const [owner] = relays

    owner?.part()
    await until(() => upstreams() === 2, 'the others to have an upstream of their own')
    await allReach(nodes, feed.last + 50)
    owner?.join()
    await until(() => upstreams() === 1, 'one upstream for all again', 30_000)
    await allReach(nodes, feed.last + 50)

    assertWhole(nodes)
  })
}

for (const { name, sentinel } of redisClients) {
  test(`a failover of Redis goes unnoticed by clients, with ${name} and a sentinel`, {
    skip: noSentinel || slow,
  }, async (t) => {
    const watching = await RedisSentinel.watching()
    t.after(() => watching.end())
    const { feed, nodes, upstreams } = await farm(t, () => sentinel(watching.port, watching.name))
    await allReach(nodes, 20)

    await watching.primary.kill()
    await allReach(nodes, feed.last + 50)
    await until(() => nodes.every(({ proxy }) => proxy.stats().shared.store?.isUp), 'all to have Redis again', 40_000)
    await until(() => upstreams() === 1, 'one upstream for all again', 30_000)
    await allReach(nodes, feed.last + 50)

    assertWhole(nodes)
  })
}

for (const { name, cluster } of redisClients) {
  test(`nodes share an upstream by way of a cluster, with ${name}`, { skip: noRedis }, async (t) => {
    const servers = await RedisCluster.start()
    t.after(() => servers.end())
    const { nodes, upstreams } = await farm(t, () => cluster(servers.ports))

    await allReach(nodes, 100)

    assert.equal(upstreams(), 1)
    assertWhole(nodes)
  })
}

test('proxies that are closed while Redis is away are closed soon, and keep no timer', { skip: noRedis }, async (t) => {
  const redis = await RedisServer.start()
  t.after(() => redis.end())
  const { feed, nodes } = await farm(t, () => kind.one(redis.port))
  await allReach(nodes, 5)
  await redis.kill()
  await until(() => nodes.every(({ proxy }) => proxy.stats().shared.store?.isUp === false), 'Redis to be away')

  await Promise.all(nodes.map(({ proxy }) => proxy.close({ withinMs: 0 })))

  feed.finish()
  await redis.start()
  await until(() => !process.getActiveResourcesInfo().includes('Timeout'), 'the last timer to end')
})

test('who asked, and for what, can be found nowhere in Redis', { skip: noRedis }, async (t) => {
  const redis = await RedisServer.start()
  t.after(() => redis.end())
  const monitor = await redis.monitor()
  t.after(() => monitor.end())
  const { nodes } = await farm(t, () => kind.one(redis.port), {
    headers: { authorization: 'Bearer hunter2', cookie: 'a=swordfish' },
  })
  await allReach(nodes, 5)

  const names = (await redis.cli('KEYS', '*')).split('\n')
  const dump = await Promise.all(names.map((name) => redis.cli('DUMP', name)))
  const channels = await redis.cli('PUBSUB', 'CHANNELS')

  assert.ok(names.length >= 4, `${names}`)
  assert.ok(monitor.lines().some((line) => line.includes('XADD')))
  const seen = [...monitor.lines(), ...names, ...dump, channels].join('\n')
  assert.doesNotMatch(seen, /hunter2|swordfish|who-am-i|127\.0\.0\.1:\d+\/|a-secret/)
})
interface Node {
  proxy: SseProxy
  client: Client
}

interface Farm {
  feed: NumberedFeed
  nodes: Node[]
  /** How many requests the upstream has open. */
  upstreams(): number
}

async function relayed(
  t: TestContext,
  connect: (port: number) => Promise<ConnectedClient>,
): Promise<Farm & { relays: RedisRelay[] }> {
  const redis = await RedisServer.start()
  t.after(() => redis.end())
  const relays = [await startRedisRelay(t, redis.port), await startRedisRelay(t, redis.port)]
  let i = 0
  return { relays, ...(await farm(t, () => connect(relays[i++]?.port ?? 0))) }
}

/** Two nodes with a client each; the first one has the upstream. */
async function farm(
  t: TestContext,
  connect: () => Promise<ConnectedClient>,
  request: RequestOptions = {},
): Promise<Farm> {
  const feed = new NumberedFeed()
  const upstream = await startNumberedUpstream(feed)
  t.after(() => upstream.close())
  const nodes: Node[] = []
  for (let i = 0; i < 2; i++) {
    const { client, close } = await connect()
    const key = ({ url, headers }: IncomingMessage) => `${url} ${headers.authorization} ${headers.cookie}`
    const store = redisStore({ client, secret: 'a-secret', leaseMs, checkMs: 2000 })
    const proxy = sseProxy({ target: upstream.url, keepalive: false, share: { key, lingerMs: 0, store } })
    const front = await startFront('http', proxy)
    t.after(async () => {
      await proxy.close({ withinMs: 0 })
      await front.close()
      await close()
    })
    await until(() => proxy.stats().shared.store?.isUp === true, 'the store to be up')
    nodes.push({ proxy, client: await front.open('?who-am-i', request) })
  }
  feed.start(20)
  t.after(() => feed.finish())
  return { feed, nodes, upstreams: () => upstream.open }
}

function numbersOf({ chunks }: Client): number[] {
  return [
    ...Buffer.concat(chunks)
      .toString()
      .matchAll(/^data: \{"number":(\d+)\}\n\n/gm),
  ].map(([, number]) => Number(number))
}

async function allReach(nodes: readonly Node[], number: number): Promise<void> {
  await until(
    () => nodes.every(({ client }) => (numbersOf(client).at(-1) ?? 0) >= number),
    () => `all clients to reach ${number}: ${nodes.map(({ client }) => numbersOf(client).at(-1))}`,
    30_000,
  )
}

/** From its first event on each has got all, once and in order, and is still there. */
function assertWhole(nodes: readonly Node[]): void {
  for (const { client } of nodes) {
    const numbers = numbersOf(client)
    const wrong = numbers.findIndex((number, i) => i > 0 && number !== (numbers[i - 1] ?? 0) + 1)
    assert.equal(wrong, -1, `${numbers[wrong]} came after ${numbers[wrong - 1]}`)
    assert.equal(client.ending, undefined)
  }
}
