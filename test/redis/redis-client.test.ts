// Which clients a store takes, what it says to others, and what it makes of their answers.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Cluster as Cluster6, Redis as Redis6 } from 'ioredis-6'
import { createClient, createClientPool, createCluster } from 'redis-6'
import { type RedisStoreOptions, redisStore } from '../../src/redis/redis-store.ts'
import { redisClients } from '../support/redis-clients.ts'
import { noRedis, RedisServer } from '../support/redis-server.ts'
import { Bell, storeOf, taken } from '../support/redis-store.ts'
import { until } from '../support/waiting.ts'

const anything: unknown[] = [
  undefined,
  null,
  'redis://:hunter2@localhost',
  7,
  {},
  [],
  () => {},
  new Map(),
  createClientPool(),
]

for (const client of anything) {
  test(`says what is expected where the client is ${String(client).slice(0, 20)}, without showing it`, () => {
    assert.throws(
      () => redisStore({ client } as unknown as RedisStoreOptions),
      (error: Error) =>
        error.name === 'ConfigError' &&
        /redisStore\.client: expected a (client of redis or ioredis, version 5 or 6|value)/.test(error.message) &&
        !error.message.includes('hunter2'),
    )
  })
}

const closed = new Redis6({ lazyConnect: true })
const ended = new Redis6({ lazyConnect: true })
ended.disconnect()

for (const [what, client] of [
  ['a client of redis that has not been connected', createClient()],
  ['a cluster of redis that has not been connected', createCluster({ rootNodes: [] })],
  ['a client of ioredis that has not been connected', closed],
  ['a client of ioredis that is closed', ended],
] as const) {
  test(`says that ${what} has to be connected first`, () => {
    assert.throws(() => redisStore({ client }), /^ConfigError: redisStore\.client: .*await client\.connect\(\)/)
  })
}

test('refuses a cluster that reads from replicas, which may not have yet what was added', (t) => {
  const client = new Cluster6([{ host: '127.0.0.1', port: 1 }], { scaleReads: 'all', clusterRetryStrategy: () => null })
  client.on('error', () => {})
  t.after(() => client.disconnect())

  assert.throws(() => redisStore({ client }), /its scaleReads has to be 'master'/)
})

for (const { name, one } of redisClients) {
  test(`refuses a client of ${name} that is subscribed`, { skip: noRedis }, async (t) => {
    const server = await RedisServer.start()
    const { client, close } = await one(server.port)
    t.after(async () => {
      await close()
      await server.end()
    })

    await subscribe(client)

    if (name === 'ioredis 6') redisStore({ client })
    else assert.throws(() => redisStore({ client }), /one that is subscribed: `client\.duplicate\(\)` is for that/)
  })
}

for (const [options, message] of [
  [{ prefix: 'a{b}' }, /redisStore\.prefix: expected a text without/],
  [{ prefix: 7 }, /redisStore\.prefix: expected a text/],
  [{ secret: 7 }, /redisStore\.secret: expected a string, got a number \(not shown\)/],
  [{ leaseMs: 0 }, /redisStore\.leaseMs: expected an integer from 100/],
  [{ checkMs: '30s' }, /redisStore\.checkMs: expected an integer from 100/],
  [{ onDown: 'wait' }, /redisStore\.onDown: expected 'alone' or 'refuse'/],
  [{ lease: 6000 }, /redisStore\.lease: unknown option, did you mean leaseMs\?/],
] as const) {
  test(`refuses ${JSON.stringify(options)}`, () => {
    assert.throws(() => redisStore({ client: answering(() => 'OK'), ...options } as RedisStoreOptions), message)
  })
}

test('has the options that were given, and defaults for the others', () => {
  const client = answering(() => 'OK')

  const { leaseMs, checkMs, onDown, secret } = redisStore({ client })
  const given = redisStore({ client, leaseMs: 500, checkMs: 700, onDown: 'refuse', secret: 's' })

  assert.deepEqual(
    { leaseMs, checkMs, onDown, secret },
    { leaseMs: 6000, checkMs: 30_000, onDown: 'alone', secret: '' },
  )
  assert.deepEqual([given.leaseMs, given.checkMs, given.onDown, given.secret], [500, 700, 'refuse', 's'])
})

const rubbish: [what: string, answer: () => unknown][] = [
  ['nothing', () => undefined],
  ['nil', () => null],
  ['an empty text', () => Buffer.alloc(0)],
  ['a text', () => Buffer.from('rubbish')],
  ['three words', () => Buffer.from('rub bi sh')],
  ['a fence that is no number', () => Buffer.from('+')],
  ['a fence that is too large', () => Buffer.from('+99999999999999999999')],
  ['a text that is no text', () => 'text'],
  ['a number', () => -1],
  ['no number', () => Number.NaN],
  ['an object', () => ({})],
  ['a map', () => new Map([['a', 'b']])],
  ['an empty list', () => []],
  ['a list of nothing', () => [undefined]],
  ['a list of lists', () => [[[['x']]], [[]]]],
  ['an entry without fields', () => [[Buffer.from('1-1'), null]]],
  ['an entry with a field too many', () => [[Buffer.from('1-1'), ['a', 'b', 'c', 'd']]]],
  ['an entry whose id is none', () => [[Buffer.from('1-x'), [Buffer.from('b'), Buffer.alloc(1)]]]],
  ['an error', () => new Error('returned')],
  [
    'a rejection',
    () => {
      throw new Error('thrown')
    },
  ],
  ['a rejection without a reason', () => Promise.reject()],
]

for (const [what, answer] of rubbish) {
  test(`${what} as an answer to everything makes calls fail at most`, async () => {
    const store = redisStore({ client: answering(answer) })
    const unwatch = store.watch(() => {})
    const position = { fence: 1, seq: 1 }
    const entry = { position, bytes: Buffer.from('x') }

    const settled = await Promise.allSettled([
      store.take('key', { node: 'a', replaces: 0, head: Buffer.from('head'), keepMs: 1000 }),
      store.append('key', { after: position, entries: [entry], keepFrom: position, keepMs: 1000 }),
      store.look(['key', 'other']),
      store.read('key', position, 1000),
      store.beat('a', 1000),
      store.beat('a', 0),
      store.areAlive(['a', 'b']),
      store.followers('key'),
      store.follow('key', 'a', { onEntries() {}, onChanged() {} }),
      store.takePlace('client', 'a', '1', 1),
      store.freePlace('client', '1'),
    ])
    unwatch()

    for (const result of settled) {
      if (result.status === 'rejected') assert.match(`${result.reason}`, /^Error: Redis: /)
    }
    const [took, added, looked, read] = settled
    for (const result of [took, added]) {
      if (result?.status === 'fulfilled') assert.equal(result.value.isRefused, true)
    }
    if (looked?.status === 'fulfilled') assert.deepEqual(looked.value, [undefined, undefined])
    if (read?.status === 'fulfilled') assert.deepEqual(read.value, { entries: [], state: undefined })
  })
}

test('stores whose clients keep their keys apart hear nothing of each other', { skip: noRedis }, async (t) => {
  const server = await RedisServer.start()
  t.after(() => server.end())
  const port = server.port
  const clients = [
    ...[new Redis6({ port }), new Redis6({ port, db: 1 }), new Redis6({ port, keyPrefix: 'app:' })],
    ...(await Promise.all(
      [{ url: `redis://127.0.0.1:${port}/2` }, { url: `redis://127.0.0.1:${port}`, keyPrefix: 'other:' }].map(
        (options) =>
          createClient(options)
            // The server ends before it does.
            .on('error', () => {})
            .connect(),
      ),
    )),
  ]
  const bells: Bell[] = []
  for (const client of clients) {
    const close = () => ('destroy' in client ? client.destroy() : client.disconnect())
    const store = await storeOf(t, { client, close })
    const bell = new Bell()
    bells.push(bell)
    await store.follow('key', 'a', bell)

    await taken(store, 'key')

    await until(() => bell.entries.length === 1, 'its own head')
  }
  assert.deepEqual(
    bells.map(({ entries, changes }) => [entries.length, changes]),
    clients.map(() => [1, 0]),
  )
})

test('what is added and dropped while a log is read is left to the next page', async () => {
  const ids = [3, 4, 5, 6, 7].map((seq) => `1-${seq}`)
  const entries = ids.map((id) => [Buffer.from(id), [Buffer.from('b'), Buffer.from(id)]])
  const store = redisStore({ client: answering((name) => (name === 'get' ? Buffer.from('1-5 1-1 node') : entries)) })

  const { entries: read, state } = await store.read('key', { fence: 1, seq: 0 }, 1000)

  assert.deepEqual(
    read.map(({ position }) => position.seq),
    [3, 4, 5],
  )
  assert.deepEqual(state, { owner: 'node', first: { fence: 1, seq: 3 }, last: { fence: 1, seq: 5 } })
})

test('a log that Redis has dropped to make room, although its state has stayed, is none', async () => {
  const store = redisStore({ client: answeringEmptyLog(0) })

  assert.deepEqual(await store.read('key', { fence: 1, seq: 0 }, 1000), { entries: [], state: undefined })
  assert.deepEqual((await store.read('key', { fence: 1, seq: 5 }, 1000)).state?.last, { fence: 1, seq: 5 })
})

test('a log that ends before its state says is an error: nodes would ask for the rest again and again', async () => {
  const store = redisStore({ client: answeringEmptyLog(1) })

  await assert.rejects(
    store.read('key', { fence: 1, seq: 0 }, 1000),
    /Redis: the log of a key is not what its state says/,
  )
})

test('whatever is published on the channel of a key is a ring at most', { skip: noRedis }, async (t) => {
  const server = await RedisServer.start()
  t.after(() => server.end())
  const connected = await redisClients[1]?.one(server.port)
  assert.ok(connected)
  const store = await storeOf(t, connected)
  let entries = 0
  let changes = 0
  const doorbell = { onEntries: () => entries++, onChanged: () => changes++ }
  await store.follow('key', 'a', doorbell)
  const messages = [
    'x',
    '',
    '\n',
    'x\n',
    '1-1\n',
    '1-1 5\nabc',
    '1-1 -5\nabc',
    '1-1 99999999999\n',
    '99999999999999999999-1 1\nx',
  ]

  for (const message of messages) await server.cli('PUBLISH', 'sse-proxy:{key}', message)

  await until(
    () => changes === messages.length,
    () => `${messages.length} rings, ${changes} came`,
  )
  assert.equal(entries, 0)
})

/** Looks like a client of ioredis, and gives this answer to everything. */
/** @param logs how many of its key there are */
function answeringEmptyLog(logs: number): RedisStoreOptions['client'] {
  const replies = new Map<string, unknown>([
    ['get', Buffer.from('1-5 1-1 node')],
    ['exists', logs],
  ])
  return answering((name) => replies.get(name) ?? [])
}

function answering(answer: (name: string) => unknown): RedisStoreOptions['client'] {
  const duplicate = {
    connect: async () => {},
    disconnect() {},
    on() {},
    subscribe: async () => 1,
    unsubscribe: async () => 0,
  }
  const client = {
    status: 'ready',
    mode: 'normal',
    subscribe() {},
    createBuiltinCommand: (name: string) => ({ buffer: async () => answer(name) }),
    duplicate: () => duplicate,
  }
  return client
}

async function subscribe(client: RedisStoreOptions['client']): Promise<void> {
  await (client as { subscribe(channel: string, listener: () => void): Promise<unknown> }).subscribe('a', () => {})
}
