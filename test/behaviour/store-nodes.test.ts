// Nodes that are processes, with a Redis server between them, under load: one dies, sleeps, is drained, and Redis is
// restarted without what it had. No client loses an event, gets one twice, or is cut off, as long as its own node lives.
import assert from 'node:assert/strict'
import { after, type TestContext, test } from 'node:test'
import { type Client, open } from '../support/client.ts'
import { NumberedFeed, type NumberedUpstream, startNumberedUpstream } from '../support/numbered-upstreams.ts'
import { type Child, startChild } from '../support/processes/child.ts'
import type { NodeSetup } from '../support/processes/store-node.ts'
import { noRedis, RedisServer } from '../support/redis-server.ts'
import { startUpstream } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

const leaseMs = 1500
const eventEveryMs = 20
const clientsANode = 20

/** Processes that have no node in them: those that outlive a test are there for the next. */
const idle: Child[] = []
after(() => Promise.all(idle.map((child) => child.end())))

interface StoreNode {
  child: Child
  url: string
}

interface Farm {
  redis: RedisServer
  feed: NumberedFeed
  /** How many requests the upstream has open. */
  upstreams(): number
  nodes: StoreNode[]
}

/** A client, and the numbers of the events that it has got; gaps that it was told of are 'gap' between them. */
class Reader {
  readonly client: Client
  readonly got: (number | 'gap')[] = []
  #text = ''
  #chunks = 0

  constructor(client: Client) {
    this.client = client
  }

  get last(): number {
    return this.numbers.at(-1) ?? 0
  }

  get numbers(): number[] {
    this.#look()
    return this.got.filter((item) => item !== 'gap')
  }

  #look(): void {
    const { chunks } = this.client
    for (; this.#chunks < chunks.length; this.#chunks++) this.#text += chunks[this.#chunks]?.toString('latin1')
    const end = this.#text.lastIndexOf('\n\n')
    if (end === -1) return
    const items = this.#text.slice(0, end).matchAll(/^event: gap$|^data: {"number":(\d+)}$/gm)
    for (const [, number] of items) this.got.push(number === undefined ? 'gap' : Number(number))
    this.#text = this.#text.slice(end + 2)
  }
}

test('200 clients of three nodes get each of 200 events a second once and in order, of one upstream stream', {
  skip: noRedis,
}, async (t) => {
  const { feed, nodes, upstreams } = await farm(t, { everyMs: 5 })
  const readers = await readersOf(nodes, 67)

  await allReach(readers, feed.last + 400)

  assert.equal(upstreams(), 1)
  assertWhole(readers)
})

test('the node that reads the upstream is killed, and the others go on in the same responses', {
  skip: noRedis,
}, async (t) => {
  const { feed, nodes } = await farm(t)
  const readers = await readersOf(nodes)
  await allReach(readers, 50)
  const owner = await ownerOf(nodes)
  const others = await survivors(nodes, owner, readers)

  owner.child.signal('SIGKILL')
  const killedAt = performance.now()
  const before = feed.last
  await allReach(others, before + 10)

  assertWhole(others)
  const gapMs = performance.now() - killedAt
  assert.ok(gapMs < (leaseMs * 4) / 3 + 2500, `${gapMs} ms without events`)
})

test('the node that reads the upstream is drained, and another goes on at once', { skip: noRedis }, async (t) => {
  const { feed, nodes, upstreams } = await farm(t)
  const readers = await readersOf(nodes)
  await allReach(readers, 50)
  const owner = await ownerOf(nodes)
  const others = await survivors(nodes, owner, readers)

  await owner.child.ask('close')
  const before = feed.last
  await allReach(others, before + 10)

  assertWhole(others)
  await until(() => upstreams() === 1, 'one upstream')
})

test('a node that slept past its lease writes nothing more, and its clients get all they have missed', {
  skip: noRedis,
}, async (t) => {
  const { feed, nodes, upstreams } = await farm(t)
  const readers = await readersOf(nodes)
  await allReach(readers, 50)
  const owner = await ownerOf(nodes)
  const others = await survivors(nodes, owner, readers)

  owner.child.signal('SIGSTOP')
  const before = feed.last
  await allReach(others, before + 20)
  owner.child.signal('SIGCONT')
  const after = feed.last
  await allReach(readers, after + 20)

  assertWhole(readers)
  await until(() => upstreams() === 1, 'one upstream')
})

test('of what was dropped from the log while a node slept its clients are told, where the upstream has no ids', {
  skip: noRedis,
}, async (t) => {
  const { feed, nodes, redis, upstreams } = await farm(t, { hasIds: false, keptEvents: 20 })
  const readers = await readersOf(nodes, 5)
  await allReach(readers, feed.last + 20)
  const owner = await ownerOf(nodes)
  const sleeper = nodes.findIndex((node) => node !== owner)
  const theirs = readers.slice(sleeper * 5, sleeper * 5 + 5)
  const others = readers.filter((reader) => !theirs.includes(reader))
  const before = feed.last

  nodes[sleeper]?.child.signal('SIGSTOP')
  await redis.endMessagesTo(`node-${nodes[sleeper]?.child.process.pid}`)
  await allReach(others, before + 100)
  nodes[sleeper]?.child.signal('SIGCONT')
  await allReach(readers, feed.last + 20)

  assertWhole(others)
  for (const { got, client } of theirs) {
    const jumps = got.filter((item, i) => i > 0 && item !== 'gap' && item !== Number(got[i - 1]) + 1)
    const told = got.filter((_item, i) => got[i - 1] === 'gap')
    assert.deepEqual(jumps, told)
    assert.ok(told.length > 0, `${got}`)
    assert.equal(client.ending, undefined)
  }
  await until(() => upstreams() === 1, 'one upstream')
})

test('Redis is killed and comes back with nothing under load, and no client notices', { skip: noRedis }, async (t) => {
  const { feed, nodes, redis, upstreams } = await farm(t)
  const readers = await readersOf(nodes)
  await allReach(readers, 50)

  await redis.kill()
  const before = feed.last
  await allReach(readers, before + 50)
  await redis.start()
  const after = feed.last
  await allReach(readers, after + 50)

  await until(() => upstreams() === 1, 'one upstream again')
  assertWhole(readers)
})

test('a client that changes nodes under load goes on where it was', { skip: noRedis }, async (t) => {
  const { feed, nodes } = await farm(t)
  const [first, second] = await readersOf(nodes, 1)
  assert.ok(first && second && nodes[1])
  await allReach([first, second], 50)

  first.client.close()
  const { last } = first
  const again = new Reader(await open(nodes[1].url, { headers: { 'last-event-id': `${last}` } }))
  await allReach([again], feed.last + 10)

  assert.equal(again.numbers[0], last + 1)
  assertWhole([again])
})

test('when all clients have left, Redis holds nothing but the fence', { skip: noRedis }, async (t) => {
  const { nodes, redis } = await farm(t)
  const readers = await readersOf(nodes)
  await allReach(readers, 20)

  for (const { client } of readers) client.close()

  for (;;) {
    const keys = (await redis.cli('KEYS', '*')).split('\n')
    const streams = await Promise.all(keys.map(async (key) => (await redis.cli('TYPE', key)) === 'stream'))
    if (!streams.includes(true)) break
  }
})

interface FarmOptions {
  everyMs?: number
  /** Without ids the upstream has no event twice. */
  hasIds?: boolean
  keptEvents?: number
}

async function farm(
  t: TestContext,
  { everyMs = eventEveryMs, hasIds = true, keptEvents = 500 }: FarmOptions = {},
): Promise<Farm> {
  const redis = await RedisServer.start()
  const feed = new NumberedFeed()
  const upstream = hasIds ? await startNumberedUpstream(feed) : await startFleetingUpstream(feed)
  const children = await Promise.all([0, 1, 2].map(() => idle.pop() ?? startChild('store-node.ts')))
  t.after(async () => {
    feed.finish()
    await Promise.all(children.map(leaveIdle))
    await upstream.close()
    await redis.end()
  })
  const setup: NodeSetup = { target: upstream.url, redisPort: redis.port, leaseMs, keptEvents }
  const nodes = await Promise.all(
    children.map(async (child) => ({ child, url: `http://127.0.0.1:${await child.ask<number>('start', setup)}/` })),
  )
  feed.start(everyMs)
  return { redis, feed, nodes, upstreams: () => upstream.open }
}

/** Ends the node in a process, where that is still alive. */
async function leaveIdle(child: Child): Promise<void> {
  if (child.hasEnded) return
  child.signal('SIGCONT')
  await child.ask('end')
  idle.push(child)
}

/** Each event goes to those that are connected, and has no id. */
async function startFleetingUpstream(feed: NumberedFeed): Promise<Pick<NumberedUpstream, 'url' | 'open' | 'close'>> {
  let open = 0
  const upstream = await startUpstream({
    handler(exchange) {
      open++
      const stream = exchange.stream()
      const stop = feed.listen(() => stream.send({ data: `{"number":${feed.last}}` }))
      exchange.res.once('close', () => {
        stop()
        open--
      })
    },
  })
  return {
    url: upstream.url,
    close: () => upstream.close(),
    get open() {
      return open
    },
  }
}

/** Clients of each node in turn, so that the first ones are of the first node. */
async function readersOf(nodes: readonly StoreNode[], each: number = clientsANode): Promise<Reader[]> {
  const readers: Reader[] = []
  for (const { url } of nodes) {
    const clients = await Promise.all(Array.from({ length: each }, () => open(url)))
    readers.push(...clients.map((client) => new Reader(client)))
  }
  return readers
}

async function ownerOf(nodes: readonly StoreNode[]): Promise<StoreNode> {
  for (const node of nodes) {
    const { owned } = await node.child.ask<{ owned: number }>('store')
    if (owned === 1) return node
  }
  throw new Error('no node has the stream')
}

async function survivors(nodes: readonly StoreNode[], dead: StoreNode, readers: readonly Reader[]): Promise<Reader[]> {
  const index = nodes.indexOf(dead)
  return readers.filter((_, i) => Math.floor(i / clientsANode) !== index)
}

async function allReach(readers: readonly Reader[], number: number): Promise<void> {
  await until(
    () => readers.every(({ last }) => last >= number),
    () => `all clients to reach ${number}: ${readers.map(({ last }) => last)}`,
  )
}

/** From its first event on each has got all, once and in order, and is still there. */
function assertWhole(readers: readonly Reader[]): void {
  for (const { numbers, client } of readers) {
    const wrong = numbers.findIndex((number, i) => i > 0 && number !== (numbers[i - 1] ?? 0) + 1)
    assert.equal(wrong, -1, `${numbers[wrong]} came after ${numbers[wrong - 1]}`)
    assert.equal(client.ending, undefined)
  }
}
