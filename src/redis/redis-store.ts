// The entry point `sse-proxy-middleware/redis`: shared streams of any number of nodes, by way of Redis Streams. Everything
// of a key has one hash tag: its log, its owner, its channel. What nodes have of their own has another one.

import { createHmac, randomBytes } from 'node:crypto'
import { group, integer, MAX_MS, oneOf, refuseUnseen, text } from '../options/check.ts'
import { isAfter, isNext } from '../share/position.ts'
import type {
  Added,
  Addition,
  Claim,
  Doorbell,
  KeyState,
  Page,
  Position,
  ShareStore,
  StoredEntry,
} from '../share-store.ts'
import { Connection } from './connection.ts'
import {
  addedOf,
  additionArguments,
  claimArguments,
  entriesOf,
  LOG_SCRIPT,
  stateOf,
  toldEntries,
} from './log-script.ts'
import { Members } from './members.ts'
import { Places } from './places.ts'
import { type Redis, type RedisClient, redisOf } from './redis-client.ts'
import { idOf, listOf, numberOf, textOrNone } from './replies.ts'
import { Subscriber } from './subscriber.ts'

export type { RedisClient } from './redis-client.ts'

/** What `redisStore` takes. */
export interface RedisStoreOptions {
  /**
   * A client of `redis` or `ioredis`, version 5 or 6: one server, Sentinel or Cluster, connected. It is used for commands
   * beside what the app does with it; the store makes one more connection, for messages, and closes that itself.
   */
  readonly client: RedisClient
  /**
   * In front of all names in Redis. Proxies with the same one, and the same `name`, share their streams.
   * @defaultValue 'sse-proxy:'
   */
  readonly prefix?: string | undefined
  /**
   * Goes into the hashes that stand for keys, so that who can read Redis cannot find out a key by trying. All nodes need
   * the same one.
   * @defaultValue ''
   */
  readonly secret?: string | undefined
  /**
   * How long after its last sign of life a node is taken for dead, and another one opens the streams that it had. ms.
   * @defaultValue 6000
   */
  readonly leaseMs?: number | undefined
  /**
   * How often a node compares what it has with what is in Redis, in case a message was lost. ms.
   * @defaultValue 30000
   */
  readonly checkMs?: number | undefined
  /**
   * While Redis is away: 'alone' lets each node open an upstream of its own, 'refuse' answers new clients with 503.
   * @defaultValue 'alone'
   */
  readonly onDown?: 'alone' | 'refuse' | undefined
}

const OPTIONS = ['client', 'prefix', 'secret', 'leaseMs', 'checkMs', 'onDown']
const MIN_MS = 100

/**
 * A store for `share.store` in Redis 6.2 or newer, or Valkey. It holds the events themselves, for as long as `share.replay`
 * and `share.keepEndedMs` say; keys and clients are hashes.
 * @throws ConfigError where an option is wrong or the client is not connected
 */
export function redisStore(options: RedisStoreOptions): ShareStore {
  const given = group('redisStore', options, OPTIONS)
  const prefix = text('redisStore.prefix', given.prefix ?? 'sse-proxy:', /^[^\s{}]{0,100}$/, 'a text without { and }')
  const secret = given.secret ?? ''
  if (typeof secret !== 'string') return refuseUnseen('redisStore.secret', 'a string', secret)
  const redis = redisOf(given.client)
  return new RedisStore(redis, {
    prefix: `${redis.keyPrefix ?? ''}${prefix}`,
    secret,
    leaseMs: integer('redisStore.leaseMs', given.leaseMs ?? 6000, MIN_MS, MAX_MS),
    checkMs: integer('redisStore.checkMs', given.checkMs ?? 30_000, MIN_MS, MAX_MS),
    onDown: oneOf('redisStore.onDown', given.onDown ?? 'alone', ['alone', 'refuse']),
  })
}

type RedisStorePolicy = Pick<ShareStore, 'leaseMs' | 'checkMs' | 'onDown' | 'secret'> & { readonly prefix: string }

/** A stream of a node that follows a key. */
interface Follower {
  readonly key: string
  readonly node: string
  readonly doorbell: Doorbell
}

// The first part of a page: large entries are more than was asked for by then. Of the second, so many at most.
const FIRST_ENTRIES = 16
const MAX_ENTRIES = 2000

// So often a log is read that changes under the reader's hands.
const MAX_READS = 3

class RedisStore implements ShareStore {
  readonly leaseMs: number
  readonly checkMs: number
  readonly onDown: 'alone' | 'refuse'
  readonly secret: string
  readonly #prefix: string
  readonly #redis: Redis
  readonly #connection: Connection
  readonly #subscriber: Subscriber
  readonly #members: Members
  readonly #places: Places
  readonly #watchers = new Set<{ onUp(isUp: boolean): void }>()
  // Undefined until it is known.
  #isUp: boolean | undefined
  // By channel.
  readonly #followers = new Map<string, Set<Follower>>()
  // What this store publishes where a node follows or leaves: its own have been told already.
  readonly #ring = Buffer.from(randomBytes(9).toString('base64url'))

  constructor(redis: Redis, { prefix, secret, leaseMs, checkMs, onDown }: RedisStorePolicy) {
    this.leaseMs = leaseMs
    this.checkMs = checkMs
    this.onDown = onDown
    this.secret = secret
    this.#prefix = prefix
    this.#redis = redis
    this.#connection = new Connection(redis, () => this.#subscriber.suspect())
    this.#places = new Places(this.#connection, (nodes) => this.#members.areAlive(nodes))
    this.#members = new Members(this.#connection, `${prefix}{nodes}`, (node) => this.#places.lost(node))
    const owner = {
      probe: (channel: string, probe: string, writes: boolean) => this.#probe(channel, probe, writes),
      onMessage: (channel: string, message: Buffer) => this.#onMessage(channel, message),
      onUp: (isUp: boolean) => this.#onUp(isUp),
    }
    const channel = `${redis.space}${prefix}{nodes}:probe:${this.#ring}`
    this.#subscriber = new Subscriber(redis, owner, channel, Math.min(leaseMs, checkMs))
  }

  watch(onUp: (isUp: boolean) => void): () => void {
    const watcher = { onUp }
    this.#watchers.add(watcher)
    if (this.#isUp !== undefined) onUp(this.#isUp)
    this.#subscriber.start()
    return () => {
      if (!this.#watchers.delete(watcher) || this.#watchers.size > 0) return
      this.#subscriber.stop()
      this.#isUp = undefined
    }
  }

  async beat(node: string, forMs: number): Promise<boolean> {
    if (forMs <= 0) {
      const [wasAlive] = await Promise.all([this.#members.end(node), this.#places.end(node)])
      return wasAlive
    }
    const wasAlive = await this.#members.beat(node, forMs)
    void this.#places.tend()
    return wasAlive
  }

  areAlive(nodes: readonly string[]): Promise<readonly boolean[]> {
    return this.#members.areAlive(nodes)
  }

  async take(key: string, claim: Claim): Promise<Added> {
    return await this.#change(key, claimArguments(claim, this.#channel(key)))
  }

  async append(key: string, addition: Addition): Promise<Added> {
    return await this.#change(key, additionArguments(addition, this.#channel(key)))
  }

  async look(keys: readonly string[]): Promise<readonly (KeyState | undefined)[]> {
    if (this.#redis.isCluster) return await Promise.all(keys.map((key) => this.#state(key)))
    if (keys.length === 0) return []
    const names = keys.map((key) => this.#owned(key))
    const states = listOf(await this.#connection.send('', 'MGET', ...names), names.length)
    return states.map((state) => stateOf(textOrNone(state)))
  }

  async read(key: string, after: Position | undefined, maxBytes: number): Promise<Page> {
    for (let reads = 1; ; reads++) {
      const [state, entries] = await Promise.all([this.#state(key), this.#entries(key, after, maxBytes)])
      if (!state) return { entries: [], state }
      // What has come since the state was read is for the next page.
      const known = entries.filter(({ position }) => !isAfter(position, state.last))
      const first = known[0]?.position
      if (first) {
        // What has been dropped since then.
        const isCut = isAfter(first, state.first) && (!after || isAfter(state.first, after))
        return { entries: known, state: isCut ? { ...state, first } : state }
      }
      if (after && !isAfter(state.last, after)) return { entries: [], state }
      // The log has gone since then; or Redis has dropped it to make room, and its state has stayed.
      if (reads === MAX_READS) return await this.#withoutLog(key)
    }
  }

  /** @throws Error where there is one, with less than its state says: no node could read it to its end, or take the key */
  async #withoutLog(key: string): Promise<Page> {
    const logs = numberOf(await this.#send('EXISTS', this.#log(key)))
    if (logs > 0) throw new Error('Redis: the log of a key is not what its state says')
    return { entries: [], state: undefined }
  }

  async follow(key: string, node: string, doorbell: Doorbell): Promise<() => void> {
    const channel = this.#channel(key)
    const follower = { key, node, doorbell }
    this.#followers.set(channel, (this.#followers.get(channel) ?? new Set()).add(follower))
    try {
      await this.#subscriber.subscribe(channel)
    } catch (error) {
      this.#forget(channel, follower)
      throw error
    }
    try {
      await this.#members.follow(node, key)
    } catch (error) {
      this.#unfollow(channel, follower)
      throw error
    }
    this.#tellOthers(channel, follower)
    return () => this.#unfollow(channel, follower)
  }

  followers(key: string): Promise<readonly string[]> {
    return this.#members.followers(key)
  }

  takePlace(client: string, node: string, place: string, max: number): Promise<boolean> {
    return this.#places.take(this.#client(client), node, place, max)
  }

  freePlace(client: string, place: string): Promise<void> {
    return this.#places.free(this.#client(client), place)
  }

  // Names.

  #log(key: string): string {
    return `${this.#prefix}{${key}}:log`
  }

  #owned(key: string): string {
    return `${this.#prefix}{${key}}:owner`
  }

  #channel(key: string): string {
    return `${this.#redis.space}${this.#prefix}{${key}}`
  }

  #client(client: string): string {
    const hash = createHmac('sha256', this.secret).update(client).digest('base64url')
    return `${this.#prefix}{${hash}}:places`
  }

  // The log.

  async #change(key: string, args: readonly (string | Buffer)[]): Promise<Added> {
    const keys = [this.#log(key), this.#owned(key), `${this.#prefix}{${key}}:fence`]
    return addedOf(await this.#connection.add(LOG_SCRIPT, keys, args))
  }

  async #state(key: string): Promise<KeyState | undefined> {
    return stateOf(textOrNone(await this.#send('GET', this.#owned(key))))
  }

  /** A count is all that Redis takes for a bound: the first entries show how large they are. */
  async #entries(key: string, after: Position | undefined, maxBytes: number): Promise<StoredEntry[]> {
    const entries = await this.#range(key, after, FIRST_ENTRIES)
    const last = entries.at(-1)?.position
    const bytes = sizeOf(entries)
    if (last && entries.length === FIRST_ENTRIES && bytes < maxBytes) {
      const fitting = Math.floor(((maxBytes - bytes) * FIRST_ENTRIES) / Math.max(bytes, 1))
      const more = await this.#range(key, last, Math.max(Math.min(fitting, MAX_ENTRIES), 1))
      if (more[0] && isNext(more[0].position, last)) entries.push(...more)
    }
    return within(entries, maxBytes)
  }

  async #range(key: string, after: Position | undefined, count: number): Promise<StoredEntry[]> {
    const from = after ? `(${idOf(after)}` : '-'
    return entriesOf(await this.#send('XRANGE', this.#log(key), from, '+', 'COUNT', `${count}`))
  }

  /** A command whose first argument is the name of a key. */
  #send(command: string, name: string, ...args: readonly string[]): Promise<unknown> {
    return this.#connection.send(name, command, name, ...args)
  }

  // Doorbells.

  async #probe(channel: string, probe: string, writes: boolean): Promise<void> {
    // A replica, or a server without memory left, publishes but writes nothing.
    const written = writes && this.#send('SET', `${this.#prefix}{nodes}:probe`, probe, 'PX', '1')
    await Promise.all([written, this.#send('PUBLISH', channel, probe)])
  }

  #onUp(isUp: boolean): void {
    if (isUp === this.#isUp) return
    this.#isUp = isUp
    for (const { onUp } of [...this.#watchers]) onUp(isUp)
    // Nothing was heard while there was no connection.
    if (isUp) for (const followers of [...this.#followers.values()]) ring(followers)
  }

  #onMessage(channel: string, message: Buffer): void {
    const followers = this.#followers.get(channel)
    if (!followers || message.equals(this.#ring)) return
    const entries = toldOr(message, [])
    if (entries.length === 0) ring(followers)
    else for (const { doorbell } of [...followers]) doorbell.onEntries(entries)
  }

  #unfollow(channel: string, follower: Follower): void {
    if (!this.#forget(channel, follower)) return
    void this.#members.unfollow(follower.node, follower.key).then(() => this.#tellOthers(channel, follower))
  }

  /** Returns whether it was there. */
  #forget(channel: string, follower: Follower): boolean {
    const followers = this.#followers.get(channel)
    if (!followers?.delete(follower)) return false
    if (followers.size === 0) {
      this.#followers.delete(channel)
      this.#subscriber.unsubscribe(channel)
    }
    return true
  }

  #tellOthers(channel: string, follower: Follower): void {
    ring(this.#followers.get(channel) ?? [], follower)
    // Who does not hear of it looks from time to time.
    this.#connection.send(channel, 'PUBLISH', channel, this.#ring).catch(() => {})
  }
}

function ring(followers: Iterable<Follower>, but?: Follower): void {
  for (const follower of [...followers]) if (follower !== but) follower.doorbell.onChanged()
}

/** Who can publish to Redis can publish anything. */
function toldOr(message: Buffer, orElse: StoredEntry[]): StoredEntry[] {
  try {
    return toldEntries(message)
  } catch {
    return orElse
  }
}

function sizeOf(entries: readonly StoredEntry[]): number {
  return entries.reduce((sum, { bytes }) => sum + bytes.length, 0)
}

/** As many as fit, but one at least. */
function within(entries: readonly StoredEntry[], maxBytes: number): StoredEntry[] {
  let bytes = 0
  const cut = entries.findIndex((entry, i) => {
    bytes += entry.bytes.length
    return bytes > maxBytes && i > 0
  })
  return cut === -1 ? [...entries] : entries.slice(0, cut)
}
