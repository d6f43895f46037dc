import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MemoryEventLog } from '../../src/share/event-log.ts'
import { startingPoint } from '../../src/share/follow.ts'

for (const { client, requestedId, initial = 0, expected } of [
  { client: 'without an id', requestedId: '', expected: { position: 5, hasGap: false } },
  {
    client: 'without an id, of two initial events',
    requestedId: '',
    initial: 2,
    expected: { position: 3, hasGap: false },
  },
  { client: 'with an id that is kept', requestedId: '4', initial: 2, expected: { position: 4, hasGap: false } },
  { client: 'with the last id that is gone', requestedId: '2', expected: { position: 2, hasGap: false } },
  { client: 'with an id that is not known', requestedId: '1', initial: 1, expected: { position: 2, hasGap: true } },
]) {
  test(`a client ${client} begins at ${expected.position}${expected.hasGap ? ', with a gap' : ''}`, () => {
    const log = new MemoryEventLog({ events: 3, bytes: 10_000, ageMs: 1000 }, '', { add() {}, enter() {}, leave() {} })
    const entries = ['1', '2', '3', '4', '5'].map((id) => ({ bytes: Buffer.from(id), id, isEvent: true }))
    log.append(entries, 0)

    assert.deepEqual(startingPoint(log, requestedId, initial), expected)
  })
}
