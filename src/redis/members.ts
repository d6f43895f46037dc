// The nodes of a store: a heartbeat each, which expires, and the keys that it follows, so that what is asked at rest does not
// grow with the number of keys. All of it is on one server of a cluster.

import type { Connection } from './connection.ts'
import { wholeMs } from './log-script.ts'
import { listOf, numberOf, textOf, textOrNone } from './replies.ts'

// What a node says of itself is dropped when it has not been said again for so long. Whether it is alive its heartbeat tells.
const FORGET_MS = 3_600_000
// It says so again each time: a server that has dropped it to make room has it back then.
const REGISTER_MS = 120_000

// Keys in one command.
const BATCH = 1000

/** What this process knows of a node of its own. */
interface Member {
  /** By key, how many streams of the node follow it. */
  readonly follows: Map<string, number>
  /** Whether Redis may have other keys for it. */
  isStale: boolean
  /** When the node said last that it is there; undefined where Redis may not have it. */
  registeredAt: number | undefined
}

/** Who follows keys. */
interface Question {
  readonly keys: Set<string>
  readonly answer: Promise<ReadonlyMap<string, readonly string[]>>
}

export class Members {
  readonly #connection: Connection
  readonly #prefix: string
  readonly #onForgotten: (node: string) => void
  readonly #members = new Map<string, Member>()
  // Keys whose followers are asked for in this turn, and what comes of it.
  #question: Question | undefined

  /**
   * @param prefix of the names, with the hash tag
   * @param onForgotten told of a node that Redis did not have
   */
  constructor(connection: Connection, prefix: string, onForgotten: (node: string) => void) {
    this.#connection = connection
    this.#onForgotten = onForgotten
    this.#prefix = prefix
  }

  /** Returns whether Redis had a heartbeat of the node. */
  async beat(node: string, forMs: number): Promise<boolean> {
    const member = this.#member(node)
    const before = await this.#send('SET', this.#heartbeat(node), '1', 'PX', wholeMs(forMs), 'GET')
    const isNew = textOrNone(before) === undefined
    // One that was away, or a server that has lost its data: it is said again what it follows.
    if (isNew) {
      member.isStale = true
      member.registeredAt = undefined
      this.#onForgotten(node)
    }
    if (member.isStale) await this.#write(node, member)
    const { registeredAt = Number.NEGATIVE_INFINITY } = member
    if (performance.now() - registeredAt >= REGISTER_MS) await this.#register(node, member)
    return !isNew
  }

  /** Returns the same. */
  async end(node: string): Promise<boolean> {
    this.#members.delete(node)
    const [ended] = await Promise.all([
      this.#send('UNLINK', this.#heartbeat(node)),
      this.#send('UNLINK', this.#follows(node)),
      this.#send('ZREM', this.#registry, node),
    ])
    return numberOf(ended) === 1
  }

  async areAlive(nodes: readonly string[]): Promise<boolean[]> {
    if (nodes.length === 0) return []
    const beats = listOf(await this.#send('MGET', ...nodes.map((node) => this.#heartbeat(node))), nodes.length)
    return beats.map((beat) => textOrNone(beat) !== undefined)
  }

  async follow(node: string, key: string): Promise<void> {
    const { follows } = this.#member(node)
    const count = follows.get(key) ?? 0
    follows.set(key, count + 1)
    if (count > 0) return
    await Promise.all([
      this.#send('SADD', this.#follows(node), key),
      this.#send('PEXPIRE', this.#follows(node), `${FORGET_MS}`),
    ])
  }

  /** Where Redis cannot be told it is said with the next beat. */
  async unfollow(node: string, key: string): Promise<void> {
    const member = this.#members.get(node)
    const count = member?.follows.get(key) ?? 0
    if (!member || count === 0) return
    if (count > 1) {
      member.follows.set(key, count - 1)
      return
    }
    member.follows.delete(key)
    try {
      await this.#send('SREM', this.#follows(node), key)
    } catch {
      member.isStale = true
    }
  }

  /** The nodes that are alive and follow the key. For all keys of one turn that is asked together: it costs nodes, not keys. */
  async followers(key: string): Promise<readonly string[]> {
    this.#question ??= this.#ask()
    const { keys, answer } = this.#question
    keys.add(key)
    return (await answer).get(key) ?? []
  }

  #ask(): Question {
    const keys = new Set<string>()
    const answer = Promise.resolve().then(() => {
      this.#question = undefined
      return this.#followersOf([...keys])
    })
    return { keys, answer }
  }

  async #followersOf(keys: readonly string[]): Promise<ReadonlyMap<string, string[]>> {
    const nodes = listOf(await this.#send('ZRANGE', this.#registry, '0', '-1')).map(textOf)
    const [areAlive, ...follow] = await Promise.all([
      this.areAlive(nodes),
      ...nodes.map((node) => this.#areFollowed(node, keys)),
    ])
    const following = (key: number) => nodes.filter((_node, i) => areAlive[i] && follow[i]?.[key])
    return new Map(keys.map((key, i) => [key, following(i)]))
  }

  async #areFollowed(node: string, keys: readonly string[]): Promise<boolean[]> {
    const replies: unknown[] = []
    for (let i = 0; i < keys.length; i += BATCH) {
      const some = keys.slice(i, i + BATCH)
      replies.push(...listOf(await this.#send('SMISMEMBER', this.#follows(node), ...some), some.length))
    }
    return replies.map((reply) => numberOf(reply) === 1)
  }

  #member(node: string): Member {
    const member = this.#members.get(node) ?? { follows: new Map(), isStale: false, registeredAt: undefined }
    this.#members.set(node, member)
    return member
  }

  async #write(node: string, member: Member): Promise<void> {
    const keys = [...member.follows.keys()]
    const name = this.#follows(node)
    const sent = [this.#send('UNLINK', name)]
    for (let i = 0; i < keys.length; i += BATCH) sent.push(this.#send('SADD', name, ...keys.slice(i, i + BATCH)))
    // Before the answers: what changes meanwhile is sent after these.
    member.isStale = false
    try {
      await Promise.all(sent)
    } catch (error) {
      member.isStale = true
      throw error
    }
  }

  /** Time is that of Redis: the clocks of nodes may be wrong by days. */
  async #register(node: string, member: Member): Promise<void> {
    const [seconds] = listOf(await this.#send('TIME'), 2)
    const now = numberOf(seconds)
    await Promise.all([
      this.#send('ZADD', this.#registry, `${now}`, node),
      this.#send('ZREMRANGEBYSCORE', this.#registry, '-inf', `${now - FORGET_MS / 1000}`),
      this.#send('PEXPIRE', this.#registry, `${FORGET_MS}`),
      this.#send('PEXPIRE', this.#follows(node), `${FORGET_MS}`),
    ])
    member.registeredAt = performance.now()
  }

  #send(...command: readonly string[]): Promise<unknown> {
    return this.#connection.send(this.#prefix, ...command)
  }

  get #registry(): string {
    return `${this.#prefix}:all`
  }

  #heartbeat(node: string): string {
    return `${this.#prefix}:beat:${node}`
  }

  #follows(node: string): string {
    return `${this.#prefix}:follows:${node}`
  }
}
