// The entry point `sse-proxy-middleware/store-tests`: what a store for `share.store` has to keep to, as tests for node:test.
// It asks for what the protocol of the nodes relies on, and for nothing else.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, describe, test } from 'node:test'
import type { Doorbell, KeyState, Position, ShareStore, StoredEntry } from './share-store.ts'

/** What is tested. */
export interface StoreUnderTest {
  /** The stores of two nodes on one engine, each with connections of its own; one store twice where there is but one process. */
  readonly stores: readonly [ShareStore, ShareStore]
  /** Gives back what the test has taken. */
  close?(): void | Promise<void>
}

const KEEP_MS = 60_000
const WAIT_MS = 5000
const PAGE_BYTES = 1_048_576

/**
 * Registers the tests of a store under this name. Names of keys, nodes and places are new ones for each run, so that what
 * an engine holds already does not matter.
 */
export function storeTests(name: string, create: () => StoreUnderTest | Promise<StoreUnderTest>): void {
  describe(name, () => {
    let given: StoreUnderTest
    let one: ShareStore
    let two: ShareStore
    const unwatched: (() => void)[] = []

    before(async () => {
      given = await create()
      ;[one, two] = given.stores
      for (const store of new Set(given.stores)) unwatched.push(await untilUp(store))
    })

    after(async () => {
      for (const unwatch of unwatched) unwatch()
      await given.close?.()
    })

    test('a key that nobody has taken has no state, no entries and no followers', async () => {
      const key = fresh('key')

      assert.deepEqual(await one.look([key]), [undefined])
      assert.deepEqual(await one.read(key, undefined, PAGE_BYTES), { entries: [], state: undefined })
      assert.deepEqual(await one.followers(key), [])
    })

    test('a key belongs to the node that takes it, as the other node sees too', async () => {
      const key = fresh('key')

      const fence = await taken(one, key, 'a', 0)

      const head = { fence, seq: 0 }
      assert.ok(Number.isSafeInteger(fence) && fence > 0, `${fence}`)
      assert.deepEqual(await two.look([key]), [{ owner: 'a', first: head, last: head }])
      assert.deepEqual(await texts(two, key), ['head of a'])
    })

    test('of two nodes that take a key at the same time one gets it, and the other learns which', async () => {
      for (let round = 0; round < 20; round++) {
        const key = fresh('key')

        const claims = await Promise.all([one, two].map((store, i) => take(store, key, `${i}`, 0)))

        const refused = claims.filter(({ isRefused }) => isRefused)
        assert.equal(refused.length, 1)
        const winner = claims[0]?.isRefused ? '1' : '0'
        assert.equal(refused[0]?.isRefused && refused[0].state?.owner, winner)
        assert.deepEqual(await texts(one, key), [`head of ${winner}`])
      }
    })

    test('a claim that would replace another fence than the present one changes nothing', async () => {
      const key = fresh('key')
      const fence = await taken(one, key, 'a', 0)

      const claims = [
        await take(two, key, 'b', 0),
        await take(two, key, 'b', fence - 1),
        await take(two, key, 'b', fence + 1),
      ]

      assert.ok(claims.every(({ isRefused }) => isRefused))
      assert.equal((await stateOf(one, key))?.owner, 'a')
      assert.deepEqual(await texts(one, key), ['head of a'])
    })

    test('each owner has a higher fence than the one before, and its head comes after all that was there', async () => {
      const key = fresh('key')
      const first = await taken(one, key, 'a', 0)
      await appended(one, key, { fence: first, seq: 0 }, ['1', '2'])

      const second = await taken(two, key, 'b', first)
      const third = await taken(one, key, 'a', second)

      assert.ok(first < second && second < third, `${[first, second, third]}`)
      assert.deepEqual(await texts(two, key), ['head of a', '1', '2', 'head of b', 'head of a'])
      assert.deepEqual((await stateOf(two, key))?.last, { fence: third, seq: 0 })
    })

    test('the fence is higher than before also when the log has gone meanwhile', async () => {
      const key = fresh('key')
      const first = await taken(one, key, 'a', 0)
      await appended(one, key, { fence: first, seq: 0 }, ['end'], { keepMs: 0 })

      const second = await taken(two, key, 'b', 0)

      assert.ok(second > first, `${second} after ${first}`)
      assert.deepEqual(await texts(one, key), ['head of b'])
    })

    test('entries come back byte for byte, whatever is in them', async () => {
      const key = fresh('key')
      const fence = await taken(one, key, 'a', 0)
      const every = Buffer.from(Array.from({ length: 256 }, (_, i) => i))
      const contents = [every, Buffer.alloc(0), Buffer.from('data: ü\r\n\r\n\0'), randomBytes(1_000_000)]
      const entries = contents.map((bytes, i): StoredEntry => ({ position: { fence, seq: i + 1 }, bytes }))

      const added = await one.append(key, {
        after: { fence, seq: 0 },
        entries,
        keepFrom: { fence, seq: 0 },
        keepMs: KEEP_MS,
      })

      assert.equal(added.isRefused, false)
      const kept = await all(two, key)
      assert.deepEqual(
        kept.map(({ position }) => position),
        [0, 1, 2, 3, 4].map((seq) => ({ fence, seq })),
      )
      for (const [i, bytes] of contents.entries()) assert.ok(kept[i + 1]?.bytes.equals(bytes), `entry ${i}`)
    })

    test('an addition that does not follow the latest entry changes nothing, and says what the latest is', async () => {
      const key = fresh('key')
      const fence = await taken(one, key, 'a', 0)
      await appended(one, key, { fence, seq: 0 }, ['1', '2'])

      const repeated = await append(one, key, { fence, seq: 0 }, ['1', '2'])
      const behind = await append(one, key, { fence, seq: 1 }, ['other'])
      const hole = await append(one, key, { fence, seq: 3 }, ['4'])

      for (const added of [repeated, behind, hole]) {
        assert.deepEqual(added.isRefused && added.state?.last, { fence, seq: 2 })
      }
      assert.deepEqual(await texts(two, key), ['head of a', '1', '2'])
    })

    test('what an owner that has been replaced adds is refused, however late it comes', async () => {
      const key = fresh('key')
      const old = await taken(one, key, 'a', 0)
      await appended(one, key, { fence: old, seq: 0 }, ['1'])
      const fence = await taken(two, key, 'b', old)

      const late = await append(one, key, { fence: old, seq: 1 }, ['zombie'])
      await appended(two, key, { fence, seq: 0 }, ['2'])
      const later = await append(one, key, { fence: old, seq: 1 }, ['zombie'])

      assert.deepEqual(late.isRefused && late.state?.owner, 'b')
      assert.deepEqual(later.isRefused && later.state?.last, { fence, seq: 1 })
      assert.deepEqual(await texts(one, key), ['head of a', '1', 'head of b', '2'])
    })

    test('an addition to a key that has no log is refused', async () => {
      const key = fresh('key')

      const added = await append(one, key, { fence: 1, seq: 4 }, ['5'])

      assert.deepEqual(added, { isRefused: true, state: undefined })
      assert.deepEqual(await texts(one, key), [])
    })

    test('of additions that are sent at the same time behind the same entry one is added', async () => {
      const key = fresh('key')
      const fence = await taken(one, key, 'a', 0)

      const additions = await Promise.all(['x', 'y', 'z'].map((text) => append(one, key, { fence, seq: 0 }, [text])))

      assert.equal(additions.filter(({ isRefused }) => !isRefused).length, 1)
      assert.equal((await texts(two, key)).length, 2)
    })

    test('what is before keepFrom is dropped, and the state shows where the log begins', async () => {
      const key = fresh('key')
      const fence = await taken(one, key, 'a', 0)
      await appended(one, key, { fence, seq: 0 }, ['1', '2', '3'])

      await appended(one, key, { fence, seq: 3 }, ['4'], { keepFrom: { fence, seq: 3 } })

      assert.deepEqual(await texts(two, key), ['3', '4'])
      assert.deepEqual((await stateOf(two, key))?.first, { fence, seq: 3 })
      const { entries, state } = await two.read(key, { fence, seq: 1 }, PAGE_BYTES)
      assert.deepEqual(entries[0]?.position, { fence, seq: 3 })
      assert.deepEqual(state?.first, { fence, seq: 3 })
    })

    test('a new owner may drop what owners before it have added', async () => {
      const key = fresh('key')
      const old = await taken(one, key, 'a', 0)
      await appended(one, key, { fence: old, seq: 0 }, ['1', '2'])
      const fence = await taken(two, key, 'b', old)

      await appended(two, key, { fence, seq: 0 }, ['3'], { keepFrom: { fence: old, seq: 2 } })

      assert.deepEqual(await texts(one, key), ['2', 'head of b', '3'])
    })

    test('a log is read in pages of so many bytes, but of one entry at least, each from the position asked for', async () => {
      const key = fresh('key')
      const fence = await taken(one, key, 'a', 0)
      const contents = Array.from({ length: 10 }, (_, i) => `${i}`.repeat(1000))
      await appended(one, key, { fence, seq: 0 }, contents)

      const page = await two.read(key, { fence, seq: 2 }, 3500)
      const least = await two.read(key, { fence, seq: 2 }, 1)
      const rest = await two.read(key, { fence, seq: 10 }, 3500)

      assert.ok(page.entries.length >= 1 && page.entries.length <= 3, `${page.entries.length} entries`)
      assert.deepEqual(page.entries[0]?.position, { fence, seq: 3 })
      assert.deepEqual(
        least.entries.map(({ position }) => position.seq),
        [3],
      )
      assert.deepEqual(rest.entries, [])
      assert.deepEqual(rest.state?.last, { fence, seq: 10 })
    })

    test('a position of an earlier fence, or of one that there never was, is read on from in order', async () => {
      const key = fresh('key')
      const old = await taken(one, key, 'a', 0)
      await appended(one, key, { fence: old, seq: 0 }, ['1'])
      const fence = await taken(two, key, 'b', old)
      await appended(two, key, { fence, seq: 0 }, ['2'])

      assert.deepEqual(await texts(one, key, { fence: old, seq: 1 }), ['head of b', '2'])
      assert.deepEqual(await texts(one, key, { fence: old, seq: 99 }), ['head of b', '2'])
      assert.deepEqual(await texts(one, key, { fence: 1, seq: 0 }), ['head of a', '1', 'head of b', '2'])
    })

    test('several keys are looked at together, in their order', async () => {
      const keys = [fresh('key'), fresh('key'), fresh('key')]
      await taken(one, keys[0] ?? '', 'a', 0)
      await taken(one, keys[2] ?? '', 'c', 0)

      const states = await two.look(keys)

      assert.deepEqual(
        states.map((state) => state?.owner),
        ['a', undefined, 'c'],
      )
      assert.deepEqual(await two.look([]), [])
    })

    test('a node that follows a key hears of all that is added, in order, whoever adds it', async () => {
      const key = fresh('key')
      const bell = new Bell()
      const unfollow = await two.follow(key, 'b', bell)

      const fence = await taken(one, key, 'a', 0)
      for (let seq = 0; seq < 50; seq++) await appended(one, key, { fence, seq }, [`${seq + 1}`])
      const own = await taken(two, key, 'b', fence)
      await appended(two, key, { fence: own, seq: 0 }, ['own'])

      await bell.heard(53)
      assert.deepEqual(bell.texts, [
        'head of a',
        ...Array.from({ length: 50 }, (_, i) => `${i + 1}`),
        'head of b',
        'own',
      ])
      unfollow()
    })

    test('of an addition too large to be told a follower hears that there is one', async () => {
      const key = fresh('key')
      const bell = new Bell()
      const fence = await taken(one, key, 'a', 0)
      const unfollow = await two.follow(key, 'b', bell)
      const large = randomBytes(3_000_000).toString('latin1')

      await appended(one, key, { fence, seq: 0 }, [large])

      await until(() => bell.rings > 0, 'a doorbell')
      assert.equal((await all(two, key, { fence, seq: 0 }))[0]?.bytes.toString() === large, true)
      unfollow()
    })

    test('nothing is told of what was refused', async () => {
      const key = fresh('key')
      const bell = new Bell()
      const fence = await taken(one, key, 'a', 0)
      const unfollow = await two.follow(key, 'b', bell)

      await append(one, key, { fence, seq: 7 }, ['hole'])
      await take(one, key, 'c', fence + 1)
      await appended(one, key, { fence, seq: 0 }, ['1'])

      await bell.heard(1)
      assert.deepEqual(bell.texts, ['1'])
      unfollow()
    })

    test('a follower that has left hears nothing more, and those that stay hear that it has left', async () => {
      const key = fresh('key')
      const [bell, other] = [new Bell(), new Bell()]
      const stop = await one.follow(key, 'a', other)
      const unfollow = await two.follow(key, 'b', bell)
      const fence = await taken(one, key, 'a', 0)
      await Promise.all([bell.heard(1), other.heard(1)])
      const rings = other.changes

      unfollow()
      await until(() => other.changes > rings, 'the other follower to hear of it')
      await appended(one, key, { fence, seq: 0 }, ['1'])

      await other.heard(2)
      assert.deepEqual(bell.texts, ['head of a'])
      unfollow()
      stop()
    })

    test('two streams of one node may follow the same key, and each hears all', async () => {
      const key = fresh('key')
      const bells = [new Bell(), new Bell()]
      const stops = await Promise.all(bells.map((bell) => one.follow(key, 'a', bell)))

      const fence = await taken(two, key, 'b', 0)
      await Promise.all(bells.map((bell) => bell.heard(1)))
      stops[0]?.()
      await appended(two, key, { fence, seq: 0 }, ['1'])

      await bells[1]?.heard(2)
      assert.deepEqual(bells[0]?.texts, ['head of b'])
      stops[1]?.()
    })

    test('the followers of a key are the nodes that follow it and are alive', async () => {
      const key = fresh('key')
      const [here, there, dead] = [fresh('node'), fresh('node'), fresh('node')]
      await Promise.all([one.beat(here, 60_000), two.beat(there, 60_000)])
      const stops = [
        await one.follow(key, here, new Bell()),
        await two.follow(key, there, new Bell()),
        await two.follow(key, dead, new Bell()),
      ]

      assert.deepEqual([...(await one.followers(key))].sort(), [here, there].sort())

      stops[1]?.()
      await untilAsync(async () => (await one.followers(key)).length === 1, 'the node that left to be gone')
      assert.deepEqual(await two.followers(key), [here])
      for (const stop of stops) stop()
    })

    test('a node is alive for as long as its beat says, and not when it has said goodbye', async () => {
      const [node, brief, gone, never] = [fresh('node'), fresh('node'), fresh('node'), fresh('node')]

      const first = await Promise.all([one.beat(node, 60_000), one.beat(brief, 60), one.beat(gone, 60_000)])
      const again = [await one.beat(gone, 0), await one.beat(gone, 0), await one.beat(node, 60_000)]

      assert.deepEqual(first, [false, false, false], 'none of them was alive before')
      assert.deepEqual(again, [true, false, true], 'whether they were alive until then')

      assert.deepEqual(await two.areAlive([never, node, gone]), [false, true, false])
      await untilAsync(async () => (await two.areAlive([brief]))[0] === false, 'the lease to run out')
      assert.deepEqual(await two.areAlive([]), [])
    })

    test('a log that nobody adds to is dropped after keepMs, and not before', async () => {
      const [key, added] = [fresh('key'), fresh('key')]
      const fence = await taken(one, key, 'a', 0)
      const other = await taken(one, added, 'a', 0)
      await appended(one, added, { fence: other, seq: 0 }, ['1'], { keepMs: 300 })
      await appended(one, added, { fence: other, seq: 1 }, ['2'])

      await appended(one, key, { fence, seq: 0 }, ['1'], { keepMs: 300 })

      assert.deepEqual(await texts(two, key), ['head of a', '1'])
      await untilAsync(async () => (await two.read(key, undefined, PAGE_BYTES)).state === undefined, 'the log to go')
      assert.deepEqual(await texts(two, key), [])
      assert.deepEqual(await texts(two, added), ['head of a', '1', '2'])
    })

    test('to be kept for no time drops the log at once, and its followers hear the last entry', async () => {
      const key = fresh('key')
      const bell = new Bell()
      const fence = await taken(one, key, 'a', 0)
      const unfollow = await two.follow(key, 'b', bell)

      await appended(one, key, { fence, seq: 0 }, ['end'], { keepMs: 0 })

      // In a cluster the head may be told of after `follow`.
      await untilAsync(async () => bell.texts.includes('end'), 'the last entry')
      assert.deepEqual(
        bell.texts.filter((text) => text !== 'head of a'),
        ['end'],
      )
      assert.deepEqual(await two.look([key]), [undefined])
      unfollow()
    })

    test('a client has so many places and no more, over all nodes', async () => {
      const [client, node, other] = [fresh('client'), fresh('node'), fresh('node')]
      await Promise.all([one.beat(node, 60_000), two.beat(other, 60_000)])

      assert.equal(await one.takePlace(client, node, '1', 2), true)
      assert.equal(await two.takePlace(client, other, '2', 2), true)
      assert.equal(await one.takePlace(client, node, '3', 2), false)
      assert.equal(await one.takePlace(fresh('client'), node, '3', 2), true)
      await two.freePlace(client, '1')
      await two.freePlace(client, 'none')
      assert.equal(await one.takePlace(client, node, '3', 2), true)
      assert.equal(await two.takePlace(client, other, '4', 2), false)
    })

    test('of places taken at the same time no more are given than there are', async () => {
      const [client, node] = [fresh('client'), fresh('node')]
      await one.beat(node, 60_000)

      const given = await Promise.all(
        Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? one : two).takePlace(client, node, `${i}`, 5)),
      )

      assert.equal(given.filter(Boolean).length, 5)
    })

    test('the places of a node that has died are free', async () => {
      const [client, node, dead] = [fresh('client'), fresh('node'), fresh('node')]
      await Promise.all([one.beat(node, 60_000), two.beat(dead, 60_000)])
      assert.equal(await two.takePlace(client, dead, '1', 1), true)
      assert.equal(await one.takePlace(client, node, '2', 1), false)

      await two.beat(dead, 0)

      assert.equal(await one.takePlace(client, node, '2', 1), true)
    })
  })
}

/** Keeps what it hears. */
class Bell implements Doorbell {
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

function fresh(kind: string): string {
  return `${kind}-${randomBytes(8).toString('hex')}`
}

async function untilUp(store: ShareStore): Promise<() => void> {
  let isUp = false
  const unwatch = store.watch((now) => {
    isUp = now
  })
  await until(() => isUp, 'the store to be up')
  return unwatch
}

function take(store: ShareStore, key: string, node: string, replaces: number): ReturnType<ShareStore['take']> {
  return store.take(key, { node, replaces, head: Buffer.from(`head of ${node}`), keepMs: KEEP_MS })
}

async function taken(store: ShareStore, key: string, node: string, replaces: number): Promise<number> {
  const claim = await take(store, key, node, replaces)
  assert.ok(!claim.isRefused, `${node} should have got the key`)
  return claim.fence
}

function append(
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

async function appended(...args: Parameters<typeof append>): Promise<void> {
  assert.equal((await append(...args)).isRefused, false, 'the addition should not have been refused')
}

async function stateOf(store: ShareStore, key: string): Promise<KeyState | undefined> {
  return (await store.look([key]))[0]
}

async function all(store: ShareStore, key: string, behind?: Position): Promise<StoredEntry[]> {
  const entries: StoredEntry[] = []
  for (let from = behind; ; from = entries.at(-1)?.position) {
    const page = await store.read(key, from, PAGE_BYTES)
    entries.push(...page.entries)
    if (page.entries.length === 0) return entries
  }
}

async function texts(store: ShareStore, key: string, behind?: Position): Promise<string[]> {
  return (await all(store, key, behind)).map(({ bytes }) => bytes.toString())
}

function until(isSo: () => boolean, what: string): Promise<void> {
  return untilAsync(async () => isSo(), what)
}

/** Asks again and again: what is waited for happens elsewhere. */
async function untilAsync(isSo: () => Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + WAIT_MS
  while (!(await isSo())) {
    assert.ok(performance.now() < deadline, `waited ${WAIT_MS} ms for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
