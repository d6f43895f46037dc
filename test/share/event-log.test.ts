import assert from 'node:assert/strict'
import { mock, test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import fc from 'fast-check'
import { blocksOf } from '../../src/share/blocks.ts'
import { type EventLog, type LogBounds, type LogEntry, MemoryEventLog } from '../../src/share/event-log.ts'
import { forAll } from '../stream/fixtures.ts'
import { collectGarbage } from '../support/memory.ts'

const wide: LogBounds = { events: 1000, bytes: 1_000_000, ageMs: 1_000_000 }

const unbounded = { add() {}, enter() {}, leave() {} }

function event(id: string | undefined, text = `data: ${id ?? ''}\n\n`): LogEntry {
  return { bytes: Buffer.from(text), id, isEvent: true }
}

function texts(log: EventLog, position: number): string[] {
  return log.since(position).map(({ bytes }) => bytes.toString())
}

test('gives what came after an id, and nothing when that is the last', () => {
  const log = new MemoryEventLog(wide, '', unbounded)

  for (const id of ['1', '2', '3']) log.append([event(id)], 0)

  assert.deepEqual(texts(log, log.positionAfter('1')!), ['data: 2\n\n', 'data: 3\n\n'])
  assert.deepEqual(texts(log, log.positionAfter('3')!), [])
})

test('does not know an id that never came, nor one that is gone', () => {
  const log = new MemoryEventLog({ ...wide, events: 2 }, '', unbounded)

  for (const id of ['1', '2', '3', '4']) log.append([event(id)], 0)

  assert.equal(log.positionAfter('1'), undefined)
  assert.equal(log.positionAfter('9'), undefined)
  assert.deepEqual(texts(log, log.positionAfter('2')!), ['data: 3\n\n', 'data: 4\n\n'])
  assert.equal(log.idBefore, '2')
})

test('knows the id with which the stream began', () => {
  const log = new MemoryEventLog(wide, '7', unbounded)

  log.append([event('8')], 0)

  assert.deepEqual(texts(log, log.positionAfter('7')!), ['data: 8\n\n'])
})

test('an id that came several times stands for its last place', () => {
  const log = new MemoryEventLog(wide, '', unbounded)

  for (const id of ['1', '2', '1', '3']) log.append([event(id)], 0)

  assert.deepEqual(texts(log, log.positionAfter('1')!), ['data: 3\n\n'])
})

test('an id whose first place is gone is still known by its last', () => {
  const log = new MemoryEventLog({ ...wide, events: 2 }, '', unbounded)

  for (const id of ['1', '2', '1', '3']) log.append([event(id)], 0)

  assert.deepEqual(texts(log, log.positionAfter('1')!), ['data: 3\n\n'])
})

test('after an event without an id was dropped, the id before it is no place to go on from', () => {
  const log = new MemoryEventLog({ ...wide, events: 1 }, '', unbounded)

  log.append([event('1')], 0)
  log.append([event(undefined, 'data: lost\n\n')], 0)
  log.append([event(undefined, 'data: kept\n\n')], 0)

  assert.equal(log.positionAfter('1'), undefined)
})

test('comments take no place among the events', () => {
  const log = new MemoryEventLog({ ...wide, events: 2 }, '', unbounded)

  for (const id of ['1', '2', '3']) {
    log.append([event(id)], 0)
    for (let count = 0; count < 5; count += 1) {
      log.append([{ bytes: Buffer.from(': ping\n\n'), id: undefined, isEvent: false }], 0)
    }
  }

  const position = log.positionAfter('1')
  assert.notEqual(position, undefined)
  const kept = texts(log, position!).filter((text) => text.startsWith('data'))
  assert.deepEqual(kept, ['data: 2\n\n', 'data: 3\n\n'])
})

test('an event larger than all that may be kept passes without being kept', () => {
  const log = new MemoryEventLog({ ...wide, bytes: 20 }, '', unbounded)

  log.append([event('1')], 0)
  log.append([event('2', `data: ${'x'.repeat(30)}\n\n`)], 0)

  assert.deepEqual(texts(log, log.first), [])
  assert.equal(log.idBefore, '2')
  assert.deepEqual(texts(log, log.positionAfter('2')!), [])
  assert.equal(log.positionAfter('1'), undefined)
})

test('an event is kept up to its age, and not longer', () => {
  const log = new MemoryEventLog({ ...wide, ageMs: 100 }, '', unbounded)
  log.append([event('1')], 0)
  log.append([event('2')], 50)

  log.trim(100)
  assert.equal(texts(log, log.first).length, 2)
  log.trim(101)

  assert.deepEqual(texts(log, log.first), ['data: 2\n\n'])
  assert.equal(log.positionAfter('1'), log.first)
})

// Against everything that ever came, kept in an array, with the bounds applied anew each time.

interface Step {
  readonly id: string | undefined
  readonly isEvent: boolean
  readonly length: number
  readonly later: number
}

const steps = fc.array(
  fc.record({
    id: fc.option(fc.constantFrom('a', 'b', 'c', 'd', 'e', ''), { nil: undefined, freq: 3 }),
    isEvent: fc.boolean(),
    length: fc.integer({ min: 1, max: 40 }),
    later: fc.integer({ min: 0, max: 30 }),
  }),
  { maxLength: 60 },
)
const someBounds = fc.record({
  events: fc.integer({ min: 1, max: 12 }),
  bytes: fc.integer({ min: 1, max: 250 }),
  ageMs: fc.integer({ min: 1, max: 120 }),
})

interface Past {
  readonly number: number
  readonly id: string | undefined
  readonly isEvent: boolean
  readonly size: number
  readonly at: number
}

function blockOf({ id, isEvent, length }: Step, number: number): LogEntry {
  return { bytes: Buffer.from(`${number}:`.padEnd(length + 4, 'x')), id, isEvent }
}

function numbersSince(log: EventLog, position: number): number[] {
  return log.since(position).map(({ bytes }) => Number.parseInt(bytes.toString(), 10))
}

test('property: what is kept is the end of what came, in order, within every bound, and as much as they allow', () => {
  forAll(fc.tuple(steps, someBounds), ([all, bounds]) => {
    const log = new MemoryEventLog(bounds, 'start', unbounded)
    const past: Past[] = []
    let now = 0
    for (const [number, step] of all.entries()) {
      now += step.later
      const block = blockOf(step, number)
      log.append([block], now)
      past.push({ number, id: step.id, isEvent: step.isEvent, size: block.bytes.length, at: now })

      const kept = numbersSince(log, log.first)
      const tail = past.slice(past.length - kept.length)
      assert.deepEqual(
        kept,
        tail.map((each) => each.number),
      )
      assert.ok(tail.filter(({ isEvent }) => isEvent).length <= bounds.events)
      assert.ok(tail.reduce((sum, { size }) => sum + size, 0) <= bounds.bytes)
      assert.ok(tail.every(({ at }) => now - at <= bounds.ageMs))
      assert.equal(log.end - log.first, kept.length)
    }
  })
})

test('property: an id leads to exactly what came after it, or is said to be unknown; no event is lost in silence', () => {
  forAll(fc.tuple(steps, someBounds), ([all, bounds]) => {
    const log = new MemoryEventLog(bounds, 'start', unbounded)
    const past: Past[] = []
    let now = 0
    for (const [number, step] of all.entries()) {
      now += step.later
      const block = blockOf(step, number)
      log.append([block], now)
      past.push({ number, id: step.id, isEvent: step.isEvent, size: block.bytes.length, at: now })

      for (const id of ['a', 'b', 'c', 'd', 'e', 'start', 'never']) {
        const position = log.positionAfter(id)
        const at = past.findLastIndex((each) => each.id === id)
        if (position === undefined) continue
        assert.ok(at !== -1 || id === 'start', `${id} never came`)
        const given = numbersSince(log, position)
        const missed = past.slice(at + 1).filter(({ isEvent }) => isEvent)
        // Blocks that are no events may be gone, events may not.
        const givenEvents = given.filter((each) => past[each]!.isEvent)
        assert.deepEqual(
          givenEvents,
          missed.map((each) => each.number),
          `after ${id}`,
        )
        assert.ok(given.every((each) => each > at))
      }
    }
  })
})

test('property: an id is known as long as all the events that came after it are kept', () => {
  forAll(fc.tuple(steps, someBounds), ([all, bounds]) => {
    const log = new MemoryEventLog(bounds, 'start', unbounded)
    const past: Past[] = []
    let now = 0
    for (const [number, step] of all.entries()) {
      now += step.later
      const block = blockOf(step, number)
      log.append([block], now)
      past.push({ number, id: step.id, isEvent: step.isEvent, size: block.bytes.length, at: now })
    }

    const first = numbersSince(log, log.first)[0] ?? past.length
    for (const id of ['a', 'b', 'c', 'd', 'e']) {
      const at = past.findLastIndex((each) => each.id === id)
      if (at >= first) assert.notEqual(log.positionAfter(id), undefined, id)
    }
  })
})

test('property: the id before what is kept is the last that was set by what is gone', () => {
  forAll(fc.tuple(steps, someBounds), ([all, bounds]) => {
    const log = new MemoryEventLog(bounds, 'start', unbounded)
    const past: Past[] = []
    let now = 0
    for (const [number, step] of all.entries()) {
      now += step.later
      const block = blockOf(step, number)
      log.append([block], now)
      past.push({ number, id: step.id, isEvent: step.isEvent, size: block.bytes.length, at: now })

      const kept = numbersSince(log, log.first).length
      const gone = past.slice(0, past.length - kept)
      assert.equal(log.idBefore, gone.findLast((each) => each.id !== undefined)?.id ?? 'start')
    }
  })
})

test('property: events are counted from any place as they are given from it', () => {
  forAll(fc.tuple(steps, someBounds), ([all, bounds]) => {
    const log = new MemoryEventLog(bounds, '', unbounded)
    for (const [number, step] of all.entries()) log.append([blockOf(step, number)], 0)

    for (let position = 0; position <= log.end; position += 1) {
      const given = numbersSince(log, position)
      assert.equal(log.eventsSince(position), given.filter((number) => all[number]!.isEvent).length)
    }
  })
})

test('a place before the first kept gives all that is kept, and the place at the end nothing', () => {
  const log = new MemoryEventLog({ ...wide, events: 3 }, '', unbounded)

  for (let id = 0; id < 10; id += 1) log.append([event(String(id))], 0)

  assert.equal(log.since(0).length, 3)
  assert.equal(log.since(log.first).length, 3)
  assert.equal(log.since(log.end).length, 0)
})

test('what is kept stays small however much comes: entries, ids and bytes', async () => {
  const log = new MemoryEventLog({ events: 10, bytes: 1000, ageMs: 1000 }, '', unbounded)
  const before = heapBytes()

  for (let id = 0; id < 300_000; id += 1) log.append([event(`an id that is not that short ${id}`)], id)

  assert.equal(log.since(0).length, 10)
  assert.equal(log.positionAfter('an id that is not that short 299980'), undefined)
  const grown = await settled(
    () => heapBytes() - before,
    (bytes) => bytes < 2_000_000,
  )
  assert.ok(grown < 2_000_000, `${grown} bytes`)
})

test('what one read brought is kept as if it had come entry by entry', () => {
  forAll(fc.tuple(steps, someBounds), ([all, bounds]) => {
    const [together, oneByOne] = [new MemoryEventLog(bounds, '', unbounded), new MemoryEventLog(bounds, '', unbounded)]
    const entries = all.map(blockOf)

    together.append(entries, 0)
    for (const entry of entries) oneByOne.append([entry], 0)

    assert.deepEqual(together.since(0), oneByOne.since(0))
    assert.deepEqual([together.first, together.idBefore], [oneByOne.first, oneByOne.idBefore])
    for (const id of ['a', '', 'e']) assert.equal(together.positionAfter(id), oneByOne.positionAfter(id))
  })
})

test('blocks that are no events are bounded as well', () => {
  const log = new MemoryEventLog({ events: 10, bytes: 100_000, ageMs: 1000 }, '', unbounded)

  for (let count = 0; count < 100_000; count += 1) {
    log.append([{ bytes: Buffer.from('\n'), id: undefined, isEvent: false }], count)
    log.append([{ bytes: Buffer.from(`id: ${count}\n\n`), id: String(count), isEvent: false }], count)
  }

  assert.ok(log.since(0).length <= 100_000 / 128, String(log.since(0).length))
})

test('what is kept is a copy: what it came in may be read into again', () => {
  const log = new MemoryEventLog(wide, '', unbounded)
  const read = Buffer.from('data: a\n\ndata: b\n\n')

  log.append(blocksOf([read]), 0)
  read.fill('x')

  assert.deepEqual(texts(log, 0), ['data: a\n\n', 'data: b\n\n'])
})

test('an event that came in several reads is kept as one', () => {
  const log = new MemoryEventLog(wide, '', unbounded)
  const large = `data: ${'x'.repeat(20_000)}\n\n`
  const bytes = Buffer.from(`${large}data: b\n\n`)

  log.append(blocksOf([bytes.subarray(0, 9000), bytes.subarray(9000, 18_000), bytes.subarray(18_000)]), 0)

  assert.deepEqual(texts(log, 0), [large, 'data: b\n\n'])
})

const large = (name: string): LogEntry => event(undefined, `data: ${name.repeat(10_000)}\n\n`)

test('the memory of what is dropped is used again, and not where somebody has got a part of it', () => {
  const log = new MemoryEventLog({ ...wide, events: 1 }, '', unbounded)

  log.append([large('a')], 0)
  log.append([large('b')], 0)
  log.append([large('c')], 0)
  const [third] = log.since(0)
  log.append([large('d')], 0)
  log.append([large('e')], 0)
  const [fifth] = log.since(0)

  assert.deepEqual(third?.bytes, large('c').bytes)
  assert.deepEqual(fifth?.bytes, large('e').bytes)
  assert.notEqual(third?.bytes.buffer, fifth?.bytes.buffer)
})

test('an event takes the memory of one that was dropped before', () => {
  const log = new MemoryEventLog({ ...wide, events: 1 }, '', unbounded)
  const entries = ['a', 'b', 'c', 'd', 'e'].map(large)
  const allocated = mock.method(Buffer, 'allocUnsafeSlow')

  for (const entry of entries) log.append([entry], 0)
  const count = allocated.mock.callCount()
  mock.restoreAll()

  assert.equal(count, 1)
  assert.deepEqual(texts(log, 0), [large('e').bytes.toString()])
})

test('what is left of a read where others need memory keeps nothing of the rest', () => {
  const log = new MemoryEventLog(wide, '', unbounded)
  log.append([large('a'), large('b'), event('1')], 0)

  log.trimTo(1000)

  const [left] = log.since(0)
  assert.equal(left?.bytes.toString(), 'data: 1\n\n')
  assert.ok(left?.bytes.buffer.byteLength === left?.bytes.length)
})

test('memory that waits for the next event counts, and goes first where others need it', () => {
  const log = new MemoryEventLog({ ...wide, ageMs: 10 }, '', unbounded)
  log.append([large('a')], 0)
  log.append([event('1')], 5)
  log.trim(12)
  const { memoryBytes } = log

  log.trimTo(memoryBytes - 1)

  assert.ok(memoryBytes > large('a').bytes.length)
  assert.ok(log.memoryBytes < 1000)
  assert.deepEqual(texts(log, 0), ['data: 1\n\n'])
})

/** The memory of buffers is given back in the background, some time after the collection that found them unused. */
async function settled(measure: () => number, isEnough: (value: number) => boolean): Promise<number> {
  for (let turn = 0; turn < 50 && !isEnough(measure()); turn += 1) await setTimeout(20)
  return measure()
}

function heapBytes(): number {
  collectGarbage()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

test('a current value is kept whatever its age and the bounds, and a client without an id begins with it', () => {
  const log = new MemoryEventLog({ events: 1, bytes: 10, ageMs: 10 }, '', unbounded)
  log.append([event('1')], 0)
  log.beginValue()

  log.append([event('2')], 0)
  log.append([event('3')], 0)
  log.trim(1000)

  assert.deepEqual(texts(log, log.beforeLast(0)), ['data: 2\n\n', 'data: 3\n\n'])
  log.beginValue()
  log.append([event('4')], 1000)
  assert.deepEqual(texts(log, log.first), ['data: 4\n\n'])
})

test('a current value gives way when its memory is needed for others', () => {
  const log = new MemoryEventLog(wide, '', unbounded)
  log.beginValue()
  log.append([event('1')], 0)

  log.trimTo(0)

  assert.deepEqual(texts(log, log.beforeLast(0)), [])
  assert.equal(log.memoryBytes, 0)
})
