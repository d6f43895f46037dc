// What a member does in one situation, which the model's runs rarely come to.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkMs, Machine, World } from './simulation.ts'

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

test('a stream is over on a node to which no message comes any more, its last events delivered', async () => {
  const world = new World(2, { calls: 0, doorbells: 0, events: [], hasIds: true })
  const [one, other] = [new Machine(world, 0), new Machine(world, 1)]
  one.enter()
  world.upstream.start()
  await world.pass(500)
  other.enter()
  await world.pass(500)

  for (const bell of world.engine.bells) if (bell.node === other) bell.stop?.()
  await world.pass(500)
  world.upstream.end()
  await world.pass(7000)

  assert.equal(one.clients?.outcome, 'ended')
  assert.deepEqual([other.clients?.outcome, other.clients?.last], ['ended', world.upstream.latest])
  assert.equal(world.wrong, undefined)
})

test('a node does not wait for ever for one that lives, and whose end of the stream the store has lost', async () => {
  const world = new World(3, { calls: 0, doorbells: 0, events: [], hasIds: true })
  const [one, other] = [new Machine(world, 0), new Machine(world, 1)]
  one.enter()
  world.upstream.start()
  await world.pass(2000)
  world.upstream.end()
  await world.pass(10)
  assert.equal(one.clients?.outcome, 'ended')

  world.engine.restart(10)
  await world.pass(500)
  other.enter()
  await world.pass(4 * checkMs)

  assert.deepEqual([other.clients?.outcome, other.clients?.last], ['ended', world.upstream.latest])
})
