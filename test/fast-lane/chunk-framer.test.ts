// What passes as chunks is what would have passed as data: the same bytes at the same time, and the cursor where it
// would be. Two feeds get the same reads, one of them past the parser where that is possible.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Cursor } from '../../src/events/cursor.ts'
import type { SseStream } from '../../src/events/event.ts'
import { ChunkFramer } from '../../src/fast-lane/chunk-framer.ts'
import { Pipeline, type PipelineSink } from '../../src/stream/pipeline.ts'
import { BOM, cut, everyMix, fixtures, forAll, inBytes, inTwo, randomStream } from '../stream/fixtures.ts'
import { Dechunker } from '../support/chunked.ts'
import { chunk, lastChunk } from '../support/raw-upstream.ts'

const MIB = 1_048_576

/** A feed with a client that takes everything, read by read. */
class Side implements PipelineSink {
  readonly cursor = new Cursor('')
  readonly client: { wroteBody: boolean; takesChunks: boolean }
  readonly feed: Pipeline
  readonly #written: Buffer[] = []
  writtenBytes = 0
  /** Of those, what came in its chunks. */
  chunkedBytes = 0
  events = 0
  ended = false
  readonly onChunks?: NonNullable<PipelineSink['onChunks']>

  constructor(takesChunks: boolean, eventBytes: number) {
    if (takesChunks) this.onChunks = this.#takeChunks
    this.client = Object.defineProperty({ wroteBody: false, takesChunks }, 'wroteBody', {
      get: () => this.writtenBytes > 0,
    })
    const body = { start() {}, pause() {}, unpause() {}, destroy() {} }
    this.feed = new Pipeline(
      {
        wholeEvents: true,
        failsOversize: false,
        eventBytes,
        hooks: [],
        stream: {} as SseStream,
        cursor: this.cursor,
        client: this.client,
        isShared: false,
      },
      { body, delimited: true },
      this,
    )
    this.feed.start()
    this.feed.release()
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#written)
  }

  /** As the parser does, and then the end of the read. */
  data(data: Buffer): void {
    if (data.length > 0) this.feed.onData(data)
  }

  onEvents(pieces: readonly Buffer[], events: number): void {
    this.events += events
    for (const piece of pieces) this.#write(piece)
  }

  readonly #takeChunks = (chunks: readonly Buffer[], bytes: number, events: number): void => {
    const dechunker = new Dechunker()
    const data = dechunker.take(Buffer.concat(chunks))
    assert.ok(dechunker.isBetweenChunks, 'a chunk was cut')
    assert.equal(bytes, data.length)
    this.chunkedBytes += data.length
    this.events += events
    this.#write(data)
  }

  #write(bytes: Buffer): void {
    this.#written.push(bytes)
    this.writtenBytes += bytes.length
  }

  onReceived(): void {}
  onReconnected(): void {}

  onEnd(): void {
    this.ended = true
  }

  onFailed(error: unknown): void {
    throw error
  }
}

/** The way of chunks, with a slow reader in the parser's place. */
class Lane {
  readonly side: Side
  readonly #parser = new Dechunker()
  // A stream's first data always takes the ordinary way.
  #isProven = false
  // Whether the feed has what came after the chunk that the parser has read last.
  #isTaken = false

  constructor(side: Side) {
    this.side = side
  }

  read(read: Buffer): void {
    const { feed } = this.side
    let at = 0
    if (!this.#isProven) {
      at = read.length
      this.#parse(read)
    } else if (!this.#isTaken) {
      const rest = this.#parser.takeRestOfChunk(read)
      at = rest.at
      this.side.data(rest.data)
    }
    if (at < read.length) {
      const offered = read.subarray(at)
      const back = feed.takesChunks && !this.#parser.isOver ? feed.onChunks(offered) : [offered]
      this.#isTaken = back.length === 0
      for (const bytes of back) this.#parse(bytes)
    }
    feed.onReadDone()
  }

  #parse(bytes: Buffer): void {
    const data = this.#parser.take(bytes)
    if (data.length > 0) this.#isProven = true
    this.side.data(data)
  }
}

/** Sends the same reads both ways and holds the two against each other after each; the bytes that passed as chunks. */
function race(reads: readonly Buffer[], eventBytes = MIB): number {
  const ordinary = new Side(false, eventBytes)
  const parser = new Dechunker()
  const short = new Side(true, eventBytes)
  const lane = new Lane(short)

  for (const [i, read] of reads.entries()) {
    ordinary.data(parser.take(read))
    ordinary.feed.onReadDone()
    lane.read(read)
    assert.equal(state(short), state(ordinary), `after read ${i} of ${reads.length}`)
    assert.equal(short.feed.atBoundary, ordinary.feed.atBoundary)
  }
  if (parser.isOver) for (const { feed } of [ordinary, short]) feed.onEnd()
  assert.equal(state(short), state(ordinary))
  assert.ok(short.bytes.equals(ordinary.bytes), 'bytes were changed')
  return short.chunkedBytes
}

function state({ writtenBytes, events, ended, cursor }: Side): string {
  const { lastEventId, retryMs } = cursor
  return `${writtenBytes} bytes, ${events} events, ${cursor.events} passed, ${lastEventId} ${retryMs} ${ended}`
}

/** A first event that makes way for the others. */
const before = chunk('data: before\n\n')
const end = Buffer.from(lastChunk)

function inChunks(pieces: readonly (string | Buffer)[]): Buffer {
  return Buffer.concat(pieces.map(chunk))
}

test('one chunk, cut anywhere', () => {
  for (const { bytes } of [...fixtures, ...everyMix]) {
    for (const reads of [...inTwo(chunk(bytes)), inBytes(chunk(bytes))]) race([before, ...reads, end])
  }
})

test('a first chunk, cut anywhere', () => {
  for (const { bytes } of fixtures) {
    for (const reads of [...inTwo(chunk(bytes)), inBytes(chunk(bytes))]) race([...reads, end])
  }
})

test('two chunks, divided anywhere', () => {
  for (const { bytes } of fixtures) {
    for (const pieces of inTwo(bytes)) {
      const body = inChunks(pieces)
      race([before, body, end])
      race([before, ...inBytes(body), end])
      race([before, ...pieces.map(chunk), end])
      race([Buffer.concat([before, body]), end])
    }
  }
})

const line = fc.constantFrom(
  ...[
    'data: a',
    'data:b',
    'data',
    'data: é日😀',
    'event: e',
    ':c',
    ':',
    'x: y',
    'Data: a',
    `${BOM}data: a`,
    'datax: b',
  ],
  ...[
    'id: 7',
    'id:8',
    'id',
    'id: ü',
    'id: 9\0',
    'idx: 5',
    'id:',
    'retry: 5',
    'retry:60',
    'retry: 1e3',
    'retry',
    'retry:',
  ],
)

/** Streams of LF that end with a blank line, as nearly all do. */
const plainBlocks: fc.Arbitrary<string[]> = fc
  .tuple(fc.constantFrom('', BOM), fc.array(fc.array(line, { maxLength: 4 }), { maxLength: 12 }))
  .map(([start, blocks]) =>
    blocks.map((lines, i) => `${(i === 0 ? [start] : []).join('')}${lines.map((one) => `${one}\n`).join('')}\n`),
  )

const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 12 })
const eventSizes = fc.constantFrom(1, 20, 60, MIB)

test('plain events, chunks and reads of any size', () => {
  const stream = fc.tuple(plainBlocks, sizes, sizes, eventSizes)

  forAll(stream, ([blocks, chunkSizes, readSizes, eventBytes]) => {
    const body = Buffer.concat([inChunks(cut(Buffer.from(blocks.join('')), chunkSizes)), end])
    race(cut(body, readSizes), eventBytes)
  })
})

test('plain events, whole ones in chunks and lines in chunks, with reads of any size', () => {
  let chunkedBytes = 0
  let allBytes = 0
  const stream = fc.record({
    blocks: plainBlocks,
    together: fc.integer({ min: 1, max: 4 }),
    byLine: fc.boolean(),
    // One read a chunk where there are none.
    readSizes: fc.option(sizes, { nil: undefined }),
    eventBytes: eventSizes,
  })

  forAll(stream, ({ blocks, together, byLine, readSizes, eventBytes }) => {
    const pieces = byLine ? blocks.flatMap((block) => block.match(/.*\n/g) ?? []) : blocks
    const chunks = pieces.flatMap((_, i) => (i % together === 0 ? [pieces.slice(i, i + together).join('')] : []))
    const reads = [...chunks.map(chunk), end]
    chunkedBytes += race(readSizes ? cut(Buffer.concat(reads), readSizes) : reads, eventBytes)
    allBytes += Buffer.byteLength(blocks.join(''))
  })

  assert.ok(chunkedBytes > allBytes / 8, `${chunkedBytes} of ${allBytes} passed as chunks`)
})

test('any stream at all, in chunks and reads of any size', () => {
  forAll(fc.tuple(randomStream, sizes, sizes, eventSizes), ([bytes, chunkSizes, readSizes, eventBytes]) => {
    const body = Buffer.concat([inChunks(cut(bytes, chunkSizes)), end])
    race(cut(body, readSizes), eventBytes)
  })
})

test('sizes in capitals, with leading zeros, and digits that are none', () => {
  const size = fc.constantFrom('b', 'B', '0b', '000000b', '0000000b', '0B;x', 'b ', '', '0', 'g', '-b', 'b\t')

  forAll(fc.tuple(fc.array(size, { maxLength: 6 }), sizes), ([written, readSizes]) => {
    const body = Buffer.from(written.map((one) => `${one}\r\nid: 1\ndata\n\n\r\n`).join(''))
    race([before, ...cut(body, readSizes)])
  })
})

const largeStream = fc.record({
  blocks: fc.array(
    fc.record({
      length: fc.constantFrom(1, 100, 8_150, 8_192, 17_000, 65_536, 100_000, 300_000),
      lineBytes: fc.constantFrom(0, 80, 9_000),
      ending: fc.constantFrom('\n\n', '\n\n', '\n\n', '\n', '\n\n\n', '\r\n\r\n', ''),
    }),
    { minLength: 1, maxLength: 5 },
  ),
  chunkBytes: fc.constantFrom(0, 0, 0, 8_000, 20_000, 65_536),
  readSizes: fc.array(fc.constantFrom(1, 2, 3, 500, 1_460, 8_192, 16_384, 65_536, 262_144), {
    minLength: 1,
    maxLength: 8,
  }),
  eventBytes: fc.constantFrom(9_000, 70_000, MIB),
})

test('large events over many reads, in one chunk each or over many', () => {
  let chunkedBytes = 0

  forAll(
    largeStream,
    ({ blocks, chunkBytes, readSizes, eventBytes }) => {
      const texts = blocks.map(({ length, lineBytes, ending }, i) => {
        const lines = lineBytes === 0 ? ['x'.repeat(length)] : cut(Buffer.alloc(length, 'x'), [lineBytes])
        return `id: ${i}\nretry: ${i}\n${lines.map((one) => `data: ${one}`).join('\n')}${ending}`
      })
      const chunks = chunkBytes === 0 ? texts : cut(Buffer.from(texts.join('')), [chunkBytes])
      const small = readSizes.every((size) => size < 500) ? [...readSizes, 8_192] : readSizes
      chunkedBytes += race([before, ...cut(Buffer.concat([inChunks(chunks), end]), small)], eventBytes)
    },
    200,
  )

  assert.ok(chunkedBytes > MIB / 2, `${chunkedBytes} bytes passed as chunks`)
})

test('a large read of chunks of all sizes', () => {
  const few = Array.from({ length: 60 }, (_, i) => `id: s${i}\ndata: ${'y'.repeat(i)}\n\n`).join('')
  const kinds = {
    small: 'id: a\nevent: e\ndata: x\n\n',
    many: few.repeat(5),
    'a long line': `id: b\nretry: 7\ndata: ${'x'.repeat(20_000)}\n\n`,
    'a long line, and more': `data: ${'x'.repeat(30_000)}\nid: c\n\nid: d\ndata\n\n`,
    'a line that begins as nothing': `${'i'.repeat(10_000)}\ndata: y\n\n`,
    'not the end of an event': `data: ${'x'.repeat(9_000)}\n`,
    'blank lines': '\n\n',
    'no line end': `data: ${'x'.repeat(9_000)}`,
    'a CR in a long line': `id: e\ndata: ${'x'.repeat(9_000)}\rid: f\n\n`,
    'many lines around a long one': `${few}data: ${'x'.repeat(20_000)}\n\n${few}`,
    'an id that is too long, with NUL': `id: ${'7'.repeat(8_300)}\0\ndata: ${'x'.repeat(20_000)}\n\n`,
    'a time that is too long': `retry: 8\nretry: ${'0'.repeat(9_000)}5\ndata: ${'x'.repeat(20_000)}\n\n`,
    'an id that does not count': `id: g\0\ndata: ${'x'.repeat(9_000)}\n\n`,
  }
  const names = Object.keys(kinds) as (keyof typeof kinds)[]
  let chunkedBytes = 0
  const plain = names.slice(0, 7)

  const reads = fc.record({
    // Where something odd is among them, what comes before it has still passed.
    blocks: fc.oneof(
      fc.array(fc.constantFrom(...plain), { minLength: 1, maxLength: 30 }),
      fc.array(fc.constantFrom(...names), { minLength: 1, maxLength: 30 }),
    ),
    readSizes: fc.array(fc.constantFrom(30_000, 65_536, 262_144), { minLength: 1, maxLength: 3 }),
  })
  forAll(
    reads,
    ({ blocks, readSizes }) => {
      const body = Buffer.concat([inChunks(blocks.map((name) => kinds[name])), end])
      chunkedBytes += race([before, ...cut(body, readSizes)])
    },
    300,
  )

  assert.ok(chunkedBytes > 10 * MIB, `${chunkedBytes} bytes passed as chunks`)
})

test('chunks pass wherever they end in a read', () => {
  // Around where a text ends that is made of a part of a read.
  for (let length = 16_300; length < 16_400; length++) {
    const lines = 'data: xx\n'.repeat(2_000).slice(-length)
    for (const chunks of [
      [`${lines}\n`, 'data\n\n'],
      ['data\n\n', `${lines}\n`, 'data\n\n'],
    ]) {
      const read = inChunks(chunks)

      const taken = new ChunkFramer(MIB, new Cursor('')).take(read)

      assert.deepEqual([taken.back.length, Buffer.concat(taken.chunks).length], [0, read.length], `${length}`)
    }
  }
})

const large = (text: string) => chunk(`id: 3\ndata: ${'x'.repeat(9_000)}${text}`)

test('a large chunk cut in two and in three around its end', () => {
  for (const ending of [
    '\n\n',
    '\n',
    '',
    '\n\n\n',
    '\n\ndata: y\n\n',
    '\r\n\r\n',
    '\r\r',
    '\n\r\n',
    '\ndata: y\rdata: z\n\n',
    '\n\n\r\n',
    '\r\n\n',
  ]) {
    const bytes = Buffer.concat([large(ending), chunk('id: 4\ndata: z\n\n'), end])
    for (let first = 9_000; first < bytes.length; first++) {
      race([before, bytes.subarray(0, first), bytes.subarray(first)])
      for (let second = first + 1; second < bytes.length; second++) {
        race([before, bytes.subarray(0, first), bytes.subarray(first, second), bytes.subarray(second)])
      }
    }
    for (let first = 1; first < 30; first++)
      race([before, ...cut(bytes.subarray(0, first), [first]), bytes.subarray(first)])
  }
})

test('a large chunk that does not end as chunks do is given back', () => {
  for (const end of ['\rx', 'x\n', '\n\n', '\n\r', 'xx']) {
    const whole = large('\n\n')
    const read = Buffer.concat([whole.subarray(0, -2), Buffer.from(end), before])
    for (const at of [5_000, read.length - before.length - 4]) {
      const { subject } = framer()
      assert.deepEqual(taken(subject, read.subarray(0, at)), { chunks: '', back: '' })

      assert.deepEqual(taken(subject, read.subarray(at)), { chunks: '', back: read.toString() })
    }
  }
})

function framer(eventBytes = MIB): { subject: ChunkFramer; cursor: Cursor } {
  const cursor = new Cursor('')
  return { subject: new ChunkFramer(eventBytes, cursor), cursor }
}

function taken(subject: ChunkFramer, read: Buffer | string): { chunks: string; back: string } {
  const { chunks, back } = subject.take(Buffer.from(read as string))
  return { chunks: Buffer.concat(chunks).toString(), back: Buffer.concat(back).toString() }
}

for (const [name, read, chunks, back] of [
  ['an event', '9\r\ndata: a\n\n\r\n', 18, ''],
  ['two events in a chunk', '12\r\ndata: a\n\ndata: b\n\n\r\n', 24, ''],
  ['an event in two chunks', '8\r\ndata: a\n\r\n1\r\n\n\r\n', 19, ''],
  ['a comment', '3\r\n:\n\n\r\n', 8, ''],
  ['a blank line', '1\r\n\n\r\n', 6, ''],
  ['half an event', '8\r\ndata: a\n\r\n', 0, ''],
  ['half a chunk', '9\r\ndata:', 0, ''],
  ['half a size', '9', 0, ''],
  ['a size without LF', '9\r', 0, ''],
  ['what may be the last chunk', '0', 0, ''],
  ['the last chunk', '0\r\n', 0, '0\r\n'],
  ['an extension', '9;x\r\ndata: a\n\n\r\n', 0, '9;x\r\ndata: a\n\n\r\n'],
  ['an extension that has begun', '9;', 0, '9;'],
  ['a chunk that ends in a line', '7\r\ndata: a\r\n', 0, '7\r\ndata: a\r\n'],
  ['an event whose chunk is not over', '9\r\ndata: a\n\n', 0, '9\r\ndata: a\n\n'],
  ['a blank line whose chunk is not over', '2\r\n\n', 0, '2\r\n\n'],
  ['an event and a line in a chunk', '10\r\ndata: a\n\ndata:b\n\r\n', 0, '10\r\ndata: a\n\ndata:b\n\r\n'],
  ['CR LF', 'a\r\ndata: a\r\n\r\n\r\n', 0, 'a\r\ndata: a\r\n\r\n\r\n'],
  ['CR', '9\r\ndata: a\r\r\r\n', 0, '9\r\ndata: a\r\r\r\n'],
  ['CR in half a chunk', '9\r\ndata: a\r', 0, '9\r\ndata: a\r'],
  ['data that is longer than its size', '9\r\ndata: a\n\nx\r\n', 0, '9\r\ndata: a\n\nx\r\n'],
  ['data that is shorter than its size', '9\r\ndata: a\n\r\n\r\n', 0, '9\r\ndata: a\n\r\n\r\n'],
  ['a chunk that ends with CR alone', '9\r\ndata: a\n\n\rx', 0, '9\r\ndata: a\n\n\rx'],
  ['a chunk that ends with LF alone', '9\r\ndata: a\n\n\nx', 0, '9\r\ndata: a\n\n\nx'],
  ['a size that ends with CR alone', '9\rxdata: a\n\n\r\n', 0, '9\rxdata: a\n\n\r\n'],
  ['a size of eight digits', '00000009\r\ndata: a\n\n\r\n', 0, '00000009\r\ndata: a\n\n\r\n'],
  ['eight digits', '00000009', 0, '00000009'],
  ['a chunk that is too large to be held', 'fffffff\r\ndata', 0, 'fffffff\r\ndata'],
  ['no size', '\r\n', 0, '\r\n'],
] as const) {
  test(`${name}: ${back ? 'is given back' : chunks > 0 ? 'passes' : 'waits'}, alone and after a whole event`, () => {
    for (const start of ['', before.toString()]) {
      const { subject } = framer()

      const result = taken(subject, start + read)

      assert.deepEqual(result, { chunks: start + read.slice(0, chunks), back })
      const held = Buffer.concat(subject.release()).toString()
      assert.equal(result.chunks + held + back, start + read)
      assert.deepEqual(subject.release(), [])
    }
  })
}

test('what waits goes with what completes it, and is given back with what makes it useless', () => {
  for (const [next, chunks, back] of [
    ['a\n\n\r\n', '9\r\ndata: a\n\n\r\n', ''],
    ['a\n\n\r\n4\r\ndata', '9\r\ndata: a\n\n\r\n', ''],
    ['a\n\n\r\n4\r\ndata\r\n', '9\r\ndata: a\n\n\r\n', '4\r\ndata\r\n'],
    ['a\nb\r\n', '', '9\r\ndata: a\nb\r\n'],
    ['a\r', '', '9\r\ndata: a\r'],
  ] as const) {
    const { subject } = framer()
    assert.deepEqual(taken(subject, '9\r\ndata: '), { chunks: '', back: '' })

    assert.deepEqual(taken(subject, next), { chunks, back })
  }
})

test('what is held is a copy, so that the read it came in is let go', () => {
  const { subject } = framer()
  const read = Buffer.alloc(65_536)
  inChunks(Array.from({ length: 20 }, () => `data: ${'x'.repeat(3_000)}\n\n`)).copy(read)
  const end = read.indexOf('\n\n\r\n', 10_000) + 10

  subject.take(read.subarray(0, end))

  const held = subject.release()
  assert.equal(Buffer.concat(held).length, 6)
  assert.ok(held.every(({ buffer }) => buffer !== read.buffer))
})

test('a large chunk that drips in is not held in as many buffers', () => {
  for (const [readBytes, isHeld] of [
    [1, false],
    [100, false],
    [1_460, true],
  ] as const) {
    const { subject } = framer()
    const reads = cut(chunk(`data: ${'x'.repeat(900_000)}\n\n`), [readBytes])

    const i = reads.findIndex((read) => taken(subject, read).back !== '')

    assert.equal(i === -1, isHeld)
    assert.ok(i < 10_000 / readBytes + 100)
  }
})

test('no more is held than an event may be large, the frame of its chunks included', () => {
  const event = chunk(`data: ${'x'.repeat(20_000)}\n\n`)
  for (const [eventBytes, isHeld] of [
    [event.length, true],
    [event.length - 1, false],
  ] as const) {
    const { subject } = framer(eventBytes)
    assert.equal(taken(subject, event.subarray(0, 10_000)).back.length, isHeld ? 0 : 10_000)
  }
  for (const [eventBytes, isHeld] of [
    [13, true],
    [12, false],
  ] as const) {
    const { subject } = framer(eventBytes)
    assert.equal(taken(subject, '8\r\ndata: a\n\r\n').back.length, isHeld ? 0 : 13)
  }
})

test('an id longer than anything real counts as none', () => {
  for (const [length, kept] of [
    [8_192, 8_192],
    [8_193, 0],
  ] as const) {
    const { subject, cursor } = framer()
    taken(subject, chunk('id: 1\n\n'))
    taken(subject, chunk(`id: ${'7'.repeat(length)}\n\n`))

    assert.equal(cursor.lastEventId.length, kept)
  }
})

test('it is of no use after many reads in a row that nothing passes of, and of use again before that', () => {
  const { subject } = framer()
  const refused = '7\r\ndata: a\r\n'
  for (let count = 0; count < 15; count++) taken(subject, refused)
  assert.equal(subject.isUseful, true)
  taken(subject, before)
  for (let count = 0; count < 15; count++) taken(subject, refused)
  assert.equal(subject.isUseful, true)

  taken(subject, refused)

  assert.equal(subject.isUseful, false)
})

test('what is held of a large chunk keeps little more memory than it has bytes, however its reads lie', () => {
  const subject = new ChunkFramer(MIB, new Cursor(''))
  const inLargeMemory = (text: string): Buffer => {
    const memory = Buffer.allocUnsafeSlow(65_536)
    return memory.subarray(0, memory.write(text))
  }

  subject.take(inLargeMemory(`40000\r\ndata: ${'x'.repeat(9_000)}`))
  for (let i = 0; i < 50; i++) subject.take(inLargeMemory('x'.repeat(2_000)))

  const held = subject.release()
  const memory = new Set(held.map(({ buffer }) => buffer))
  const bytes = held.reduce((sum, { length }) => sum + length, 0)
  assert.equal(bytes, 109_013)
  assert.ok([...memory].reduce((sum, { byteLength }) => sum + byteLength, 0) <= 2 * bytes)
})

test('reads that only wait are no sign that it is of no use', () => {
  const { subject } = framer()
  const line = chunk(`data: ${'x'.repeat(100)}\n`)
  for (const byte of inBytes(line.subarray(0, -2))) assert.equal(taken(subject, byte).back, '')

  assert.equal(subject.isUseful, true)
})

test('a feed gives back what waits where the client does not take chunks, or the feed is over', () => {
  for (const change of [
    ({ client }: Side) => Object.assign(client, { takesChunks: false }),
    ({ feed }: Side) => feed.stop(),
  ]) {
    const side = new Side(true, MIB)
    assert.deepEqual(side.feed.onChunks(Buffer.from('9\r\nda')), [])
    change(side)

    const back = side.feed.onChunks(Buffer.from('ta: a\n\n\r\n'))

    assert.equal(Buffer.concat(back).toString(), '9\r\ndata: a\n\n\r\n')
    assert.equal(side.writtenBytes, 0)
    // For the rest of the stream.
    assert.equal(side.feed.takesChunks, side.client.takesChunks)
  }
})
