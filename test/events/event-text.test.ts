import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { StreamEvent } from '../../src/events/event.ts'
import {
  checkEvent,
  createBlockParser,
  serializeEvent,
  serializeId,
  serializeRetry,
} from '../../src/events/event-text.ts'
import { BOM, boundaries, everyMix, fixtures, forAll, meanings, randomStream } from '../stream/fixtures.ts'
import { anyText } from '../support/any-text.ts'
import { interpret } from '../support/oracle.ts'

// What may stand in an event's data: anything, line ends and spaces often.
const data = fc
  .array(fc.oneof(fc.constantFrom('\n', '\r', '\r\n', ' ', ':', BOM, 'data: a', '\0'), anyText()))
  .map((parts) => parts.join(''))
// What may stand in its type and id.
const line = anyText().map((text) => text.replace(/[\r\n\0]/g, ' '))
const anyEvent: fc.Arbitrary<StreamEvent> = fc.record({ data, event: line, id: line }, { requiredKeys: ['data'] })

test('an event that is written is read as it was meant', () => {
  forAll(fc.array(anyEvent, { maxLength: 5 }), (events) => {
    const read = interpret(events.map((event) => serializeEvent(checkEvent(event))).join(''))

    let lastEventId = ''
    const meant = events.map((event) => {
      lastEventId = event.id ?? lastEventId
      // A client knows one line end only.
      return { type: event.event || 'message', data: event.data.replace(/\r\n?/g, '\n'), lastEventId }
    })
    assert.deepEqual(read.events, meant)
    assert.equal(read.lastEventId, lastEventId)
  })
})

for (const [what, event, text] of [
  ['data alone', { data: 'a' }, 'data: a\n\n'],
  ['empty data', { data: '' }, 'data: \n\n'],
  ['data that begins with a space', { data: ' a' }, 'data:  a\n\n'],
  ['data of several lines', { data: 'a\nb\r\nc\rd' }, 'data: a\ndata: b\ndata: c\ndata: d\n\n'],
  ['data that ends with a line end', { data: 'a\n' }, 'data: a\ndata: \n\n'],
  ['CR before CR LF', { data: 'a\r\r\nb' }, 'data: a\ndata: \ndata: b\n\n'],
  ['all fields', { data: 'a', event: 'e', id: '1' }, 'event: e\nid: 1\ndata: a\n\n'],
  ['an empty id, which takes the last one back', { data: 'a', id: '' }, 'id: \ndata: a\n\n'],
  ['an empty type, which is none', { data: 'a', event: '' }, 'data: a\n\n'],
  ['fields that are undefined', { data: 'a', event: undefined, id: undefined }, 'data: a\n\n'],
] as const) {
  test(`serializeEvent: ${what}`, () => {
    assert.equal(serializeEvent(event), text)
  })
}

test('serializeId: moves the cursor and dispatches nothing', () => {
  for (const id of ['', '7', ' 7', 'ü', ':']) {
    const { events, lastEventId } = interpret(`id: 1\ndata: a\n\n${serializeId(id)}`)

    assert.equal(events.length, 1)
    assert.equal(lastEventId, id)
  }
})

test('serializeRetry: sets the reconnection time and nothing else', () => {
  assert.deepEqual(interpret(serializeRetry(1500)), { events: [], lastEventId: '', retry: 1500 })
})

for (const [what, event, message] of [
  ['nothing', undefined, 'an event must be an object, got undefined'],
  ['null', null, 'an event must be an object, got null'],
  ['a string', 'data', 'an event must be an object, got string'],
  ['no data', {}, "an event's data must be a string (JSON.stringify what is not), got undefined"],
  ['data that is a number', { data: 1 }, "an event's data must be a string (JSON.stringify what is not), got number"],
  ['data that is an object', { data: {} }, "an event's data must be a string (JSON.stringify what is not), got object"],
  ['a type that is a number', { data: '', event: 1 }, "an event's event must be a string, got number"],
  ['an id that is a number', { data: '', id: 1 }, "an event's id must be a string, got number"],
  ['an id that is null', { data: '', id: null }, "an event's id must be a string, got null"],
  ['LF in the type', { data: '', event: 'a\nb' }, "an event's event must not contain CR, LF or NUL"],
  ['CR in the type', { data: '', event: 'a\rb' }, "an event's event must not contain CR, LF or NUL"],
  ['NUL in the type', { data: '', event: 'a\0' }, "an event's event must not contain CR, LF or NUL"],
  ['LF in the id', { data: '', id: '\n' }, "an event's id must not contain CR, LF or NUL"],
  ['CR in the id', { data: '', id: '1\r\ndata: x' }, "an event's id must not contain CR, LF or NUL"],
  ['NUL in the id', { data: '', id: '1\0' }, "an event's id must not contain CR, LF or NUL"],
] as const) {
  test(`checkEvent refuses ${what}`, () => {
    assert.throws(() => checkEvent(event as never), { name: 'TypeError', message })
  })
}

test('checkEvent takes line ends and NUL in data, and hands the event on', () => {
  const event = { data: 'a\r\nb\0', event: 'e', id: '1' }

  assert.equal(checkEvent(event), event)
})

/** Parses block by block, and holds each against what the stream means with it and without it. */
function parseBlocks(bytes: Buffer): void {
  const meaning = meanings(bytes)
  const parse = createBlockParser()
  let from = 0
  for (const end of boundaries(bytes)) {
    const event = parse(bytes.toString('utf8', from, end))
    const before = meaning[from]!
    const after = meaning[end]!
    const dispatched = after.events[before.events.length]
    assert.equal(event && (event.event ?? 'message'), dispatched?.type)
    assert.equal(event?.data, dispatched?.data)
    if (event) assert.equal(event.id ?? before.lastEventId, after.lastEventId)
    from = end
  }
}

test('createBlockParser: every block is what the standard says, in every fixture', () => {
  for (const { name, bytes } of [...fixtures, ...everyMix]) {
    try {
      parseBlocks(bytes)
    } catch (error) {
      throw new Error(name, { cause: error })
    }
  }
})

test('createBlockParser: the same in random streams', () => {
  forAll(randomStream, parseBlocks)
})

test('createBlockParser: an id that a block does not carry is not its own', () => {
  const parse = createBlockParser()

  assert.equal(parse('id: 1\ndata: a\n\n')?.id, '1')
  assert.equal(parse('data: b\n\n')?.id, undefined)
  assert.equal(parse('id: 2\n\n'), undefined)
  assert.equal(parse('data: c\n\n')?.id, undefined)
  assert.equal(parse('id\ndata: d\n\n')?.id, '')
  assert.equal(parse('id: 3\0\ndata: e\n\n')?.id, undefined)
  assert.equal(parse('retry: 1\n\n'), undefined)
})

test('createBlockParser: the LF of a CR LF may come with the next block', () => {
  const parse = createBlockParser()

  assert.equal(parse('data: a\r\n\r')?.data, 'a')
  assert.equal(parse('\ndata: b\r\n\r')?.data, 'b')
  assert.equal(parse('\n'), undefined)
  assert.equal(parse('data: c\r\r')?.data, 'c')
})

test('createBlockParser: events of a MiB', () => {
  const text = 'é'.repeat(524_288)
  const parse = createBlockParser()

  assert.equal(parse(`data: ${text}\n\n`)?.data, text)
})
