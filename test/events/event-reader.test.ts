// The events that one who only looks sees: those of the standard, however their bytes are cut.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { StreamEvent } from '../../src/events/event.ts'
import { EventReader } from '../../src/events/event-reader.ts'
import { cutsOf, everyMix, fixtures } from '../stream/fixtures.ts'
import { interpret } from '../support/oracle.ts'

for (const { name, bytes } of [...fixtures, ...everyMix]) {
  test(`${name}: each event is seen once, in order, however it is cut`, () => {
    const { events } = interpret(bytes)
    const expected = events.map(({ type, data }) => [type, data])

    for (const parts of cutsOf(bytes)) {
      assert.deepEqual(
        seen(parts).map(({ event = 'message', data }) => [event, data]),
        expected,
      )
    }
  })
}

test('an event that has begun and is not over is told', () => {
  const reader = new EventReader(() => {})

  reader.read(Buffer.from('data: a\n\n'))
  const between = reader.isInsideEvent
  reader.read(Buffer.from('data: b'))

  assert.deepEqual([between, reader.isInsideEvent], [false, true])
})

function seen(parts: readonly Buffer[]): StreamEvent[] {
  const events: StreamEvent[] = []
  const reader = new EventReader((event) => void events.push(event))
  for (const part of parts) reader.read(part)
  return events
}
