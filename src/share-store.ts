// What nodes that share one upstream stream have in common: for each key a log that one node at a time may append to,
// and a doorbell for those that follow it. The protocol is the nodes' (share/nodes); a store keeps bytes, and compares.

/**
 * A place in the log of a key. `fence` is the number of an ownership: each is higher than all before it. `seq` counts the
 * entries of that owner from 0 without a hole. All positions of a key are ordered by fence, then by seq.
 */
export interface Position {
  readonly fence: number
  readonly seq: number
}

/** What has been appended. Its bytes mean nothing to the store, and a position never gets other bytes than its first. */
export interface StoredEntry {
  readonly position: Position
  readonly bytes: Buffer
}

/** What a store knows of a key that has a log. */
export interface KeyState {
  /** The node that took the key last, whether it is alive or not. */
  readonly owner: string
  /** The oldest entry kept. */
  readonly first: Position
  /** The latest entry; its fence is the owner's. */
  readonly last: Position
}

/** A node makes a key its own. */
export interface Claim {
  readonly node: string
  /** The fence that is to be replaced, 0 where the key has no log. Refused where it is another one by now. */
  readonly replaces: number
  /** The bytes of the first entry (`seq` 0) of the new fence. */
  readonly head: Buffer
  /** See `Addition`. */
  readonly keepMs: number
}

/** What the owner adds. */
export interface Addition {
  /** The latest entry as the owner knows it. Refused where it is another one, so that the log has neither holes nor two owners. */
  readonly after: Position
  /** The entries to come, in order, each at the position behind the one before. */
  readonly entries: readonly StoredEntry[]
  /** All entries before this one are dropped. */
  readonly keepFrom: Position
  /** When all of the key is dropped, unless something is added again; 0 is at once. */
  readonly keepMs: number
}

/** What came of a claim or an addition. Where it was refused, nothing was changed and no message was sent. */
export type Added =
  | {
      readonly isRefused: false
      /** The fence of the entries added. */
      readonly fence: number
    }
  | {
      readonly isRefused: true
      /** How things stand; undefined where the key has no log (any more). */
      readonly state: KeyState | undefined
    }

/** A part of a log. */
export interface Page {
  /** From the position asked for on, without a hole, as many as fit. */
  readonly entries: readonly StoredEntry[]
  /** As it was when the page was read; undefined where the key has no log. */
  readonly state: KeyState | undefined
}

/** Who is told that there is something new. It may miss calls, and may get one twice; it checks positions, and does not throw. */
export interface Doorbell {
  /** These have been added, in this order. Called in the order of additions; only small ones are told in this way. */
  onEntries(entries: readonly StoredEntry[]): void
  /** Something has changed, or may have been missed: an addition too large to be told, a node that follows or has left, a connection made anew. */
  onChanged(): void
}

/**
 * The store of `share.store`. All nodes of one service use the same one. Keys are hashes that say nothing of what was asked
 * for or by whom; node and place names are made up by the proxy. Time is the store's own.
 *
 * Each call settles within a bound of the store's own (a few seconds): it rejects where the store cannot be reached, does
 * not answer, or answers what it should not. What was asked for may then have been done nevertheless, or may be done later.
 * No call waits for a connection that is to come.
 *
 * `storeTests` of `sse-proxy-middleware/store-tests` shows whether an implementation keeps to all this.
 */
export interface ShareStore {
  /** For how long a node counts as alive after a `beat`, which comes three times as often. */
  readonly leaseMs: number
  /** How often nodes compare their positions with those in the store. */
  readonly checkMs: number
  /** What nodes do that cannot reach the store: each reads an upstream of its own, or new clients are refused. */
  readonly onDown: 'alone' | 'refuse'
  /** Goes into the hashes, so that who can read the store cannot try out keys; '' for none. */
  readonly secret: string

  /**
   * Begins to use the store, and tells whether it can be used, at once where that is known, and at each change. "Up" is told
   * only when doorbells ring. Returns what ends it: after the last one the store closes what connections it has opened.
   */
  watch(onUp: (isUp: boolean) => void): () => void

  /**
   * This node is alive for so long; 0 is the end of it, and of its places and of what it follows. Tells whether it was
   * alive until now: where it should have been, the store may have lost what it knew of the others as well.
   */
  beat(node: string, forMs: number): Promise<boolean>
  /** Which of these nodes are alive, in the same order. One command, whatever their number. */
  areAlive(nodes: readonly string[]): Promise<readonly boolean[]>

  /**
   * In one step, unless the fence of the key is not `replaces`: makes the node its owner under a higher fence, higher than
   * the store's clock in milliseconds and than any fence that the key ever had; adds the head; rings.
   */
  take(key: string, claim: Claim): Promise<Added>
  /** In one step, unless the latest entry is not `after`: adds, drops what is before `keepFrom`, sets the expiry, rings. */
  append(key: string, addition: Addition): Promise<Added>
  /** How these keys stand, in the same order. One round trip. */
  look(keys: readonly string[]): Promise<readonly (KeyState | undefined)[]>
  /** The entries after this position (undefined: from the first on), of at most so many bytes, but one at least. */
  read(key: string, after: Position | undefined, maxBytes: number): Promise<Page>

  /**
   * Rings at each change of this key, from when the promise is fulfilled on, and counts the node among the followers of the
   * key. Returns what ends both, which rings for the others.
   */
  follow(key: string, node: string, doorbell: Doorbell): Promise<() => void>
  /** The nodes that follow this key and are alive. */
  followers(key: string): Promise<readonly string[]>

  /** Takes a place for a client, unless it has `max` of them; those of dead nodes do not count. */
  takePlace(client: string, node: string, place: string, max: number): Promise<boolean>
  /** Gives it back; one that is not taken is nothing to complain of. */
  freePlace(client: string, place: string): Promise<void>
}
