// The log of a key: what its owner adds is kept whole and in order, until it is dropped; what another node adds is refused.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import type { StoredEntry } from '../share-store.ts'
import {
  all,
  append,
  appended,
  Bell,
  type Check,
  fresh,
  KEEP_MS,
  PAGE_BYTES,
  stateOf,
  taken,
  texts,
  untilAsync,
} from './stores.ts'

export function logTests(check: Check): void {
  check('entries come back byte for byte, whatever is in them', async ({ one, two }) => {
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

  check(
    'an addition that does not follow the latest entry changes nothing, and says what the latest is',
    async ({ one, two }) => {
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
    },
  )

  check('what an owner that has been replaced adds is refused, however late it comes', async ({ one, two }) => {
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

  check('an addition to a key that has no log is refused', async ({ one }) => {
    const key = fresh('key')

    const added = await append(one, key, { fence: 1, seq: 4 }, ['5'])

    assert.deepEqual(added, { isRefused: true, state: undefined })
    assert.deepEqual(await texts(one, key), [])
  })

  check('of additions that are sent at the same time behind the same entry one is added', async ({ one, two }) => {
    const key = fresh('key')
    const fence = await taken(one, key, 'a', 0)

    const additions = await Promise.all(['x', 'y', 'z'].map((text) => append(one, key, { fence, seq: 0 }, [text])))

    assert.equal(additions.filter(({ isRefused }) => !isRefused).length, 1)
    assert.equal((await texts(two, key)).length, 2)
  })

  check('what is before keepFrom is dropped, and the state shows where the log begins', async ({ one, two }) => {
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

  check('a new owner may drop what owners before it have added', async ({ one, two }) => {
    const key = fresh('key')
    const old = await taken(one, key, 'a', 0)
    await appended(one, key, { fence: old, seq: 0 }, ['1', '2'])
    const fence = await taken(two, key, 'b', old)

    await appended(two, key, { fence, seq: 0 }, ['3'], { keepFrom: { fence: old, seq: 2 } })

    assert.deepEqual(await texts(one, key), ['2', 'head of b', '3'])
  })

  check(
    'a log is read in pages of so many bytes, but of one entry at least, each from the position asked for',
    async ({ one, two }) => {
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
    },
  )

  check(
    'a position of an earlier fence, or of one that there never was, is read on from in order',
    async ({ one, two }) => {
      const key = fresh('key')
      const old = await taken(one, key, 'a', 0)
      await appended(one, key, { fence: old, seq: 0 }, ['1'])
      const fence = await taken(two, key, 'b', old)
      await appended(two, key, { fence, seq: 0 }, ['2'])

      assert.deepEqual(await texts(one, key, { fence: old, seq: 1 }), ['head of b', '2'])
      assert.deepEqual(await texts(one, key, { fence: old, seq: 99 }), ['head of b', '2'])
      assert.deepEqual(await texts(one, key, { fence: 1, seq: 0 }), ['head of a', '1', 'head of b', '2'])
    },
  )

  check('a log that nobody adds to is dropped after keepMs, and not before', async ({ one, two }) => {
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

  check('to be kept for no time drops the log at once, and its followers hear the last entry', async ({ one, two }) => {
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
}
