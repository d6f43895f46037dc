// What nodes that follow a key hear of it.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { all, append, appended, Bell, type Check, fresh, take, taken, until } from './stores.ts'

export function followerTests(check: Check): void {
  check('a node that follows a key hears of all that is added, in order, whoever adds it', async ({ one, two }) => {
    const key = fresh('key')
    const bell = new Bell()
    const unfollow = await two.follow(key, 'b', bell)

    const fence = await taken(one, key, 'a', 0)
    for (let seq = 0; seq < 50; seq++) await appended(one, key, { fence, seq }, [`${seq + 1}`])
    const own = await taken(two, key, 'b', fence)
    await appended(two, key, { fence: own, seq: 0 }, ['own'])

    await bell.heard(53)
    assert.deepEqual(bell.texts, ['head of a', ...Array.from({ length: 50 }, (_, i) => `${i + 1}`), 'head of b', 'own'])
    unfollow()
  })

  check('of an addition too large to be told a follower hears that there is one', async ({ one, two }) => {
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

  check('nothing is told of what was refused', async ({ one, two }) => {
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

  check(
    'a follower that has left hears nothing more, and those that stay hear that it has left',
    async ({ one, two }) => {
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
    },
  )

  check('two streams of one node may follow the same key, and each hears all', async ({ one, two }) => {
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
}
