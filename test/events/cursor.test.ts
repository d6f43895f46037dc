import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Cursor, startsOfLines } from '../../src/events/cursor.ts'
import type { EventFramer } from '../../src/events/framer.ts'
import {
  BOM,
  boundaries,
  cutsOf,
  everyMix,
  fixtures,
  forAll,
  framer as framerWith,
  inBytes,
  inThree,
  inTwo,
  meanings,
  randomPieces,
  randomStream,
} from '../stream/fixtures.ts'
import { heapUsed } from '../support/memory.ts'
import { type Interpretation, interpret } from '../support/oracle.ts'

/** What a cursor should know when this much has passed. */
function known({ events, lastEventId, retry }: Interpretation): unknown {
  return { events: events.length, lastEventId, retryMs: retry }
}

function knownBy({ events, lastEventId, retryMs }: Cursor): unknown {
  return { events, lastEventId, retryMs }
}

/** A cursor gets an upstream's bytes without the byte order mark at their start. */
function markBytesOf(bytes: Buffer): number {
  return bytes.indexOf(BOM) === 0 ? Buffer.byteLength(BOM) : 0
}

/** Passes whole events, `count` blocks at a time. */
function passWhole(bytes: Buffer, count: number): void {
  const meaning = meanings(bytes)
  const ends = boundaries(bytes)
  const cursor = new Cursor('')
  let from = markBytesOf(bytes)
  for (let i = count - 1; i < ends.length; i += count) {
    const end = ends[i]!
    cursor.pass(bytes.subarray(from, end), true)
    from = end
    assert.deepEqual(knownBy(cursor), known(meaning[end]!), `after ${end} bytes`)
  }
}

/** Passes pieces as they are; `whole` says so where one ends with an event, as far as anybody looked. */
function passPieces(pieces: readonly Buffer[], looksAt: (index: number) => boolean = () => true): void {
  const bytes = Buffer.concat(pieces)
  const meaning = meanings(bytes)
  const ends = new Set(boundaries(bytes))
  const cursor = new Cursor('')
  let mark = markBytesOf(bytes)
  let passed = 0
  for (const [i, piece] of pieces.entries()) {
    passed += piece.length
    const skipped = Math.min(mark, piece.length)
    mark -= skipped
    cursor.pass(piece.subarray(skipped), ends.has(passed) && looksAt(i))
    assert.deepEqual(knownBy(cursor), known(meaning[passed]!), `after ${passed} bytes`)
  }
}

test('whole events: id, count and retry are what the standard says, after every block of every fixture', () => {
  for (const { name, bytes } of [...fixtures, ...everyMix]) {
    for (const count of [1, 2, 3, Math.max(1, boundaries(bytes).length)]) {
      named(`${name}, ${count} at a time`, () => passWhole(bytes, count))
    }
  }
})

test('whole events: the same over random streams', () => {
  forAll(fc.tuple(randomStream, fc.integer({ min: 1, max: 4 })), ([bytes, count]) => passWhole(bytes, count))
})

test('bytes as they come: id, count and retry are what the standard says, after every piece of every cut', () => {
  for (const { name, bytes } of fixtures) {
    const cuts = bytes.length <= 60 ? cutsOf(bytes, 24) : [[bytes], inBytes(bytes), ...inTwo(bytes)]
    for (const pieces of cuts) named(name, () => passPieces(pieces))
  }
  for (const { name, bytes } of everyMix) {
    for (const pieces of [[bytes], inBytes(bytes)]) named(name, () => passPieces(pieces))
  }
})

test('bytes as they come: the same over random streams', () => {
  forAll(randomPieces, (pieces) => passPieces(pieces))
})

test('bytes as they come: the same when only some ends of events are known for what they are', () => {
  forAll(fc.tuple(randomPieces, fc.array(fc.boolean(), { minLength: 1 })), ([pieces, looks]) =>
    passPieces(pieces, (i) => looks[i % looks.length] ?? true),
  )
})

/** Lets a framer take a piece, and the cursor what leaves of it. */
function passLeft(framer: EventFramer, cursor: Cursor, piece: Buffer): readonly Buffer[] {
  const left = framer.take(piece)
  for (const [i, bytes] of left.entries()) {
    cursor.pass(bytes.subarray(i === 0 ? framer.markBytes : 0), left.length === 1 && framer.atBoundary)
  }
  return left
}

test('behind a framer: what has left is what counts', () => {
  forAll(randomPieces, (pieces) => {
    const framer = framerWith({ eventBytes: 20 })
    const cursor = new Cursor('')
    let left = Buffer.alloc(0)

    for (const piece of pieces) {
      left = Buffer.concat([left, ...passLeft(framer, cursor, piece)])
      assert.deepEqual(knownBy(cursor), known(interpret(left)))
    }
  })
})

function named(name: string, check: () => void): void {
  try {
    check()
  } catch (error) {
    throw new Error(name, { cause: error })
  }
}

for (const whole of [true, false]) {
  const how = whole ? 'whole events' : 'bytes as they come'

  test(`${how}: the client's own id counts until another one has passed`, () => {
    const cursor = new Cursor('own')

    cursor.pass(Buffer.from('data: a\n\n'), whole)
    assert.equal(cursor.lastEventId, 'own')
    cursor.pass(Buffer.from('id: 1\n\n'), whole)
    assert.equal(cursor.lastEventId, '1')
  })

  test(`${how}: an empty id takes the client's own back`, () => {
    const cursor = new Cursor('own')

    cursor.pass(Buffer.from('id\ndata: a\n\n'), whole)

    assert.equal(cursor.lastEventId, '')
  })

  test(`${how}: an id with NUL is none, and the one before it stays`, () => {
    const cursor = new Cursor('own')

    cursor.pass(Buffer.from('id: 1\nid: 2\0\ndata: a\n\nid: \0\n\n'), whole)

    assert.equal(cursor.lastEventId, '1')
  })

  test(`${how}: ids are UTF-8`, () => {
    const cursor = new Cursor('')

    cursor.pass(Buffer.from('id: é日😀\n\n'), whole)

    assert.equal(cursor.lastEventId, 'é日😀')
  })

  test(`${how}: a very long id is taken whole or counts as none: neither a part of it nor an older one is right`, () => {
    for (const length of [8000, 8180, 8187, 8188, 8189, 8192, 8193, 20_000, 200_000]) {
      const id = 'x'.repeat(length)
      const cursor = new Cursor('own')

      cursor.pass(Buffer.from(`id: ${id}\ndata: a\n\n`), whole)

      assert.ok([id, ''].includes(cursor.lastEventId), `of ${length} characters ${cursor.lastEventId.length} stay`)
      assert.equal(cursor.events, 1)
    }
  })

  test(`${how}: a very long line costs no event and no id after it`, () => {
    for (const length of [8000, 8192, 20_000, 200_000]) {
      for (const field of ['data: ', 'data:', ': ', 'x: ', 'retry: 1', 'event: ']) {
        const bytes = Buffer.from(`${field}${'1'.repeat(length)}\nid: 1\ndata: b\n\n`)
        const cursor = new Cursor('')

        cursor.pass(bytes, whole)

        assert.deepEqual([cursor.events, cursor.lastEventId], [1, '1'], `${field}, ${length} characters`)
      }
    }
  })
}

for (const wholeEvents of [true, false]) {
  test(`behind a framer that holds back ${wholeEvents ? 'unfinished events' : 'nothing'}: what a byte order mark goes before counts, of the next upstream too`, () => {
    const bytes = Buffer.from(`${BOM}id: 1\ndata: a\n\n${BOM}id: 2\n\nretry: 7\n\n`)
    const next = Buffer.from(`${BOM}id: 3\ndata: a\n\n`)
    for (const pieces of [[bytes], inBytes(bytes), ...inTwo(bytes), ...inThree(bytes)]) {
      const framer = framerWith({ wholeEvents })
      const cursor = new Cursor('own')

      for (const piece of pieces) passLeft(framer, cursor, piece)
      assert.deepEqual(knownBy(cursor), { events: 1, lastEventId: '1', retryMs: 7 })
      framer.restart()
      for (const piece of inBytes(next)) passLeft(framer, cursor, piece)

      assert.deepEqual(knownBy(cursor), { events: 2, lastEventId: '3', retryMs: 7 })
    }
  })
}

test('bytes as they come: the start of an id is no id', () => {
  const cursor = new Cursor('own')

  for (const piece of ['data: a\nid: 1', '2', '3', '\n']) {
    cursor.pass(Buffer.from(piece), false)
    assert.equal(cursor.lastEventId, 'own')
  }
  cursor.pass(Buffer.from('\n'), true)

  assert.equal(cursor.lastEventId, '123')
})

test('a reconnection time that came in parts is not set again after another one', () => {
  const cursor = new Cursor('')

  cursor.pass(Buffer.from('retry: 5000\ndata: a\n'), false)
  cursor.pass(Buffer.from('\n'), false)
  cursor.passed(1, undefined, 1000)
  cursor.pass(Buffer.from('data: b\n\n'), true)

  assert.equal(cursor.retryMs, 1000)
})

test('bytes as they come: a very long id in many pieces is taken whole or not at all', () => {
  for (const length of [8188, 8189, 8192, 8193, 20_000]) {
    for (const pieceBytes of [1, 1000, 8192]) {
      const id = 'x'.repeat(length)
      const bytes = Buffer.from(`id: ${id}\ndata: a\n\n`)
      const cursor = new Cursor('own')

      for (let at = 0; at < bytes.length; at += pieceBytes) cursor.pass(bytes.subarray(at, at + pieceBytes), false)

      assert.ok([id, ''].includes(cursor.lastEventId), `of ${length} characters ${cursor.lastEventId.length} stay`)
      assert.equal(cursor.events, 1)
    }
  }
})

const BOUND_MS = 10_000

test('a MiB without a line end, byte by byte, takes time in proportion to its size', () => {
  const cursor = new Cursor('')
  const byte = Buffer.from('x')
  const start = performance.now()

  for (let i = 0; i < 1_048_576; i++) {
    cursor.pass(byte, false)
    if (i % 4096 === 0) assert.ok(performance.now() - start < BOUND_MS, `only ${i} bytes in ${BOUND_MS} ms`)
  }
  cursor.pass(Buffer.from('\n\nid: 1\ndata: a\n\n'), true)

  assert.deepEqual([cursor.events, cursor.lastEventId], [1, '1'])
})

/** Lines as they are, or with so much behind them. */
const longLines = fc
  .tuple(
    fc.boolean(),
    fc.array(
      fc.tuple(
        fc.constantFrom(
          'data: a',
          'data:',
          'data',
          'datas: a',
          'da',
          'id: 1',
          'id: 2345678901234567',
          'id',
          'idx: 3',
          'retry: 7',
          'event: e',
          ': c',
          'i',
          '',
        ),
        fc.constantFrom(0, 0, 0, 5, 9000, 20_000),
      ),
      { minLength: 1, maxLength: 12 },
    ),
  )
  .map(([hasMark, lines]) =>
    // A long id or time is another matter.
    Buffer.from(
      (hasMark ? BOM : '') +
        lines.map(([line, more]) => line + (/^(id|retry):/.test(line) ? '' : 'y'.repeat(more))).join('\n') +
        '\n\n',
    ),
  )

test('lines of all lengths, in pieces of all sizes', () => {
  forAll(
    fc.tuple(
      longLines,
      fc.array(fc.constantFrom(1, 2, 3, 5, 7, 8, 4096, 10_000, 30_000), { minLength: 1, maxLength: 6 }),
    ),
    ([bytes, sizes]) => {
      const cursor = new Cursor('')
      for (let from = markBytesOf(bytes), i = 0, to = 0; from < bytes.length; from = to, i++) {
        // Small ones at the start are enough.
        to = from + (i < 50 ? (sizes[i % sizes.length] ?? 1) : 30_000)
        cursor.pass(bytes.subarray(from, to), false)
      }

      assert.deepEqual(knownBy(cursor), known(interpret(bytes)))
    },
    200,
  )
})

test('text that looks like a field over and over takes time in proportion to its size', () => {
  for (const text of ['id', 'retry', 'data', 'idid: ', 'retry: ']) {
    const bytes = Buffer.from(`data: ${text.repeat(300_000)}\n\n`)
    const cursor = new Cursor('own')
    const start = performance.now()

    cursor.pass(bytes, true)

    assert.ok(performance.now() - start < BOUND_MS)
    assert.deepEqual([cursor.events, cursor.lastEventId], [1, 'own'])
  }
})

const long = `data: ${'x'.repeat(60_000)}\n\n`
for (const length of [1, 12, 13, 36]) {
  const id = '7'.repeat(length)
  for (const [what, end, isWhole] of [
    ['that counts', `id: ${id}\ndata: a\n\n`, true],
    ['whose block has not ended', `id: ${id}\n`, false],
    ['whose line has not ended', `id: ${id}`, false],
  ] as const) {
    test(`an id of ${length} characters ${what} keeps nothing of what it came with`, () => {
      const read = Buffer.from(long + end)
      const cursors = Array.from({ length: 200 }, () => new Cursor(''))
      const before = heapUsed()

      for (const cursor of cursors) cursor.pass(read, isWhole)

      const kept = heapUsed() - before
      assert.ok(kept < 1_048_576, `${kept} bytes`)
      cursors[0]?.pass(Buffer.from('\n\n'), false)
      assert.equal(cursors[0]?.lastEventId, id)
    })
  }
}

test('an event in very many pieces is read in a time that grows with its size', () => {
  const pieces = [
    Buffer.from('id: 7\ndata: '),
    ...Array.from({ length: 200_000 }, () => Buffer.from('xxxx')),
    Buffer.from('\n\n'),
  ]
  const cursor = new Cursor('')

  cursor.passEvent(pieces)

  assert.deepEqual([cursor.events, cursor.lastEventId], [1, '7'])
})

test('an event in pieces sets what it sets as a whole, wherever it is cut', () => {
  const event = Buffer.from(`retry: 1500\nid: ${'a'.repeat(30)}\nidx: 9\ndata: one\ndata\n: id: 3\n\n`)
  for (let a = 0; a <= event.length; a++) {
    for (let b = a; b <= event.length; b += 3) {
      const cursor = new Cursor('')

      cursor.passEvent([event.subarray(0, a), event.subarray(a, b), event.subarray(b)])

      assert.deepEqual([cursor.events, cursor.lastEventId, cursor.retryMs], [1, 'a'.repeat(30), 1500])
    }
  }
})

test('of a line that is too long the same counts, however it comes', () => {
  const long = `data: ${'x'.repeat(20_000)}\n`
  for (const [line, lastEventId, retryMs] of [
    [`id: ${'7'.repeat(8_300)}\0`, '', undefined],
    [`id: ${'7'.repeat(20_000)}\0`, '', undefined],
    [`id: ${'7'.repeat(8_192)}`, '7'.repeat(8_192), undefined],
    [`retry: ${'0'.repeat(9_000)}5`, 'a', 0],
  ] as const) {
    for (const more of ['', long]) {
      const bytes = Buffer.from(`id: a\n\n${line}\n${more}\n`)
      for (const pieces of [[bytes], [bytes.subarray(0, 6_000), bytes.subarray(6_000)]]) {
        const cursor = new Cursor('')
        for (const [i, piece] of pieces.entries()) cursor.pass(piece, i === pieces.length - 1)
        const event = new Cursor('')
        event.passEvent(pieces)

        for (const each of [cursor, event]) {
          assert.equal(each.lastEventId, lastEventId)
          assert.equal(each.retryMs, retryMs)
        }
      }
    }
  }
})

test('lines are read one by one only where they are long on average', () => {
  const long = `data: ${'x'.repeat(20_000)}\n`

  assert.equal(startsOfLines(Buffer.from(`id: 1\n${long}\n`), ''), 'id: 1\ndata: \n\n')
  assert.equal(startsOfLines(Buffer.from(`${'\n'.repeat(100)}${long}`), ''), undefined)
})
