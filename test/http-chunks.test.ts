import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ChunkWalker, takeData } from '../src/http-chunks.ts'
import { forAll, inBytes, inThree, inTwo } from './stream/fixtures.ts'
import { Dechunker } from './support/chunked.ts'

const plain = {
  'one chunk': '3\r\nabc\r\n',
  'several chunks': '1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n',
  'data that looks like chunks': '5\r\n\r\n1\r\n\r\n7\r\n3\r\nabc\r\r\n',
  'capitals and leading zeros': '0A\r\n0123456789\r\n000000b\r\n0123456789\n\r\n',
  'an unfinished size': '1\r\na\r\n1',
  'a size without data': '1\r\na\r\n1c\r\n',
  'unfinished data': '1\r\na\r\n3\r\nbc',
  'data without its line end': '1\r\na\r\n3\r\nbcd\r',
} as const

// What is foreign begins at the place that is marked.
const foreign = {
  'a last chunk': '1\r\na\r\n0|\r\n\r\n',
  'a last chunk of many zeros': '1\r\na\r\n0000|\r\n\r\n',
  'a last chunk with trailers': '1\r\na\r\n0|\r\nX: 1\r\n\r\n',
  'a body that is empty': '0|\r\n\r\n',
  'an extension': '1\r\na\r\n3|;x=y\r\nbcd\r\n',
  'an extension after a space': '3| ;x\r\nbcd\r\n',
  'a space before the size': '1\r\na\r\n| 3\r\nbcd\r\n',
  'a size of words': '1\r\na\r\n|zz\r\n',
  'a negative size': '|-1\r\na\r\n',
  'a size with a prefix': '0|x1\r\na\r\n',
  'a size of nothing': '1\r\na\r\n|\r\n',
  'a size that ends with LF': '3|\nabc\r\n',
  'a CR without LF after a size': '3\r|abc\r\n',
  'data that is longer than its size': '3\r\nabc|d\r\n',
  'data that ends with LF': '3\r\nabc|\n',
  'a CR without LF after data': '3\r\nabc\r|3\r\n',
  'two line ends after data': '3\r\nabc\r\n|\r\n',
  'eight digits': '0000000|3\r\nabc\r\n',
  'a size that overflows': 'fffffff|ffffffffff\r\nabc\r\n',
} as const

function bytesOf(marked: string): { bytes: Buffer; foreignAt: number } {
  const at = marked.indexOf('|')
  return { bytes: Buffer.from(marked.replace('|', '')), foreignAt: at === -1 ? Number.POSITIVE_INFINITY : at }
}

/** In one, in two and in three at every place, and byte by byte. */
function* splitsOf(bytes: Buffer): Generator<Buffer[]> {
  yield [bytes]
  yield inBytes(bytes)
  yield* inTwo(bytes)
  yield* inThree(bytes)
}

/** Walks through all of the bytes; how much data is in them, or undefined from a last or an unknown chunk on. */
function walk(walker: ChunkWalker, bytes: Buffer): number | undefined {
  let data = 0
  for (let at = 0; at < bytes.length; ) {
    at = walker.next(bytes, at)
    data += walker.dataEnd - walker.dataStart
  }
  return walker.isForeign ? undefined : data
}

/** Passes the pieces on, and holds each answer against the slow way. */
function follow(pieces: readonly Buffer[], foreignAt = Number.POSITIVE_INFINITY): void {
  const walker = new ChunkWalker()
  const expected = new Dechunker()
  let came = 0
  for (const piece of pieces) {
    came += piece.length
    const passed = walk(walker, piece)
    const data = expected.take(piece)
    assert.equal(passed, came > foreignAt ? undefined : data.length, `after ${came} bytes`)
    if (passed !== undefined) assert.equal(walker.isBetweenChunks, expected.isBetweenChunks)
  }
}

for (const [name, text] of Object.entries({ ...plain, ...foreign })) {
  test(`${name}: as much data as there is, up to what is foreign, wherever it is split`, () => {
    const { bytes, foreignAt } = bytesOf(text)

    for (const pieces of splitsOf(bytes)) follow(pieces, foreignAt)
  })
}

for (const [name, text] of Object.entries({ ...plain, ...foreign })) {
  test(`${name}: a step ends where the chunk on its way does, from every place, and its data is what a slow reader has of it`, () => {
    const { bytes, foreignAt } = bytesOf(text)

    for (let from = 0; from < Math.min(bytes.length, foreignAt); from++) {
      for (let to = from + 1; to <= bytes.length; to++) {
        const walker = new ChunkWalker()
        const expected = new Dechunker()
        walk(walker, bytes.subarray(0, from))
        expected.take(bytes.subarray(0, from))
        if (expected.isBetweenChunks) continue
        const rest = bytes.subarray(from, to)

        const end = walker.next(rest, 0)

        const { at, data } = expected.takeRestOfChunk(rest)
        const isForeign = from + at > foreignAt
        assert.equal(walker.isForeign, isForeign)
        assert.equal(end, isForeign ? rest.length : at, JSON.stringify([from, to]))
        if (!isForeign) assert.ok(rest.subarray(walker.dataStart, walker.dataEnd).equals(data))
      }
    }
  })
}

test('what a chunk misses is known from its size on', () => {
  const bytes = Buffer.from('3\r\nabc\r\n')
  const walker = new ChunkWalker()
  const missing = inBytes(bytes).map((byte) => {
    walk(walker, byte)
    return walker.missingBytes
  })

  assert.deepEqual(missing, [0, 0, 5, 4, 3, 2, 1, 0])
})

test('after what is foreign nothing is known any more', () => {
  const walker = new ChunkWalker()
  walk(walker, Buffer.from('1\r\na\r\n0\r\n\r\n'))

  assert.equal(walk(walker, Buffer.from('1\r\na\r\n')), undefined)
})

test('seven digits of size are counted down to the last byte', () => {
  const walker = new ChunkWalker()
  const part = Buffer.alloc(0x0800000)

  assert.equal(walk(walker, Buffer.from('2000000\r\n')), 0)
  for (let count = 0; count < 4; count++) assert.equal(walk(walker, part), part.length)

  assert.equal(walk(walker, Buffer.from('\r\n1\r\na\r\n')), 1)
})

test('any bytes made of what matters in chunks, cut anywhere, are read as the slow way reads them', () => {
  const token = fc.constantFrom('0', '1', '2', 'a', 'A', 'f', '00', '\r', '\n', '\r\n', '1\r\nx\r\n', '2\r\n', ';', ' ')
  const pieces = fc.array(fc.array(token, { minLength: 1, maxLength: 4 }), { maxLength: 12 })

  forAll(pieces, (tokens) => {
    const walker = new ChunkWalker()
    const expected = new Dechunker()
    let isKnown = true
    for (const piece of tokens.map((some) => Buffer.from(some.join('')))) {
      const data = expected.take(piece)
      const passed = walk(walker, piece)
      // Eight digits are none of these: the slow way would read on.
      if (passed === undefined && !expected.isOver) return
      isKnown &&= !expected.isOver
      assert.equal(passed, isKnown ? data.length : undefined)
    }
  })
})

test('the data of whole chunks is what a slow reader has of them, and what comes after them is left', () => {
  const token = fc.constantFrom(
    '0',
    'a',
    '\r\n',
    '1\r\nx\r\n',
    '2\r\nyz\r\n',
    '00A\r\n0123456789\r\n',
    '0\r\n\r\n',
    ';',
  )

  forAll(fc.array(token, { maxLength: 12 }), (tokens) => {
    const bytes = Buffer.from(tokens.join(''))
    const all = new Dechunker().take(bytes).toString()

    const { data, missing, rest } = takeData(Buffer.from(bytes))

    assert.equal(data.toString() + new Dechunker().take(rest).toString(), all)
    assert.equal(takeData(Buffer.from(rest)).data.length, 0)
    assert.ok(bytes.toString().endsWith(rest.toString()))
    // As the rest of the chunk would come.
    const more = new Dechunker()
    more.take(bytes)
    if (missing > 0) assert.equal(more.take(Buffer.from(`${'x'.repeat(missing)}\r\n`)).length, missing)
    if (missing > 0) assert.ok(rest.length === 0 && more.isBetweenChunks)
  })
})
