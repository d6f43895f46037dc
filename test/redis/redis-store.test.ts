// What every store has to keep to, on real servers, by way of each client.
import { readFileSync } from 'node:fs'
import { after, before, describe } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createClient } from 'redis-6'
import { redisStore } from '../../src/redis/redis-store.ts'
import { type StoreUnderTest, storeTests } from '../../src/store-tests.ts'
import { type ConnectedClient, redisClients } from '../support/redis-clients.ts'
import { noRedis, noSentinel, RedisCluster, RedisSentinel, RedisServer } from '../support/redis-server.ts'

/** Two nodes, each with a client of its own. */
async function nodes(connect: () => Promise<ConnectedClient>): Promise<StoreUnderTest> {
  const [one, two] = [await connect(), await connect()]
  return {
    stores: [redisStore({ client: one.client }), redisStore({ client: two.client })],
    close() {
      for (const { close } of [one, two]) close()
    },
  }
}

describe('one server', { skip: noRedis }, () => {
  let server: RedisServer
  before(async () => {
    server = await RedisServer.start()
  })
  after(() => server.end())

  for (const { name, one } of redisClients) storeTests(`a store with ${name}`, () => nodes(() => one(server.port)))
})

describe('a user who may do what the guide says', { skip: noRedis }, () => {
  let server: RedisServer
  before(async () => {
    const guide = readFileSync(fileURLToPath(new URL('../../demo/guides/many-nodes.md', import.meta.url)), 'utf8')
    const [, rights = ''] = /An ACL: `([^`]+)`/.exec(guide) ?? []
    server = await RedisServer.start()
    await server.cli('ACL', 'SETUSER', 'store', 'on', '>password', ...rights.split(' '))
  })
  after(() => server.end())

  storeTests('a store of such a user', () =>
    nodes(async () => {
      const client = createClient({ url: `redis://store:password@127.0.0.1:${server.port}` })
      await client.on('error', () => {}).connect()
      return { client, close: () => client.destroy() }
    }),
  )
})

describe('a cluster', { skip: noRedis }, () => {
  let servers: RedisCluster
  before(async () => {
    servers = await RedisCluster.start()
  })
  after(() => servers.end())

  for (const { name, cluster } of redisClients) {
    storeTests(`a store with ${name} in a cluster`, () => nodes(() => cluster(servers.ports)))
  }
})

describe('a sentinel', { skip: noSentinel }, () => {
  let watching: RedisSentinel
  before(async () => {
    watching = await RedisSentinel.watching()
  })
  after(() => watching.end())

  for (const { name, sentinel } of redisClients) {
    storeTests(`a store with ${name} and a sentinel`, () => nodes(() => sentinel(watching.port, watching.name)))
  }
})
