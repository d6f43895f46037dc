// A store as one over a database would be: a call is one transaction, some way away, and a notification says that something
// has changed, with small entries in it. Two of them on one `Tables` are two nodes.
import { isAfter, samePosition } from '../../src/share/position.ts'
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
} from '../../src/share-store.ts'

interface Log {
  owner: string
  last: Position
  entries: StoredEntry[]
  until: number
}

interface Follower {
  readonly key: string
  readonly node: string
  readonly doorbell: Doorbell
}

// What a notification takes.
const TOLD_BYTES = 8000

/** What all nodes have in common. */
export class Tables {
  readonly logs = new Map<string, Log>()
  readonly fences = new Map<string, number>()
  readonly beats = new Map<string, number>()
  readonly places = new Map<string, Map<string, string>>()
  readonly followers = new Set<Follower>()
  /** The database's clock. */
  readonly now: () => number

  constructor(now: () => number = Date.now) {
    this.now = now
  }

  /** One after the other, in the order in which they were sent; the answer comes later still. */
  async transaction<Result>(work: () => Result): Promise<Result> {
    await turn()
    const result = work()
    await turn()
    return result
  }

  log(key: string): Log | undefined {
    const log = this.logs.get(key)
    return log && log.until > this.now() ? log : undefined
  }

  isAlive(node: string): boolean {
    return (this.beats.get(node) ?? 0) > this.now()
  }

  notify(key: string, tell: (doorbell: Doorbell) => void, but?: Follower): void {
    const told = [...this.followers].filter((follower) => follower.key === key && follower !== but)
    setImmediate(() => {
      for (const follower of told) if (this.followers.has(follower)) tell(follower.doorbell)
    })
  }
}

export class TableStore implements ShareStore {
  readonly leaseMs = 6000
  readonly checkMs = 30_000
  readonly onDown = 'alone'
  readonly secret = ''
  readonly #tables: Tables

  constructor(tables: Tables) {
    this.#tables = tables
  }

  watch(onUp: (isUp: boolean) => void): () => void {
    onUp(true)
    return () => {}
  }

  beat(node: string, forMs: number): Promise<boolean> {
    return this.#tables.transaction(() => {
      const wasAlive = this.#tables.isAlive(node)
      this.#tables.beats.set(node, this.#tables.now() + forMs)
      return wasAlive
    })
  }

  areAlive(nodes: readonly string[]): Promise<readonly boolean[]> {
    return this.#tables.transaction(() => nodes.map((node) => this.#tables.isAlive(node)))
  }

  take(key: string, { node, replaces, head, keepMs }: Claim): Promise<Added> {
    return this.#tables.transaction(() => {
      const log = this.#tables.log(key)
      if ((log?.last.fence ?? 0) !== replaces) return { isRefused: true, state: stateOf(log) }
      const fence = Math.max((this.#tables.fences.get(key) ?? 0) + 1, this.#tables.now())
      this.#tables.fences.set(key, fence)
      const entry = { position: { fence, seq: 0 }, bytes: head }
      const entries = [...(log?.entries ?? []), entry]
      this.#tables.logs.set(key, { owner: node, last: entry.position, entries, until: this.#tables.now() + keepMs })
      this.#ring(key, [entry])
      return { isRefused: false, fence }
    })
  }

  append(key: string, { after, entries, keepFrom, keepMs }: Addition): Promise<Added> {
    return this.#tables.transaction(() => {
      const log = this.#tables.log(key)
      const last = entries.at(-1)?.position
      if (!log || !last || !samePosition(log.last, after)) return { isRefused: true, state: stateOf(log) }
      log.entries = [...log.entries, ...entries].filter(
        ({ position }) => !isAfter(keepFrom, position) || position === last,
      )
      log.last = last
      log.until = this.#tables.now() + keepMs
      this.#ring(key, entries)
      return { isRefused: false, fence: last.fence }
    })
  }

  look(keys: readonly string[]): Promise<readonly (KeyState | undefined)[]> {
    return this.#tables.transaction(() => keys.map((key) => stateOf(this.#tables.log(key))))
  }

  read(key: string, after: Position | undefined, maxBytes: number): Promise<Page> {
    return this.#tables.transaction(() => {
      const log = this.#tables.log(key)
      let bytes = 0
      const entries = (log?.entries ?? [])
        .filter(({ position }) => !after || isAfter(position, after))
        .filter((entry, i) => {
          bytes += entry.bytes.length
          return bytes <= maxBytes || i === 0
        })
      return { entries, state: stateOf(log) }
    })
  }

  async follow(key: string, node: string, doorbell: Doorbell): Promise<() => void> {
    const follower = { key, node, doorbell }
    await this.#tables.transaction(() => {
      this.#tables.followers.add(follower)
      this.#tables.notify(key, (other) => other.onChanged(), follower)
    })
    return () => {
      if (!this.#tables.followers.delete(follower)) return
      this.#tables.notify(key, (other) => other.onChanged())
    }
  }

  followers(key: string): Promise<readonly string[]> {
    return this.#tables.transaction(() => {
      const nodes = [...this.#tables.followers].filter((follower) => follower.key === key).map(({ node }) => node)
      return [...new Set(nodes)].filter((node) => this.#tables.isAlive(node))
    })
  }

  takePlace(client: string, node: string, place: string, max: number): Promise<boolean> {
    return this.#tables.transaction(() => {
      const taken = [...(this.#tables.places.get(client) ?? [])].filter(([, owner]) => this.#tables.isAlive(owner))
      const isFree = taken.length < max
      this.#tables.places.set(client, new Map(isFree ? [...taken, [place, node]] : taken))
      return isFree
    })
  }

  freePlace(client: string, place: string): Promise<void> {
    return this.#tables.transaction(() => void this.#tables.places.get(client)?.delete(place))
  }

  #ring(key: string, entries: readonly StoredEntry[]): void {
    const isSmall = entries.reduce((sum, { bytes }) => sum + bytes.length, 0) <= TOLD_BYTES
    this.#tables.notify(key, (doorbell) => (isSmall ? doorbell.onEntries(entries) : doorbell.onChanged()))
  }
}

function stateOf(log: Log | undefined): KeyState | undefined {
  const first = log?.entries[0]
  return log && first && { owner: log.owner, first: first.position, last: log.last }
}

export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
