// An upstream that is silent: when it counts as lost, and when its silence was asked for. With a clock that only the test moves.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { eventStreamOf } from '../../src/stream/event-stream.ts'
import { IdleWatch } from '../../src/stream/idle.ts'
import { WatchedBody } from '../../src/stream/watched-body.ts'
import type { BodySink, UpstreamBody } from '../../src/upstream-response.ts'
import { type FakeClock, fakeClock } from '../support/fake-clock.ts'

const idleMs = 1_000

test('a body that is silent for idleMs breaks, once, and its connection is given up as silent', async (t) => {
  const { body, clock, heard, given } = watched(t)

  await pass(clock, idleMs)
  await pass(clock, 10 * idleMs)

  assert.deepEqual(heard, ['broken: ERR_SSE_PROXY_IDLE'])
  assert.deepEqual(given, ['start', 'destroy silent'])
  body.destroy()
  assert.deepEqual(heard.length, 1)
})

for (const [what, send] of [
  ['data', (sink?: BodySink) => sink?.onData(Buffer.from('x'))],
  ['chunks', (sink?: BodySink) => void sink?.onChunks?.(Buffer.from('1\r\nx\r\n'))],
] as const) {
  test(`${what} that come in time keep it from that`, async (t) => {
    const { upstream, clock, heard } = watched(t)

    for (let i = 0; i < 10; i++) {
      await pass(clock, idleMs / 2)
      send(upstream.sink)
    }

    assert.deepEqual([...new Set(heard)], [what])
  })
}

test('a silence that backpressure asked for is none, and the wait begins anew after it', async (t) => {
  const { body, clock, heard, given } = watched(t)

  body.pause()
  await pass(clock, 10.75 * idleMs)
  body.unpause()
  await pass(clock, idleMs / 2)
  assert.deepEqual(heard, [])
  await pass(clock, idleMs)

  assert.deepEqual(heard, ['broken: ERR_SSE_PROXY_IDLE'])
  assert.deepEqual(given, ['start', 'pause', 'unpause', 'destroy silent'])
})

for (const [how, end] of [
  ['ends', ({ sink }: Played) => sink?.onEnd()],
  ['breaks', ({ sink }: Played) => sink?.onBroken(new Error('reset'))],
] as const) {
  test(`nothing is watched any more when the body ${how}`, async (t) => {
    const { upstream, clock, heard, given } = watched(t)

    end(upstream)
    await pass(clock, 10 * idleMs)

    assert.equal(heard.length, 1)
    assert.deepEqual(given, ['start'])
  })
}

test('chunks go to a sink that takes them, and come back where it does not', () => {
  const upstream = new Played([])
  const body = new WatchedBody(upstream, new IdleWatch(idleMs))
  const read = Buffer.from('1\r\nx\r\n')

  body.start({ onData() {}, onEnd() {}, onBroken() {} })

  assert.equal(upstream.sink?.takesChunks, false)
  assert.deepEqual(upstream.sink?.onChunks?.(read), [read])
  assert.deepEqual(upstream.sink?.releaseChunks?.(), [])
  body.destroy()
})

test('nothing goes around the body of an event stream where silence is not bounded', () => {
  const body = new Played([])
  const head = { status: 200, statusMessage: '', headers: [['Content-Type', 'text/event-stream'] as const] }
  const response = { ...head, upstream: '', delimited: true, body }

  assert.equal(eventStreamOf(response, 0), body)
  assert.ok(eventStreamOf(response, idleMs) instanceof WatchedBody)
  assert.equal(eventStreamOf({ ...response, status: 201 }, 0), undefined)
})

class Played implements UpstreamBody {
  sink: BodySink | undefined
  readonly #given: string[]

  constructor(given: string[]) {
    this.#given = given
  }

  start(sink: BodySink): void {
    this.sink = sink
    this.#given.push('start')
  }

  pause(): void {
    this.#given.push('pause')
  }

  unpause(): void {
    this.#given.push('unpause')
  }

  destroy(why = ''): void {
    this.sink = undefined
    this.#given.push(`destroy ${why}`)
  }
}

function watched(t: TestContext) {
  const clock = fakeClock(t)
  const heard: string[] = []
  const given: string[] = []
  const upstream = new Played(given)
  const body = new WatchedBody(upstream, new IdleWatch(idleMs))
  body.start({
    takesChunks: true,
    onData: () => void heard.push('data'),
    onChunks: () => {
      heard.push('chunks')
      return []
    },
    onEnd: () => void heard.push('end'),
    onBroken: (cause) => void heard.push(`broken: ${Reflect.get(cause, 'code')}`),
  })
  return { body, upstream, clock, heard, given }
}

/** In parts, with the reads between them that a watchdog lets come first. */
async function pass(clock: FakeClock, ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= idleMs / 8) {
    clock.pass(Math.min(left, idleMs / 8))
    await new Promise(setImmediate)
  }
}
