// What every store has to keep to, on real servers, by way of each client.
import { after, before, describe } from 'node:test'
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
