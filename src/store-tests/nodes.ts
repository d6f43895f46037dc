// Nodes that are alive and die, and the places that their clients take.

import assert from 'node:assert/strict'
import { Bell, type Check, fresh, untilAsync } from './stores.ts'

export function nodeTests(check: Check): void {
  check('the followers of a key are the nodes that follow it and are alive', async ({ one, two }) => {
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

  check('a node is alive for as long as its beat says, and not when it has said goodbye', async ({ one, two }) => {
    const [node, brief, gone, never] = [fresh('node'), fresh('node'), fresh('node'), fresh('node')]

    const first = await Promise.all([one.beat(node, 60_000), one.beat(brief, 60), one.beat(gone, 60_000)])
    const again = [await one.beat(gone, 0), await one.beat(gone, 0), await one.beat(node, 60_000)]

    assert.deepEqual(first, [false, false, false], 'none of them was alive before')
    assert.deepEqual(again, [true, false, true], 'whether they were alive until then')

    assert.deepEqual(await two.areAlive([never, node, gone]), [false, true, false])
    await untilAsync(async () => (await two.areAlive([brief]))[0] === false, 'the lease to run out')
    assert.deepEqual(await two.areAlive([]), [])
  })

  check('a client has so many places and no more, over all nodes', async ({ one, two }) => {
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

  check('of places taken at the same time no more are given than there are', async ({ one, two }) => {
    const [client, node] = [fresh('client'), fresh('node')]
    await one.beat(node, 60_000)

    const given = await Promise.all(
      Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? one : two).takePlace(client, node, `${i}`, 5)),
    )

    assert.equal(given.filter(Boolean).length, 5)
  })

  check('the places of a node that has died are free', async ({ one, two }) => {
    const [client, node, dead] = [fresh('client'), fresh('node'), fresh('node')]
    await Promise.all([one.beat(node, 60_000), two.beat(dead, 60_000)])
    assert.equal(await two.takePlace(client, dead, '1', 1), true)
    assert.equal(await one.takePlace(client, node, '2', 1), false)

    await two.beat(dead, 0)

    assert.equal(await one.takePlace(client, node, '2', 1), true)
  })
}
