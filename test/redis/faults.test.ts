// A store whose server dies, stands still, forgets, or is cut off; with each client.
import assert from 'node:assert/strict'
import { after, before, describe, type TestContext, test } from 'node:test'
import { type RedisStoreOptions, redisStore } from '../../src/redis/redis-store.ts'
import { type ClientKind, redisClients } from '../support/redis-clients.ts'
import { startRedisRelay } from '../support/redis-relay.ts'
import { eventually, noRedis, RedisServer } from '../support/redis-server.ts'
import { append, Bell, KEEP_MS, storeOf, taken, type WatchedStore } from '../support/redis-store.ts'
import { until } from '../support/waiting.ts'

// Most of their time is spent waiting.
describe('a store', { concurrency: true, skip: noRedis }, () => {
  for (const kind of redisClients) {
    describe(`with ${kind.name}`, { concurrency: 1 }, () => {
      let server: RedisServer
      before(async () => {
        server = await RedisServer.start()
      })
      after(() => server.end())

      test('a server that is killed is told, calls fail at once, and all is as before when it is back without data', async (t) => {
        const store = await storeOn(t, kind, server.port)
        const bell = new Bell()
        await store.beat('a', KEEP_MS)
        await store.follow('kkey', 'a', bell)
        await store.takePlace('client', 'a', '1', 1)
        const fence = await taken(store, 'kkey', 0)
        await until(() => bell.entries.length === 1, 'the head')

        await server.kill()
        await until(() => store.isUp === false, 'the store to be down')
        const began = performance.now()
        await assert.rejects(append(store, 'kkey', { fence, seq: 0 }, '1'), /^Error: Redis: /)
        await assert.rejects(store.follow('other', 'a', bell), /^Error: Redis: /)
        await assert.rejects(store.read('kkey', undefined, 1000), /^Error: Redis: /)
        assert.ok(performance.now() - began < 1000, 'nothing should have been waited for')
        await server.start()

        await until(() => store.isUp === true, 'the store to be up')
        assert.ok(bell.changes > 0, 'who follows should be told that something may have been missed')
        assert.deepEqual(await store.look(['kkey']), [undefined])
        assert.deepEqual(await store.followers('kkey'), [], 'the server has forgotten the node')
        await store.beat('a', KEEP_MS)
        assert.deepEqual(await store.followers('kkey'), ['a'])
        await eventually(async () => {
          const names = await Promise.all(['0', '3'].map((database) => server.cli('-n', database, 'KEYS', '*:places')))
          return names.some(Boolean)
        }, 'the place to be taken again')
        assert.equal(await store.takePlace('client', 'a', '2', 1), false)
        assert.ok((await taken(store, 'kkey', 0)) > fence)
        await until(() => bell.entries.length === 2, 'the doorbell to ring again')
      })

      test('a server that stands still is told, and no call waits longer than its bound', async (t) => {
        const store = await storeOn(t, kind, server.port)
        const fence = await taken(store, 'still', 0)

        server.signal('SIGSTOP')
        t.after(() => server.signal('SIGCONT'))
        const began = performance.now()
        await assert.rejects(append(store, 'still', { fence, seq: 0 }, '1'), /no answer for 2000 ms/)
        const took = performance.now() - began
        await until(() => store.isUp === false, 'the store to be down')
        server.signal('SIGCONT')

        assert.ok(took > 1500 && took < 6000, `${took} ms`)
        await until(() => store.isUp === true, 'the store to be up')
        const [state] = await store.look(['still'])
        assert.equal(state?.last.fence, fence)
      })

      test('a server that does not read is sent one large addition, and the others fail with it', async (t) => {
        const store = await storeOn(t, kind, server.port)
        const fence = await taken(store, 'bounded', 0)
        server.signal('SIGSTOP')
        t.after(() => server.signal('SIGCONT'))

        const large = 'x'.repeat(8_000_000)
        const additions = Array.from({ length: 12 }, () => append(store, 'bounded', { fence, seq: 0 }, large))
        const began = performance.now()
        const failures = await Promise.allSettled(additions)
        const took = performance.now() - began

        for (const failure of failures) {
          assert.match(failure.status === 'rejected' ? `${failure.reason}` : 'added', /no answer for 2000 ms/)
        }
        // One after the other it would be 24 s.
        assert.ok(took < 12_000, `${took} ms`)
      })

      test('a connection over which no message comes any more is found, and replaced', async (t) => {
        const relay = await startRedisRelay(t, server.port)
        const store = await storeOn(t, kind, relay.port, { leaseMs: 300 })
        const bell = new Bell()
        await store.beat('a', KEEP_MS)
        await store.follow('silent', 'a', bell)
        const fence = await taken(store, 'silent', 0)
        await until(() => bell.entries.length === 1, 'the head')

        relay.freeze('subscribers')
        await append(store, 'silent', { fence, seq: 0 }, '1')
        await until(() => store.isUp === false, 'the store to be down')
        await until(() => store.isUp === true, 'the store to be up')
        await append(store, 'silent', { fence, seq: 1 }, '2')

        await until(() => bell.entries.length === 2, 'the doorbell to ring over another connection')
        assert.deepEqual(bell.entries.at(-1), { position: { fence, seq: 2 }, bytes: Buffer.from('2') })
        assert.ok(bell.changes > 0, 'who follows should be told that something may have been missed')
      })

      test('a connection that the server ends is replaced at once', async (t) => {
        const store = await storeOn(t, kind, server.port)
        const bell = new Bell()
        await store.follow('ended', 'a', bell)
        const fence = await taken(store, 'ended', 0)
        await until(() => bell.entries.length === 1, 'the head')

        await server.cli('CLIENT', 'KILL', 'TYPE', 'pubsub')
        await until(() => store.isUp === false, 'the store to be down')
        await until(() => store.isUp === true, 'the store to be up')
        await append(store, 'ended', { fence, seq: 0 }, '1')

        await until(() => bell.entries.length === 2, 'the doorbell to ring again')
      })

      test('a node that is cut off from the server is told so, and goes on when it is joined again', async (t) => {
        const relay = await startRedisRelay(t, server.port)
        const cutOff = await storeOn(t, kind, relay.port, { leaseMs: 300 })
        const other = await storeOn(t, kind, server.port)
        const fence = await taken(cutOff, 'parted', 0)

        relay.part()
        const late = append(cutOff, 'parted', { fence, seq: 0 }, 'late').catch(() => {})
        await until(() => cutOff.isUp === false, 'the store to be down')
        await late
        const next = await taken(other, 'parted', fence)
        relay.join()

        await until(() => cutOff.isUp === true, 'the store to be up')
        const added = await append(cutOff, 'parted', { fence, seq: 0 }, 'zombie')
        assert.ok(added.isRefused)
        const { entries } = await other.read('parted', undefined, 1000)
        assert.deepEqual(
          entries.map(({ position }) => position),
          [
            { fence, seq: 0 },
            { fence: next, seq: 0 },
          ],
        )
      })

      test('a server that takes no writes is down, although it passes messages on', async (t) => {
        const store = await storeOn(t, kind, server.port, { leaseMs: 300 })
        t.after(() => server.cli('REPLICAOF', 'NO', 'ONE'))

        await server.cli('REPLICAOF', '127.0.0.1', '1')
        await assert.rejects(taken(store, 'readonly', 0), /Redis: READONLY/)
        await until(() => store.isUp === false, 'the store to be down')
        await server.cli('REPLICAOF', 'NO', 'ONE')

        await until(() => store.isUp === true, 'the store to be up')
      })

      test('a server that has forgotten the scripts is told them again', async (t) => {
        const store = await storeOn(t, kind, server.port)
        const fence = await taken(store, 'script', 0)

        await server.cli('SCRIPT', 'FLUSH')

        assert.equal((await append(store, 'script', { fence, seq: 0 }, '1')).isRefused, false)
        await server.cli('SCRIPT', 'FLUSH')
        assert.equal(await store.takePlace('script', 'a', '1', 1), true)
      })
    })

    test(`a client of ${kind.name} that is about to connect is waited for, before the store is said to be away`, {
      skip: noRedis,
    }, async (t) => {
      const server = await RedisServer.start()
      t.after(() => server.end())
      const relay = await startRedisRelay(t, server.port)
      const { client, close } = await kind.one(relay.port)
      relay.reset()
      const store = redisStore({ client })
      const told: boolean[] = []

      const unwatch = store.watch((isUp) => told.push(isUp))

      t.after(async () => {
        unwatch()
        await close()
      })
      await until(() => told.length > 0, 'the store to know whether it is up')
      assert.deepEqual(told, [true])
    })
  }
})

async function storeOn(
  t: TestContext,
  kind: ClientKind,
  port: number,
  options: Partial<RedisStoreOptions> = {},
): Promise<WatchedStore> {
  return await storeOf(t, await kind.one(port), options)
}
