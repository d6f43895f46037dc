import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { test } from 'node:test'
import { ChunkLane, chunksAfterHead } from '../../src/fast-lane/lane.ts'
import type { BodySink } from '../../src/upstream-response.ts'

const head = 'HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n'
const body = '3\r\n:\n\n\r\n'

/** What Node makes of a head. */
function answerTo(rawHeaders: string[], coding = 'chunked', statusCode = 200, httpVersion = '1.1'): IncomingMessage {
  return { httpVersion, statusCode, rawHeaders, headers: { 'transfer-encoding': coding } } as unknown as IncomingMessage
}

const two = ['A', 'b', 'Transfer-Encoding', 'chunked']

for (const [name, read, answer, expected] of [
  ['a head', head, answerTo(two), ''],
  ['a head and a body', head + body, answerTo(two), body],
  ['a head and a body with blank lines', `${head}4\r\n\r\n\r\n\r\n`, answerTo(two), '4\r\n\r\n\r\n\r\n'],
  ['half a head', head.slice(0, -2), answerTo(two), undefined],
  ['the end of a head', head.slice(20), answerTo(two), undefined],
  ['nothing of a head', body, answerTo(two), undefined],
  ['an interim answer', `HTTP/1.1 103 Early Hints\r\nA: b\r\nC: d\r\n\r\n${head}`, answerTo(two), undefined],
  ['another status', head, answerTo(two, 'chunked', 201), undefined],
  ['an older version', head.replace('1.1', '1.0'), answerTo(two, 'chunked', 200, '1.0'), undefined],
  ['an empty line before it', `\r\n${head}`, answerTo(two), undefined],
  ['a folded line', head.replace('b\r', 'b\r\n c\r'), answerTo(two), undefined],
  ['a line that ends with LF', head.replace('b\r\n', 'b\n'), answerTo(two), undefined],
  ['fewer headers than there were', head, answerTo([...two, 'C', 'd']), undefined],
  ['another coding', head, answerTo(two, 'gzip, chunked'), undefined],
  ['no coding', head, answerTo(two, undefined), undefined],
] as const) {
  test(`${name}: ${expected === undefined ? 'it is not sure where a body begins' : 'what follows is the body'}`, () => {
    const known = name === 'no coding' ? ({ ...answer, headers: {} } as unknown as IncomingMessage) : answer

    assert.equal(chunksAfterHead(Buffer.from(read), known)?.toString(), expected)
  })
}

/** An answer whose parser brings whatever data a test says. */
class Stage {
  readonly socket = Object.assign(new EventEmitter(), { destroyed: false })
  readonly answer: EventEmitter & { socket: EventEmitter } = Object.assign(new EventEmitter(), { socket: this.socket })
  readonly parsed: string[] = []
  readonly offered: string[] = []
  readonly data: string[] = []
  readonly back: Buffer[] = []
  parsedBytes = 0
  /** What the parser brings of each read. */
  readonly brings: number[] = []
  /** Called with what the parser is given. */
  parses = (_read: Buffer): unknown => undefined
  readonly parser = (read: Buffer): void => {
    this.parsed.push(read.toString())
    this.parses(read)
    this.parsedBytes += this.brings.shift() ?? 0
  }
  sink: BodySink | undefined = {
    takesChunks: true,
    onChunks: (read) => {
      this.offered.push(read.toString())
      return this.back.splice(0)
    },
    onData: (data) => void this.data.push(data.toString()),
    onEnd() {},
    onBroken() {},
  }

  constructor() {
    this.socket.on('data', this.parser)
    this.answer.on('data', () => {})
  }

  enter(start = ''): ChunkLane | undefined {
    this.parsedBytes = 0
    return ChunkLane.enter(this.answer as unknown as IncomingMessage, Buffer.from(start), this)
  }

  read(bytes: string): void {
    this.socket.emit('data', Buffer.from(bytes))
  }

  /** Whether the connection's data goes to the parser and nowhere else. */
  get isLeft(): boolean {
    const listeners = this.socket.listeners('data')
    return listeners.length === 1 && listeners[0] === this.parser
  }
}

const first = '3\r\nabc\r\n'
const second = '2\r\nde\r\n'

/** A stage whose parser has brought data, so that chunks go by. */
function proven(): Stage {
  const stage = new Stage()
  stage.enter()
  stage.brings.push(3)
  stage.read(first)
  return stage
}

test('chunks go by once the parser has brought the data that was expected', () => {
  const stage = proven()

  stage.read(second)

  assert.deepEqual([stage.parsed, stage.offered], [[first], [second]])
  assert.equal(stage.isLeft, false)
})

test('a parser that brings anything else gets all that follows', () => {
  for (const brings of [0, 2, 4]) {
    const stage = new Stage()
    stage.enter()
    stage.brings.push(brings)

    stage.read(first)
    stage.read(second)

    assert.deepEqual([stage.parsed, stage.offered], [[first, second], []])
    assert.ok(stage.isLeft)
  }
})

test('it is not entered where what came with the head brought something else', () => {
  const stage = new Stage()

  assert.equal(stage.enter(first), undefined)
  assert.ok(stage.isLeft)
})

test('it is not entered where somebody else listens, or nobody, or where the connection is gone', () => {
  const cases: ((stage: Stage) => void)[] = [
    ({ socket }) => socket.on('data', () => {}),
    ({ answer }) => answer.on('data', () => {}),
    ({ socket }) => socket.removeAllListeners('data'),
    ({ socket }) => Object.assign(socket, { destroyed: true }),
  ]
  for (const change of cases) {
    const stage = new Stage()
    change(stage)
    const listeners = stage.socket.listeners('data')

    assert.equal(stage.enter(), undefined)
    assert.deepEqual(stage.socket.listeners('data'), listeners)
  }
})

test('the end of a chunk that the parser has begun is its own', () => {
  const stage = proven()
  stage.back.push(Buffer.from('2'))
  stage.brings.push(0, 2)

  stage.read('2')
  stage.read(`\r\nde\r\n${first}`)

  assert.deepEqual(
    [stage.parsed, stage.offered],
    [
      [first, '2', '\r\nde\r\n'],
      ['2', first],
    ],
  )
})

test('of what is given back chunks leave as data, together, with what has come of one that is not whole', () => {
  const stage = proven()
  stage.read('2\r')
  stage.back.push(Buffer.from('2\r'), Buffer.from(`\nde\r\n${first}4\r\nf`))

  stage.read(`\nde\r\n${first}4\r\nf`)
  stage.read('gh')
  stage.read(`i\r\n${first}`)

  assert.deepEqual([stage.data, stage.parsed, stage.offered.at(-1)], [['deabcf', 'gh', 'i'], [first], first])
  assert.equal(stage.isLeft, false)
})

for (const [name, reads, data, parsed] of [
  ['data that ends where a read ends', ['f', 'ghi', '\r\n'], ['f', 'gh'], ['1\r\ni', '\r\n']],
  ['a line end that is cut', ['fghi\r', '\n'], ['fgh'], ['1\r\ni\r', '\n']],
  ['a last byte of its own', ['fgh', 'i', '\r\n'], ['fgh'], ['1\r\ni', '\r\n']],
  ['more data than its size', ['fghij\r\n'], ['fgh'], ['1\r\nij\r\n']],
  ['a line end without CR', ['fghi\n'], ['fgh'], ['1\r\ni\n']],
] as const) {
  test(`how a chunk ends is for the parser to judge where that is ${name}`, () => {
    const stage = proven()
    stage.back.push(Buffer.from('4\r\n'))
    stage.brings.push(1)
    stage.read('4\r\n')

    for (const read of reads) stage.read(read)

    assert.deepEqual([stage.data, stage.parsed.slice(1)], [data, parsed])
  })
}

test('a parser that is back in its place in the middle of a chunk gets the rest of it as a chunk', () => {
  const stage = proven()
  stage.back.push(Buffer.from('20\r\nde'))
  stage.read('20\r\nde')
  stage.answer.on('data', () => {})

  stage.read('fgh')
  stage.read('ijk')

  assert.deepEqual([stage.data, stage.parsed.slice(1)], [['de'], ['1e\r\nfgh', 'ijk']])
  assert.ok(stage.isLeft)
})

test('a sink that does not take chunks gets their data', () => {
  const stage = proven()
  stage.sink = { ...stage.sink, takesChunks: false } as BodySink

  stage.read(second + first)
  stage.read(first)

  assert.deepEqual([stage.data, stage.offered, stage.parsed], [['deabc', 'abc'], [], [first]])
})

test('the parser is back in its place before it sees the end', () => {
  for (const reads of [['0\r\n\r\n'], ['0', '\r\n', '\r\n'], ['2;x\r\nde\r\n']]) {
    const stage = proven()
    let wasLeft = false
    for (const read of reads) {
      stage.back.push(Buffer.from(read))
      stage.read(read)
      wasLeft ||= stage.isLeft
    }

    assert.ok(wasLeft)
    assert.equal(stage.parsed.slice(1).join(''), reads.join(''))
  }
})

test('who begins to read the answer later misses nothing of what the sink held', () => {
  const stage = proven()
  stage.sink = { ...stage.sink, releaseChunks: () => [Buffer.from('2\r\nd')] } as BodySink
  stage.read('2\r\nd')
  stage.answer.on('data', () => {})

  stage.read(`e\r\n${first}`)
  stage.read(first)

  assert.deepEqual(stage.parsed, [first, `2\r\nde\r\n${first}`, first])
  assert.ok(stage.isLeft)
})

test('the parser gets everything where nobody reads any more', () => {
  const stage = proven()
  stage.sink = undefined
  stage.brings.push(2, 3)

  stage.read(second)
  stage.read(first)

  assert.deepEqual([stage.parsed, stage.offered, stage.data], [[first, second, first], [], []])
  assert.ok(stage.isLeft)
})

test('a connection that is gone is not parsed', () => {
  const stage = proven()
  stage.back.push(Buffer.from('2\r\nd'))
  stage.socket.destroyed = true

  stage.read('2\r\nd')

  assert.deepEqual(stage.parsed, [first])
})

/** A lane between two chunks, whose sink writes at once what it takes. */
function lending(): { stage: Stage; lane: ChunkLane; kept: Buffer[] } {
  const stage = new Stage()
  const kept: Buffer[] = []
  Object.assign(stage.sink ?? {}, { mayBorrow: true, keeps: (memory: Buffer) => kept.includes(memory) })
  const lane = stage.enter()
  assert.ok(lane)
  stage.brings.push(3)
  stage.read(first)
  // The first read that goes by.
  stage.read(second)
  return { stage, lane, kept }
}

test('a sink that writes at once has reads from memory that is used again, and says what it keeps of them', () => {
  const { stage, lane, kept } = lending()
  const memory = Buffer.from(body)

  assert.equal(lane.borrow(memory), true)
  assert.deepEqual([lane.keeps(memory), stage.offered.at(-1)], [false, body])

  kept.push(memory)
  assert.equal(lane.keeps(memory), true)
})

test('of memory that is used again the parser gets a copy, and the sink is told with its data', () => {
  const { stage, lane } = lending()
  const data: [string, boolean | undefined][] = []
  Object.assign(stage.sink ?? {}, { onData: (bytes: Buffer, isLent?: boolean) => data.push([String(bytes), isLent]) })
  const given: Buffer[] = []
  stage.parses = (bytes) => given.push(bytes)
  const memory = Buffer.from(`${body}9`)
  stage.back.push(memory)

  assert.equal(lane.borrow(memory), true)
  memory.fill('?')

  assert.deepEqual(data, [[':\n\n', true]])
  assert.deepEqual(given.map(String), ['9'])
})

for (const [name, change] of [
  ['has bytes on their way', ({ sink }) => Object.assign(sink ?? {}, { mayBorrow: false })],
  ['is gone', (stage) => Object.assign(stage, { sink: undefined })],
  ['is not the only reader', ({ answer }) => answer.on('data', () => {})],
  ['is not the only reader of the connection', ({ socket }) => socket.on('data', () => {})],
  [
    'sees the parser bring what it was not given',
    (stage) => Object.assign(stage, { parsedBytes: stage.parsedBytes + 1 }),
  ],
] as [string, (stage: Stage) => void][]) {
  test(`a sink that ${name} borrows nothing`, () => {
    const { stage, lane } = lending()

    change(stage)

    assert.equal(lane.borrow(Buffer.from(body)), false)
  })
}

test('what a sink was lent that has left since is not used again', () => {
  const { stage, lane } = lending()
  const memory = Buffer.from(body)
  lane.borrow(memory)

  Object.assign(stage, { sink: undefined })

  assert.equal(lane.keeps(memory), true)
})

test('reads may be huge only where the sink passes chunks on as they are', () => {
  const { stage, lane } = lending()
  const whileItDoes = lane.takesHuge

  Object.assign(stage.sink ?? {}, { takesChunks: false })
  const whileItDoesNot = lane.takesHuge
  Object.assign(stage, { sink: undefined })

  assert.deepEqual([whileItDoes, whileItDoesNot, lane.takesHuge], [true, false, false])
})
