// What is on its way to a server at once: a server that is only busy is none that is away.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Connection } from '../../src/redis/connection.ts'
import { scriptOf } from '../../src/redis/log-script.ts'
import type { Redis } from '../../src/redis/redis-client.ts'
import { redisStore } from '../../src/redis/redis-store.ts'
import { fakeClock } from '../support/fake-clock.ts'

const script = scriptOf('return 1')
const KiB = 1024

test('of many large additions a few are on their way at once, and a heartbeat does not wait for the others', async () => {
  const server = new BusyServer()
  const connection = new Connection(server.redis, () => {})
  const added = Array.from({ length: 10 }, (_, i) => connection.add(script, [`${i}`], [Buffer.alloc(60 * KiB)]))

  const beat = connection.send('beat', 'SET', 'beat', '1')
  await turn()

  assert.deepEqual(server.keys, ['0', '1', '2', '3', 'beat'])
  server.answer('beat')
  await beat
  for (let i = 0; i < 10; i++) {
    server.answer(`${i}`)
    await added[i]
    await turn()
  }
  assert.deepEqual(
    server.keys.filter((key) => key !== 'beat'),
    Array.from({ length: 10 }, (_, i) => `${i}`),
  )
})

test('an addition that is larger than what may be on its way is sent alone, and one that fails holds nobody up', async () => {
  const server = new BusyServer()
  const connection = new Connection(server.redis, () => {})

  const large = connection.add(script, ['large'], [Buffer.alloc(1000 * KiB)])
  const next = connection.add(script, ['next'], ['small'])
  await turn()

  assert.deepEqual(server.keys, ['large'])
  server.fail('large')
  await assert.rejects(large, /Redis: broken/)
  await turn()
  server.answer('next')
  assert.equal(await next, 1)
})

test('what a server that does not read would have to be sent is bounded', async (t) => {
  const clock = fakeClock(t)
  const connection = new Connection(new BusyServer().redis, () => {})
  const commands = Array.from({ length: 12 }, (_, i) => connection.send(`${i}`, 'SET', `${i}`, 'x'.repeat(8_000_000)))

  const settled = Promise.allSettled(commands)
  clock.pass(3000)

  const failures = (await settled).map((result) => (result.status === 'rejected' ? `${result.reason}` : 'sent'))
  assert.equal(failures.filter((failure) => /too much has not been answered/.test(failure)).length, 4)
  assert.ok(!failures.includes('sent'))
})

test('additions that wait for others fail with the first that has no answer', async (t) => {
  const clock = fakeClock(t)
  const server = new BusyServer()
  const connection = new Connection(server.redis, () => {})
  const added = Array.from({ length: 10 }, (_, i) => connection.add(script, [`${i}`], [Buffer.alloc(60 * KiB)]))

  const settled = Promise.allSettled(added)
  clock.pass(3000)

  for (const result of await settled) assert.match(`${result.status === 'rejected' && result.reason}`, /no answer/)
  assert.equal(server.keys.length, 4)
})

test('a store adds for many keys in that way', async () => {
  const sent: string[] = []
  const createBuiltinCommand = (name: string) => ({
    buffer() {
      sent.push(name)
      return new Promise(() => {})
    },
  })
  const client = { status: 'ready', subscribe() {}, duplicate() {}, createBuiltinCommand }
  const store = redisStore({ client })
  const after = { fence: 1, seq: 0 }
  const entries = [{ position: { fence: 1, seq: 1 }, bytes: Buffer.alloc(100 * KiB) }]

  for (let i = 0; i < 10; i++) {
    store.append(`${i}`, { after, entries, keepFrom: after, keepMs: 1000 }).catch(() => {})
  }
  await turn()

  assert.deepEqual(sent, ['evalsha', 'evalsha'])
})

/** A server that answers when it is told to. */
class BusyServer {
  /** Of the commands that were sent, in their order. */
  readonly keys: string[] = []
  readonly #answers = new Map<string, { resolve(value: number): void; reject(error: Error): void }>()
  readonly redis: Redis = {
    isCluster: false,
    space: '',
    isReady: () => true,
    send: (key) => {
      this.keys.push(key)
      return new Promise((resolve, reject) => this.#answers.set(key, { resolve, reject }))
    },
    subscriber: () => Promise.reject(new Error('no messages')),
  }

  answer(key: string): void {
    this.#answers.get(key)?.resolve(1)
  }

  fail(key: string): void {
    this.#answers.get(key)?.reject(new Error('broken'))
  }
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
