// Streams that are hard to cut, and what the tests of this folder cut them with.

import fc from 'fast-check'
import { EventFramer, type FramerOptions } from '../../src/events/framer.ts'
import { type Interpretation, interpret } from '../support/oracle.ts'

export interface Fixture {
  readonly name: string
  readonly bytes: Buffer
}

export const BOM = '\uFEFF'

/** Written with LF; rendered with every line ending and mixes of them. */
const TEMPLATES: Readonly<Record<string, string>> = {
  'one event': 'data: a\n\n',
  'several events': 'data: a\n\ndata: b\n\nid: 2\ndata: c\n\n',
  'an event of many lines': 'event: e\nid: 1\ndata: a\ndata\ndata:\ndata:b\n\ndata: c\n\n',
  'a byte order mark at the start': `${BOM}id: 1\ndata: a\n\ndata: b\n\n`,
  'a byte order mark before a blank line': `${BOM}\ndata: a\n\n`,
  'two byte order marks at the start': `${BOM}${BOM}data: a\n\ndata: b\n\n`,
  'a byte order mark in the middle': `data: a\n\n${BOM}data: b\n\ndata: ${BOM}c\n\n`,
  'characters of several bytes': 'id: ü\ndata: é日😀\n\ndata: 😀\n\n',
  'a NUL in an id': 'id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n',
  'blocks with an id only': 'id: 1\n\nid: 2\ndata: b\n\nid: 3\n\n',
  'an id that is taken back': 'id: 1\ndata: a\n\nid\ndata: b\n\nid: 3\n\nid:\n\n',
  comments: ':\n\n: a\n\n:b\ndata: c\n:d\n\n:e\n\n\n',
  'unknown fields': 'x: y\nData: a\ndata: b\ndatax: c\nx\n\n',
  'blank lines at the start': '\n\n\ndata: a\n\n\n\n\ndata: b\n\n\n',
  'nothing but blank lines': '\n\n\n\n',
  'an event that is not finished': 'data: a\n\nid: 1\ndata: b\n',
  'a line that is not finished': 'data: a\n\nid: 1\ndata: b',
  'empty data': 'data\n\ndata:\n\nid: 1\ndata: \n\ndata:\ndata:\n\n',
  'spaces around colons': 'data:  a \n\n data: b\n\ndata : c\n\nid:  1\ndata:d\n\n',
  'reconnection times': 'retry: 10\n\nretry: 1e3\ndata: a\n\nretry: -1\nretry: 20\n\nretry:30 \n\nretry\n\n',
  'an event type without data': 'event: e\n\ndata: a\n\n',
  'colons everywhere': 'data::\n\ndata: a:b: c\n\n:::\nid:::\n\n',
}

const LINE_ENDS = ['\n', '\r', '\r\n'] as const
const MIXES: Readonly<Record<string, readonly string[]>> = {
  LF: ['\n'],
  CR: ['\r'],
  CRLF: ['\r\n'],
  'CR, LF': ['\r', '\n'],
  'CRLF, LF, CR': ['\r\n', '\n', '\r'],
  'CR, CR, LF, CRLF': ['\r', '\r', '\n', '\r\n'],
}

/** Every template with every way to end lines. */
export const fixtures: readonly Fixture[] = Object.entries(TEMPLATES).flatMap(([name, template]) =>
  Object.entries(MIXES).map(([mix, ends]) => ({ name: `${name}, ${mix}`, bytes: render(template, ends) })),
)

/** One short stream under each of the 3^6 ways to end its six lines. */
export const everyMix: readonly Fixture[] = combinations(6).map((ends) => ({
  name: JSON.stringify(ends.join(' ')),
  bytes: render('id:1\ndata:é\n\n\ndata\n\n', ends),
}))

function render(template: string, ends: readonly string[]): Buffer {
  let line = 0
  return Buffer.from(template.replaceAll('\n', () => ends[line++ % ends.length] ?? '\n'))
}

function combinations(length: number): string[][] {
  if (length === 0) return [[]]
  return combinations(length - 1).flatMap((rest) => LINE_ENDS.map((end) => [...rest, end]))
}

/** `bytes` in two, at every place. */
export function* inTwo(bytes: Buffer): Generator<Buffer[]> {
  for (let at = 1; at < bytes.length; at++) yield [bytes.subarray(0, at), bytes.subarray(at)]
}

/** `bytes` in three, at every pair of places. */
export function* inThree(bytes: Buffer): Generator<Buffer[]> {
  for (let first = 1; first < bytes.length; first++) {
    for (let second = first + 1; second < bytes.length; second++) {
      yield [bytes.subarray(0, first), bytes.subarray(first, second), bytes.subarray(second)]
    }
  }
}

export function inBytes(bytes: Buffer): Buffer[] {
  return Array.from(bytes, (_, at) => bytes.subarray(at, at + 1))
}

/** A fixture whole, byte by byte, in two everywhere and, when it is short, in three everywhere. */
export function* cutsOf(bytes: Buffer, shortBytes = 40): Generator<Buffer[]> {
  yield [bytes]
  yield inBytes(bytes)
  yield* inTwo(bytes)
  if (bytes.length <= shortBytes) yield* inThree(bytes)
}

/**
 * What a stream up to each of its bytes means; the answer for `length` bytes is at that index. A line counts with its end,
 * so that nothing changes where none is.
 */
export function meanings(bytes: Buffer): readonly Interpretation[] {
  if (latest?.bytes.equals(bytes)) return latest.meanings
  const found = [interpret('')]
  for (const [at, byte] of bytes.entries()) {
    const isLineEnd = byte === CR || byte === LF
    found.push(isLineEnd ? interpret(bytes.subarray(0, at + 1)) : found[at]!)
  }
  latest = { bytes: Buffer.from(bytes), meanings: found }
  return found
}

const CR = 13
const LF = 10

// The same bytes are asked about again and again, cut differently each time.
let latest: { bytes: Buffer; meanings: readonly Interpretation[] } | undefined

/**
 * The places after each blank line, ascending; of a CR LF both, since the first ends the line already. Byte by byte and
 * without regard to speed. A byte order mark at the start is no part of its line; any other is.
 */
export function boundaries(bytes: Buffer): number[] {
  const found: number[] = []
  let lineStart = true
  let afterBlankCr = false
  const start = bytes.indexOf(BOM) === 0 ? Buffer.byteLength(BOM) : 0
  for (const [at, byte] of bytes.entries()) {
    if (at < start) continue
    const character = String.fromCharCode(byte)
    const completesCrLf = character === '\n' && bytes[at - 1] === 13
    if (completesCrLf) {
      if (afterBlankCr) found.push(at + 1)
      afterBlankCr = false
    } else if (character === '\n' || character === '\r') {
      if (lineStart) found.push(at + 1)
      afterBlankCr = lineStart && character === '\r'
      lineStart = true
    } else {
      lineStart = false
      afterBlankCr = false
    }
  }
  return found
}

const PIECES = [
  ...['data', 'id', 'event', 'retry', 'dat', 'x', ':', ': ', ' ', '\0', BOM, 'é', '日', '😀', '1', '42'],
  ...['\n', '\r', '\r\n', '\n\n', '\r\r', '\r\n\r\n', '\n\r'],
  ...[
    'data: a\n',
    'data:b\r',
    'data\r\n',
    'id: 7\n',
    'id: ü\r\n',
    'id\r',
    'event: e\n',
    ':c\n',
    'retry: 5\r\n',
    'data: z\n\n',
  ],
]

const randomPiece: fc.Arbitrary<Buffer> = fc.oneof(
  { weight: 20, arbitrary: fc.constantFrom(...PIECES).map((text) => Buffer.from(text)) },
  { weight: 1, arbitrary: fc.uint8Array({ minLength: 1, maxLength: 4 }).map((bytes) => Buffer.from(bytes)) },
)

/** Any stream at all, made of what matters in streams. */
export const randomStream: fc.Arbitrary<Buffer> = fc
  .tuple(fc.constantFrom('', '', BOM), fc.array(randomPiece, { maxLength: 40, size: 'max' }))
  .map(([start, pieces]) => Buffer.concat([Buffer.from(start), ...pieces]))

/** Pieces of these sizes, one after the other and again. */
export function cut(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const pieces: Buffer[] = []
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = sizes[i % sizes.length] ?? 1
    pieces.push(bytes.subarray(at, at + size))
    at += size
  }
  return pieces
}

/** The same, cut anywhere. */
export const randomPieces: fc.Arbitrary<Buffer[]> = fc
  .tuple(randomStream, fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 20 }))
  .map(([bytes, sizes]) => cut(bytes, sizes))

/** Runs a property over many streams, always the same ones. */
export function forAll<T>(arbitrary: fc.Arbitrary<T>, check: (value: T) => void, numRuns = 3000): void {
  fc.assert(fc.property(arbitrary, check), { seed: 20_260_711, numRuns })
}

/** Of a client that has been written nothing yet. */
export function framer(options: Partial<FramerOptions> = {}): EventFramer {
  return new EventFramer({
    wholeEvents: true,
    eventBytes: 1_048_576,
    failsOversize: false,
    client: { wroteBody: false },
    ...options,
  })
}
