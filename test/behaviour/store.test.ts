// Several nodes with one store: one upstream stream for the clients of all of them, ids that any of them understands, and
// another one that goes on when one goes.
import assert from 'node:assert/strict'
import type { IncomingHttpHeaders } from 'node:http'
import { type TestContext, test } from 'node:test'
import { memoryStore, type ShareStore, sseProxy } from 'sse-proxy-middleware'
import { MemoryStore } from '../../src/share/memory-store.ts'
import type { Added, Addition } from '../../src/share-store.ts'
import type { Client } from '../support/client.ts'
import { type Front, type Middleware, startFront } from '../support/front.ts'
import { interpret } from '../support/oracle.ts'
import type { SseProxy, SseProxyOptions } from '../support/proxied.ts'
import { startUpstream, type Upstream } from '../support/upstream.ts'
import { gate, until } from '../support/waiting.ts'

type Share = Exclude<NonNullable<SseProxyOptions['share']>, boolean>

interface Node {
  proxy: SseProxy
  /** How many requests have reached it. */
  arrived: number
  /** How many of them are over. */
  left: number
  front: Front
}

interface Farm {
  upstream: Upstream
  nodes: [Node, Node, Node]
  store: ShareStore
}

const after = (id: string) => ({ headers: { 'last-event-id': id } })

test('clients of several nodes get one upstream stream, each event once and in order', async (t) => {
  const { upstream, nodes } = await farm(t)
  const first = nodes[0].front.request('')
  const stream = (await upstream.next()).stream()
  const clients = [first, ...(await Promise.all(nodes.map(({ front }) => front.open(''))))]

  for (let id = 1; id <= 20; id++) stream.send({ id: `${id}`, data: `${id}` })
  for (const client of clients) await client.waitFor('data: 20\n\n')

  assert.equal(upstream.exchanges.length, 1)
  for (const client of clients) assert.deepEqual(dataOf(client), numbers(1, 20))
  assert.deepEqual(
    nodes.map(({ proxy }) => proxy.stats().shared.store?.owned),
    [1, 0, 0],
  )
})

test('what the upstream sends is counted by the node that reads it, and what clients get by theirs', async (t) => {
  const { upstream, nodes } = await farm(t)
  const first = nodes[0].front.request('')
  const stream = (await upstream.next()).stream()
  const client = await nodes[1].front.open('')

  for (let id = 1; id <= 3; id++) stream.send({ id: `${id}`, data: `${id}` })
  for (const each of [first, client]) await each.waitFor('data: 3\n\n')

  const counted = nodes.map(({ proxy }) => proxy.stats()).map(({ eventsIn, eventsOut }) => [eventsIn, eventsOut])
  assert.deepEqual(counted, [
    [3, 3],
    [0, 3],
    [0, 0],
  ])
  assert.ok(nodes[0].proxy.stats().bytesIn > 0)
})

test('a client that comes back to another node gets what came after its id', async (t) => {
  const { upstream, nodes } = await farm(t)
  const leader = nodes[0].front.request('')
  const stream = (await upstream.next()).stream()
  for (let id = 1; id <= 5; id++) stream.send({ id: `${id}`, data: `${id}` })
  await leader.waitFor('data: 5\n\n')

  const client = await nodes[1].front.open('', after('3'))
  await client.waitFor('data: 5\n\n')
  stream.send({ id: '6', data: '6' })
  await client.waitFor('data: 6\n\n')

  assert.deepEqual(dataOf(client), ['4', '5', '6'])
  assert.equal(upstream.exchanges.length, 1)
})

test('ids that are given here are good on every node', async (t) => {
  const { upstream, nodes } = await farm(t, { replay: { ids: 'assign' } })
  const leader = nodes[0].front.request('')
  const stream = (await upstream.next()).stream()
  for (const data of ['a', 'b', 'c']) stream.send({ data })
  await leader.waitFor('data: c\n')
  await leader.waitFor('id: ')
  const { lastEventId } = interpret(leader.bytes).events[0] ?? assert.fail('no event')

  const client = await nodes[2].front.open('', after(lastEventId))
  await client.waitFor('data: c\n')

  assert.deepEqual(dataOf(client), ['b', 'c'])
})

test("an id of another key's stream brings nothing of that stream, on any node", async (t) => {
  const { upstream, nodes } = await farm(t, { key: ({ headers }) => `${headers['x-user']}` })
  const ofAda = nodes[0].front.request('', { headers: { 'x-user': 'ada' } })
  const stream = (await upstream.next()).stream()
  for (const id of ['1', '2', '3']) stream.send({ id, data: `of ada ${id}` })
  await ofAda.waitFor('data: of ada 3\n\n')

  for (const { front } of nodes) {
    const ofBob = front.request('', { headers: { 'x-user': 'bob', 'last-event-id': '1' } })
    if (front === nodes[0].front) (await upstream.next()).stream().send({ id: '9', data: 'of bob' })
    await ofBob.head()
    assert.doesNotMatch(ofBob.text, /ada/)
  }

  assert.equal(upstream.exchanges.length, 2)
})

test('when the node that reads the upstream is drained, another one goes on in the same responses', async (t) => {
  const { upstream, nodes } = await farm(t)
  const leader = nodes[0].front.request('')
  const stream = (await upstream.next()).stream()
  const client = await nodes[1].front.open('')
  stream.send({ id: '1', data: '1' })
  await Promise.all([leader, client].map((each) => each.waitFor('data: 1\n\n')))

  await nodes[0].proxy.close({ withinMs: 20 })
  const next = await upstream.next()
  const going = next.stream()
  going.send({ id: '2', data: '2' })
  await client.waitFor('data: 2\n\n')

  assert.equal(next.headers['last-event-id'], '1')
  assert.deepEqual(dataOf(client), ['1', '2'])
  assert.equal(nodes[1].proxy.stats().shared.store?.takeovers, 1)
})

test('another node goes on in the name of a client that is there, not of one that has left', async (t) => {
  const { upstream, nodes } = await farm(t)
  const leader = nodes[0].front.request('')
  const stream = (await upstream.next()).stream()
  await leader.head()
  const left = await nodes[1].front.open('', { headers: { cookie: 'user=left' } })
  const here = await nodes[1].front.open('', { headers: { cookie: 'user=here' } })
  const later = await nodes[1].front.open('', { headers: { cookie: 'user=later' } })
  stream.send({ id: '1', data: '1' })
  for (const client of [left, here, later]) await client.waitFor('data: 1\n\n')
  left.close()
  await until(() => nodes[1].left === 1, 'the client to be gone')

  await nodes[0].proxy.close({ withinMs: 20 })
  const next = await upstream.next()
  next.stream().send({ id: '2', data: '2' })
  for (const client of [here, later]) await client.waitFor('data: 2\n\n')

  assert.equal(next.headers.cookie, 'user=here')
  assert.deepEqual(dataOf(here), ['1', '2'])
})

test('an upstream without ids that has nothing for the next node is a break for the clients of all, no end', async (t) => {
  const { upstream, nodes } = await farm(t)
  const leader = nodes[0].front.request('')
  const stream = (await upstream.next()).stream()
  const clients = [await nodes[1].front.open(''), await nodes[2].front.open('')]
  stream.send({ data: 'a' })
  for (const client of [leader, ...clients]) await client.waitFor('data: a\n\n')

  void nodes[0].proxy.close({ withinMs: 0 })
  const again = await upstream.next()
  again.res.writeHead(500).end()

  for (const client of clients) assert.equal(await client.ended(), 'broken')
})

test('a client that comes when a node has just given its stream up is broken off, and does not take that for the end', async (t) => {
  const store = new SlowEnding({ leaseMs: 600 })
  const { upstream, nodes } = await farm(t, { store })
  const leader = nodes[0].front.request('')
  ;(await upstream.next()).stream().send({ id: '1', data: '1' })
  await leader.waitFor('data: 1\n\n')
  leader.close()
  await until(() => store.isEnding, 'the stream to be given up')

  const client = await nodes[0].front.open('')
  store.ending.open()

  assert.equal(await client.ended(), 'broken')
})

test('a clean end reaches the clients of all nodes', async (t) => {
  const { upstream, nodes } = await farm(t)
  const leader = nodes[0].front.request('')
  const stream = (await upstream.next()).stream()
  const client = await nodes[1].front.open('')

  stream.send({ id: '1', data: '1' })
  stream.end()

  assert.equal(await leader.ended(), 'clean')
  assert.equal(await client.ended(), 'clean')
  assert.deepEqual(dataOf(client), ['1'])
  for (const { proxy } of nodes) await until(() => proxy.stats().shared.streams === 0, 'the stream to be over')
})

test('a break reaches the clients of all nodes as one', async (t) => {
  const { upstream, nodes } = await farm(t)
  const leader = nodes[0].front.request('')
  const stream = (await upstream.next()).stream()
  const client = await nodes[1].front.open('')
  stream.send({ id: '1', data: '1' })
  await client.waitFor('data: 1\n\n')

  stream.reset()

  assert.equal(await leader.ended(), 'broken')
  assert.equal(await client.ended(), 'broken')
})

test('an answer that is no stream goes to the one who asked, and the others ask for themselves', async (t) => {
  const { upstream, nodes } = await farm(t)
  const one = nodes[0].front.request('')
  const exchange = await upstream.next()
  const others = [nodes[1].front.request(''), nodes[1].front.request('')]
  await until(() => nodes[1].arrived === 2, 'the others to wait')

  exchange.res.writeHead(404, { 'content-length': '4' }).end('gone')
  const answered = new Set([exchange])
  await until(() => {
    for (const asked of upstream.exchanges.filter((each) => !answered.has(each))) {
      answered.add(asked)
      asked.res.writeHead(404, { 'content-length': '4' }).end('also')
    }
    return others.every(({ ending }) => ending !== undefined)
  }, 'the others to be answered')

  assert.equal(await one.whole(), 'gone')
  for (const other of others) assert.equal(await other.whole(), 'also')
})

test('proxy.stop ends the stream of a key from a node that does not follow it', async (t) => {
  const { upstream, nodes } = await farm(t)
  const leader = nodes[0].front.request('')
  const exchange = await upstream.next()
  exchange.stream()
  const client = await nodes[1].front.open('')

  assert.equal(await nodes[2].proxy.stop('feed'), true)

  assert.equal(await leader.ended(), 'clean')
  assert.equal(await client.ended(), 'clean')
  await exchange.leftByPeer()
  assert.equal(await nodes[2].proxy.stop('feed'), false)
})

test('a POST stream is joined on another node, is busy there, outlives its opener, and is stopped from a third', async (t) => {
  const share: Share = {
    key: () => 'chat',
    open: ['POST'],
    join: ['GET'],
    stop: ['DELETE'],
    lingerMs: Number.POSITIVE_INFINITY,
    replay: { initial: 'all', ids: 'assign' },
  }
  const { upstream, nodes } = await farm(t, share)
  const none = nodes[1].front.request('')
  assert.equal((await none.head()).status, 204)
  const opener = nodes[0].front.request('', { method: 'POST', body: '{}' })
  const exchange = await upstream.next()
  const stream = exchange.stream()
  stream.send({ data: 'a' })
  await opener.waitFor('data: a\n')

  const joiner = await nodes[1].front.open('')
  const busy = nodes[2].front.request('', { method: 'POST', body: '{}' })
  assert.equal((await busy.head()).status, 409)
  opener.close()
  stream.send({ data: 'b' })
  await joiner.waitFor('data: b\n')
  const stopped = nodes[2].front.request('', { method: 'DELETE' })

  assert.equal((await stopped.head()).status, 204)
  assert.equal(await joiner.ended(), 'clean')
  assert.deepEqual(dataOf(joiner), ['a', 'b'])
  await exchange.leftByPeer()
  assert.equal(upstream.exchanges.length, 1)
})

test('a stream that has ended is replayed on another node for keepEndedMs, its end included', async (t) => {
  const { upstream, nodes } = await farm(t, { keepEndedMs: 60_000 })
  const leader = nodes[0].front.request('')
  const stream = (await upstream.next()).stream()
  for (const id of ['1', '2', '3']) stream.send({ id, data: id })
  stream.end()
  assert.equal(await leader.ended(), 'clean')

  const late = nodes[1].front.request('', after('1'))
  const done = nodes[2].front.request('', after('3'))

  assert.equal(await late.ended(), 'clean')
  assert.deepEqual(dataOf(late), ['2', '3'])
  assert.equal((await done.head()).status, 204)
  assert.equal(upstream.exchanges.length, 1)
})

test('a client has so many streams and no more, over all nodes', async (t) => {
  const { upstream, nodes } = await farm(t, {}, { limits: { streamsPerClient: 2 } })
  const first = nodes[0].front.request('')
  ;(await upstream.next()).stream()
  await first.head()
  const second = await nodes[1].front.open('')

  const third = nodes[2].front.request('')
  assert.equal((await third.head()).status, 429)
  second.close()
  await until(() => nodes[1].proxy.stats().active === 0, 'the client to be gone')
  const fourth = await nodes[2].front.open('')

  assert.equal((await fourth.head()).status, 200)
})

test('streams that are not shared count for the client over all nodes as well', async (t) => {
  const key = ({ headers }: { headers: IncomingHttpHeaders }) => (headers['x-own'] ? undefined : 'feed')
  const own = { headers: { 'x-own': '1' } }
  const { upstream, nodes } = await farm(t, { key }, { limits: { streamsPerClient: 2 } })
  const shared = nodes[0].front.request('')
  ;(await upstream.next()).stream()
  await shared.head()
  const second = nodes[1].front.request('', own)
  ;(await upstream.next()).stream()
  await second.head()

  const third = await nodes[2].front.request('', own).head()
  second.close()
  await until(() => nodes[1].left === 1, 'the client to be gone')
  const fourth = nodes[2].front.request('', own)
  ;(await upstream.next()).stream()

  assert.equal(third.status, 429)
  assert.equal((await fourth.head()).status, 200)
  assert.equal(upstream.exchanges.length, 3)
})

test("while the store has no place to give a client has those of each node's own", async (t) => {
  const store = new PlacelessStore({ leaseMs: 600 })
  const { upstream, nodes } = await farm(t, { store, key: () => undefined }, { limits: { streamsPerClient: 1 } })
  const first = nodes[0].front.request('')
  ;(await upstream.next()).stream()

  const second = await nodes[0].front.request('').head()

  assert.equal((await first.head()).status, 200)
  assert.equal(second.status, 429)
})

test('a client that leaves before the store has said whether it may come gives its place back all the same', async (t) => {
  const store = new HesitantStore({ leaseMs: 600 })
  const { upstream, nodes } = await farm(t, { store }, { limits: { streamsPerClient: 1 } })
  const hasty = nodes[0].front.request('')
  await until(() => store.asked === 1, 'a place to be asked for')
  hasty.close()
  await until(() => nodes[0].left === 1, 'the client to be gone')

  store.answer.open()
  await until(() => store.freed === 1, 'the place to be given back')
  const client = nodes[1].front.request('')
  ;(await upstream.next()).stream()

  assert.equal((await client.head()).status, 200)
})

test('an answer that depends on more than the key is not shared', async (t) => {
  const { upstream, nodes } = await farm(t, { key: undefined })
  const one = nodes[0].front.request('', { headers: { host: 'app.test', 'x-tenant': 'a' } })
  ;(await upstream.next()).stream({ vary: 'X-Tenant' }).send({ data: 'of a' })
  await one.waitFor('data: of a\n\n')

  const other = nodes[1].front.request('', { headers: { host: 'app.test', 'x-tenant': 'a' } })
  ;(await upstream.next()).stream({ vary: 'X-Tenant' }).send({ data: 'another' })

  await other.waitFor('data: another\n\n')
  assert.deepEqual(dataOf(one), ['of a'])
})

test("with onDown: 'refuse' a store that is away refuses new clients, and those that wait for it are let go in the end", async (t) => {
  const store = new Switched()
  const { upstream, nodes } = await farm(t, { store })
  const leader = nodes[0].front.request('')
  ;(await upstream.next()).stream()
  const client = await nodes[1].front.open('')
  await leader.head()

  store.turn(false)
  const refused = nodes[1].front.request('')

  assert.equal((await refused.head()).status, 503)
  assert.match(await refused.whole(), /ERR_SSE_PROXY_STORE/)
  assert.equal(await client.ended(), 'broken')
  assert.equal(leader.ending, undefined, 'the one whose upstream is here')
  store.turn(true)
  await nodes[2].front.open('')
  assert.equal(upstream.exchanges.length, 1)
})

/** A store that takes its time to give a place, as one does that has to see first which nodes are alive. */
class HesitantStore extends MemoryStore {
  readonly answer = gate()
  asked = 0
  freed = 0

  override async takePlace(client: string, node: string, place: string, max: number): Promise<boolean> {
    this.asked++
    await this.answer.promise
    return await super.takePlace(client, node, place, max)
  }

  override async freePlace(client: string, place: string): Promise<void> {
    await super.freePlace(client, place)
    this.freed++
  }
}

class PlacelessStore extends MemoryStore {
  override async takePlace(): Promise<boolean> {
    throw new Error('no answer')
  }
}

/** A store that takes its time to add how a stream was left. */
class SlowEnding extends MemoryStore {
  readonly ending = gate()
  isEnding = false

  override async append(key: string, addition: Addition): Promise<Added> {
    this.isEnding = addition.entries.some(({ bytes }) => bytes.includes('"handed-over"'))
    if (this.isEnding) await this.ending.promise
    return await super.append(key, addition)
  }
}

/** A store that can be taken away. */
class Switched extends MemoryStore {
  override readonly onDown = 'refuse'
  readonly #told = new Set<(isUp: boolean) => void>()

  constructor() {
    super({ leaseMs: 600 })
  }

  override watch(onUp: (isUp: boolean) => void): () => void {
    this.#told.add(onUp)
    onUp(true)
    return () => this.#told.delete(onUp)
  }

  turn(isUp: boolean): void {
    for (const onUp of this.#told) onUp(isUp)
  }
}

/** Three nodes with one store, mounted before one upstream. */
async function farm(t: TestContext, share: Share = {}, options: Partial<SseProxyOptions> = {}): Promise<Farm> {
  const upstream = await startUpstream()
  const { store = memoryStore({ leaseMs: 600 }) } = share
  const start = async (): Promise<Node> => {
    const proxy = sseProxy({
      target: `${upstream.url}/stream`,
      keepalive: false,
      share: { key: () => 'feed', lingerMs: 0, ...share, store },
      ...options,
    } as SseProxyOptions)
    const node = { proxy, arrived: 0, left: 0 }
    const count: Middleware = (_req, res, next) => {
      next()
      node.arrived++
      res.once('close', () => node.left++)
    }
    return Object.assign(node, { front: await startFront('express5', proxy, { before: [count] }) })
  }
  const nodes: Farm['nodes'] = [await start(), await start(), await start()]
  t.after(async () => {
    for (const { front } of nodes) front.closeClients()
    await Promise.all(nodes.map(({ proxy }) => proxy.close({ withinMs: 0 })))
    for (const { front } of nodes) await front.close()
    await upstream.close()
  })
  return { upstream, nodes, store }
}

function dataOf(client: Client): string[] {
  return interpret(client.bytes).events.map(({ data }) => data)
}

function numbers(from: number, to: number): string[] {
  return Array.from({ length: to - from + 1 }, (_, i) => `${from + i}`)
}
