import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { bodyOf, collect, lengthOf } from '../../src/stream/collect.ts'
import type { BodySink, UpstreamBody } from '../../src/upstream-response.ts'

type Came = Buffer | 'end' | Error

/** A body that the test feeds, and that remembers what was asked of it. */
class Source implements UpstreamBody {
  readonly asked: string[] = []
  #sink: BodySink | undefined
  readonly #early: readonly Came[]

  constructor(...early: Came[]) {
    this.#early = early
  }

  start(sink: BodySink): void {
    this.#sink = sink
    for (const each of this.#early) this.give(each)
  }

  pause(): void {
    this.asked.push('pause')
  }

  unpause(): void {
    this.asked.push('resume')
  }

  destroy(): void {
    this.asked.push('destroy')
    this.#sink = undefined
  }

  give(came: Came): void {
    if (came === 'end') this.#sink?.onEnd()
    else if (came instanceof Error) this.#sink?.onBroken(came)
    else this.#sink?.onData(came)
  }
}

/** What comes out of a body, in order. */
function drink(body: UpstreamBody): string[] {
  const came: string[] = []
  body.start({
    onData: (chunk) => came.push(chunk.toString()),
    onEnd: () => came.push('(end)'),
    onBroken: (error) => came.push(`(${error.message})`),
  })
  return came
}

test('a body that comes bit by bit is collected whole', async () => {
  const source = new Source()
  const collecting = collect(source, 100)

  for (const part of ['he', 'l', 'lo']) source.give(Buffer.from(part))
  source.give('end')

  assert.equal((await collecting).toString(), 'hello')
})

test('a body that is there at once is collected whole', async () => {
  const collected = await collect(new Source(Buffer.from('he'), Buffer.from('llo'), 'end'), 5)

  assert.equal(collected.toString(), 'hello')
})

test('a body without a byte is collected too', async () => {
  const collected = await collect(new Source('end'), 1)

  assert.equal(collected.length, 0)
})

test('a body that breaks gives its error', async () => {
  const broken = new Error('broken')
  const source = new Source(Buffer.from('a'))
  const collecting = collect(source, 100)

  source.give(broken)

  await assert.rejects(collecting, broken)
})

test('a body that is longer than its head has said is given up', async () => {
  const source = new Source(Buffer.from('abc'))
  const collecting = collect(source, 4)

  source.give(Buffer.from('def'))
  source.give(Buffer.from('ghi'))

  await assert.rejects(collecting, /longer than the 4 bytes that it may have/)
  assert.deepEqual(source.asked, ['destroy'])
})

test('property: however it is cut, a body is collected if it is no longer than its head has said', async () => {
  const parts = fc.array(fc.string({ minLength: 1, maxLength: 5, unit: 'grapheme-ascii' }), { maxLength: 12 })
  await fc.assert(
    fc.asyncProperty(
      parts,
      fc.integer({ min: 0, max: 12 }),
      fc.integer({ min: 1, max: 40 }),
      async (all, early, length) => {
        const buffers = all.map((part) => Buffer.from(part))
        const source = new Source(...buffers.slice(0, early))
        const collecting = collect(source, length).then(
          (bytes) => bytes.toString(),
          () => 'too long',
        )
        for (const buffer of buffers.slice(early)) source.give(buffer)
        source.give('end')

        const whole = all.join('')
        assert.equal(await collecting, whole.length <= length ? whole : 'too long')
      },
    ),
    { seed: 20_260_711, numRuns: 500 },
  )
})

for (const { head, length } of [
  { head: { status: 200, headers: [['Content-Length', '12']] }, length: 12 },
  { head: { status: 404, headers: [['content-length', '0']] }, length: 0 },
  { head: { status: 204, headers: [] }, length: 0 },
  { head: { status: 200, headers: [['Content-Type', 'text/html']] }, length: undefined },
  { head: { status: 200, headers: [['Content-Length', '12, 12']] }, length: undefined },
  { head: { status: 200, headers: [['Content-Length', '-1']] }, length: undefined },
] as const) {
  test(`the length of a ${head.status} with ${head.headers.join(': ') || 'nothing'} is ${length}`, () => {
    const response = { ...head, statusMessage: '', upstream: '', body: bodyOf(Buffer.alloc(0)), delimited: true }

    assert.equal(lengthOf(response), length)
  })
}

test('a collected body can be given to many', () => {
  const bytes = Buffer.from('hello')

  for (let count = 0; count < 3; count += 1) assert.deepEqual(drink(bodyOf(bytes)), ['hello', '(end)'])
  assert.deepEqual(drink(bodyOf(Buffer.alloc(0))), ['(end)'])
})
