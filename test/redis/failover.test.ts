// A store over several servers, one of which dies; with each client.
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { ShareStore } from '../../src/share-store.ts'
import { redisClients } from '../support/redis-clients.ts'
import {
  eventually,
  noRedis,
  noSentinel,
  RedisCluster,
  RedisSentinel,
  type RedisServer,
} from '../support/redis-server.ts'
import { append, Bell, KEEP_MS, storeOf, taken } from '../support/redis-store.ts'
import { until } from '../support/waiting.ts'

// Most of their time is spent waiting.
describe('a store', { concurrency: 2 }, () => {
  for (const kind of redisClients) {
    describe(`with ${kind.name} and a sentinel`, { skip: noSentinel, concurrency: 1 }, () => {
      test('a failover is told, and the store goes on with the new primary', async (t) => {
        const sentinel = await RedisSentinel.watching()
        t.after(() => sentinel.end())
        const store = await storeOf(t, await kind.sentinel(sentinel.port, sentinel.name), { leaseMs: 500 })
        const bell = new Bell()
        await store.beat('a', KEEP_MS)
        await store.follow('failover', 'a', bell)
        const fence = await taken(store, 'failover', 0)
        await until(() => bell.entries.length === 1, 'the head')
        await eventually(
          async () => (await sentinel.replica.cli('KEYS', '*failover*')).includes('log'),
          'the log to be replicated',
        )

        await sentinel.primary.kill()
        await until(() => store.isUp === false, 'the store to be down')
        await until(() => store.isUp === true, 'the store to be up', 40_000)
        await eventually(async () => {
          const added = await append(store, 'failover', { fence, seq: 0 }, '1').catch(() => undefined)
          return added !== undefined
        }, 'the new primary to take writes')

        await until(() => bell.entries.length >= 2, 'the doorbell to ring again')
        const { entries } = await store.read('failover', undefined, 1000)
        assert.deepEqual(
          entries.map(({ position }) => position),
          [
            { fence, seq: 0 },
            { fence, seq: 1 },
          ],
        )
      })
    })

    describe(`with ${kind.name} in a cluster`, { skip: noRedis, concurrency: 1 }, () => {
      test('a server that is killed and started again is told, and the store goes on', async (t) => {
        const cluster = await RedisCluster.start()
        t.after(() => cluster.end())
        const store = await storeOf(t, await kind.cluster(cluster.ports), { leaseMs: 300 })
        keepBeating(t, store)
        const bells = await Promise.all(
          Array.from({ length: 12 }, async (_, i) => {
            const bell = new Bell()
            await store.follow(`cluster-${i}`, 'a', bell)
            return bell
          }),
        )

        // The one that has the nodes.
        const holder = await holderOf(cluster, 'nodes')
        await holder.kill()
        await until(() => store.isUp === false, 'the store to be down')
        await holder.start()
        await until(() => store.isUp === true, 'the store to be up', 40_000)

        for (const [i, bell] of bells.entries()) {
          await eventually(async () => {
            const claim = { node: 'a', replaces: 0, head: Buffer.from('head'), keepMs: KEEP_MS }
            return await store.take(`cluster-${i}`, claim).then(
              () => true,
              () => false,
            )
          }, 'the key to be taken')
          await until(() => bell.entries.length === 1, 'its doorbell to ring')
        }
      })

      test('a primary that its replica takes over from is told, and the store goes on', async (t) => {
        const cluster = await RedisCluster.start()
        t.after(() => cluster.end())
        const holder = await holderOf(cluster, 'nodes')
        const replica = await cluster.replicaOf(holder)
        const store = await storeOf(t, await kind.cluster(cluster.ports), { leaseMs: 300 })
        keepBeating(t, store)
        const bell = new Bell()
        await store.beat('a', KEEP_MS)
        await store.follow('nodes', 'a', bell)
        const fence = await taken(store, 'nodes', 0)
        await until(() => bell.entries.length === 1, 'the head')
        await eventually(
          async () => (await replica.cli('KEYS', '*nodes*')).includes(':log'),
          'the log to be replicated',
        )

        await holder.kill()
        await until(() => store.isUp === false, 'the store to be down')
        await until(() => store.isUp === true, 'the store to be up', 40_000)

        await eventually(async () => {
          const added = await append(store, 'nodes', { fence, seq: 0 }, '1').catch(() => undefined)
          return added !== undefined
        }, 'the new primary to take writes')
        await until(() => bell.entries.length === 2, 'the doorbell to ring again')
        assert.deepEqual(await store.followers('nodes'), ['a'])
      })
    })
  }
})

/** As a node does, which learns thereby that the server that has the nodes takes no writes. */
function keepBeating(t: TestContext, store: ShareStore): void {
  const timer = setInterval(() => store.beat('a', KEEP_MS).catch(() => {}), 100)
  t.after(() => clearInterval(timer))
}

async function holderOf({ servers }: RedisCluster, tag: string): Promise<RedisServer> {
  const slot = Number(await servers[0]?.cli('CLUSTER', 'KEYSLOT', tag))
  const holder = servers[Math.floor((slot * servers.length) / 16_384)]
  if (!holder) throw new Error(`no server has slot ${slot}`)
  return holder
}
