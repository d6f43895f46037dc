// A store under test: whether it is up, what rings, and the calls that most tests make.
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { type RedisStoreOptions, redisStore } from '../../src/redis/redis-store.ts'
import type { Added, Doorbell, Position, ShareStore, StoredEntry } from '../../src/share-store.ts'
import type { ConnectedClient } from './redis-clients.ts'
import { until } from './waiting.ts'

export const KEEP_MS = 60_000

/** A store that knows whether it is up. */
export type WatchedStore = ShareStore & { readonly isUp: boolean | undefined }

export async function storeOf(
  t: TestContext,
  { client, close }: ConnectedClient,
  options: Partial<RedisStoreOptions> = {},
): Promise<WatchedStore> {
  const store = redisStore({ ...options, client })
  let isUp: boolean | undefined
  const unwatch = store.watch((now) => {
    isUp = now
  })
  t.after(async () => {
    unwatch()
    await close()
  })
  const watched = Object.defineProperty(store, 'isUp', { get: () => isUp }) as WatchedStore
  await until(() => watched.isUp === true, 'the store to be up')
  return watched
}

export class Bell implements Doorbell {
  readonly entries: StoredEntry[] = []
  changes = 0

  onEntries(entries: readonly StoredEntry[]): void {
    this.entries.push(...entries)
  }

  onChanged(): void {
    this.changes++
  }
}

export async function taken(store: ShareStore, key: string, replaces = 0): Promise<number> {
  const claim = await store.take(key, { node: 'a', replaces, head: Buffer.from('head'), keepMs: KEEP_MS })
  assert.ok(!claim.isRefused)
  return claim.fence
}

/** Adds an entry for each text. */
export function append(
  store: ShareStore,
  key: string,
  after: Position,
  texts: string | readonly string[],
  keepMs: number = KEEP_MS,
): Promise<Added> {
  const entries = [texts].flat().map((text, i) => ({
    position: { fence: after.fence, seq: after.seq + 1 + i },
    bytes: Buffer.from(text),
  }))
  return store.append(key, { after, entries, keepFrom: { fence: 1, seq: 0 }, keepMs })
}
