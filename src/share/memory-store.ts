// The store of one process: what nodes of the protocol have in common, in memory. With it the proxies of a process share
// their streams, and tests have nodes that need no server.

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
import { isAfter, samePosition } from './position.ts'

/** See `memoryStore`. */
export interface MemoryStoreOptions {
  /** @defaultValue 6000 */
  readonly leaseMs?: number
  /** @defaultValue 30000 */
  readonly checkMs?: number
}

/** A store for the proxies of this process; it ends with it. */
export function memoryStore(options: MemoryStoreOptions = {}): ShareStore {
  return new MemoryStore(options)
}

interface Log {
  owner: string
  readonly entries: StoredEntry[]
  last: Position
  /** When all of it is dropped, by the store's clock. */
  until: number
}

interface Followed {
  readonly node: string
  readonly doorbell: Doorbell
}

/** What `memoryStore` returns. */
export class MemoryStore implements ShareStore {
  readonly leaseMs: number
  readonly checkMs: number
  readonly onDown: ShareStore['onDown'] = 'alone'
  readonly secret = ''
  readonly #logs = new Map<string, Log>()
  // Until when each node counts as alive.
  readonly #nodes = new Map<string, number>()
  readonly #followed = new Map<string, Set<Followed>>()
  // By client: its places, and the node of each.
  readonly #places = new Map<string, Map<string, string>>()
  // The highest fence there ever was: no key gets one twice, although its log has gone.
  #fence = 0

  // Milliseconds since 1970, without jumps.
  readonly #now: () => number

  constructor({ leaseMs = 6000, checkMs = 30_000 }: MemoryStoreOptions, now: () => number = wallClock) {
    this.leaseMs = leaseMs
    this.checkMs = checkMs
    this.#now = now
  }

  watch(onUp: (isUp: boolean) => void): () => void {
    onUp(true)
    return () => {}
  }

  async beat(node: string, forMs: number): Promise<boolean> {
    const wasAlive = this.#isAlive(node)
    this.#forget()
    if (forMs > 0) this.#nodes.set(node, this.#now() + forMs)
    else this.#nodes.delete(node)
    return wasAlive
  }

  async areAlive(nodes: readonly string[]): Promise<readonly boolean[]> {
    return nodes.map((node) => this.#isAlive(node))
  }

  async take(key: string, { node, replaces, head, keepMs }: Claim): Promise<Added> {
    const log = this.#log(key)
    if ((log?.last.fence ?? 0) !== replaces) return { isRefused: true, state: stateOf(log) }
    this.#fence = Math.max(this.#fence + 1, Math.floor(this.#now()))
    const entry = { position: { fence: this.#fence, seq: 0 }, bytes: head }
    this.#logs.set(key, {
      owner: node,
      entries: [...(log?.entries ?? []), entry],
      last: entry.position,
      until: this.#now() + keepMs,
    })
    this.#ring(key, [entry])
    return { isRefused: false, fence: this.#fence }
  }

  async append(key: string, { after, entries, keepFrom, keepMs }: Addition): Promise<Added> {
    const log = this.#log(key)
    const last = entries.at(-1)?.position
    if (!log || !last || !samePosition(log.last, after)) return { isRefused: true, state: stateOf(log) }
    log.entries.push(...entries)
    log.last = last
    log.until = this.#now() + keepMs
    const dropped = log.entries.findIndex(({ position }) => !isAfter(keepFrom, position))
    log.entries.splice(0, dropped === -1 ? log.entries.length - 1 : dropped)
    if (keepMs <= 0) this.#logs.delete(key)
    this.#ring(key, entries)
    return { isRefused: false, fence: last.fence }
  }

  async look(keys: readonly string[]): Promise<readonly (KeyState | undefined)[]> {
    return keys.map((key) => stateOf(this.#log(key)))
  }

  async read(key: string, after: Position | undefined, maxBytes: number): Promise<Page> {
    const log = this.#log(key)
    const entries: StoredEntry[] = []
    let bytes = 0
    for (const entry of log?.entries ?? []) {
      if (after && !isAfter(entry.position, after)) continue
      bytes += entry.bytes.length
      if (bytes > maxBytes && entries.length > 0) break
      entries.push(entry)
    }
    return { entries, state: stateOf(log) }
  }

  async follow(key: string, node: string, doorbell: Doorbell): Promise<() => void> {
    const followed = this.#followed.get(key) ?? new Set()
    this.#followed.set(key, followed)
    const one = { node, doorbell }
    followed.add(one)
    this.#change(key, one)
    return () => {
      if (!followed.delete(one)) return
      if (followed.size === 0) this.#followed.delete(key)
      this.#change(key, one)
    }
  }

  async followers(key: string): Promise<readonly string[]> {
    const nodes = [...(this.#followed.get(key) ?? [])].map(({ node }) => node)
    return [...new Set(nodes)].filter((node) => this.#isAlive(node))
  }

  async takePlace(client: string, node: string, place: string, max: number): Promise<boolean> {
    const places = this.#places.get(client) ?? new Map<string, string>()
    for (const [taken, owner] of places) if (!this.#isAlive(owner)) places.delete(taken)
    if (!places.has(place) && places.size >= max) return false
    this.#places.set(client, places.set(place, node))
    return true
  }

  async freePlace(client: string, place: string): Promise<void> {
    const places = this.#places.get(client)
    places?.delete(place)
    if (places?.size === 0) this.#places.delete(client)
  }

  #isAlive(node: string): boolean {
    return (this.#nodes.get(node) ?? 0) > this.#now()
  }

  /** The log of a key that is still kept. */
  #log(key: string): Log | undefined {
    const log = this.#logs.get(key)
    if (!log || log.until > this.#now()) return log
    this.#logs.delete(key)
    return undefined
  }

  /** Drops what has expired and is not asked for any more. */
  #forget(): void {
    for (const key of this.#logs.keys()) this.#log(key)
    for (const node of this.#nodes.keys()) if (!this.#isAlive(node)) this.#nodes.delete(node)
    for (const [client, places] of this.#places) {
      for (const [place, node] of places) if (!this.#isAlive(node)) void this.freePlace(client, place)
    }
  }

  /** Doorbells are called in a turn of their own, in the order of what they tell. */
  #ring(key: string, entries: readonly StoredEntry[]): void {
    const followed = [...(this.#followed.get(key) ?? [])]
    queueMicrotask(() => {
      for (const { doorbell } of followed) doorbell.onEntries(entries)
    })
  }

  #change(key: string, but: Followed): void {
    const others = [...(this.#followed.get(key) ?? [])].filter((one) => one !== but)
    queueMicrotask(() => {
      for (const { doorbell } of others) doorbell.onChanged()
    })
  }
}

function wallClock(): number {
  return performance.timeOrigin + performance.now()
}

function stateOf(log: Log | undefined): KeyState | undefined {
  const first = log?.entries[0]
  return log && first && { owner: log.owner, first: first.position, last: log.last }
}
