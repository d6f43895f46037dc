// What a member does in one situation, which the model's runs rarely come to.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Machine, World } from './simulation.ts'

test('what the app has replaced is over on a node whose key another one has taken meanwhile', async () => {
  const world = new World(1, { calls: 0, doorbells: 0, events: [], hasIds: true })
  const [one, other] = [new Machine(world, 0), new Machine(world, 1)]
  one.enter()
  world.upstream.start()
  await world.pass(500)
  other.enter()
  await world.pass(500)
  one.sleep(3000)
  await world.pass(2900)
  assert.equal(other.member?.isOwner, true)

  one.member?.end('replaced')
  await world.pass(1000)

  assert.equal(one.clients?.outcome, 'replaced')
  assert.equal(one.member?.isOver, true)
})
