// What could not be said to Redis is said again with a later beat.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Connection } from '../../src/redis/connection.ts'
import { Places } from '../../src/redis/places.ts'
import { type RedisStoreOptions, redisStore } from '../../src/redis/redis-store.ts'
import type { ShareStore } from '../../src/share-store.ts'

test('a node says again what it follows, and that it is there, when that has failed', async () => {
  for (const failing of ['unlink', 'zadd', 'time']) {
    const redis = new ForgetfulRedis()
    const store = redisStore({ client: redis.client })
    redis.fails = failing
    await assert.rejects(store.beat('a', 1000), /Redis: fails/)
    redis.fails = ''
    redis.hasBeat = true
    redis.sent.length = 0

    await store.beat('a', 1000)

    const expected = failing === 'unlink' ? ['unlink', 'time', 'zadd'] : ['time', 'zadd']
    for (const name of expected)
      assert.ok(redis.sent.includes(name), `${name} should be sent after ${failing} has failed`)
  }
})

test('places that Redis has lost are taken again, although that has failed at first', async () => {
  const redis = new ForgetfulRedis()
  const store = redisStore({ client: redis.client })
  assert.equal(await store.takePlace('client', 'a', '1', 1), true)
  redis.fails = 'hset'
  await beaten(store)
  assert.ok(redis.sent.includes('hset'))
  redis.fails = ''
  redis.hasBeat = true
  redis.sent.length = 0

  await beaten(store)

  assert.ok(redis.sent.includes('hset'))
  redis.sent.length = 0
  await beaten(store)
  assert.ok(!redis.sent.includes('hset'), 'once is enough')
})

test('a place that could not be given back is given back later, and one that may have been taken as well', async () => {
  const redis = new ForgetfulRedis()
  redis.hasBeat = true
  const store = redisStore({ client: redis.client })
  assert.equal(await store.takePlace('client', 'a', '1', 1), true)
  redis.fails = 'hdel'
  await assert.rejects(store.freePlace('client', '1'), /Redis: fails/)
  redis.fails = 'evalsha'
  await assert.rejects(store.takePlace('client', 'a', '2', 1), /Redis: fails/)
  redis.fails = ''
  redis.sent.length = 0

  await beaten(store)

  assert.equal(redis.sent.filter((name) => name === 'hdel').length, 2)
  redis.sent.length = 0
  await beaten(store)
  assert.ok(!redis.sent.includes('hdel'), 'once is enough')
})

test('no more places than there may be are remembered while Redis is away', async () => {
  const error = new Error('away')
  let isAway = true
  let freed = 0
  const send = (): Promise<unknown> => {
    if (isAway) return Promise.reject(error)
    freed++
    return Promise.resolve(1)
  }
  const places = new Places({ send } as unknown as Connection, async () => [], 1000)
  for (let i = 0; i < 1010; i++) places.free('client', `${i}`).catch(() => {})

  isAway = false
  await places.tend()

  assert.equal(freed, 1000)
})

/** A beat, and what comes of it. */
async function beaten(store: ShareStore): Promise<void> {
  await store.beat('a', 1000)
  for (let turn = 0; turn < 500; turn++) await new Promise((resolve) => setImmediate(resolve))
}

/** Looks like a client of ioredis whose server forgets all that it is told. */
class ForgetfulRedis {
  /** The command that fails. */
  fails = ''
  hasBeat = false
  /** The names of the commands that were sent. */
  readonly sent: string[] = []
  readonly client: RedisStoreOptions['client']

  constructor() {
    const answers: Record<string, () => unknown> = {
      set: () => (this.hasBeat ? Buffer.from('1') : null),
      time: () => ['1', '1'],
      evalsha: () => null,
    }
    const client = {
      status: 'ready',
      subscribe() {},
      duplicate() {},
      createBuiltinCommand: (name: string) => ({
        buffer: async () => {
          this.sent.push(name)
          if (name === this.fails) throw new Error('fails')
          return answers[name]?.() ?? (name in answers ? null : 1)
        },
      }),
    }
    this.client = client
  }
}
