// A node of the store: its heartbeat, which other nodes are alive, whether the store is up, and the members, one a key.
// Looking costs nodes, not keys: one beat each third of a lease, one question as often (half as often at rest), one check of
// all keys each `checkMs`.

import type { KeyState, ShareStore } from '../../share-store.ts'

/** What a node takes from outside, so that a test may have the time and chance of its own. */
export interface NodeContext {
  readonly name: string
  readonly store: ShareStore
  /** Milliseconds that never go back. */
  readonly now: () => number
  /** Calls once after so long; returns what cancels that. */
  readonly after: (ms: number, callback: () => void) => () => void
  /** From 0 up to 1. */
  readonly chance: () => number
  /** Told of each change, and of what failed. */
  readonly onUp: (isUp: boolean, error: unknown) => void
}

/** What a node has of its members. */
interface NodeMember {
  readonly key: string
  /** The node that it depends on. */
  readonly owner: string | undefined
  wake(): void
  /** Returns whether that was news. */
  check(state: KeyState | undefined): boolean
}

// One look at the store is at so many keys.
const KEYS_A_LOOK = 500

export class StoreNode {
  readonly name: string
  readonly store: ShareStore
  readonly now: () => number
  readonly after: NodeContext['after']
  readonly chance: () => number
  /** How often a key was taken over from another owner, and how often a check found what no doorbell had told. */
  readonly counts = { takeovers: 0, checksFound: 0 }
  readonly #onUp: NodeContext['onUp']
  readonly #members = new Set<NodeMember>()
  // By key: its member, and behind that the one that comes after it.
  readonly #queues = new Map<string, NodeMember[]>()
  // Of each node that a member depends on: whether it was alive, and when that was seen.
  readonly #alive = new Map<string, { isAlive: boolean; at: number }>()
  // Calls under way, which fail when the store is found to be away: nothing waits for it.
  readonly #calls = new Set<(error: Error) => void>()
  // What the store says of itself, and whether the latest beat was answered.
  #isStoreUp: boolean | undefined
  #isAnswered = true
  #isBeating = false
  #hasBeat = false
  // When another node's entries came last, and whether the owners were asked for in the third of a lease before.
  #heardAt = Number.NEGATIVE_INFINITY
  #hasAsked = false
  // Not before then is a node taken for dead.
  #judgesFrom = Number.NEGATIVE_INFINITY
  #checkAt: number
  #cancelWait: () => void
  #cancelTick: (() => void) | undefined
  #unwatch: () => void = () => {}
  #isClosed = false

  constructor({ name, store, now, after, chance, onUp }: NodeContext) {
    this.name = name
    this.store = store
    this.now = now
    this.after = after
    this.chance = chance
    this.#onUp = onUp
    this.#checkAt = now() + store.checkMs
    this.#unwatch = store.watch((isUp) => this.#noteUp(() => (this.#isStoreUp = isUp), undefined))
    this.#cancelWait = after(store.leaseMs, () => this.#noteUp(() => (this.#isStoreUp ??= false), undefined))
    this.#tick()
  }

  /** Undefined until the store has said so, for a lease at most. */
  get isUp(): boolean | undefined {
    if (this.#isStoreUp === undefined) return this.#isClosed ? false : undefined
    return this.#isStoreUp && this.#isAnswered && !this.#isClosed
  }

  get onDown(): ShareStore['onDown'] {
    return this.store.onDown
  }

  get members(): ReadonlySet<NodeMember> {
    return this.#members
  }

  add(member: NodeMember): void {
    this.#members.add(member)
    this.#queues.set(member.key, [...(this.#queues.get(member.key) ?? []), member])
  }

  remove(member: NodeMember): void {
    this.#members.delete(member)
    const others = (this.#queues.get(member.key) ?? []).filter((other) => other !== member)
    if (others.length > 0) this.#queues.set(member.key, others)
    else this.#queues.delete(member.key)
    others[0]?.wake()
  }

  /** Whether an earlier member has still to say how its run of this key is over. */
  isWaiting(member: NodeMember): boolean {
    return this.#queues.get(member.key)?.[0] !== member
  }

  noteTaken(isTakeover: boolean): void {
    if (isTakeover) this.counts.takeovers++
  }

  /** Another node's entries have come. */
  noteHeard(): void {
    this.#heardAt = this.now()
  }

  /** Settles as the store's call does, or rejects as soon as the store is away. */
  call<Result>(promise: Promise<Result>): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#calls.add(reject)
      promise.then(resolve, reject).finally(() => this.#calls.delete(reject))
    })
  }

  /** A call has failed: whether the store is away shows the next beat. */
  suspect(error: unknown): void {
    void this.#beat(error)
  }

  /** Whether a node is dead, as of a third of a lease ago at most. */
  async isDead(name: string): Promise<boolean> {
    const known = this.#alive.get(name)
    if (known && this.now() - known.at < this.#tickMs) return !known.isAlive
    await this.#ask([name])
    return this.#alive.get(name)?.isAlive === false
  }

  /** Says goodbye; members are over by then, or left as they are. */
  async close(): Promise<void> {
    if (this.#isClosed) return
    const goodbye = this.isUp ? this.store.beat(this.name, 0).catch(() => {}) : undefined
    this.#isClosed = true
    this.#cancelTick?.()
    this.#cancelWait()
    await goodbye
    this.#unwatch()
    this.#failCalls(new Error('the node has closed'))
  }

  get #tickMs(): number {
    return this.store.leaseMs / 3
  }

  #tick(): void {
    if (this.#isClosed) return
    this.#cancelTick = this.after(this.#tickMs, () => this.#tick())
    void this.#beat(undefined)
    if (this.isUp) void this.#watchOwners().catch((error) => this.suspect(error))
  }

  async #beat(error: unknown): Promise<void> {
    if (this.#isBeating || this.#isClosed) return
    this.#isBeating = true
    try {
      const wasAlive = await this.store.beat(this.name, this.store.leaseMs)
      if (!wasAlive && this.#hasBeat) this.#spareOthers()
      this.#hasBeat = true
      this.#noteUp(() => (this.#isAnswered = true), undefined)
    } catch (failure) {
      this.#noteUp(() => (this.#isAnswered = false), error ?? failure)
    }
    this.#isBeating = false
  }

  async #watchOwners(): Promise<void> {
    const owners = new Set<string>()
    for (const { owner } of this.#members) if (owner !== undefined && owner !== this.name) owners.add(owner)
    for (const name of this.#alive.keys()) if (!owners.has(name)) this.#alive.delete(name)
    // The death of an owner that was silent for long is noticed a third of a lease later, so that rest costs less.
    const isAtRest = this.now() - this.#heardAt > 2 * this.store.leaseMs
    this.#hasAsked = owners.size > 0 && !(isAtRest && this.#hasAsked)
    if (this.#hasAsked) await this.#ask([...owners])
    for (const member of this.#members) {
      if (member.owner !== undefined && this.#alive.get(member.owner)?.isAlive === false) member.wake()
    }
    if (this.now() < this.#checkAt) return
    this.#checkAt = this.now() + this.store.checkMs
    await this.#check()
  }

  async #ask(names: readonly string[]): Promise<void> {
    const at = this.now()
    const [isAlive, ...answers] = await this.call(this.store.areAlive([this.name, ...names]))
    if (isAlive === false) this.#spareOthers()
    const judges = at >= this.#judgesFrom
    for (const [i, name] of names.entries()) this.#alive.set(name, { isAlive: !judges || answers[i] !== false, at })
  }

  /** The store does not know that this node lives, so it may not know it of others: each has its turn to say so again. */
  #spareOthers(): void {
    this.#judgesFrom = this.now() + 2 * this.#tickMs
    if (!this.#isBeating) void this.#beat(undefined)
  }

  /** Doorbells may be missed: each key's latest entry is compared with what its member has. */
  async #check(): Promise<void> {
    const members = [...this.#members]
    for (let from = 0; from < members.length; from += KEYS_A_LOOK) {
      const some = members.slice(from, from + KEYS_A_LOOK)
      const states = await this.call(this.store.look(some.map(({ key }) => key)))
      for (const [i, member] of some.entries()) if (member.check(states[i])) this.counts.checksFound++
    }
  }

  #noteUp(change: () => void, error: unknown): void {
    const wasUp = this.isUp
    change()
    if (this.isUp === wasUp || this.#isClosed) return
    if (!this.isUp) this.#failCalls(new Error('the store is away', { cause: error }))
    this.#onUp(this.isUp === true, error)
    for (const member of [...this.#members]) member.wake()
  }

  #failCalls(error: Error): void {
    for (const reject of [...this.#calls]) reject(error)
    this.#calls.clear()
  }
}
