import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decodeId, FieldReader, withLf } from '../../src/events/fields.ts'
import { BOM, boundaries, everyMix, fixtures, forAll, meanings, randomStream } from '../stream/fixtures.ts'

/** Each block by itself, held against what the stream means with it and without it. */
function lookAtBlocks(bytes: Buffer): void {
  const meaning = meanings(bytes)
  let from = 0
  for (const end of boundaries(bytes)) {
    const before = meaning[from]!
    const after = meaning[end]!
    // A block that is looked at by itself has no byte order mark any more.
    const { id, hasData } = fieldsOf(
      (from === 0 ? withoutMark(bytes.subarray(0, end)) : bytes.subarray(from, end)).toString('latin1'),
    )
    assert.equal(hasData, after.events.length > before.events.length, `from ${from} to ${end}`)
    assert.equal(id ?? before.lastEventId, after.lastEventId, `from ${from} to ${end}`)
    from = end
  }
}

/** What one block sets, and whether it is an event. */
function fieldsOf(block: string): { id: string | undefined; hasData: boolean } {
  const fields = new FieldReader()
  const text = withLf(block)
  fields.read(text, 0, text.length)
  return { id: fields.id === undefined ? undefined : decodeId(fields.id), hasData: fields.events > 0 }
}

function withoutMark(bytes: Buffer): Buffer {
  return bytes.indexOf(BOM) === 0 ? bytes.subarray(Buffer.byteLength(BOM)) : bytes
}

test('what one block sets, in every fixture', () => {
  for (const { name, bytes } of [...fixtures, ...everyMix]) named(name, () => lookAtBlocks(bytes))
})

test('what one block sets in random streams', () => {
  forAll(randomStream, lookAtBlocks)
})

test('a very long id is taken whole or counts as none, as it does for the cursor', () => {
  for (const length of [8000, 8193, 20_000]) {
    const long = 'x'.repeat(length)

    const { id } = fieldsOf(`id: 1\nid: ${long}\ndata: a\n\n`)

    assert.ok(id !== undefined && [long, ''].includes(id), `of ${length} characters ${id?.length ?? 'none'} stay`)
  }
})

test('what a block on its way has set is remembered, and counts when the block is over', () => {
  const fields = new FieldReader()
  const start = 'id: 1\n\nid: a longer one\ndata: a\n'
  fields.read(start, 0, start.length)
  assert.deepEqual([fields.events, fields.id], [0, '1'])

  fields.forget()
  fields.read('\n', 0, 1)

  assert.deepEqual([fields.events, fields.id], [1, 'a longer one'])
})

test('of a text only the part that is asked for is read, and whether it has a blank line', () => {
  const text = 'id: 1\n\nid: 2\ndata: a\n\nid: 3\n\n'
  const fields = new FieldReader()

  assert.equal(fields.read(text, 7, 21), false)
  assert.equal(fields.read(text, 21, 22), true)

  assert.deepEqual([fields.events, fields.id], [1, '2'])
})

function named(name: string, check: () => void): void {
  try {
    check()
  } catch (error) {
    throw new Error(name, { cause: error })
  }
}
