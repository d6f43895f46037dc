// How a node that follows gets from the log to what the doorbell tells: a busy stream is not read again and again.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { type ShareStore, sseProxy } from 'sse-proxy-middleware'
import { MemoryStore } from '../../../src/share/memory-store.ts'
import { type Front, startFront } from '../../support/front.ts'
import { type EventStream, startUpstream } from '../../support/upstream.ts'
import { type Gate, gate, until } from '../../support/waiting.ts'

test('what is told while the log is read is not read once more', async (t) => {
  const { stream, opener, follower, join, reads } = await farm(t)
  const client = await follower.front.open('')
  send(stream, 1)
  await client.waitFor('data: 1\n\n')
  const held = follower.holdReads()
  const before = reads()

  await join()
  await until(() => reads() > before, 'the log to be read')
  for (const n of [2, 3, 4]) send(stream, n)
  await opener.waitFor('data: 4\n\n')
  held.open()
  await client.waitFor('data: 4\n\n')
  follower.holdReads()
  send(stream, 5)

  await client.waitFor('data: 5\n\n')
  assert.equal(reads(), before + 1)
  assert.deepEqual(client.text.match(/(?<=data: )\d/g), ['1', '2', '3', '4', '5'])
})

test('a node that comes late reads the log once, for all clients that come and go', async (t) => {
  const { stream, opener, follower, reads } = await farm(t)
  send(stream, 1)
  await opener.waitFor('data: 1\n\n')

  const clients = [await follower.front.open(''), await follower.front.open(''), await follower.front.open('')]
  clients[0]?.close()
  send(stream, 2)
  for (const client of clients.slice(1)) await client.waitFor('data: 2\n\n')

  assert.equal(reads(), 1)
})

interface Follower {
  front: Front
  /** From now on what is read of the log comes as it was when it was asked for, when the gate opens. */
  holdReads(): Gate
}

/** A node that has opened a stream, one that may follow it, and others that can join. */
async function farm(t: TestContext) {
  const upstream = await startUpstream()
  const store = new MemoryStore({})
  const fronts: Front[] = []
  const start = async (used: ShareStore) => {
    const proxy = sseProxy({
      target: upstream.url,
      keepalive: false,
      share: { lingerMs: 0, key: () => 'key', store: used },
    })
    const front = await startFront('http', proxy)
    fronts.push(front)
    t.after(async () => {
      front.closeClients()
      await proxy.close()
      await front.close()
    })
    return front
  }
  t.after(() => upstream.close())

  let reads = 0
  let waited: Promise<void> = Promise.resolve()
  const read: ShareStore['read'] = async (...args) => {
    reads++
    const [page] = await Promise.all([store.read(...args), waited])
    return page
  }
  const late = new Proxy(store, {
    get(_store, member) {
      const value: unknown = member === 'read' ? read : Reflect.get(store, member)
      return typeof value === 'function' ? value.bind(store) : value
    },
  })
  const opener = (await start(store)).request('')
  const stream = (await upstream.next()).stream()
  await opener.head()
  const follower: Follower = {
    front: await start(late),
    holdReads() {
      const held = gate()
      waited = held.promise
      return held
    },
  }
  const join = async () => await (await start(store)).open('')
  return { stream, opener, follower, join, reads: () => reads }
}

function send(stream: EventStream, n: number): void {
  stream.send({ id: `${n}`, data: `${n}` })
}
