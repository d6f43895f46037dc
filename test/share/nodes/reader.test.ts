// How the log is read for the clients of a node, entry by entry: what they get, and where they are told of a gap.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { LogEntry } from '../../../src/share/event-log.ts'
import { type Entry, encodeEntry } from '../../../src/share/nodes/entries.ts'
import type { KeptBounds } from '../../../src/share/nodes/kept-log.ts'
import { LogReader } from '../../../src/share/nodes/reader.ts'
import type { Position } from '../../../src/share-store.ts'

const head = { kind: 'head', node: 'a', run: 'same', isReopenable: true } as const
const first = { ...head, run: 'new' } as const
const gap: Entry = { kind: 'gap' }

test('an owner before the last goes on where it was left, and what its clients have of it does not come again', () => {
  const { reader, got } = reading()
  readAll(reader, 1, [first, opened(undefined), events('1')])
  readAll(reader, 2, [head, opened(at(1, 2)), events('2'), events('3'), events('4')])
  readAll(reader, 3, [head, opened(at(2, 4)), events('5')])

  reader.goBack(at(2, 3))
  readAll(reader, 2, [head, opened(at(1, 2)), events('2'), events('3')])
  readAll(reader, 4, [head, opened(at(2, 3)), events('4'), events('5'), events('6')])

  assert.deepEqual(got, ['1', '2', '3', '4', '5', '6'])
})

for (const [what, after] of [
  ['with the events behind it', [events('9')]],
  ['alone', []],
] as const) {
  test(`a gap that the store has lost ${what} is a hole in what the owner adds again`, () => {
    const { reader, got } = reading()
    readAll(reader, 1, [first, opened(undefined), events('1')])
    readAll(reader, 2, [head])
    for (const [i, entry] of [opened(at(1, 2)), gap, ...after].entries()) reader.wrote(at(2, i + 1), entry, false)

    reader.lost(at(1, 2))

    const { blocks, hasHole } = reader.takeAhead()
    assert.equal(hasHole, true)
    assert.deepEqual(textsOf(blocks), after.length > 0 ? ['9'] : [])
    assert.deepEqual(got, after.length > 0 ? ['1', 'gap', '9'] : ['1', 'gap'])
  })
}

test('what two failovers in a row have undone is all added again', () => {
  const { reader } = reading()
  readAll(reader, 1, [first, opened(undefined), events('1'), events('2'), events('3'), events('4')])

  reader.lost(at(1, 4))
  reader.lost(at(1, 2))

  const { blocks, hasHole } = reader.takeAhead()
  assert.deepEqual([textsOf(blocks), hasHole], [['2', '3', '4'], false])
})

test('a failover that has undone more than is remembered leaves a hole', () => {
  const { reader } = reading({ events: 2, bytes: 10_000 })
  readAll(reader, 1, [first, opened(undefined), events('1'), events('2'), events('3'), events('4')])

  reader.lost(at(1, 2))

  const { content } = reader
  const { blocks, hasHole } = reader.takeAhead()
  assert.deepEqual([textsOf(blocks), hasHole, content], [['3', '4'], true, at(1, 3)])
})

test('what a new owner has begun with comes to no client again, also where its head has been dropped by now', () => {
  const { reader, got } = reading()
  readAll(reader, 1, [first, opened(undefined), withIds(events('1')), withIds(events('2', '3'))])

  reader.read({ position: at(2, 2), bytes: encodeEntry(withIds(events('2', '3', '4'))) })
  reader.read({ position: at(3, 7), bytes: encodeEntry(withIds(events('9'))) })

  assert.deepEqual(got, ['1', '2', '3', '4', 'gap', '9'])
})

test('what clients got without the store, and was not found in it, follows nothing that is there', () => {
  const { reader } = reading()
  reader.deliverAhead([{ bytes: Buffer.from('data: 9\n\n'), id: '9', isEvent: true }], '9')
  readAll(reader, 1, [first, opened(undefined), withIds(events('1')), withIds(events('2'))])

  const { blocks, hasHole } = reader.takeAhead()

  assert.deepEqual([textsOf(blocks), hasHole], [['9'], true])
})

test('what was passed over in search of the clients is not added again as theirs', () => {
  const { reader } = reading()
  reader.deliverAhead([{ bytes: Buffer.from('data: 9\n\n'), id: '9', isEvent: true }], '9')
  readAll(reader, 1, [first, opened(undefined), withIds(events('1')), withIds(events('2'))])

  reader.lost(undefined)

  assert.deepEqual(textsOf(reader.takeAhead().blocks), ['9'])
})

test('clients are searched for in what a new owner adds with a hole, also where its head has been dropped by now', () => {
  const { reader, got } = reading()
  readAll(reader, 1, [first, opened(undefined), withIds(events('7', '8'))])
  const after = [{ ...opened(at(1, 1)), hasGap: true }, withIds(events('1', '2')), withIds(events('7', '8', '9'))]

  for (const [i, entry] of after.entries()) reader.read({ position: at(2, i + 1), bytes: encodeEntry(entry) })

  assert.deepEqual(got, ['7', '8', '9'])
})

test('what a new owner has begun with comes to no client again, also where no more than its head was heard of', () => {
  const { reader, got } = reading()
  readAll(reader, 1, [first, opened(undefined), withIds(events('1')), withIds(events('2', '3'))])
  readAll(reader, 2, [head])

  reader.read({ position: at(2, 2), bytes: encodeEntry(withIds(events('2', '3', '4'))) })

  assert.deepEqual(got, ['1', '2', '3', '4'])
})

test('clients that were not found go on with what comes next, and do not get again what they have', () => {
  const { reader, got } = reading()
  const known = { bytes: Buffer.from('data: 9\n\n'), id: '9', isEvent: true }
  reader.deliverAhead([known], '9')
  readAll(reader, 1, [first, opened(undefined), withIds(events('1'))])

  reader.giveUp()
  reader.read({ position: at(1, 3), bytes: encodeEntry(withIds(events('9', '10'))) })

  assert.deepEqual(got, ['9', '10'])
})

test('clients go on with a run that another node has begun in a store that had lost theirs, and are told', () => {
  const { reader, got } = reading()
  readAll(reader, 1, [first, opened(undefined), withIds(events('1', '2'))])

  readAll(reader, 2, [first, opened(undefined), withIds(events('2', '3')), withIds(events('4'))])
  readAll(reader, 3, [first, opened(undefined), withIds(events('9'))])

  assert.deepEqual(got, ['1', '2', '3', '4', 'gap', '9'])
  assert.equal(reader.outcome, undefined)
})

for (const [run, outcome] of [
  ['replace', 'replaced'],
  ['new', 'lost'],
] as const) {
  test(`clients of a run that nobody can ask for again are told '${outcome}' where it has been followed by a '${run}' one`, () => {
    const { reader, got } = reading()
    const once = { ...first, isReopenable: false }
    readAll(reader, 1, [once, { ...opened(undefined), isReopenable: false }, events('1')])

    readAll(reader, 2, [{ ...once, run }, opened(undefined), events('another')])

    assert.deepEqual(got, ['1'])
    assert.equal(reader.outcome, outcome)
  })
}

test('who comes late gets what is behind a hole in the log as well', () => {
  const { reader, got } = reading({ events: 100, bytes: 10_000 }, false)
  readAll(reader, 1, [first, opened(undefined), withIds(events('1', '2'))])

  readAll(reader, 2, [{ ...first, run: 'same' }, { ...opened(at(1, 2)), hasGap: true }, withIds(events('5', '6'))])

  assert.deepEqual(got, ['1', '2', 'gap', '5', '6'])
})

/** A reader, and what its clients have got, gaps included. */
function reading(
  bounds: KeptBounds = { events: 100, bytes: 10_000 },
  mayBeLive = true,
): { reader: LogReader; got: string[] } {
  const got: string[] = []
  const sink = {
    get isLive() {
      return mayBeLive && got.length > 0
    },
    begin() {},
    deliver: (blocks: readonly LogEntry[]) => got.push(...textsOf(blocks)),
    gap: () => got.push('gap'),
  }
  return { reader: new LogReader(sink, { bounds, bufferBytes: 10_000, isReopenable: true }, () => 0), got }
}

/** The log of one owner, from its head on. */
function readAll(reader: LogReader, fence: number, entries: readonly Entry[]): void {
  for (const [seq, entry] of entries.entries()) reader.read({ position: at(fence, seq), bytes: encodeEntry(entry) })
}

function at(fence: number, seq: number): Position {
  return { fence, seq }
}

function opened(follows: Position | undefined): Extract<Entry, { kind: 'opened' }> {
  const run = { statusMessage: 'OK', headers: [], idBefore: '' }
  return { kind: 'opened', head: run, isReopenable: true, began: undefined, follows, hasGap: false }
}

/** Of an upstream without ids. */
function events(...data: readonly string[]): Extract<Entry, { kind: 'events' }> {
  const blocks = data.map((text) => ({ bytes: Buffer.from(`data: ${text}\n\n`), id: undefined, isEvent: true }))
  return { kind: 'events', blocks, cursor: '' }
}

function withIds({ kind, blocks }: Extract<Entry, { kind: 'events' }>): Entry {
  const ids = textsOf(blocks)
  return { kind, blocks: blocks.map((block, i) => ({ ...block, id: ids[i] })), cursor: ids.at(-1) ?? '' }
}

function textsOf(blocks: readonly LogEntry[]): string[] {
  return blocks.map(({ bytes }) => bytes.toString('latin1', 6).trim())
}
