// When the streams of an upstream that has gone go over to another one, on a clock that only the test moves.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { type Movable, Moves } from '../../src/stream/moves.ts'
import { type FakeClock, fakeClock } from '../support/fake-clock.ts'

/** A stream that notes when it is asked to move, and goes to the upstream that it is told of. */
class Stream implements Movable {
  upstream: string
  readonly askedAt: number[] = []
  to: string | undefined = 'other'

  constructor(upstream: string) {
    this.upstream = upstream
  }

  async move(): Promise<boolean> {
    this.askedAt.push(performance.now())
    if (this.to !== undefined) this.upstream = this.to
    return this.to !== undefined
  }
}

test('streams go over one after the other, each in a slice of ten seconds of its own', async (t) => {
  const { moves, gone, streams, pass, begin } = arrange(t, 100)

  gone.add('one')
  moves.begin()
  await pass(10_000)

  const moments = streams.flatMap(({ askedAt }) => askedAt.map((at) => at - begin)).sort((a, b) => a - b)
  assert.equal(moments.length, 100)
  for (const [i, at] of moments.entries()) {
    assert.ok(at >= i * 100 - 5 && at <= (i + 1) * 100 + 5, `number ${i} moved after ${at} ms`)
  }
})

test('those of other upstreams stay, and so do those whose upstream has come back before their turn', async (t) => {
  const { moves, gone, streams, pass } = arrange(t, 20)
  const elsewhere = new Stream('two')
  moves.add(elsewhere)

  gone.add('one')
  moves.begin()
  await pass(5000)
  gone.clear()
  await pass(10_000)

  const moved = streams.filter(({ upstream }) => upstream === 'other').length
  assert.ok(moved >= 9 && moved <= 11, `${moved} of 20 moved in half of the time`)
  assert.deepEqual(elsewhere.askedAt, [])
})

test('however often the targets change, a stream has one turn', async (t) => {
  const { moves, gone, streams, pass } = arrange(t, 10)
  gone.add('one')

  for (let i = 0; i < 1000; i++) moves.begin()
  await pass(20_000)

  assert.ok(streams.every(({ askedAt }) => askedAt.length === 1))
})

test('a stream that is over does not move', async (t) => {
  const { moves, gone, streams, pass } = arrange(t, 10)
  gone.add('one')
  moves.begin()

  for (const stream of streams) moves.delete(stream)
  await pass(20_000)

  assert.ok(streams.every(({ askedAt }) => askedAt.length === 0))
})

test('a stream that begins at an upstream that has gone meanwhile gets its turn as well', async (t) => {
  const { moves, gone, pass, begin } = arrange(t, 0)
  gone.add('one')
  const late = new Stream('one')

  moves.add(late)
  await pass(10_000)

  assert.equal(late.askedAt.length, 1)
  assert.ok((late.askedAt[0] ?? 0) - begin <= 10_005)
})

test('one that could not move is asked again, later each time, until it has or its upstream is back', async (t) => {
  t.mock.method(Math, 'random', () => 0)
  const { moves, gone, streams, pass } = arrange(t, 1)
  const [stream] = streams as [Stream]
  stream.to = undefined
  gone.add('one')

  moves.begin()
  await pass(120_000)
  const { askedAt } = stream
  const waits = askedAt.slice(1).map((at, i) => Math.round((at - (askedAt[i] ?? 0)) / 500))
  stream.to = 'other'
  await pass(60_000)
  const times = askedAt.length
  await pass(120_000)

  assert.deepEqual(waits, [1, 2, 4, 8, 16, 32, 60, 60])
  assert.equal(stream.upstream, 'other')
  assert.equal(askedAt.length, times)
})

test('while a stream is on its way, no second turn begins', async (t) => {
  t.mock.method(Math, 'random', () => 0)
  const { moves, gone, streams, pass } = arrange(t, 1)
  const [stream] = streams as [Stream]
  let arrive = (): void => {}
  let asked = 0
  stream.move = () => {
    asked++
    return new Promise((resolve) => {
      arrive = () => {
        stream.upstream = 'other'
        resolve(true)
      }
    })
  }
  gone.add('one')
  moves.begin()
  await pass(10)

  moves.begin()
  await pass(30_000)
  assert.equal(asked, 1)
  gone.add('other')
  arrive()
  await pass(1000)

  assert.equal(asked, 2, 'the one that it went to has gone in the meantime')
})

test('nothing moves any more when all streams are about to end', async (t) => {
  const { moves, gone, streams, pass } = arrange(t, 10)
  gone.add('one')
  moves.begin()

  moves.stop()
  moves.begin()
  moves.add(new Stream('one'))
  await pass(20_000)

  assert.ok(streams.every(({ askedAt }) => askedAt.length === 0))
})

/** So many streams at the upstream `one`. */
function arrange(t: TestContext, count: number) {
  const clock = fakeClock(t)
  const gone = new Set<string>()
  const moves = new Moves((upstream) => gone.has(upstream))
  const streams = Array.from({ length: count }, () => new Stream('one'))
  for (const stream of streams) moves.add(stream)
  return { moves, gone, streams, begin: performance.now(), pass: (ms: number) => passInSteps(clock, ms) }
}

/** What a turn awaits goes on between two steps. */
async function passInSteps(clock: FakeClock, ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 5) {
    clock.pass(5)
    await Promise.resolve().then(() => {})
  }
}
