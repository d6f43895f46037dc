import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { StreamError } from '../../src/errors.ts'
import type { HookResult, SseStream, StreamEvent, TransformHook } from '../../src/events/event.ts'
import { HookRunner } from '../../src/events/hooks.ts'
import {
  BOM,
  cutsOf,
  everyMix,
  fixtures,
  forAll,
  framer,
  inBytes,
  inTwo,
  randomPieces,
  randomStream,
} from '../stream/fixtures.ts'
import { anyText } from '../support/any-text.ts'
import { heapUsed } from '../support/memory.ts'
import { type Interpretation, interpret } from '../support/oracle.ts'

const MIB = 1_048_576
const stream = { id: 'the stream' } as SseStream

/** A runner, and what it has let through so far. */
function runner(hooks: TransformHook | readonly TransformHook[], eventBytes = MIB) {
  const left: Buffer[] = []
  const subject = new HookRunner({
    hooks: typeof hooks === 'function' ? [hooks] : hooks,
    stream,
    eventBytes,
    emit: (bytes) => left.push(bytes),
  })
  return { subject, run: (text: string) => subject.run(Buffer.from(text)), text: () => Buffer.concat(left).toString() }
}

/** A stream through a framer and the hooks, as it comes, with its tail. */
function through(pieces: readonly Buffer[], hooks: readonly TransformHook[]): Buffer {
  const left: Buffer[] = []
  const framed = framer({ failsOversize: true })
  const subject = new HookRunner({ hooks, stream, eventBytes: MIB, emit: (bytes) => left.push(bytes) })
  for (const piece of pieces) {
    const released = Buffer.concat(framed.take(piece))
    if (released.length > 0) assert.equal(subject.run(released), undefined)
  }
  const tail = Buffer.concat(framed.takeTail())
  if (tail.length > 0) assert.equal(subject.runTail(tail), undefined)
  return Buffer.concat(left)
}

/** The same with hooks that may take their time. */
async function throughSlowly(pieces: readonly Buffer[], hooks: readonly TransformHook[]): Promise<Buffer> {
  const left: Buffer[] = []
  const framed = framer({ failsOversize: true })
  const subject = new HookRunner({ hooks, stream, eventBytes: MIB, emit: (bytes) => left.push(bytes) })
  for (const piece of pieces) {
    const released = Buffer.concat(framed.take(piece))
    if (released.length > 0) await subject.run(released)
  }
  const tail = Buffer.concat(framed.takeTail())
  if (tail.length > 0) await subject.runTail(tail)
  return Buffer.concat(left)
}

function named(name: string, check: () => void): void {
  try {
    check()
  } catch (error) {
    throw new Error(name, { cause: error })
  }
}

const keep: TransformHook = () => undefined
const drop: TransformHook = () => null
const upperCase: TransformHook = ({ data, ...rest }) => ({ ...rest, data: data.toUpperCase() })

describe('a hook that returns nothing', () => {
  test('leaves every byte of every fixture as it came, at every cut', () => {
    for (const { name, bytes } of fixtures) {
      for (const pieces of cutsOf(bytes, 24)) {
        named(name, () => assert.ok(through(pieces, [keep]).equals(bytes)))
      }
    }
    for (const { name, bytes } of everyMix) {
      for (const pieces of [[bytes], inBytes(bytes), ...inTwo(bytes)]) {
        named(name, () => assert.ok(through(pieces, [keep, keep]).equals(bytes)))
      }
    }
  })

  test('leaves every byte of random streams as it came', () => {
    forAll(randomPieces, (pieces) => {
      assert.ok(through(pieces, [keep]).equals(Buffer.concat(pieces)))
    })
  })

  test('leaves every byte of random streams as it came when it takes its time', async () => {
    const slow: TransformHook = async () => {}

    await fc.assert(
      fc.asyncProperty(randomPieces, async (pieces) => {
        assert.ok((await throughSlowly(pieces, [slow])).equals(Buffer.concat(pieces)))
      }),
      { seed: 20_260_711, numRuns: 500 },
    )
  })

  test('sees what a client sees, and the stream', () => {
    forAll(randomPieces, (pieces) => {
      const complete = wholeOf(Buffer.concat(pieces))
      const seen: StreamEvent[] = []

      through(
        [complete],
        [
          (event, given) => {
            assert.equal(given, stream)
            seen.push(event)
          },
        ],
      )

      assert.deepEqual(
        seen.map(({ data, event }) => ({ data, type: event ?? 'message' })),
        interpret(complete).events.map(({ data, type }) => ({ data, type })),
      )
    })
  })

  test('lets neighbours leave in one piece', () => {
    const left: Buffer[] = []
    const subject = new HookRunner({ hooks: [keep], stream, eventBytes: MIB, emit: (bytes) => left.push(bytes) })
    const read = Buffer.from('data: a\n\n: b\n\nid: 1\n\ndata: c\n\n')

    subject.run(read)

    assert.equal(left.length, 1)
    assert.equal(left[0]?.buffer, read.buffer)
  })

  test('is not asked about what is no event', () => {
    const { run, text } = runner(() => assert.fail('asked'))

    run(': a\n\nid: 1\n\nretry: 5\n\nevent: e\n\nx\n\n\n\n')

    assert.equal(text(), ': a\n\nid: 1\n\nretry: 5\n\nevent: e\n\nx\n\n\n\n')
  })
})

test('what a hook is given says which id belongs to the event', () => {
  const seen: (string | undefined)[] = []
  const { run } = runner((event) => {
    seen.push(event.id)
  })

  run('id: 1\ndata: a\n\ndata: b\n\nid: 2\n\ndata: c\n\nid\ndata: d\n\nid: 3\0\ndata: e\n\n')

  assert.deepEqual(seen, ['1', undefined, undefined, '', undefined])
})

/** Up to the last blank line. */
function wholeOf(bytes: Buffer): Buffer {
  return Buffer.concat(framer({ failsOversize: true }).take(bytes))
}

describe('dropping', () => {
  test('an event shows no event that was none, to the client neither', () => {
    const { run, text } = runner(drop)

    run(`data: a\n\n${BOM}data: b\n\n`)

    assert.deepEqual(interpret(text()).events, [])
  })

  for (const [how, dropped] of [
    ['null', drop],
    ['an empty array', () => []],
  ] as const) {
    test(`${how}: no event arrives, every id does, over random streams`, () => {
      forAll(randomPieces, (pieces) => {
        const complete = wholeOf(Buffer.concat(pieces))

        const { events, lastEventId } = interpret(through([complete], [dropped as TransformHook]))

        assert.deepEqual(events, [])
        assert.equal(lastEventId, interpret(complete).lastEventId)
      })
    })
  }

  test('some: the others arrive as they would have, their last id included, over random streams', () => {
    forAll(fc.tuple(randomPieces, fc.array(fc.boolean(), { minLength: 1 })), ([pieces, choices]) => {
      const complete = wholeOf(Buffer.concat(pieces))
      const isDropped = (i: number) => choices[i % choices.length]
      let i = 0

      const read = interpret(through([complete], [() => (isDropped(i++) ? null : undefined)]))

      const { events, lastEventId } = interpret(complete)
      assert.deepEqual(
        read.events,
        events.filter((_, at) => !isDropped(at)),
      )
      assert.equal(read.lastEventId, lastEventId)
    })
  })

  test('an event without an id leaves nothing at all', () => {
    const { run, text } = runner(drop)

    run('data: a\n\n')

    assert.equal(text(), '')
  })

  test('an event with an empty id takes the last one back', () => {
    const { run, text } = runner(({ data }) => (data === 'b' ? null : undefined))

    run('id: 1\ndata: a\n\nid\ndata: b\n\n')

    assert.equal(interpret(text()).lastEventId, '')
    assert.equal(interpret(text()).events.length, 1)
  })

  test('the first event takes its byte order mark along', () => {
    const { run, text } = runner(({ data }) => (data === 'a' ? null : undefined))

    run(`${BOM}data: a\n\ndata: b\n\n`)

    assert.deepEqual(
      interpret(text()).events.map(({ data }) => data),
      ['b'],
    )
  })
})

describe('replacing', () => {
  const data = fc
    .array(fc.oneof(fc.constantFrom('\n', '\r', '\r\n', ' ', ':', BOM, 'data: a\n\n'), anyText()))
    .map((parts) => parts.join(''))
  const line = anyText().map((text) => text.replace(/[\r\n\0]/g, ' '))
  const newEvent: fc.Arbitrary<StreamEvent> = fc.record({ data, event: line }, { requiredKeys: ['data'] })
  const newEventWithId: fc.Arbitrary<StreamEvent> = fc.record({ data, id: line }, { requiredKeys: ['data'] })

  function meant({ data: text, event }: StreamEvent): unknown {
    return { type: event || 'message', data: text.replace(/\r\n?/g, '\n') }
  }

  test('a client reads what was meant, and the last id of the upstream, over random streams', () => {
    forAll(fc.tuple(randomStream, fc.array(newEvent, { maxLength: 4 })), ([bytes, news]) => {
      const complete = wholeOf(bytes)

      const read = interpret(through([complete], [() => news]))

      const { events, lastEventId } = interpret(complete)
      assert.deepEqual(
        read.events.map(({ type, data: text }) => ({ type, data: text })),
        events.flatMap(() => news.map(meant)),
      )
      assert.equal(read.lastEventId, lastEventId)
    })
  })

  test('an id that a hook gives stands in place of that of the upstream', () => {
    forAll(fc.array(newEventWithId, { minLength: 1, maxLength: 4 }), (news) => {
      const { run, text } = runner(() => news)

      run('id: 1\ndata: a\n\n')

      const expected = news.findLast(({ id }) => id !== undefined)?.id ?? '1'
      assert.equal(interpret(text()).lastEventId, expected)
    })
  })

  test('the parts of a split event get the id with the last part, so that none is missed after a reconnect', () => {
    const { run, text } = runner(() => [{ data: 'a' }, { data: 'b' }])

    run('id: 1\ndata: ab\n\n')

    assert.equal(text(), 'data: a\n\nid: 1\ndata: b\n\n')
  })

  test('only what was replaced is written anew', () => {
    const { run, text } = runner((event) => (event.data === 'b' ? { data: 'B' } : undefined))

    run('data:a\n\n:c\r\ndata:b\r\n\r\nx\ndata:c\n\n')

    assert.equal(text(), 'data:a\n\ndata: B\n\nx\ndata:c\n\n')
  })

  test('the event that a hook was given is as good as a new one', () => {
    const { run, text } = runner((event) => event)

    run('x: y\nid: 1\nevent: e\ndata: a\ndata: b\n\n')

    assert.equal(text(), 'event: e\nid: 1\ndata: a\ndata: b\n\n')
  })
})

describe('several hooks', () => {
  test('run in order, each on what the one before made', () => {
    const seen: string[] = []
    const see =
      (name: string, result: (event: StreamEvent) => HookResult): TransformHook =>
      (event) => {
        seen.push(`${name} ${event.data}`)
        return result(event)
      }
    const { run, text } = runner([
      see('1', ({ data }) => (data === 'a' ? [{ data: 'b' }, { data: 'c' }] : undefined)),
      see('2', ({ data }) => (data === 'b' ? null : undefined)),
      see('3', ({ data }) => ({ data: `${data}!` })),
    ])

    run('data: a\n\ndata: z\n\n')

    assert.deepEqual(seen, ['1 a', '2 b', '2 c', '3 c', '1 z', '2 z', '3 z'])
    assert.equal(text(), 'data: c!\n\ndata: z!\n\n')
  })

  test('a dropped event is not shown to the next hook', () => {
    const { run, text } = runner([drop, () => assert.fail('shown')])

    run('id: 1\ndata: a\n\n')

    assert.equal(text(), 'id: 1\n\n')
  })

  test('the id of the upstream is there for the last hook too', () => {
    const { run, text } = runner([upperCase, upperCase, ({ data, id }) => ({ data: `${data}${id}` })])

    run('id: 1\ndata: a\n\n')

    assert.equal(text(), 'id: 1\ndata: A1\n\n')
  })

  test('an id that one hook gave reaches the client when a later hook drops the event', () => {
    const { run, text } = runner([({ data, id }) => ({ data, id: `up-${id}` }), drop])

    run('id: 1\ndata: a\n\n')

    assert.equal(interpret(text()).lastEventId, 'up-1')
    assert.deepEqual(interpret(text()).events, [])
  })

  test('an id that one hook gave a part reaches the client when a later hook drops that part', () => {
    const { run, text } = runner([
      () => [
        { data: 'a', id: '1.1' },
        { data: 'b', id: '1.2' },
      ],
      ({ data }) => (data === 'b' ? null : undefined),
    ])

    run('id: 1\ndata: ab\n\n')

    assert.equal(interpret(text()).lastEventId, '1.2')
    assert.equal(interpret(text()).events.length, 1)
  })
})

describe('promises', () => {
  test('none is made when no hook returns one', () => {
    for (const hook of [keep, drop, upperCase, (event: StreamEvent) => [event, event]]) {
      const { subject, run } = runner([hook, hook])

      assert.equal(run('id: 1\ndata: a\n\ndata: b\n\n'), undefined)
      assert.equal(subject.runTail(Buffer.from('data: c')), undefined)
    }
  })

  test('while one is pending what came before has left, and nothing after it', async () => {
    const gates = new Map<string, () => void>()
    const { run, text } = runner(({ data }) =>
      data === 'b' || data === 'd' ? new Promise((resolve) => gates.set(data, resolve)) : undefined,
    )

    const done = run('data: a\n\ndata: b\n\ndata: c\n\ndata: d\n\ndata: e\n\n')
    assert.ok(done instanceof Promise)
    assert.equal(text(), 'data: a\n\n')
    gates.get('b')?.()
    await new Promise(setImmediate)
    assert.equal(text(), 'data: a\n\ndata: b\n\ndata: c\n\n')
    gates.get('d')?.()
    await done

    assert.equal(text(), 'data: a\n\ndata: b\n\ndata: c\n\ndata: d\n\ndata: e\n\n')
  })

  test('the next event is not shown before the one before it is decided', async () => {
    const log: string[] = []
    const { run } = runner(async ({ data }) => {
      log.push(`begin ${data}`)
      await new Promise(setImmediate)
      log.push(`end ${data}`)
    })

    await run('data: a\n\ndata: b\n\n')

    assert.deepEqual(log, ['begin a', 'end a', 'begin b', 'end b'])
  })

  test('it makes no difference to the client which hooks take their time', async () => {
    const results: ((event: StreamEvent) => HookResult)[] = [
      () => undefined,
      () => null,
      () => [],
      ({ data }) => ({ data: `${data}!` }),
      ({ data, id }) => [{ data: `${data}1` }, { data: `${data}2`, id: `${id}.2` }],
      (event) => [event],
    ]
    const choice = fc.record({ result: fc.constantFrom(...results), ticks: fc.integer({ min: 0, max: 3 }) })
    const hooksOf = (lists: readonly (readonly { result: (e: StreamEvent) => HookResult; ticks: number }[])[]) =>
      lists.map((list) => (event: StreamEvent) => list[event.data.length % list.length]!)
    const wait = async (ticks: number) => {
      for (let i = 0; i < ticks; i++) await null
    }

    await fc.assert(
      fc.asyncProperty(
        randomPieces,
        fc.array(fc.array(choice, { minLength: 1, maxLength: 5 }), { minLength: 1, maxLength: 3 }),
        async (pieces, lists) => {
          const chosen = hooksOf(lists)
          const quick = chosen.map(
            (choose): TransformHook =>
              (event) =>
                choose(event).result(event),
          )
          const slow = chosen.map(
            (choose): TransformHook =>
              (event) => {
                const { result, ticks } = choose(event)
                return ticks === 0 ? result(event) : wait(ticks).then(() => result(event))
              },
          )

          const expected = through(pieces, quick)

          assert.equal((await throughSlowly(pieces, slow)).toString(), expected.toString())
        },
      ),
      { seed: 20_260_711, numRuns: 500 },
    )
  })

  test('a thenable that is no Promise counts as one', async () => {
    for (const [result, expected] of [
      [undefined, 'data: a\n\ndata: c\n\n'],
      [null, ''],
      [{ data: 'b' }, 'data: b\n\ndata: b\n\n'],
    ] as const) {
      // Its `then` returns nothing, as the least of them do.
      const thenable: unknown = {
        then: (resolve: (value: HookResult) => void) => void setImmediate(resolve, result),
      }
      const { run, text } = runner([() => thenable as Promise<HookResult>, keep])

      await run('data: a\n\ndata: c\n\n')

      assert.equal(text(), expected)
    }
  })
})

describe('failures', () => {
  const cause = new Error('from the hook')
  const failing: Readonly<Record<string, TransformHook>> = {
    'a throw': () => {
      throw cause
    },
    'a rejection': () => Promise.reject(cause),
    'a late rejection': () => new Promise((_, reject) => setImmediate(reject, cause)),
  }

  async function failureOf(hooks: readonly TransformHook[], input: string): Promise<{ error: unknown; left: string }> {
    const { run, text } = runner(hooks)
    try {
      await run(input)
    } catch (error) {
      return { error, left: text() }
    }
    return { error: undefined, left: text() }
  }

  for (const [how, hook] of Object.entries(failing)) {
    for (const [where, place] of [
      ['alone', (failed: TransformHook) => [failed]],
      ['behind a hook that replaces', (failed: TransformHook) => [upperCase, failed]],
      ['behind a hook that splits', (failed: TransformHook) => [(event: StreamEvent) => [event, event], failed]],
      ['behind a hook that takes its time', (failed: TransformHook) => [async () => {}, failed]],
      ['before another', (failed: TransformHook) => [failed, keep]],
    ] as const) {
      test(`${how}, ${where}: what came before has left, the event and what follows have not`, async () => {
        const onSecret: TransformHook = (event, given) =>
          event.data.toLowerCase() === 'secret' ? hook(event, given) : undefined

        const { error, left } = await failureOf(place(onSecret), 'data: a\n\ndata: secret\n\ndata: b\n\n')

        assert.ok(error instanceof StreamError)
        assert.equal(error.code, 'ERR_SSE_PROXY_HOOK')
        assert.equal(error.cause, cause)
        assert.match(left, /^(data: a\n\n)+$/i)
      })
    }
  }

  test('a throw comes from run() itself', () => {
    const { run } = runner(failing['a throw']!)

    assert.throws(() => run('data: a\n\n'), { code: 'ERR_SSE_PROXY_HOOK' })
  })

  for (const [what, result] of [
    ['a string', 'data'],
    ['true', true],
    ['a number', 0],
    ['an object without data', {}],
    ['data that is no string', { data: 1 }],
    ['LF in the type', { data: '', event: 'a\ndata: injected' }],
    ['CR in the type', { data: '', event: 'a\r' }],
    ['NUL in the type', { data: '', event: '\0' }],
    ['LF in the id', { data: '', id: '1\n\ndata: injected' }],
    ['CR in the id', { data: '', id: '\r' }],
    ['NUL in the id', { data: '', id: '1\0' }],
    ['a list with one that is wrong', [{ data: 'ok' }, { data: '', id: '\n' }]],
    ['a list with nothing in it', [undefined]],
    ['a list in a list', [[{ data: '' }]]],
  ] as const) {
    for (const [when, returned] of [
      ['at once', () => result],
      ['in a promise', async () => result],
    ] as const) {
      test(`a hook that returns ${what} ${when} has failed`, async () => {
        const { error, left } = await failureOf([returned as unknown as TransformHook], 'data: a\n\n')

        assert.ok(error instanceof StreamError)
        assert.equal(error.code, 'ERR_SSE_PROXY_HOOK')
        assert.ok(error.cause instanceof TypeError)
        assert.equal(left, '')
      })
    }
  }

  test('an event larger than eventBytes is an error, and those before it have left', async () => {
    for (const hook of [keep, async () => {}]) {
      const { run, text } = runner(hook, 12)

      await assert.rejects(async () => run('data: a\n\n: b\n\ndata: 01234567\n\ndata: c\n\n'), {
        name: 'StreamError',
        code: 'ERR_SSE_PROXY_EVENT_TOO_LARGE',
      })

      assert.equal(text(), 'data: a\n\n: b\n\n')
    }
  })

  test('an event of exactly eventBytes is none', () => {
    const { run, text } = runner(keep, 12)

    run('data: 0123\n\n')

    assert.equal(text(), 'data: 0123\n\n')
  })
})

describe('flush', () => {
  test('lets go what is through, so that a hook can send something after it', () => {
    const left: string[] = []
    const subject = new HookRunner({
      hooks: [
        ({ data }) => {
          if (data !== 'b') return
          subject.flush()
          left.push('here')
        },
      ],
      stream,
      eventBytes: MIB,
      emit: (bytes) => left.push(bytes.toString()),
    })

    subject.run(Buffer.from('data: a\n\ndata: b\n\ndata: c\n\n'))

    assert.deepEqual(left, ['data: a\n\n', 'here', 'data: b\n\ndata: c\n\n'])
  })
})

describe('an event without its blank line at the end of the stream', () => {
  const TAIL = 'id: 2\ndata: b'

  function tailThrough(hook: TransformHook, tail = TAIL): { read: Interpretation; left: string } {
    const { subject, run, text } = runner(hook)
    run('id: 1\ndata: a\n\n')
    subject.runTail(Buffer.from(tail))
    return { read: interpret(text()), left: text() }
  }

  test('is shown to hooks, so that what they hide stays hidden', () => {
    for (const tail of [TAIL, `${TAIL}\n`, `${TAIL}\r`, `${TAIL}\r\n`]) {
      const seen: StreamEvent[] = []
      const { left } = tailThrough((event) => {
        seen.push(event)
      }, tail)

      assert.equal(left, `id: 1\ndata: a\n\n${tail}`)
      assert.deepEqual(
        seen.map(({ data, id }) => ({ data, id })),
        [
          { data: 'a', id: '1' },
          { data: 'b', id: '2' },
        ],
      )
    }
  })

  test('does not move the cursor when it is dropped: its id never counted', () => {
    const { read, left } = tailThrough(({ data }) => (data === 'b' ? null : undefined))

    assert.equal(left, 'id: 1\ndata: a\n\n')
    assert.equal(read.lastEventId, '1')
  })

  test('does not become a complete event when it is replaced', () => {
    const { read, left } = tailThrough((event) => (event.data === 'b' ? { ...event, data: 'B' } : undefined))

    assert.match(left, /data: B/)
    assert.deepEqual(
      read.events.map(({ data }) => data),
      ['a'],
    )
    assert.equal(read.lastEventId, '1')
  })

  test('breaks the stream off when a hook fails', async () => {
    for (const hook of [
      () => {
        throw new Error('no')
      },
      async () => Promise.reject(new Error('no')),
    ]) {
      const { subject, text } = runner(hook)

      await assert.rejects(async () => subject.runTail(Buffer.from(TAIL)), { code: 'ERR_SSE_PROXY_HOOK' })

      assert.equal(text(), '')
    }
  })

  test('waits for a hook that takes its time', async () => {
    const { subject, text } = runner(async ({ data }) => ({ data: `${data}!` }))

    await subject.runTail(Buffer.from(TAIL))

    assert.match(text(), /data: b!/)
  })

  test('leaves as it is when it is no event', () => {
    const { subject, text } = runner(() => assert.fail('asked'))

    subject.runTail(Buffer.from(': bye\nid: 3'))

    assert.equal(text(), ': bye\nid: 3')
  })
})

describe('a read of many events, large and small', () => {
  // Around what is looked at together, to the byte.
  const sizes = fc.oneof(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 4_000, max: 4_200 }), fc.constant(70_000))
  const event = fc.record({ size: sizes, text: fc.constantFrom('a', 'a', 'é', '😀') })
  const streams = fc
    .array(event, { minLength: 1, maxLength: 12 })
    .chain((events) => fc.record({ events: fc.constant(events), end: fc.constantFrom('\n', '\n', '\n', '\r', '\r\n') }))
    .map(({ events, end }) => ({
      blocks: events.map(({ size, text }, i) => `id: ${i}${end}data: ${text.repeat(size)}${end}${end}`),
      data: events.map(({ size, text }) => text.repeat(size)),
    }))

  test('is shown event by event, and leaves as it came', () => {
    forAll(
      streams,
      ({ blocks, data }) => {
        const seen: StreamEvent[] = []
        const { subject, text } = runner((event) => void seen.push(event))

        subject.run(Buffer.from(blocks.join('')))

        assert.deepEqual(
          seen.map(({ id, data }) => [id, data]),
          data.map((each, i) => [String(i), each]),
        )
        assert.ok(text() === blocks.join(''))
      },
      60,
    )
  })

  test('leaves as it came where nothing is done to it, and as it was made elsewhere', () => {
    forAll(
      streams,
      ({ blocks, data }) => {
        const { subject, text } = runner(({ id, data }) => (Number(id) % 2 ? { id, data: `${data}!` } : undefined))

        subject.run(Buffer.from(blocks.join('')))

        assert.ok(text() === blocks.map((block, i) => (i % 2 ? `id: ${i}\ndata: ${data[i]}!\n\n` : block)).join(''))
      },
      60,
    )
  })

  test('leaves a blank line before the first of them as it came', () => {
    const { subject, text } = runner(upperCase)

    subject.run(Buffer.from('\ndata: a\n\n'))

    assert.equal(text(), '\ndata: A\n\n')
  })

  test('leaves no half of a line end behind, wherever that stands', () => {
    for (let size = 4_060; size < 4_110; size++) {
      for (const first of ['', 'data: x\n\n']) {
        const { subject, text } = runner(upperCase)

        subject.run(Buffer.from(`${first}data: ${'a'.repeat(size)}\r\n\r\ndata: b\r\n\r\n`))

        assert.ok(text() === `${first.replace('x', 'X')}data: ${'A'.repeat(size)}\n\ndata: B\n\n`, String(size))
      }
    }
  })

  for (const end of ['\n', '\r', '\r\n']) {
    test(`is not kept whole by a hook that keeps a part of it, with ${JSON.stringify(end)}`, () => {
      const kept: (string | undefined)[] = []
      const { subject } = runner(({ id, data }) => {
        if (data === 'first') kept.push(id)
      })
      const first = `id: 0123456789abcdef${end}data: first${end}${end}`
      const reads = [first + `data: a${end}${end}`.repeat(100_000), `data: ${'a'.repeat(MIB / 2)}${end}${end}${first}`]
      const before = heapUsed()

      for (const read of reads) for (let i = 0; i < 12; i++) subject.run(Buffer.from(read))

      assert.equal(kept.length, 24)
      assert.ok(heapUsed() - before < 4 * MIB, `${(heapUsed() - before) / MIB} MiB`)
    })
  }
})

test('time grows with the size of the stream', () => {
  const bytes = Buffer.from('data: a\r\n\r\n'.repeat(100_000))
  const lines = Buffer.from(`${'data: a\r'.repeat(100_000)}\r`)
  const start = performance.now()

  assert.ok(through([bytes], [keep]).equals(bytes))
  assert.ok(through([lines], [keep]).equals(lines))

  assert.ok(performance.now() - start < 10_000)
})

test('an event whose data is its class’s affair takes the id it replaces all the same', () => {
  class Tick {
    get data(): string {
      return 'b'
    }
    get event(): string {
      return 'tick'
    }
  }

  const out = through([Buffer.from('id: 7\ndata: a\n\n')], [() => new Tick()])

  assert.equal(out.toString(), 'event: tick\nid: 7\ndata: b\n\n')
})

test('a flood of blank lines costs a parser nothing', () => {
  const { subject } = runner(keep)
  const read = Buffer.from(`data: x\n\n${'\n'.repeat(16_384)}`)
  const before = process.cpuUsage()

  for (let count = 0; count < 512; count++) subject.run(read)

  const { user } = process.cpuUsage(before)
  assert.ok(user < 300_000, `${user} us for 8 MiB`)
})

test('blank lines between events and at the ends of reads pass as they came, beside what hooks make', () => {
  const hooks = [
    ({ data }: StreamEvent): HookResult => (data === 'b' ? { data: 'B' } : data === 'c' ? null : undefined),
  ]
  const text = '\n\ndata: a\n\n\n\n\ndata: b\n\n\ndata: c\n\n\n\ndata: d\n\n\n'

  for (const pieces of cutsOf(Buffer.from(text))) {
    const out = through(pieces, hooks).toString()

    assert.equal(out, '\n\ndata: a\n\n\n\n\ndata: B\n\n\n\n\ndata: d\n\n\n')
  }
})

test('long data in an event that a hook made arrives as it is, behind and before others, whatever is in it', () => {
  const x = 'x'.repeat(20_000)
  const made = {
    ascii: x,
    'no ascii at the end': `${x}ä`,
    'no ascii at the start': `€${x}`,
    'nothing but characters of four bytes': '😀'.repeat(10_000),
    'half a surrogate pair': `${x}\ud83d`,
    'more than one line': `${x}\n${x}`,
    'a byte order mark': `\ufeff${x}`,
    short: 'short',
  }
  for (const first of Object.values(made)) {
    for (const second of Object.values(made)) {
      const events = [first, second, 'end'].map((data, i) => ({ data, event: `e${i}`, id: `ä${i}` }))
      const subject = runner((event) => (event.data === 'kept' ? undefined : events))

      subject.run('data: kept\n\nid: 7\ndata: other\n\ndata: kept\n\n')
      subject.subject.flush()

      const texts = events.map(
        ({ data, event, id }) => `event: ${event}\nid: ${id}\n${data.replace(/^/gm, 'data: ')}\n\n`,
      )
      assert.equal(
        subject.text(),
        Buffer.from(`data: kept\n\n${texts.join('')}data: kept\n\n`).toString(),
        `${first.slice(-3)}, ${second.slice(-3)}`,
      )
    }
  }
})
