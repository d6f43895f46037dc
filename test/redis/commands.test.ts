// What nodes cost Redis: the commands of real proxies, counted where they arrive. Counts do not depend on how fast things go.
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { sseProxy } from 'sse-proxy-middleware'
import { redisStore } from '../../src/redis/redis-store.ts'
import { type Front, startFront } from '../support/front.ts'
import { redisClients } from '../support/redis-clients.ts'
import { noRedis, RedisServer } from '../support/redis-server.ts'
import { type EventStream, startUpstream, type Upstream } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

// As far apart as they are by default. A beat comes each third of a lease: each two seconds by default.
const leaseMs = 900
const checkMs = 4500
const beatsACheck = (3 * checkMs) / leaseMs
// After so many nothing is left of how the streams were opened; with the first check a node sees once that owners are there.
const beatsUntilRest = beatsACheck + 3

interface Farm {
  redis: RedisServer
  upstream: Upstream
  fronts: [Front, Front]
}

/** A command, and who has sent it. */
interface Sent {
  name: string
  socket: string
  text: string
}

describe('nodes with a Redis server between them', { skip: noRedis, concurrency: true }, () => {
  for (const clients of [1, 50]) {
    test(`what one read of the upstream brought costs one command, with ${clients} clients a node`, async (t) => {
      const { redis, upstream, fronts } = await farm(t)
      const opener = fronts[0].request('')
      const stream = (await upstream.next()).stream()
      await opener.head()
      const readers = await Promise.all(
        fronts.flatMap((front) => Array.from({ length: clients }, () => front.open(''))),
      )
      send(stream, 'warm-up', 1)
      await Promise.all(readers.map((client) => client.waitFor('data: warm-up 1\n\n')))
      const sent = await sentFromNowOn(t, redis)

      for (let read = 0; read < 10; read++) {
        send(stream, `read ${read}`, 20)
        await Promise.all(readers.map((client) => client.waitFor(`data: read ${read} 20\n\n`)))
      }

      // Beside heartbeats, and the checks of all keys.
      const ofKeys = sent().filter(({ name, text }) => !text.includes('{nodes}') && name !== 'mget')
      assert.ok(ofKeys.length >= 1 && ofKeys.length <= 10, `10 reads cost\n${textOf(ofKeys)}`)
    })
  }

  test('what one read brought costs one command where the node that reads has no client itself', async (t) => {
    const { redis, upstream, fronts } = await farm(t)
    const opener = fronts[0].request('')
    const stream = (await upstream.next()).stream()
    await opener.head()
    const reader = await fronts[1].open('')
    opener.close()
    await beaten(await sentFromNowOn(t, redis), 2)
    const sent = await sentFromNowOn(t, redis)

    for (let read = 0; read < 10; read++) {
      send(stream, `read ${read}`, 1)
      await reader.waitFor(`data: read ${read} 1\n\n`)
    }

    const added = sent().filter(({ name }) => name === 'evalsha')
    const asked = sent().filter(({ name }) => ['zrange', 'smismember'].includes(name))
    assert.ok(added.length >= 1 && added.length <= 10, textOf(added))
    // Among these there may be one check of all keys.
    assert.ok(asked.length <= 3, textOf(asked))
  })

  for (const keys of [1, 200]) {
    test(`a node at rest sends at most one command a second, with ${keys} ${keys === 1 ? 'key' : 'keys'}`, async (t) => {
      const { redis, upstream, fronts } = await farm(t)
      await openOn(fronts, upstream, keys)
      await beaten(await sentFromNowOn(t, redis), beatsUntilRest)
      const sent = await sentFromNowOn(t, redis)

      await beaten(sent, 2 * beatsACheck + 1)

      const senders = bySender(sent())
      assert.equal(senders.length, 2)
      for (const commands of senders) {
        assert.ok(commands.length <= 2 * beatsOf(commands) + 1, `a node sends\n${textOf(commands)}`)
      }
    })
  }

  test('whether others follow what a node reads for them alone is asked for all keys together', async (t) => {
    const { redis, upstream, fronts } = await farm(t)
    for (const opener of await openOn(fronts, upstream, 100)) opener.close()
    await beaten(await sentFromNowOn(t, redis), beatsUntilRest)
    const sent = await sentFromNowOn(t, redis)

    await beaten(sent, 2 * beatsACheck + 1)

    const questions = sent().filter(({ name }) => ['zrange', 'smismember', 'sismember'].includes(name))
    // Two looks, at the list of nodes and at each of the two.
    assert.ok(questions.length >= 3 && questions.length <= 9, `100 keys cost\n${textOf(questions)}`)
    assert.equal(upstream.open, 100)
  })
})

/** Two nodes with a Redis server between them. */
async function farm(t: TestContext): Promise<Farm> {
  const redis = await RedisServer.start()
  const upstream = await startUpstream()
  const proxies: { close(): Promise<unknown> }[] = []
  const fronts: Front[] = []
  const clients: { close(): unknown }[] = []
  t.after(async () => {
    for (const front of fronts) front.closeClients()
    for (const proxy of proxies) await proxy.close()
    for (const front of fronts) await front.close()
    for (const { close } of clients) await close()
    await upstream.close()
    await redis.end()
  })
  for (const { one } of redisClients.slice(0, 2)) {
    const connected = await one(redis.port)
    clients.push(connected)
    const store = redisStore({ client: connected.client, leaseMs, checkMs })
    const proxy = sseProxy({
      target: upstream.url,
      keepalive: false,
      share: { key: (req) => req.url, lingerMs: 0, store },
    })
    proxies.push(proxy)
    fronts.push(await startFront('http', proxy))
    await until(() => proxy.stats().shared.store?.isUp === true, 'the store to be up')
  }
  const [one, two] = fronts
  assert.ok(one && two)
  return { redis, upstream, fronts: [one, two] }
}

/** Has a stream for each of so many keys, opened by a client of the first node, with a client on the other. Returns the openers. */
async function openOn([first, second]: readonly [Front, Front], upstream: Upstream, keys: number) {
  const openers = []
  for (let key = 0; key < keys; key++) {
    const opener = first.request(`/${key}`)
    const stream = (await upstream.next()).stream()
    await opener.head()
    send(stream, 'first', 1)
    await opener.waitFor('data: first 1\n\n')
    openers.push(opener)
    await second.open(`/${key}`)
  }
  return openers
}

/** So many events in one write. */
function send(stream: EventStream, name: string, count: number): void {
  stream.write(Array.from({ length: count }, (_, i) => `data: ${name} ${i + 1}\n\n`).join(''))
}

/** The commands that come over the network from now on, without those of scripts. */
async function sentFromNowOn(t: TestContext, redis: RedisServer): Promise<() => readonly Sent[]> {
  const monitor = await redis.monitor()
  t.after(() => monitor.end())
  const sent: Sent[] = []
  let read = 0
  return () => {
    const lines = monitor.lines()
    sent.push(...lines.slice(read).flatMap(sentOf))
    read = lines.length
    return sent
  }
}

function sentOf(text: string): Sent[] {
  const [, socket, name] = /^\+[\d.]+ \[\d+ ([\d.]+:\d+)\] "(\w+)"/.exec(text) ?? []
  return socket && name ? [{ name: name.toLowerCase(), socket, text }] : []
}

/** Each node has beaten so often. */
async function beaten(sent: () => readonly Sent[], beats: number): Promise<void> {
  const isSo = () => bySender(sent()).filter((commands) => beatsOf(commands) >= beats).length === 2
  await until(isSo, () => `${beats} beats of each node, there are\n${textOf(sent())}`, 40_000)
}

/** Each node has one connection for commands. */
function bySender(sent: readonly Sent[]): Sent[][] {
  const senders = new Map<string, Sent[]>()
  for (const one of sent) {
    const others = senders.get(one.socket)
    if (others) others.push(one)
    else senders.set(one.socket, [one])
  }
  return [...senders.values()]
}

function beatsOf(sent: readonly Sent[]): number {
  return sent.filter(({ name, text }) => name === 'set' && text.includes(':beat:')).length
}

function textOf(sent: readonly Sent[]): string {
  return sent.map(({ text }) => text.slice(0, 120)).join('\n')
}
