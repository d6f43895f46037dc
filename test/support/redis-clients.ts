// The clients that a store works with, each for one server, a cluster and a sentinel, with settings that apps have.
import { Cluster as Cluster5, Redis as Redis5 } from 'ioredis-5'
import { Cluster as Cluster6, Redis as Redis6 } from 'ioredis-6'
import { createCluster as cluster5, createClient as create5, createSentinel as sentinel5 } from 'redis-5'
import { createCluster as cluster6, createClient as create6, createSentinel as sentinel6 } from 'redis-6'
import type { RedisClient } from '../../src/redis/redis-store.ts'
import { within } from './waiting.ts'

/** A client that is connected, and how it is closed. */
export interface ConnectedClient {
  client: RedisClient
  close(): unknown
}

export interface ClientKind {
  name: string
  one(port: number): Promise<ConnectedClient>
  cluster(ports: readonly number[]): Promise<ConnectedClient>
  sentinel(port: number, name: string): Promise<ConnectedClient>
}

const host = '127.0.0.1'

/** Of what has `connect` and `destroy`, as in node-redis. */
async function connected(
  client: RedisClient & {
    connect(): Promise<unknown>
    destroy(): unknown
    on(event: 'error', on: () => void): unknown
  },
): Promise<ConnectedClient> {
  client.on('error', () => {})
  await within(client.connect(), 'the client to connect')
  return { client, close: () => client.destroy() }
}

/** Of what connects by itself, as in ioredis. */
async function ready(
  client: RedisClient & { disconnect(): void; on(event: string, on: () => void): unknown },
): Promise<ConnectedClient> {
  client.on('error', () => {})
  await within(new Promise<void>((resolve) => client.on('ready', resolve)), 'the client to be ready')
  return { client, close: () => client.disconnect() }
}

const rootNodes = (ports: readonly number[]) => ports.map((port) => ({ url: `redis://${host}:${port}` }))
const nodes = (ports: readonly number[]) => ports.map((port) => ({ host, port }))

export const redisClients: ClientKind[] = [
  {
    name: 'redis 5',
    one: (port) => connected(create5({ url: `redis://${host}:${port}`, disableOfflineQueue: true })),
    cluster: (ports) => connected(cluster5({ rootNodes: rootNodes(ports), RESP: 3 })),
    sentinel: (port, name) => connected(sentinel5({ name, sentinelRootNodes: nodes([port]), RESP: 3 })),
  },
  {
    name: 'redis 6',
    one: (port) => connected(create6({ url: `redis://${host}:${port}` })),
    cluster: (ports) => connected(cluster6({ rootNodes: rootNodes(ports), RESP: 2, minimizeConnections: true })),
    sentinel: (port, name) =>
      connected(sentinel6({ name, sentinelRootNodes: nodes([port]), RESP: 2, masterPoolSize: 2 })),
  },
  {
    name: 'ioredis 5',
    one: (port) => ready(new Redis5(port, host, { keyPrefix: 'app:', enableAutoPipelining: true })),
    cluster: (ports) => ready(new Cluster5(nodes(ports), { keyPrefix: 'app:' })),
    sentinel: (port, name) => ready(new Redis5({ name, sentinels: nodes([port]), enableOfflineQueue: false })),
  },
  {
    name: 'ioredis 6',
    one: (port) => ready(new Redis6(port, host, { db: 3 })),
    cluster: (ports) =>
      ready(
        new Cluster6(nodes(ports), {
          enableAutoPipelining: true,
          redisOptions: { protocol: 3, replyMapping: 'resp3' },
        }),
      ),
    sentinel: (port, name) => ready(new Redis6({ name, sentinels: nodes([port]), protocol: 2, keyPrefix: 'app:' })),
  },
]
