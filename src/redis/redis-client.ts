// The client that the app gives, whichever it is: node-redis or ioredis, for one server, Sentinel or Cluster. They are told
// apart by their methods, and only raw commands are sent, so that neither package is imported.

import { ConfigError } from '../errors.ts'
import { isObject, refuseUnseen } from '../options/check.ts'

/** What `redisStore` takes: a client of `redis` (5 or 6) or `ioredis` (5 or 6) that is connected or about to be. */
export type RedisClient =
  | {
      readonly isOpen: boolean
      sendCommand(...args: never[]): Promise<unknown>
      subscribe(...args: never[]): Promise<unknown>
    }
  | { readonly status: string; createBuiltinCommand(name: string): object; duplicate(...args: never[]): unknown }

export type Argument = string | Buffer

/** What a store needs of a client. */
export interface Redis {
  /** Whether keys are on several servers, so that a command is for one key. */
  readonly isCluster: boolean
  /** What stands in front of every name that the client itself leaves alone, so that the names of channels are as far apart as those of keys. */
  readonly space: string
  /** What the client puts in front of keys in all commands but raw ones, so that the store has to do it. */
  readonly keyPrefix?: string
  /** Whether a command would be sent now, not kept for later. */
  isReady(): boolean
  /** @param key says to which server of a cluster it goes. Strings come back as Buffers. */
  send(key: string, command: readonly Argument[]): Promise<unknown>
  /** A connection that can subscribe; `connect` has to be called. */
  subscriber(events: SubscriberEvents): Promise<RedisSubscriber>
}

/** What comes over a connection that subscribes. */
export interface SubscriberEvents {
  onMessage(channel: string, message: Buffer): void
  /** The connection is no more. May be called more than once, and while it is being made. */
  onEnd(why: unknown): void
}

/** A connection of the store's own, which never connects anew: only the store knows what it has subscribed to. */
export interface RedisSubscriber {
  connect(): Promise<unknown>
  subscribe(channels: readonly string[]): Promise<unknown>
  unsubscribe(channels: readonly string[]): Promise<unknown>
  close(): void
}

// A command that could not be sent by then is dropped from the client's own queue.
const QUEUED_MS = 2000

/** @throws ConfigError where it is no client, or one that cannot be used */
export function redisOf(client: unknown): Redis {
  if (isObject(client)) {
    if (isIoredis(client)) return ioredis(client)
    if (isNodeRedisCluster(client)) return nodeRedisCluster(client)
    if (isNodeRedisSentinel(client)) return nodeRedisSentinel(client)
    if (isNodeRedis(client)) return nodeRedis(client)
  }
  return refuseUnseen('redisStore.client', 'a client of redis or ioredis, version 5 or 6, not a pool', client)
}

function hasMethods(client: object, ...names: readonly string[]): boolean {
  return names.every((name) => typeof Reflect.get(client, name) === 'function')
}

function refuse(got: string): never {
  throw new ConfigError(`redisStore.client: expected a client that is connected and takes commands, got ${got}`)
}

// node-redis.

interface NodeRedis {
  readonly isOpen: boolean
  readonly isReady: boolean
  readonly isPubSubActive?: boolean
  readonly options?: { readonly database?: number; readonly socket?: object }
  /** From 6.1 on. */
  readonly _keyPrefix?: string | Buffer
  sendCommand(command: readonly Argument[], options: object): Promise<unknown>
  duplicate(options: object): NodeRedisDuplicate
}

interface NodeRedisDuplicate {
  connect(): Promise<unknown>
  destroy(): void
  on(event: string, listener: (error?: unknown) => void): unknown
  subscribe(channels: readonly string[], listener: Listener, isBuffer: true): Promise<unknown>
  unsubscribe(channels: readonly string[], listener: Listener, isBuffer: true): Promise<unknown>
}

type Listener = (message: Buffer, channel: Buffer) => void

interface NodeRedisCluster {
  readonly isOpen: boolean
  readonly isReady?: boolean
  readonly masters: readonly NodeRedisServer[]
  /** Of the client's own, without which it works as well. */
  readonly _slots?: { rediscover?(start: NodeRedis): Promise<unknown> }
  readonly _keyPrefix?: string | Buffer
  nodeClient(node: NodeRedisServer): Promise<NodeRedis>
  sendCommand(key: string, isReadonly: boolean, command: readonly Argument[], options: object): Promise<unknown>
}

interface NodeRedisServer {
  /** Undefined until it was needed. */
  readonly client?: NodeRedis
}

interface NodeRedisSentinel {
  readonly isOpen: boolean
  readonly isReady: boolean
  readonly _keyPrefix?: string | Buffer
  sendCommand(isReadonly: boolean, command: readonly Argument[], options: object): Promise<unknown>
  /** Calls the function with a client of the primary. */
  _execute(isReadonly: boolean, use: (client: NodeRedis) => Promise<NodeRedis>): Promise<NodeRedis>
}

function isNodeRedis(client: object): client is NodeRedis {
  return 'isReady' in client && hasMethods(client, 'sendCommand', 'duplicate', 'subscribe')
}

function isNodeRedisCluster(client: object): client is NodeRedisCluster {
  return 'masters' in client && hasMethods(client, 'sendCommand', 'nodeClient')
}

function isNodeRedisSentinel(client: object): client is NodeRedisSentinel {
  return hasMethods(client, 'sendCommand', 'getSentinelNode', '_execute')
}

// A bulk string ('$' on the wire) comes as a Buffer, whatever the client makes of it for the app.
const BULK_STRING = 36
const BUFFERS = { typeMapping: { [BULK_STRING]: Buffer }, timeout: QUEUED_MS }

function nodeRedis(client: NodeRedis): Redis {
  refuseClosed(client)
  if (client.isPubSubActive) refuse('one that is subscribed: `client.duplicate()` is for that')
  const { database = 0 } = client.options ?? {}
  return {
    isCluster: false,
    space: spaceOf(database, ''),
    keyPrefix: keyPrefixOf(client),
    isReady: () => client.isReady,
    send: (_key, command) => client.sendCommand(command, { ...BUFFERS }),
    subscriber: async (events) => nodeRedisSubscriber(client, events),
  }
}

function nodeRedisCluster(client: NodeRedisCluster): Redis {
  refuseClosed(client)
  return {
    isCluster: true,
    space: '',
    keyPrefix: keyPrefixOf(client),
    isReady: () => client.isReady ?? client.isOpen,
    send: (key, command) =>
      client.sendCommand(key, false, command, { ...BUFFERS }).catch(async (error) => {
        await lookForServers(client)
        throw error
      }),
    // A message reaches the subscribers of all servers, whichever it was published on.
    async subscriber(events) {
      const servers = client.masters.filter((server) => server.client?.isReady !== false)
      return nodeRedisSubscriber(await client.nodeClient(oneOf(servers)), events)
    },
  }
}

/** Version 5 keeps to a server that has gone, unless another one says so: it does not hear of the replica that has taken over. */
async function lookForServers({ masters, _slots }: NodeRedisCluster): Promise<void> {
  const clients = masters.flatMap(({ client = [] }) => client)
  const ready = clients.find(({ isReady }) => isReady)
  if (ready && clients.some(({ isReady }) => !isReady)) await _slots?.rediscover?.(ready).catch(() => {})
}

function nodeRedisSentinel(client: NodeRedisSentinel): Redis {
  refuseClosed(client)
  return {
    isCluster: false,
    space: '',
    keyPrefix: keyPrefixOf(client),
    isReady: () => client.isReady,
    send: (_key, command) => client.sendCommand(false, command, { ...BUFFERS }),
    // Version 5 has no `duplicate` for Sentinel, and that of version 6 makes all of its connections once more.
    subscriber: async (events) => nodeRedisSubscriber(await client._execute(false, async (primary) => primary), events),
  }
}

function keyPrefixOf({ _keyPrefix = '' }: { readonly _keyPrefix?: string | Buffer }): string {
  return _keyPrefix.toString()
}

function refuseClosed({ isOpen }: { readonly isOpen: boolean }): void {
  if (!isOpen) refuse('one that is closed: `await client.connect()` first')
}

function nodeRedisSubscriber(client: NodeRedis, events: SubscriberEvents): RedisSubscriber {
  const subscriber = client.duplicate({
    socket: { ...client.options?.socket, reconnectStrategy: false, socketTimeout: undefined },
    clientSideCache: undefined,
  })
  subscriber.on('error', (error) => events.onEnd(error))
  subscriber.on('end', () => events.onEnd(undefined))
  let hasSocket = false
  let isClosed = false
  const destroy = () => {
    try {
      subscriber.destroy()
    } catch {
      // It is closed already.
    }
  }
  // Version 5 goes on with a connection that is destroyed before it is there, and cannot be told again.
  subscriber.on('connect', () => {
    hasSocket = true
    if (isClosed) destroy()
  })
  const onMessage: Listener = (message, channel) => events.onMessage(channel.toString(), message)
  return {
    connect: () => subscriber.connect(),
    subscribe: (channels) => subscriber.subscribe(channels, onMessage, true),
    unsubscribe: (channels) => subscriber.unsubscribe(channels, onMessage, true),
    close() {
      isClosed = true
      if (hasSocket) destroy()
    },
  }
}

// ioredis.

interface Ioredis {
  readonly status: string
  readonly mode?: string
  readonly isCluster?: boolean
  readonly options?: {
    readonly db?: number
    readonly keyPrefix?: string
    readonly scaleReads?: unknown
  }
  nodes?(role: 'master'): readonly Ioredis[]
  /** The command as a method, which does not take part in `enableAutoPipelining`. */
  createBuiltinCommand(name: string): { buffer(this: Ioredis, ...args: readonly Argument[]): Promise<unknown> }
  duplicate(options: object): IoredisDuplicate
}

interface IoredisDuplicate {
  connect(): Promise<unknown>
  disconnect(): void
  on(event: 'error' | 'end', listener: (error?: unknown) => void): unknown
  on(event: 'messageBuffer', listener: (channel: Buffer, message: Buffer) => void): unknown
  subscribe(...channels: string[]): Promise<unknown>
  unsubscribe(...channels: string[]): Promise<unknown>
}

function isIoredis(client: object): client is Ioredis {
  return 'status' in client && hasMethods(client, 'createBuiltinCommand', 'duplicate', 'subscribe')
}

function ioredis(client: Ioredis): Redis {
  if (client.status === 'wait' || client.status === 'end') refuse('one that is closed: `await client.connect()` first')
  if (client.mode !== undefined && client.mode !== 'normal')
    refuse('one that is subscribed: `client.duplicate()` is for that')
  const { isCluster = false, options: { db = 0, keyPrefix = '', scaleReads = 'master' } = {} } = client
  // A replica may not have yet what has been added, so that a follower would take the log for shorter than it is.
  if (isCluster && scaleReads !== 'master')
    refuse("a Cluster that reads from replicas: its scaleReads has to be 'master'")
  return {
    isCluster,
    space: spaceOf(isCluster ? 0 : db, keyPrefix),
    isReady: () => client.status === 'ready',
    // Neither collected with the app's commands, nor kept behind those: a pipeline that the client makes by itself for a
    // server that has gone is never over.
    send: (_key, [name, ...rest]) => client.createBuiltinCommand(`${name}`.toLowerCase()).buffer.apply(client, rest),
    subscriber: async (events) => ioredisSubscriber(isCluster ? oneOf(primariesOf(client)) : client, events),
  }
}

function primariesOf(client: Ioredis): readonly Ioredis[] {
  return (client.nodes?.('master') ?? []).filter(({ status }) => status === 'ready')
}

function ioredisSubscriber(client: Ioredis, events: SubscriberEvents): RedisSubscriber {
  const subscriber = client.duplicate({
    lazyConnect: true,
    retryStrategy: null,
    sentinelRetryStrategy: null,
    autoResubscribe: false,
    maxRetriesPerRequest: 0,
    keyPrefix: '',
    socketTimeout: undefined,
  })
  subscriber.on('error', (error) => events.onEnd(error))
  subscriber.on('end', () => events.onEnd(undefined))
  subscriber.on('messageBuffer', (channel, message) => events.onMessage(channel.toString(), message))
  return {
    connect: () => subscriber.connect(),
    subscribe: (channels) => subscriber.subscribe(...channels),
    unsubscribe: (channels) => subscriber.unsubscribe(...channels),
    close: () => subscriber.disconnect(),
  }
}

/** Channels are the same in all databases, and have no prefix. */
function spaceOf(database: number, keyPrefix: string): string {
  return database === 0 ? keyPrefix : `${database}@${keyPrefix}`
}

function oneOf<T>(servers: readonly T[]): T {
  const one = servers[Math.floor(Math.random() * servers.length)]
  if (one === undefined) throw new Error('Redis: no server of the cluster is connected')
  return one
}
