import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { MemoryEventLog } from '../../src/share/event-log.ts'
import { commonSize, ReplayBudget } from '../../src/share/replay-budget.ts'

const wide = { events: 1_000_000, bytes: 1_000_000_000, ageMs: 1_000_000 }
const unbounded = { add() {}, enter() {}, leave() {} }
const block = { bytes: Buffer.alloc(1000, 'x'), id: undefined, isEvent: true }

test('what is kept counts until it is dropped', () => {
  const budget = new ReplayBudget(1_000_000, () => false)
  const log = new MemoryEventLog({ ...wide, events: 2 }, '', budget)

  for (let count = 0; count < 5; count++) log.append([block], 0)

  assert.equal(budget.bytes, log.memoryBytes)
  assert.ok(budget.bytes > 2000 && budget.bytes < 3000, `${budget.bytes}`)
  log.close()
  assert.equal(budget.bytes, 0)
})

test('an event of one byte and an id count with what keeping them takes', () => {
  const budget = new ReplayBudget(1_000_000, () => false)
  const log = new MemoryEventLog(wide, '', budget)

  log.append([{ bytes: Buffer.from('\n'), id: 'x'.repeat(5000), isEvent: false }], 0)

  assert.ok(budget.bytes > 5200, `${budget.bytes}`)
})

test('past the bound streams that nobody follows are closed first, one after the other', () => {
  const followed = filled(5)
  const unfollowed = [filled(5), filled(5), filled(5)]
  const closed: number[] = []
  const budget = new ReplayBudget((11 * followed.memoryBytes) / 5, () => {
    const first = unfollowed.shift()
    if (!first) return false
    closed.push(first.memoryBytes)
    budget.add(-first.memoryBytes)
    return true
  })
  budget.add(4 * followed.memoryBytes)

  budget.settle()

  assert.equal(closed.length, 2)
  assert.equal(followed.since(0).length, 5)
})

test('then the largest lose their oldest events, and the small ones none', () => {
  const logs: MemoryEventLog[] = []
  const size = filled(1).memoryBytes
  const budget = new ReplayBudget(size * 30, () => false)
  for (const events of [2, 20, 30]) logs.push(filled(events, budget))

  budget.settle()

  const [small, large, larger] = logs.map((log) => log.since(0).length)
  assert.equal(small, 2)
  assert.equal(large, larger)
  assert.ok(budget.bytes <= size * 30)
  assert.ok(budget.bytes > size * 20, 'no more than is needed')
})

test('the common size makes all fit, and is no smaller than it must be', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(1000), { maxLength: 20 }), fc.nat(5000), (sizes, bytes) => {
      const size = commonSize(sizes, bytes)
      const total = sizes.reduce((sum, each) => sum + Math.min(each, size), 0)

      assert.ok(total <= bytes + 1e-6)
      if (sizes.some((each) => each > size)) assert.ok(total > bytes - 1e-6)
    }),
  )
})

function filled(events: number, budget: Pick<ReplayBudget, 'add' | 'enter' | 'leave'> = unbounded): MemoryEventLog {
  const log = new MemoryEventLog(wide, '', budget)
  for (let count = 0; count < events; count++) log.append([block], 0)
  return log
}
