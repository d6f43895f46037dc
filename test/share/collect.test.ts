import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { bodyOf, Collected, collect } from '../../src/share/collect.ts'
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

function isBody(outcome: Collected | UpstreamBody | Error): outcome is UpstreamBody {
  return !(outcome instanceof Collected) && !(outcome instanceof Error)
}

test('a body that comes bit by bit is collected whole', async () => {
  const source = new Source()
  const collecting = collect(source, 100)

  for (const part of ['he', 'l', 'lo']) source.give(Buffer.from(part))
  source.give('end')

  const collected = await collecting
  assert.ok(collected instanceof Collected)
  assert.equal(collected.bytes.toString(), 'hello')
})

test('a body that is there at once is collected whole', async () => {
  const collected = await collect(new Source(Buffer.from('he'), Buffer.from('llo'), 'end'), 5)

  assert.ok(collected instanceof Collected)
  assert.equal(collected.bytes.toString(), 'hello')
})

test('a body without a byte is collected too', async () => {
  const collected = await collect(new Source('end'), 1)

  assert.ok(collected instanceof Collected)
  assert.equal(collected.bytes.length, 0)
})

test('a body that breaks gives its error', async () => {
  const broken = new Error('broken')
  const source = new Source(Buffer.from('a'))
  const collecting = collect(source, 100)

  source.give(broken)

  assert.equal(await collecting, broken)
})

test('a body that is too large is paused and goes on where it was, without a byte lost or doubled', async () => {
  const source = new Source(Buffer.from('abc'))
  const collecting = collect(source, 4)

  source.give(Buffer.from('def'))
  const begun = await collecting

  assert.ok(isBody(begun))
  assert.deepEqual(source.asked, ['pause'])
  // What was on its way when it was paused.
  source.give(Buffer.from('ghi'))
  const came = drink(begun)
  assert.equal(source.asked.at(-1), 'resume')
  source.give(Buffer.from('jkl'))
  source.give('end')
  assert.equal(came.join(''), 'abcdefghijkl(end)')
})

test('a body that is too large and already at its end gives everything and the end', async () => {
  const source = new Source()
  const collecting = collect(source, 1)
  source.give(Buffer.from('abc'))
  source.give('end')

  const begun = await collecting

  assert.ok(isBody(begun))
  assert.deepEqual(drink(begun), ['abc', '(end)'])
})

test('a body that is too large and breaks tells so to the one who reads on', async () => {
  const source = new Source()
  const collecting = collect(source, 1)
  source.give(Buffer.from('abc'))
  source.give(new Error('broken'))

  const begun = await collecting

  assert.ok(isBody(begun))
  assert.deepEqual(drink(begun), ['abc', '(broken)'])
})

test('a body that is too large can be paused, resumed and given up', async () => {
  const source = new Source(Buffer.from('abc'))
  const begun = await collect(source, 1)
  assert.ok(isBody(begun))
  const came = drink(begun)

  begun.pause()
  begun.unpause()
  begun.destroy()
  source.give(Buffer.from('never'))

  assert.deepEqual(came, ['abc'])
  assert.deepEqual(source.asked, ['pause', 'resume', 'pause', 'resume', 'destroy'])
})

test('a body that is too large can be given up before anybody reads it', async () => {
  const source = new Source(Buffer.from('abc'))
  const begun = await collect(source, 1)
  assert.ok(isBody(begun))

  begun.destroy()

  assert.equal(source.asked.at(-1), 'destroy')
})

test('property: however it is cut, a body is collected if it fits and goes on complete if it does not', async () => {
  const parts = fc.array(fc.string({ minLength: 1, maxLength: 5, unit: 'grapheme-ascii' }), { maxLength: 12 })
  await fc.assert(
    fc.asyncProperty(
      parts,
      fc.integer({ min: 0, max: 12 }),
      fc.integer({ min: 1, max: 40 }),
      async (all, early, max) => {
        const buffers = all.map((part) => Buffer.from(part))
        const source = new Source(...buffers.slice(0, early))
        const collecting = collect(source, max)
        for (const buffer of buffers.slice(early)) source.give(buffer)
        source.give('end')

        const outcome = await collecting

        const whole = all.join('')
        assert.equal(outcome instanceof Collected, whole.length <= max)
        if (outcome instanceof Collected) assert.equal(outcome.bytes.toString(), whole)
        else if (isBody(outcome)) assert.equal(drink(outcome).join(''), `${whole}(end)`)
      },
    ),
    { seed: 20_260_711, numRuns: 500 },
  )
})

test('a collected body can be given to many', () => {
  const bytes = Buffer.from('hello')

  for (let count = 0; count < 3; count += 1) assert.deepEqual(drink(bodyOf(bytes)), ['hello', '(end)'])
  assert.deepEqual(drink(bodyOf(Buffer.alloc(0))), ['(end)'])
})
