// What the tests of a store do with one, in short, and how they wait for what happens elsewhere.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import type { Doorbell, KeyState, Position, ShareStore, StoredEntry } from '../share-store.ts'

export const KEEP_MS: number = 60_000
const WAIT_MS = 5000
export const PAGE_BYTES: number = 1_048_576

/** A test of a store; nodes have `one` and `two` of it. */
export type Check = (
  name: string,
  run: (stores: { readonly one: ShareStore; readonly two: ShareStore }) => Promise<void>,
) => void

/** Keeps what it hears. */
export class Bell implements Doorbell {
  readonly texts: string[] = []
  changes = 0
  rings = 0

  onEntries(entries: readonly StoredEntry[]): void {
    this.rings++
    this.texts.push(...entries.map(({ bytes }) => bytes.toString()))
  }

  onChanged(): void {
    this.rings++
    this.changes++
  }

  heard(entries: number): Promise<void> {
    return until(() => this.texts.length >= entries, `${entries} entries to be told, ${this.texts.length} were`)
  }
}

export function fresh(kind: string): string {
  return `${kind}-${randomBytes(8).toString('hex')}`
}

export async function untilUp(store: ShareStore): Promise<() => void> {
  let isUp = false
  const unwatch = store.watch((now) => {
    isUp = now
  })
  await until(() => isUp, 'the store to be up')
  return unwatch
}

export function take(store: ShareStore, key: string, node: string, replaces: number): ReturnType<ShareStore['take']> {
  return store.take(key, { node, replaces, head: Buffer.from(`head of ${node}`), keepMs: KEEP_MS })
}

export async function taken(store: ShareStore, key: string, node: string, replaces: number): Promise<number> {
  const claim = await take(store, key, node, replaces)
  assert.ok(!claim.isRefused, `${node} should have got the key`)
  return claim.fence
}

export function append(
  store: ShareStore,
  key: string,
  behind: Position,
  contents: readonly string[],
  { keepFrom = { fence: 1, seq: 0 }, keepMs = KEEP_MS }: { keepFrom?: Position; keepMs?: number } = {},
): ReturnType<ShareStore['append']> {
  const entries = contents.map((text, i) => ({
    position: { fence: behind.fence, seq: behind.seq + 1 + i },
    bytes: Buffer.from(text),
  }))
  return store.append(key, { after: behind, entries, keepFrom, keepMs })
}

export async function appended(...args: Parameters<typeof append>): Promise<void> {
  assert.equal((await append(...args)).isRefused, false, 'the addition should not have been refused')
}

export async function stateOf(store: ShareStore, key: string): Promise<KeyState | undefined> {
  return (await store.look([key]))[0]
}

export async function all(store: ShareStore, key: string, behind?: Position): Promise<StoredEntry[]> {
  const entries: StoredEntry[] = []
  for (let from = behind; ; from = entries.at(-1)?.position) {
    const page = await store.read(key, from, PAGE_BYTES)
    entries.push(...page.entries)
    if (page.entries.length === 0) return entries
  }
}

export async function texts(store: ShareStore, key: string, behind?: Position): Promise<string[]> {
  return (await all(store, key, behind)).map(({ bytes }) => bytes.toString())
}

export function until(isSo: () => boolean, what: string): Promise<void> {
  return untilAsync(async () => isSo(), what)
}

/** Asks again and again: what is waited for happens elsewhere. */
export async function untilAsync(isSo: () => Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + WAIT_MS
  while (!(await isSo())) {
    assert.ok(performance.now() < deadline, `waited ${WAIT_MS} ms for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
