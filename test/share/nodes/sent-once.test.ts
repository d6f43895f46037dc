// What a run asks of upstreams that was begun with a request with a body: that is sent once, by the node that it came to.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { LocalOutcome } from '../../../src/share/nodes/entries.ts'
import type { LocalStream } from '../../../src/share/nodes/local-stream.ts'
import { Member, type MemberOptions } from '../../../src/share/nodes/member.ts'
import { stopRun } from '../../../src/share/nodes/stop-run.ts'
import { bufferBytes, Machine, World } from './simulation.ts'

const post = { mayOpen: true, isReopenable: false, joinsEnded: false } as const
const joiningGet = { mayOpen: false, isReopenable: true, joinsEnded: true } as const

test('a request with a body that is stopped on another node before its upstream has answered is not sent again', async () => {
  const { world, one, other } = await farm()
  const opener = new Asking(one, post)
  await world.pass(500)

  const stopping = stopRun(other.node, 'key')
  await world.pass(3000)

  assert.equal(await stopping, true)
  assert.deepEqual([opener.asked, opener.outcome], [1, 'stopped'])
})

for (const [who, options] of Object.entries({ 'a GET that joins': joiningGet, 'a POST that joins': post })) {
  test(`${who} does not reach the upstream when the node that waited for its answer has died`, async () => {
    const { world, one, other } = await farm()
    new Asking(one, post)
    await world.pass(500)
    const joiner = new Asking(other, options)
    await world.pass(500)

    one.kill(60_000)
    await world.pass(5000)

    assert.deepEqual([joiner.asked, joiner.outcome], [0, 'lost'])
  })
}

test('a request with a body is not sent again by a node that slept while another one gave its run up', async () => {
  const { world, one, other } = await farm()
  const opener = new Asking(one, post)
  await world.pass(500)
  const joiner = new Asking(other, joiningGet)
  await world.pass(500)

  one.sleep(5000)
  await world.pass(9000)

  assert.equal(joiner.outcome, 'lost')
  assert.deepEqual([opener.asked, opener.outcome], [1, 'lost'])
})

test('a GET that may only join does not reach the upstream while the store is away', async () => {
  const { world, one } = await farm()
  world.engine.isUp = false
  await world.pass(3000)

  const joiner = new Asking(one, joiningGet)
  await world.pass(500)

  assert.deepEqual([joiner.asked, joiner.outcome], [0, 'none'])
})

/** A stream whose upstream does not answer. */
class Asking implements LocalStream {
  asked = 0
  outcome: LocalOutcome | undefined

  constructor(machine: Machine, options: Pick<MemberOptions, 'mayOpen' | 'isReopenable' | 'joinsEnded'>) {
    const bounds = { events: 400, bytes: 20_000 }
    new Member(
      machine.node,
      { key: 'key', busy: 'join', bounds, bufferBytes, keepEndedMs: 20_000, lingerMs: 400, ...options },
      this,
    )
  }

  open(): void {
    this.asked++
  }

  close(): void {}
  pause(): void {}
  unpause(): void {}
  begin(): void {}
  ready(): void {}
  deliver(): void {}
  gap(): void {}

  over(outcome: LocalOutcome): void {
    this.outcome = outcome
  }
}

async function farm(): Promise<{ world: World; one: Machine; other: Machine }> {
  const world = new World(1, { calls: 0, doorbells: 0, events: [], hasIds: true })
  const [one, other] = [new Machine(world, 0), new Machine(world, 1)]
  await world.pass(500)
  return { world, one, other }
}
