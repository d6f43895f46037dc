// What a server gets to see, how much of it there is, and what stays there.
import assert from 'node:assert/strict'
import { after, before, describe, type TestContext, test } from 'node:test'
import { redisStore } from '../../src/redis/redis-store.ts'
import { watchLeftovers } from '../support/leftovers.ts'
import { redisClients } from '../support/redis-clients.ts'
import { eventually, noRedis, RedisServer } from '../support/redis-server.ts'
import { append, Bell, KEEP_MS, storeOf, taken, type WatchedStore } from '../support/redis-store.ts'
import { until } from '../support/waiting.ts'

for (const kind of redisClients) {
  describe(`with ${kind.name}`, { skip: noRedis }, () => {
    let server: RedisServer
    before(async () => {
      server = await RedisServer.start()
    })
    after(() => server.end())

    const database = kind.name === 'ioredis 6' ? '3' : '0'
    const cli = (...command: string[]) => server.cli('-n', database, ...command)

    const storeFor = async (t: TestContext): Promise<WatchedStore> =>
      await storeOf(t, await kind.one(server.port), { secret: 'a-secret' })

    test('what clients are limited by, and the secret, are in no command and no key', async (t) => {
      const monitor = await server.monitor()
      t.after(() => monitor.end())
      const store = await storeFor(t)

      await store.beat('node', KEEP_MS)
      await store.takePlace('ada@example.org', 'node', 'place', 1)
      await store.takePlace('ada@example.org', 'node', 'place-2', 1)
      await store.freePlace('ada@example.org', 'place')

      await until(() => monitor.lines().some((line) => /HDEL/i.test(line)), 'the last command to be seen')
      const seen = monitor.lines().join('\n') + (await cli('KEYS', '*'))
      assert.doesNotMatch(seen, /ada|example|a-secret/)
    })

    test('an addition is one command, whatever it brought, and who follows sends none', async (t) => {
      const [owner, follower] = [await storeFor(t), await storeFor(t)]
      const bell = new Bell()
      await follower.follow('key', 'b', bell)
      const fence = await taken(owner, 'key')
      await until(() => bell.entries.length === 1, 'the head')
      const monitor = await server.monitor()
      t.after(() => monitor.end())

      for (let seq = 0; seq < 50; seq += 2) await append(owner, 'key', { fence, seq }, ['1', '2'])

      await until(() => bell.entries.length === 51, 'all entries')
      const sent = () => monitor.lines().filter((line) => !/^\+[\d.]+ \[\d+ lua\]/.test(line))
      await until(() => sent().length >= 25, 'the commands to be seen')
      const commands = sent()
      assert.deepEqual(
        commands.filter((line) => !/"evalsha"/i.test(line)),
        [],
      )
      assert.equal(commands.length, 25)
    })

    test('what is too large to be told is read by those who follow, in pages', async (t) => {
      const [owner, follower] = [await storeFor(t), await storeFor(t)]
      const bell = new Bell()
      await follower.follow('large', 'b', bell)
      const fence = await taken(owner, 'large')
      await until(() => bell.entries.length === 1, 'the head')
      const chunk = 'x'.repeat(40_000)

      await append(owner, 'large', { fence, seq: 0 }, [chunk])
      await append(owner, 'large', { fence, seq: 1 }, [chunk, chunk])

      await until(() => bell.changes > 0, 'the doorbell')
      assert.equal(bell.entries.length, 2)
      const page = await follower.read('large', { fence, seq: 1 }, 60_000)
      assert.deepEqual(
        page.entries.map(({ position }) => position.seq),
        [2],
      )
    })

    test('a log of many small entries is read in few commands, one of large entries a few at a time', async (t) => {
      const store = await storeFor(t)
      const fence = await taken(store, 'small')
      const many = Array.from({ length: 500 }, (_, i) => `${i}`)
      await append(store, 'small', { fence, seq: 0 }, many)
      const other = await taken(store, 'heavy')
      for (let seq = 0; seq < 40; seq++) await append(store, 'heavy', { fence: other, seq }, ['x'.repeat(100_000)])
      const monitor = await server.monitor()
      t.after(() => monitor.end())

      const { entries } = await store.read('small', undefined, 1_000_000)
      const heavy = await store.read('heavy', undefined, 1_000_000)

      assert.equal(entries.length, 501)
      assert.equal(heavy.entries.length, 10)
      await until(() => monitor.lines().length >= 5, 'the commands to be seen')
      const counts = monitor.lines().flatMap((line) => /"COUNT" "(\d+)"/i.exec(line)?.[1] ?? [])
      assert.deepEqual(counts, ['16', '2000', '16'])
    })

    test('an entry that is kept does not keep the read it came with', async (t) => {
      const [owner, follower] = [await storeFor(t), await storeFor(t)]
      const bell = new Bell()
      await follower.follow('copied', 'b', bell)
      const fence = await taken(owner, 'copied')

      await append(owner, 'copied', { fence, seq: 0 }, ['small', 'x'.repeat(20_000)])

      await until(() => bell.entries.length === 3, 'the entries')
      const { entries } = await follower.read('copied', undefined, 1_000_000)
      for (const { bytes } of [...bell.entries, ...entries]) {
        assert.ok(
          bytes.buffer.byteLength <= Math.max(bytes.length, Buffer.poolSize),
          `${bytes.buffer.byteLength} bytes`,
        )
      }
    })

    test('a node at rest sends one command a beat, whatever the number of its keys', async (t) => {
      const store = await storeFor(t)
      await store.beat('rest', KEEP_MS)
      for (let i = 0; i < 50; i++) await store.follow(`rest-${i}`, 'rest', new Bell())
      await store.beat('rest', KEEP_MS)
      const monitor = await server.monitor()
      t.after(() => monitor.end())

      for (let i = 0; i < 5; i++) await store.beat('rest', KEEP_MS)

      await until(() => monitor.lines().length >= 5, 'the commands to be seen')
      assert.deepEqual(
        monitor.lines().map((line) => /"([a-z]+)"/i.exec(line)?.[1]?.toLowerCase()),
        ['set', 'set', 'set', 'set', 'set'],
      )
    })

    test('when all have left nothing stays but the fence, and that for an hour', async (t) => {
      await server.cli('FLUSHALL')
      const store = await storeFor(t)
      await store.beat('node', KEEP_MS)
      const unfollow = await store.follow('left', 'node', new Bell())
      await store.takePlace('client', 'node', 'place', 1)
      const fence = await taken(store, 'left')

      await append(store, 'left', { fence, seq: 0 }, ['end'], 0)
      unfollow()
      await store.beat('node', 0)

      await eventually(async () => !(await cli('KEYS', '*')).includes('\n'), 'all but one key to go')
      const name = await cli('KEYS', '*')
      assert.match(name, /sse-proxy:\{left\}:fence$/)
      const ttl = Number(await cli('PTTL', name))
      assert.ok(ttl > 3_500_000 && ttl <= 3_600_000, `${ttl} ms`)
    })

    for (const part of ['log', 'owner']) {
      test(`a key whose ${part} alone Redis has dropped to make room begins anew`, async (t) => {
        await server.cli('FLUSHALL')
        const store = await storeFor(t)
        const fence = await taken(store, 'dropped')
        await append(store, 'dropped', { fence, seq: 0 }, ['1'])
        const names = (await cli('KEYS', '*{dropped}*')).split('\n').filter((name) => !name.endsWith(':fence'))
        const types = await Promise.all(names.map((name) => cli('TYPE', name)))

        await cli('DEL', names[types.indexOf(part === 'log' ? 'stream' : 'string')] ?? '')
        const refused = await append(store, 'dropped', { fence, seq: 1 }, ['2'])
        const next = await taken(store, 'dropped')

        assert.equal(names.length, 2)
        assert.equal(refused.isRefused, true)
        assert.ok(next > fence)
        const { entries } = await store.read('dropped', undefined, 1000)
        assert.deepEqual(
          entries.map(({ position }) => position),
          [{ fence: next, seq: 0 }],
        )
      })
    }

    test('everything that is written expires, should all nodes die', async (t) => {
      await server.cli('FLUSHALL')
      const store = await storeFor(t)
      await store.beat('node', KEEP_MS)
      await store.follow('dead', 'node', new Bell())
      await store.takePlace('client', 'node', 'place', 1)
      await append(store, 'dead', { fence: await taken(store, 'dead'), seq: 0 }, ['1'])
      await store.look(['dead'])

      const names = (await cli('KEYS', '*')).split('\n')

      const lives = await Promise.all(names.map((name) => cli('PTTL', name)))
      assert.ok(names.length >= 6, `${names}`)
      assert.deepEqual(
        names.filter((_name, i) => lives[i] === '-1'),
        [],
      )
    })

    test('a store that is let go while it connects leaves no connection, and does not say that it is up', async (t) => {
      const { client, close } = await kind.one(server.port)
      t.after(() => close())
      const count = async () =>
        (await server.cli('CLIENT', 'LIST', 'TYPE', 'pubsub')).split('\n').filter(Boolean).length
      await eventually(async () => (await count()) === 0, 'the connections of other tests to close')
      const store = redisStore({ client })
      const told: boolean[] = []

      store.watch((isUp) => told.push(isUp))()
      for (let turns = 1; turns < 8; turns++) {
        const unwatch = redisStore({ client }).watch(() => {})
        for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve))
        unwatch()
      }

      const kept = redisStore({ client })
      const unwatch = kept.watch(() => {})
      t.after(unwatch)
      await eventually(async () => (await count()) > 0, 'a connection of a store that is kept')
      await eventually(async () => (await count()) === 1, 'the connections of the others to close')
      assert.deepEqual(told, [])
    })

    test('a store that is not used any more leaves neither sockets nor timers', async (t) => {
      // So that no connection of the test before is counted, which is about to close.
      await cli('PING')
      await eventually(async () => process.getActiveResourcesInfo().every((name) => name !== 'TCPSocketWrap'), 'quiet')
      const leftovers = watchLeftovers(t)
      const { client, close } = await kind.one(server.port)
      const store = redisStore({ client })
      let isUp = false
      const unwatch = store.watch((now) => {
        isUp = now
      })
      await until(() => isUp, 'the store to be up')
      await store.beat('node', KEEP_MS)
      const unfollow = await store.follow('leftover', 'node', new Bell())
      await taken(store, 'leftover')

      unfollow()
      await store.beat('node', 0)
      unwatch()
      await close()

      await leftovers.assertNone()
    })

    test("the connection that the store has made is closed after the last of its users, and the app's is not", async (t) => {
      const { client, close } = await kind.one(server.port)
      t.after(() => close())
      const store = redisStore({ client })
      const count = async () =>
        (await server.cli('CLIENT', 'LIST', 'TYPE', 'pubsub')).split('\n').filter(Boolean).length
      await eventually(async () => (await count()) === 0, 'the connections of other tests to close')
      let isUp = false
      const unwatch = [0, 1].map(() =>
        store.watch((now) => {
          isUp = now
        }),
      )
      await until(() => isUp, 'the store to be up')

      unwatch[0]?.()
      assert.equal(await count(), 1)
      unwatch[1]?.()

      await eventually(async () => (await count()) === 0, 'the connection to close')
      assert.deepEqual(await store.look(['key']).then((states) => states.length), 1)
    })
  })
}
