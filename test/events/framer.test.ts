import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { EventFramer, FramerOptions } from '../../src/events/framer.ts'
import {
  BOM,
  boundaries,
  cutsOf,
  everyMix,
  fixtures,
  forAll,
  framer,
  inBytes,
  inThree,
  inTwo,
  meanings,
  randomPieces,
} from '../stream/fixtures.ts'
import { type Interpretation, interpret } from '../support/oracle.ts'

const COMMENT = Buffer.from(':x\n\n')
const MIB = 1_048_576

function bytesOf(pieces: readonly (string | Buffer)[]): Buffer {
  return Buffer.concat(pieces.map((piece) => (typeof piece === 'string' ? Buffer.from(piece) : piece)))
}

/** What a client would have noticed: `retry` counts with its line, which may wait for the end of its block. */
function dispatched({ events, lastEventId }: Interpretation): string {
  return `${events.length} with ${lastEventId}`
}

interface Expectation {
  readonly input: Buffer
  /** What a client must have seen, by the number of bytes that it has. */
  readonly seen: readonly string[]
  readonly heldAtMost: (came: number) => number
}

function expectation(options: Partial<FramerOptions>, input: Buffer): Expectation {
  return { input, seen: meanings(input).map(dispatched), heldAtMost: limitOf(options, input) }
}

/** Takes pieces one after the other, and holds what leaves against what a client must have seen by then. */
function follow(pieces: readonly Buffer[], options: Partial<FramerOptions>, expected: Expectation): void {
  const { input, seen, heldAtMost } = expected
  const subject = framer(options)
  let came = 0
  let left = 0
  const leave = (released: readonly Buffer[]) => {
    for (const bytes of released) {
      assert.ok(bytes.equals(input.subarray(left, left + bytes.length)), 'bytes were changed')
      left += bytes.length
    }
  }
  for (const piece of pieces) {
    leave(subject.take(piece))
    came += piece.length
    assert.ok(came - left <= heldAtMost(came), `${came - left} bytes are held back after ${came}`)
    assert.equal(seen[left], seen[came], `after ${came} bytes`)
  }
  leave(subject.takeTail())
  assert.equal(left, input.length, 'the end and the tail do not make the whole')
}

/** Writes a comment wherever that is allowed, as keepalives and the app's own events are, and reads the whole. */
function interrupt(pieces: readonly Buffer[], options: Partial<FramerOptions> = {}): void {
  const meant = interpret(bytesOf(pieces))
  for (const first of ['a comment', 'the stream']) {
    const written: Buffer[] = first === 'a comment' ? [COMMENT] : []
    const subject = framer({
      ...options,
      client: {
        get wroteBody() {
          return written.length > 0
        },
      },
    })
    for (const piece of pieces) {
      written.push(...subject.take(piece))
      if (subject.atBoundary) written.push(COMMENT)
    }
    written.push(...subject.takeTail())
    assert.deepEqual(interpret(bytesOf(written)), meant, `${first} came first`)
  }
}

/** Exactly what has no blank line behind it yet. */
function unfinished(input: Buffer): (came: number) => number {
  const ends = boundaries(input)
  return (came) => came - (ends.findLast((end) => end <= came) ?? 0)
}

const MODES: Readonly<Record<string, Partial<FramerOptions>>> = {
  'whole events': {},
  'events of any size, held back up to 5 bytes': { eventBytes: 5 },
  'bytes as they come': { wholeEvents: false },
}

/** In `bytes` mode nothing is held back but what may become a byte order mark. */
function limitOf(options: Partial<FramerOptions>, input: Buffer): (came: number) => number {
  if (options.wholeEvents === false) return (came) => (came < 3 ? came : 0)
  const whole = unfinished(input)
  const { eventBytes } = options
  return eventBytes === undefined ? whole : (came) => Math.min(whole(came), Math.max(eventBytes, 2))
}

for (const [mode, options] of Object.entries(MODES)) {
  test(`${mode}: nothing late, nothing early, no byte changed, over every cut of every fixture`, () => {
    for (const { name, bytes } of fixtures) {
      const expected = expectation(options, bytes)
      for (const pieces of cutsOf(bytes, 60)) describe(name, pieces, () => follow(pieces, options, expected))
    }
  })

  test(`${mode}: the same under every mix of line ends`, () => {
    for (const { name, bytes } of everyMix) {
      const expected = expectation(options, bytes)
      for (const pieces of [[bytes], inBytes(bytes), ...inTwo(bytes)]) {
        describe(name, pieces, () => follow(pieces, options, expected))
      }
    }
  })

  test(`${mode}: the same over random streams`, () => {
    forAll(randomPieces, (pieces) => follow(pieces, options, expectation(options, bytesOf(pieces))))
  })

  test(`${mode}: a comment at a boundary changes nothing, over every cut of every fixture`, () => {
    for (const { name, bytes } of fixtures) {
      for (const pieces of cutsOf(bytes, 30)) describe(name, pieces, () => interrupt(pieces, options))
    }
  })

  test(`${mode}: a comment at a boundary changes nothing under every mix of line ends`, () => {
    for (const { name, bytes } of everyMix) {
      for (const pieces of [inBytes(bytes), ...inTwo(bytes)]) describe(name, pieces, () => interrupt(pieces, options))
    }
  })

  test(`${mode}: a comment at a boundary changes nothing in random streams`, () => {
    forAll(randomPieces, (pieces) => interrupt(pieces, options))
  })
}

/** Says which stream it was and how it was cut. */
function describe(name: string, pieces: readonly Buffer[], check: () => void): void {
  try {
    check()
  } catch (error) {
    const cut = pieces.map((piece) => JSON.stringify(piece.toString('latin1'))).join(' ')
    throw new Error(`${name}, cut ${cut}`, { cause: error })
  }
}

test('whole events: what has left ends where an event ends, always', () => {
  forAll(randomPieces, (pieces) => {
    const subject = framer()

    for (const piece of pieces) {
      subject.take(piece)
      assert.ok(subject.atBoundary)
    }
  })
})

test('bytes as they come: a boundary is known as one, and what is not is not', () => {
  forAll(randomPieces, (pieces) => {
    const input = bytesOf(pieces)
    const ends = boundaries(input)
    const subject = framer({ wholeEvents: false })
    let came = 0
    let left = 0

    for (const piece of pieces) {
      left += bytesOf(subject.take(piece)).length
      came += piece.length
      if (left === came) assert.equal(subject.atBoundary, ends.includes(came), `after ${came} bytes`)
      else assert.ok(subject.atBoundary, 'nothing has left')
    }
  })
})

test('the whole of a stream is at a boundary before it begins', () => {
  assert.ok(framer().atBoundary)
  assert.ok(framer({ wholeEvents: false }).atBoundary)
})

test('an empty read changes nothing', () => {
  const subject = framer()

  assert.equal(bytesOf(subject.take(Buffer.alloc(0))).length, 0)
  subject.take(Buffer.from('data: a\r'))
  assert.equal(bytesOf(subject.take(Buffer.alloc(0))).length, 0)

  assert.equal(bytesOf(subject.take(Buffer.from('\n\n'))).toString(), 'data: a\r\n\n')
})

test('an event larger than eventBytes leaves as it comes, and the one after it is held back again', () => {
  const subject = framer({ eventBytes: 10 })
  const take = (text: string) => bytesOf(subject.take(Buffer.from(text))).toString()

  assert.equal(take('data: 6789'), '')
  assert.equal(take('0'), 'data: 67890')
  assert.equal(subject.atBoundary, false)
  assert.equal(take('1'), '1')
  assert.equal(take('2\n\nda'), '2\n\n')
  assert.equal(subject.atBoundary, true)
  assert.equal(take('ta: a\n'), '')
  assert.equal(take('\n'), 'data: a\n\n')
})

test('an event larger than eventBytes that comes in one piece with its end leaves whole', () => {
  const subject = framer({ eventBytes: 10, failsOversize: true })
  const event = Buffer.from('data: 0123456789\n\n')

  assert.ok(bytesOf(subject.take(event)).equals(event))
})

test('failsOversize: an unfinished event larger than eventBytes is an error, and only that', () => {
  forAll(randomPieces, (pieces) => {
    const input = bytesOf(pieces)
    const waiting = unfinished(input)
    const subject = framer({ eventBytes: 12, failsOversize: true })
    let came = 0

    for (const piece of pieces) {
      came += piece.length
      subject.take(piece)
      assert.equal(subject.overflowed, waiting(came) > 12)
      if (subject.overflowed) return
    }
  })
})

test('holdBack: the event on its way leaves as it comes, later ones whole', () => {
  const subject = framer({ wholeEvents: false })
  const take = (text: string) => bytesOf(subject.take(Buffer.from(text))).toString()

  assert.equal(take('data: a'), 'data: a')
  subject.holdBack()
  assert.equal(take('b'), 'b')
  assert.equal(take('\n\ndata: c'), '\n\n')
  assert.equal(subject.atBoundary, true)
  assert.equal(take('\n\n'), 'data: c\n\n')
})

test('takeTail: what nobody finished, once, and then nothing', () => {
  const subject = framer()
  subject.take(Buffer.from('data: a\n\ndata: '))
  subject.take(Buffer.from('b\n'))

  assert.equal(bytesOf(subject.takeTail()).toString(), 'data: b\n')
  assert.equal(subject.atBoundary, false)
  assert.deepEqual(subject.takeTail(), [])
})

test('takeTail: without a tail the end of the stream is at a boundary', () => {
  const subject = framer()
  subject.take(Buffer.from('data: a\n\n'))

  assert.deepEqual(subject.takeTail(), [])
  assert.equal(subject.atBoundary, true)
})

test('restart: the unfinished event of the lost upstream is forgotten', () => {
  for (const [rest, next] of [
    ['id: 1\ndata: b', 'data: c\n\n'],
    ['data: b\n', '\ndata: c\n\n'],
    ['data: b\r', '\ndata: c\n\n'],
  ] as const) {
    const subject = framer()
    subject.take(Buffer.from(`data: a\n\n${rest}`))
    subject.restart()

    const left = bytesOf(subject.take(Buffer.from(next)))

    assert.equal(left.toString(), next)
    assert.deepEqual(
      interpret(left).events.map(({ data }) => data),
      ['c'],
    )
  }
})

test('restart: a blank line at the start of another upstream is one', () => {
  const subject = framer()
  subject.take(Buffer.from('data: a'))
  subject.restart()

  assert.equal(bytesOf(subject.take(Buffer.from('\n'))).toString(), '\n')
})

const BOM_STREAM = Buffer.from(`${BOM}data: a\n\ndata: b\n\n`)

test('stripsBom: a byte order mark does not follow what was written before it, at any cut', () => {
  for (const wholeEvents of [true, false]) {
    for (const pieces of [[BOM_STREAM], inBytes(BOM_STREAM), ...inTwo(BOM_STREAM), ...inThree(BOM_STREAM)]) {
      const subject = framer({
        wholeEvents,
        client: {
          get wroteBody() {
            return true
          },
        },
      })

      const left = bytesOf(pieces.flatMap((piece) => subject.take(piece)))

      assert.equal(left.toString(), 'data: a\n\ndata: b\n\n')
    }
  }
})

test('stripsBom: the byte order mark of the next upstream goes too', () => {
  for (const pieces of [[BOM_STREAM], inBytes(BOM_STREAM)]) {
    let wrote = false
    const subject = framer({
      client: {
        get wroteBody() {
          return wrote
        },
      },
    })
    const first = bytesOf(subject.take(Buffer.from(`${BOM}data: 0\n\n`)))
    wrote = true
    subject.restart()

    const second = bytesOf(pieces.flatMap((piece) => subject.take(piece)))

    assert.equal(first.toString(), `${BOM}data: 0\n\n`)
    assert.equal(second.toString(), 'data: a\n\ndata: b\n\n')
  }
})

test('stripsBom: one mark at the start, no second one and none later', () => {
  const rest = `${BOM}data: a\n\n${BOM}data: b\n\n${BOM}`
  const subject = framer({
    client: {
      get wroteBody() {
        return true
      },
    },
  })

  const left = bytesOf([...subject.take(Buffer.from(BOM + rest)), ...subject.takeTail()])

  assert.equal(left.toString(), rest)
})

test('stripsBom: asked when the first bytes leave, not when they come', () => {
  let wrote = false
  const subject = framer({
    client: {
      get wroteBody() {
        return wrote
      },
    },
  })
  subject.take(Buffer.from(`${BOM}data: a\n`))
  wrote = true

  assert.equal(bytesOf(subject.take(Buffer.from('\n'))).toString(), 'data: a\n\n')
})

test('stripsBom: the start of a mark that is none stays', () => {
  for (const start of [[0xef], [0xef, 0xbb]]) {
    for (const wholeEvents of [true, false]) {
      const input = Buffer.concat([Buffer.from(start), Buffer.from('x\n\n')])
      const subject = framer({
        wholeEvents,
        client: {
          get wroteBody() {
            return true
          },
        },
      })

      const left = bytesOf(inBytes(input).flatMap((piece) => subject.take(piece)))

      assert.ok(left.equals(input))
    }
    const subject = framer({
      wholeEvents: false,
      client: {
        get wroteBody() {
          return true
        },
      },
    })
    assert.deepEqual(subject.take(Buffer.from(start)), [])
    assert.ok(bytesOf(subject.takeTail()).equals(Buffer.from(start)))
  }
})

const LONG_BOUND_MS = 10_000

/** Feeds `bytes` piece by piece. Work that grows with the square of the length would take many minutes. */
function takeAll(subject: EventFramer, bytes: Buffer, pieceBytes: number): Buffer {
  const start = performance.now()
  const left: Buffer[] = []
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    left.push(...subject.take(bytes.subarray(at, at + pieceBytes)))
    if (at % 4096 === 0) assert.ok(performance.now() - start < LONG_BOUND_MS, `only ${at} bytes in ${LONG_BOUND_MS} ms`)
  }
  return bytesOf([...left, ...subject.takeTail()])
}

for (const [what, text] of [
  ['one line', `data: ${'a'.repeat(MIB)}\n\n`],
  ['short lines that end with LF', `${'data: a\n'.repeat(MIB / 8)}\n`],
  ['short lines that end with CR', `${'data: a\r'.repeat(MIB / 8)}\r`],
  ['short lines that end with CR LF', `${'data: a\r\n'.repeat(MIB / 9)}\r\n`],
  ['blank lines', '\n'.repeat(MIB)],
  ['blank lines of CR', '\r'.repeat(MIB)],
] as const) {
  test(`a MiB of ${what} takes time in proportion to its size, byte by byte and in larger pieces`, () => {
    const bytes = Buffer.from(text)

    for (const pieceBytes of [1, 7, 1460]) {
      assert.ok(takeAll(framer({ eventBytes: 2 * MIB }), bytes, pieceBytes).equals(bytes))
    }
  })
}

test('what is held does not keep the read alive that it came in', () => {
  const read = Buffer.alloc(65_536, 'x')
  read.write('data: a\n\nda')
  read.write('\n\ndata: b', read.length - 9)
  const subject = framer()
  subject.take(read)

  const left = subject.take(Buffer.from('\n\n'))

  assert.equal(bytesOf(left).toString(), 'data: b\n\n')
  for (const piece of left) assert.notEqual(piece.buffer, read.buffer)
})
