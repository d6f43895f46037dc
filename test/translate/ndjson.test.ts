// Lines of JSON as events, at every split of their bytes, against a plain reading of the format.
import assert from 'node:assert/strict'
import type { IncomingMessage } from 'node:http'
import { describe, test } from 'node:test'
import type { StreamError } from '../../src/errors.ts'
import type { ToEvent } from '../../src/options/format-options.ts'
import { linesAsEvents } from '../../src/translate/ndjson.ts'
import type { UpstreamResponse } from '../../src/upstream-response.ts'
import { cutsOf } from '../stream/fixtures.ts'
import { HandBody, Received } from '../support/hand-body.ts'
import { collectGarbage } from '../support/memory.ts'
import { interpret } from '../support/oracle.ts'
import { below, oneOf, parted, seeded } from '../support/seeded.ts'
import { until } from '../support/waiting.ts'

const req = {} as IncomingMessage

interface Arrangement {
  type?: string
  delimited?: boolean
  toEvent?: ToEvent
  lineBytes?: number
}

/** What reads the answer, after it was given these pieces, each in a read of its own. */
async function read(
  pieces: readonly Buffer[],
  arrangement: Arrangement = {},
): Promise<{ body: HandBody; received: Received }> {
  const { body, response } = answer(arrangement)
  const { toEvent, lineBytes = 1_048_576 } = arrangement
  const received = new Received()
  linesAsEvents(response, req, { toEvent, lineBytes }).body.start(received)
  for (const piece of pieces) await give(body, piece)
  return { body, received }
}

/** Brings a piece in a read, and waits until that is done. */
async function give({ sink }: HandBody, piece: Buffer): Promise<void> {
  sink?.onData(piece)
  await new Promise<void>((resolve) => process.nextTick(resolve))
}

function answer({ type = 'application/x-ndjson', delimited = true }: Arrangement): {
  body: HandBody
  response: UpstreamResponse
} {
  const body = new HandBody()
  const headers = [['Content-Type', type] as const]
  return { body, response: { status: 200, statusMessage: '', headers, upstream: '', body, delimited } }
}

const dataOf = (bytes: Buffer | string): string[] => interpret(bytes).events.map(({ data }) => data)

/** The lines of a body that ends cleanly: byte by byte, without regard to speed. */
function plainReading(bytes: Buffer, hasSeparators: boolean): string[] {
  const lines: number[][] = [[]]
  for (const [at, byte] of bytes.entries()) {
    if (at < 3 && bytes.subarray(0, 3).toString('hex') === 'efbbbf') continue
    const isCrLf = byte === 13 && bytes[at + 1] === 10
    if (byte === 10 || (hasSeparators && byte === 0x1e)) lines.push([])
    else if (!isCrLf) lines.at(-1)?.push(byte === 13 ? 32 : byte)
  }
  return lines.map((line) => Buffer.from(line).toString('utf8')).filter((line) => line.replace(/[ \t]/g, '') !== '')
}

const fixtures: Record<string, string> = {
  'one line': '{"a":1}\n',
  lines: '{"a":1}\n{"b":"é日😀"}\n[1,2]\n"text"\n12\nnull\n',
  'CRLF and a lone CR': '{"a":\r1}\r\n{"b":2}\r\r\n3\r',
  'empty lines': '\n\r\n1\n\n\n \n\t\n2\n \t\r\n3\n\n',
  'white space around': ' 1\n\t2 \n  {"a" : 1}\n',
  'a byte order mark': '\uFEFF1\n\uFEFF2\n',
  'a mark alone': '\uFEFF\n1\n',
  'a last line without its end': '1\n{"a":2}',
  'an empty last line': '1\n ',
  'what looks like fields': 'data: 1\nid: 2\n: 3\nretry: 4\n',
  'a separator in a text': '"a\x1eb"\n',
  nothing: '',
}
const separated = '\x1e{"a":1}\n\x1e\x1e2\n\x1e3\x1e4\n\n\x1e5'

describe('as lines', () => {
  for (const [name, text] of Object.entries(fixtures)) {
    test(`${name}: the events are the lines, wherever the bytes are cut`, async () => {
      const bytes = Buffer.from(text)
      const expected = plainReading(bytes, false)

      for (const pieces of cutsOf(bytes)) {
        const { body, received } = await read(pieces)
        body.sink?.onEnd()

        assert.deepEqual(dataOf(received.bytes), expected)
        assert.equal(received.ended, true)
      }
    })
  }

  test('record separators begin a text and are no part of it, wherever the bytes are cut', async () => {
    const bytes = Buffer.from(separated)

    for (const pieces of cutsOf(bytes)) {
      const { body, received } = await read(pieces, { type: 'application/json-seq' })
      body.sink?.onEnd()

      assert.deepEqual(dataOf(received.bytes), ['{"a":1}', '2', '3', '4', '5'])
      assert.deepEqual(dataOf(received.bytes), plainReading(bytes, true))
    }
  })

  test('any bytes, cut anywhere, are the lines that a plain reading finds', async () => {
    const chance = seeded(19)
    const parts = [
      '\n',
      '\r',
      '\r\n',
      ' ',
      '\t',
      '{"a":1}',
      'é',
      '日',
      '\uFEFF',
      '\0',
      ':',
      'data: ',
      '\x1e',
      'x'.repeat(99),
    ]

    for (let round = 0; round < 3000; round += 1) {
      const bytes = Buffer.from(Array.from({ length: below(chance, 20) }, () => oneOf(chance, parts)).join(''))
      const { body, received } = await read(parted(chance, bytes, 6))
      body.sink?.onEnd()

      assert.deepEqual(dataOf(received.bytes), plainReading(bytes, false), JSON.stringify(bytes.toString()))
    }
  })

  test('a callback that keeps every line, at once or later, makes the same events', async () => {
    const text = '{"a":\r1}\r\n\n[2]\n"é日😀"\n4'
    const keeping: ToEvent[] = [() => undefined, async () => undefined]

    for (const toEvent of keeping) {
      for (const pieces of cutsOf(Buffer.from(text))) {
        const { body, received } = await read(pieces, { toEvent })
        body.sink?.onEnd()
        await received.until(() => received.ended)

        assert.deepEqual(dataOf(received.bytes), plainReading(Buffer.from(text), false))
      }
    }
  })
})

test('whole lines leave with the read that ends them', async () => {
  const { received } = await read([Buffer.from('1\n2'), Buffer.from('3\n4')])

  assert.equal(received.text, 'data: 1\n\ndata: 23\n\n')
})

test('the chunks of one read leave together, and those that come with the end leave before it', async () => {
  const [together, ending, breaking] = [await read([]), await read([]), await read([])]

  for (const { body } of [together, ending, breaking])
    for (const text of ['1\n', '2', '\n']) body.sink?.onData(Buffer.from(text))
  ending.body.sink?.onEnd()
  breaking.body.sink?.onBroken(new Error('cut'))
  const atOnce = [ending, breaking].map(({ received }) => received.text)
  await new Promise<void>((resolve) => process.nextTick(resolve))

  assert.deepEqual(atOnce, ['data: 1\n\ndata: 2\n\n', 'data: 1\n\ndata: 2\n\n'])
  assert.deepEqual(together.received.chunks.map(String), ['data: 1\n\ndata: 2\n\n'])
})

test('a read that is under way when the stream is given up is dropped', async () => {
  const asked: unknown[] = []
  const { body, response } = answer({})
  const toEvent: ToEvent = (value) => void asked.push(value)
  const translated = linesAsEvents(response, req, { toEvent, lineBytes: 10 }).body
  translated.start(new Received())
  body.sink?.onData(Buffer.from('1\n'))

  translated.destroy()
  await new Promise<void>((resolve) => process.nextTick(resolve))

  assert.deepEqual(asked, [])
})

test('a part of a line is a sign of life, and no event', async () => {
  const { received } = await read([Buffer.from('{"a":'), Buffer.from('1')])

  assert.equal(received.chunks.length, 2)
  assert.equal(received.text, '')
})

test('the last line without its end counts at a clean end only', async () => {
  const broken = await read([Buffer.from('1\n2')])
  const undelimited = await read([Buffer.from('1\n2')], { delimited: false })

  broken.body.sink?.onBroken(new Error('cut'))
  undelimited.body.sink?.onEnd()

  for (const { received } of [broken, undelimited]) {
    assert.equal(received.text, 'data: 1\n\n')
    assert.ok(received.broken)
  }
})

test('a body that only its connection delimits is complete behind a line', async () => {
  const { body, received } = await read([Buffer.from('1\n \n')], { delimited: false })

  body.sink?.onEnd()

  assert.equal(received.ended, true)
})

test('a line may be as long as an event may be, and no longer', async () => {
  const fits = await read([Buffer.from(`1\n${'x'.repeat(10)}\n`)], { lineBytes: 10 })
  const whole = await read([Buffer.from(`1\n${'x'.repeat(11)}\n2\n`)], { lineBytes: 10 })
  const dripping = await read(
    [...`1\n${'x'.repeat(11)}`].map((byte) => Buffer.from(byte)),
    { lineBytes: 10 },
  )

  assert.equal(fits.received.text, `data: 1\n\ndata: ${'x'.repeat(10)}\n\n`)
  for (const { received, body } of [whole, dripping]) {
    assert.equal(received.text, 'data: 1\n\n')
    assert.equal((received.broken as StreamError).code, 'ERR_SSE_PROXY_EVENT_TOO_LARGE')
    assert.equal(body.destroyed, true)
  }
})

test('a long line that comes byte by byte costs about its size', async () => {
  const { body, received } = await read([], {})
  const before = process.memoryUsage().arrayBuffers

  for (let at = 0; at < 262_144; at += 1) await give(body, Buffer.alloc(128, 'x').subarray(0, 1))
  // What was grown out of is garbage, which some releases of Node free a while after it has been collected.
  let grown = 0
  const isSmall = (): boolean => {
    collectGarbage()
    grown = process.memoryUsage().arrayBuffers - before
    return grown < 2 * 262_144
  }
  await until(isSmall, () => `a line of 262144 bytes to cost no more than twice that; it costs ${grown}`, 5000)

  await give(body, Buffer.from('\n'))
  assert.equal(dataOf(received.bytes)[0]?.length, 262_144)
})

describe('a callback', () => {
  test('makes an event, several or none of each value, in order although it takes its time', async () => {
    const toEvent: ToEvent = async (value) => {
      const { n } = value as { n: number }
      for (let turns = 10 - n; turns > 0; turns -= 1) await null
      if (n === 2) return null
      if (n === 3) return []
      const event = { event: 'n', id: String(n), data: `a\nid: 9\rb${n}` }
      return n === 4 ? [event, { data: 'more' }] : event
    }
    const { body, received } = await read(
      [Buffer.from('{"n":1}\n{"n":2}\n{"n":3}\n{"n":4}\n'), Buffer.from('{"n":5}\n')],
      {
        toEvent,
      },
    )
    body.sink?.onEnd()

    await received.until(() => received.ended)

    assert.deepEqual(
      interpret(received.bytes).events.map(({ type, data, lastEventId }) => [type, data, lastEventId]),
      [
        ['n', 'a\nid: 9\nb1', '1'],
        ['n', 'a\nid: 9\nb4', '4'],
        ['message', 'more', '4'],
        ['n', 'a\nid: 9\nb5', '5'],
      ],
    )
  })

  test('that is pending pauses the upstream, and what it let through has left', async () => {
    let settle: (() => void) | undefined
    const toEvent: ToEvent = (value) =>
      value === 2 ? new Promise((resolve) => (settle = () => resolve(null))) : undefined
    const { body, received } = await read([Buffer.from('1\n2\n3\n')], { toEvent })

    const before = { text: received.text, paused: body.paused }
    settle?.()
    await received.until(() => received.text.includes('3'))

    assert.deepEqual(before, { text: 'data: 1\n\n', paused: true })
    assert.equal(received.text, 'data: 1\n\ndata: 3\n\n')
    assert.equal(body.paused, false)
  })

  test('that settles while the client does not read leaves the upstream paused', async () => {
    const { body, response } = answer({})
    const received = new Received()
    const translated = linesAsEvents(response, req, { toEvent: async () => undefined, lineBytes: 10 }).body
    translated.start(received)

    await give(body, Buffer.from('1\n'))
    translated.pause()
    await received.until(() => received.text.includes('1'))
    const paused = body.paused
    translated.unpause()

    assert.equal(paused, true)
    assert.equal(body.paused, false)
  })

  const failures: Record<string, ToEvent> = {
    throws: () => {
      throw new Error('a mistake')
    },
    rejects: () => Promise.reject(new Error('a mistake')),
    'returns what is no event': () => ({ data: 1 }) as never,
    'smuggles a field in': () => ({ data: '1', id: '1\ndata: 2' }),
  }
  for (const [what, fail] of Object.entries(failures)) {
    test(`that ${what} ends the stream as broken, behind what came before`, async () => {
      const toEvent: ToEvent = (value) => (value === 1 ? undefined : fail(value, req))
      const { body, received } = await read([Buffer.from('1\n2\n3\n')], { toEvent })

      await received.until(() => received.broken !== undefined)

      assert.equal(received.text, 'data: 1\n\n')
      assert.equal((received.broken as StreamError).code, 'ERR_SSE_PROXY_HOOK')
      assert.equal(body.destroyed, true)
    })
  }

  test('meets a line that is not JSON: the stream breaks, and the failure says why', async () => {
    const { received } = await read([Buffer.from('1\n{"a":\n')], { toEvent: () => undefined })

    assert.equal(received.text, 'data: 1\n\n')
    assert.equal((received.broken as StreamError).code, 'ERR_SSE_PROXY_HOOK')
    assert.match(String(received.broken?.cause), /not JSON/)
  })

  test('that takes its time for each of many lines in one read costs the same for each', async () => {
    const secondsFor = async (count: number): Promise<number> => {
      const { body, received } = await read([], { toEvent: async () => null })
      const from = performance.now()
      body.sink?.onData(Buffer.from('1\n'.repeat(count)))
      body.sink?.onEnd()
      await received.until(() => received.ended)
      return performance.now() - from
    }
    await secondsFor(20_000)

    const few = await secondsFor(20_000)
    const many = await secondsFor(160_000)

    // Eight times as many; a copy of what is left for each would take sixty-four times as long.
    assert.ok(many < 30 * few, `${few} ms and ${many} ms`)
  })

  test('that settles when its stream is over is not called again', async () => {
    const { response, body } = answer({})
    const values: unknown[] = []
    const toEvent: ToEvent = async (value) => void values.push(value)
    const translated = linesAsEvents(response, req, { toEvent, lineBytes: 10 }).body
    translated.start(new Received())
    await give(body, Buffer.from('1\n2\n'))

    translated.destroy()
    await new Promise(setImmediate)

    assert.equal(body.destroyed, true)
    assert.deepEqual(values, [1])
  })

  test('that is pending when the client reads again leaves the upstream paused', async () => {
    const { response, body } = answer({})
    const translated = linesAsEvents(response, req, { toEvent: () => new Promise(() => {}), lineBytes: 10 }).body
    translated.start(new Received())
    await give(body, Buffer.from('1\n'))

    translated.pause()
    translated.unpause()

    assert.equal(body.paused, true)
  })
})

describe('the content type', () => {
  for (const type of [
    ...['application/x-ndjson', 'application/jsonl', 'application/json-seq', 'application/stream+json'],
    ...['Application/X-NDJSON', ' application/jsonl ; charset=utf-8', 'application/stream+json;a="b;c"'],
  ]) {
    test(`${type} is lines`, () => {
      const { response } = answer({ type })

      const translated = linesAsEvents(response, req, { toEvent: undefined, lineBytes: 10 })

      assert.deepEqual(translated.headers, [['Content-Type', 'text/event-stream']])
    })
  }

  for (const type of ['application/json', 'text/event-stream', 'application/x-ndjsonp', 'text/plain', 'x', '']) {
    test(`${type || 'none'} passes as it is`, () => {
      const { response } = answer({ type })

      assert.equal(linesAsEvents(response, req, { toEvent: undefined, lineBytes: 10 }), response)
    })
  }

  test('an answer with another status, or in an unknown coding, passes as it is', () => {
    const { response } = answer({})
    const others = [
      { ...response, status: 206 },
      { ...response, headers: [...response.headers, ['Content-Encoding', 'secret'] as const] },
    ]

    for (const other of others) {
      assert.equal(linesAsEvents(other, req, { toEvent: undefined, lineBytes: 10 }), other)
    }
  })
})
