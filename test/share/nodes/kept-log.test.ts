// What a node remembers of a log.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { KeptLog } from '../../../src/share/nodes/kept-log.ts'
import type { Position } from '../../../src/share-store.ts'

test('a node that follows a log for days remembers no more of it than the log is to keep', () => {
  const log = logOf(10_000, { events: 100, bytes: 1_000_000 })

  const { lost, before } = log.takeAfter(undefined)

  assert.equal(lost.length, 100)
  assert.deepEqual(before, at(9_900))
})

test('one entry larger than all that is to be kept is kept', () => {
  const log = logOf(3, { events: 1000, bytes: 5 })

  assert.deepEqual(log.begin, at(3))
  assert.equal(log.rememberedBytes, 10)
})

test('what is taken out is the end of the log, and counts no more', () => {
  const log = logOf(5, { events: 5, bytes: 1_000_000 })

  const { lost, before } = log.takeAfter(at(3))
  const begin = log.begin
  for (const seq of [6, 7]) log.add(entry(seq))

  assert.deepEqual([lost.map(({ position }) => position.seq), before], [[4, 5], at(3)])
  assert.equal(begin, undefined)
  assert.equal(log.begin, undefined)
  assert.equal(log.rememberedBytes, 50)
})

/** Entries 1, 2, 3 and so on, each with one event of ten bytes. */
function logOf(count: number, bounds: { events: number; bytes: number }): KeptLog {
  const log = new KeptLog(bounds, 1_000_000)
  for (let seq = 1; seq <= count; seq++) log.add(entry(seq))
  return log
}

function entry(seq: number) {
  return { position: at(seq), events: 1, bytes: 10, blocks: [] }
}

function at(seq: number): Position {
  return { fence: 1, seq }
}
