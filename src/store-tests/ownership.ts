// Whose a key is: one node's at a time, and which one's every node sees alike.

import assert from 'node:assert/strict'
import { appended, type Check, fresh, PAGE_BYTES, stateOf, take, taken, texts } from './stores.ts'

export function ownershipTests(check: Check): void {
  check('a key that nobody has taken has no state, no entries and no followers', async ({ one }) => {
    const key = fresh('key')

    assert.deepEqual(await one.look([key]), [undefined])
    assert.deepEqual(await one.read(key, undefined, PAGE_BYTES), { entries: [], state: undefined })
    assert.deepEqual(await one.followers(key), [])
  })

  check('a key belongs to the node that takes it, as the other node sees too', async ({ one, two }) => {
    const key = fresh('key')

    const fence = await taken(one, key, 'a', 0)

    const head = { fence, seq: 0 }
    assert.ok(Number.isSafeInteger(fence) && fence > 0, `${fence}`)
    assert.deepEqual(await two.look([key]), [{ owner: 'a', first: head, last: head }])
    assert.deepEqual(await texts(two, key), ['head of a'])
  })

  check(
    'of two nodes that take a key at the same time one gets it, and the other learns which',
    async ({ one, two }) => {
      for (let round = 0; round < 20; round++) {
        const key = fresh('key')

        const claims = await Promise.all([one, two].map((store, i) => take(store, key, `${i}`, 0)))

        const refused = claims.filter(({ isRefused }) => isRefused)
        assert.equal(refused.length, 1)
        const winner = claims[0]?.isRefused ? '1' : '0'
        assert.equal(refused[0]?.isRefused && refused[0].state?.owner, winner)
        assert.deepEqual(await texts(one, key), [`head of ${winner}`])
      }
    },
  )

  check('a claim that would replace another fence than the present one changes nothing', async ({ one, two }) => {
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

  check(
    'each owner has a higher fence than the one before, and its head comes after all that was there',
    async ({ one, two }) => {
      const key = fresh('key')
      const first = await taken(one, key, 'a', 0)
      await appended(one, key, { fence: first, seq: 0 }, ['1', '2'])

      const second = await taken(two, key, 'b', first)
      const third = await taken(one, key, 'a', second)

      assert.ok(first < second && second < third, `${[first, second, third]}`)
      assert.deepEqual(await texts(two, key), ['head of a', '1', '2', 'head of b', 'head of a'])
      assert.deepEqual((await stateOf(two, key))?.last, { fence: third, seq: 0 })
    },
  )

  check('the fence is higher than before also when the log has gone meanwhile', async ({ one, two }) => {
    const key = fresh('key')
    const first = await taken(one, key, 'a', 0)
    await appended(one, key, { fence: first, seq: 0 }, ['end'], { keepMs: 0 })

    const second = await taken(two, key, 'b', 0)

    assert.ok(second > first, `${second} after ${first}`)
    assert.deepEqual(await texts(one, key), ['head of b'])
  })

  check('several keys are looked at together, in their order', async ({ one, two }) => {
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
}
