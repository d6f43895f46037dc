import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Cursor } from '../../src/events/cursor.ts'
import { BlockCursor } from '../../src/share/block-cursor.ts'
import { type Block, blocksOf, isKept } from '../../src/share/blocks.ts'
import { forAll } from '../stream/fixtures.ts'

const long = 'x'.repeat(9000)
const line = fc.constantFrom(
  'data: a',
  `data: ${long}`,
  'data',
  'id: 1',
  'id',
  'id: é',
  'id: 2\0',
  'retry: 7',
  ': c',
  `: ${long}`,
)
const lines = fc.array(fc.oneof({ weight: 3, arbitrary: line }, { weight: 2, arbitrary: fc.constant('') }), {
  maxLength: 30,
})
const streams = fc.tuple(lines, fc.constantFrom('\n', '\n', '\r\n', '\r'), fc.boolean()).map(([all, end, isWhole]) => {
  const text = all.map((each) => each + end).join('')
  return Buffer.from(isWhole ? `${text}${end}${end}` : text)
})
const cuts = fc.array(fc.nat(60_000), { maxLength: 4 })

function cutAt(bytes: Buffer, places: readonly number[]): Buffer[] {
  const all = [0, ...places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]
  return all.slice(1).map((end, i) => bytes.subarray(all[i], end))
}

function told(blocks: readonly Block[]): object[] {
  return blocks.map(({ bytes, length, id, isEvent }) => ({ bytes: bytes.toString(), length, id, isEvent }))
}

test('what is kept is the same however the bytes are cut', () => {
  forAll(fc.tuple(streams, cuts), ([bytes, places]) => {
    const kept = (pieces: readonly Buffer[]) => told(blocksOf(pieces).filter(isKept))

    assert.deepEqual(kept(cutAt(bytes, places)), kept([bytes]))
  })
})

test('blocks are all of the bytes, in order', () => {
  forAll(fc.tuple(streams, cuts), ([bytes, places]) => {
    const blocks = blocksOf(cutAt(bytes, places))

    assert.ok(Buffer.concat(blocks.map((block) => block.bytes)).equals(bytes))
  })
})

test('a cursor that keeps blocks stands where any other stands, and has the blocks that passed', () => {
  const whole = streams.map((bytes) => Buffer.concat([bytes, Buffer.from('\n\n')]))
  forAll(fc.array(whole, { maxLength: 4 }), (reads) => {
    const [own, other] = [new BlockCursor('before'), new Cursor('before')]

    for (const read of reads) {
      for (const cursor of [own, other]) cursor.pass(read, true)
      const blocks = own.takeBlocks()

      assert.deepEqual([own.events, own.lastEventId, own.retryMs], [other.events, other.lastEventId, other.retryMs])
      if (blocks) assert.deepEqual(told(blocks), told(blocksOf([read])))
      assert.equal(own.takeBlocks(), undefined)
    }
  })
})

test('what passed in parts is not known by its blocks', () => {
  const cursor = new BlockCursor('')

  cursor.pass(Buffer.from('data: a\n\n'), true)
  cursor.pass(Buffer.from('data: b'), false)
  cursor.pass(Buffer.from('\n\n'), false)

  assert.equal(cursor.events, 2)
  assert.equal(cursor.takeBlocks(), undefined)
})
