import assert from 'node:assert/strict'
import { test } from 'node:test'
import { EndedStream, EndedStreams } from '../../src/share/ended-streams.ts'
import { MemoryEventLog } from '../../src/share/event-log.ts'
import { ReplayBudget } from '../../src/share/replay-budget.ts'
import { heapUsed } from '../support/memory.ts'

test('10,000 streams are kept, and the oldest goes for another', () => {
  const { ended, keep } = keeping()

  for (let key = 0; key <= 10_000; key += 1) keep(`${key}`)

  assert.equal(ended.size, 10_000)
  assert.equal(ended.of('0'), undefined)
  assert.notEqual(ended.of('1'), undefined)
  ended.close()
})

test('what one takes in memory is what it counts in the budget, at least', () => {
  const { budget, ended, keep } = keeping()
  const before = heapUsed()

  for (let key = 0; key < 5000; key += 1) keep(`${key}`.padStart(200, 'k'))

  const grown = heapUsed() - before
  assert.ok(budget.bytes > grown * 0.9, `${budget.bytes} counted, ${grown} taken`)
  ended.close()
})

test('the budget is given back with the stream, whatever took it away', () => {
  const { budget, ended, keep } = keeping()

  keep('one')
  keep('one')
  keep('two')
  keep('three')
  ended.delete('one')
  ended.dropOldest()
  assert.ok(budget.bytes > 0)
  ended.close()

  assert.equal(budget.bytes, 0)
  assert.equal(ended.size, 0)
})

test('past the budget the oldest is dropped, and the newest when there is no room for any', () => {
  const { ended, keep } = keeping(4800)

  keep('one')
  keep('two')
  assert.equal(ended.of('one'), undefined)
  keep('large', 10_000)

  assert.equal(ended.size, 0)
})

function keeping(maxBytes = 2 ** 30) {
  const budget: ReplayBudget = new ReplayBudget(maxBytes, () => ended.dropOldest())
  const ended: EndedStreams = new EndedStreams(600_000, budget)
  const head = { upstream: 'http://localhost', statusMessage: 'OK', headers: [['Content-Type', 'text/event-stream']] }
  const keep = (key: string, bytes = 100): void => {
    const log = new MemoryEventLog({ events: 1000, bytes: 2 ** 20, ageMs: 600_000 }, '', budget)
    log.append([{ bytes: Buffer.alloc(bytes), id: `${key}-1`, isEvent: true }], 0)
    const sent = { events: 1, lastEventId: `${key}-1` }
    const shared = new EndedStream(
      { id: key, log, sent, atBoundary: true, isOver: true, join() {}, leave() {} },
      'complete',
    )
    ended.keep(key, {
      shared,
      head: { ...head, headers: head.headers.map(([name = '', value = '']) => [name, value]) },
    })
  }
  return { budget, ended, keep }
}
