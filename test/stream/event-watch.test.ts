// An upstream that sends no event: when it counts as lost. With a clock that only the test moves.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { eventWatched } from '../../src/stream/event-watch.ts'
import type { BodySink, UpstreamBody } from '../../src/upstream-response.ts'
import { type FakeClock, fakeClock } from '../support/fake-clock.ts'

const firstEventMs = 4_000
const eventMs = 1_000

test('without an event in firstEventMs a body breaks, however much else comes', async (t) => {
  const { clock, heard, read, given } = watched(t, { firstEventMs, eventMs: 0 })

  for (let i = 0; i < 8; i++) {
    assert.deepEqual(heard, [])
    await read({ events: 0 })
    await pass(clock, firstEventMs / 8)
  }

  assert.deepEqual(heard, ['ERR_SSE_PROXY_IDLE no event in timeouts.firstEventMs, 4000 ms'])
  assert.deepEqual(given, ['start', 'destroy silent'])
})

test('the first event ends firstEventMs, and eventMs begins with it', async (t) => {
  const { clock, heard, read } = watched(t, { firstEventMs, eventMs })
  await pass(clock, firstEventMs - 100)
  await read({ events: 1 })

  await pass(clock, eventMs - 100)
  const before = [...heard]
  await read({ events: 0 })
  await pass(clock, 200)

  assert.deepEqual(before, [])
  assert.deepEqual(heard, ['ERR_SSE_PROXY_IDLE no event in timeouts.eventMs, 1000 ms'])
})

test('events that come in time keep a body for ever', async (t) => {
  const { clock, heard, read } = watched(t, { firstEventMs, eventMs })

  for (let i = 0; i < 50; i++) {
    await read({ events: 1 })
    await pass(clock, eventMs * 0.75)
  }

  assert.deepEqual(heard, [])
})

test('eventMs alone does not bound the wait for the first event, but the silence that a resume ends', async (t) => {
  const fresh = watched(t, { firstEventMs: 0, eventMs })
  await pass(fresh.clock, 20 * eventMs)
  const resumed = watched(t, { firstEventMs: 0, eventMs }, { events: 7, clock: fresh.clock })

  await pass(fresh.clock, 2 * eventMs)

  assert.deepEqual(fresh.heard, [])
  assert.deepEqual(resumed.heard, ['ERR_SSE_PROXY_IDLE no event in timeouts.eventMs, 1000 ms'])
})

test('firstEventMs alone does not bound what comes after the first event', async (t) => {
  const { clock, heard, read } = watched(t, { firstEventMs, eventMs: 0 })
  await read({ events: 1 })

  await pass(clock, 20 * firstEventMs)

  assert.deepEqual(heard, [])
})

test('a silence that backpressure asked for is none, and the wait begins anew after it', async (t) => {
  const { clock, body, heard, read } = watched(t, { firstEventMs: 0, eventMs })
  await read({ events: 1 })

  body.pause()
  await pass(clock, 10 * eventMs)
  body.unpause()
  await pass(clock, eventMs / 2)
  const before = [...heard]
  await pass(clock, eventMs)

  assert.deepEqual(before, [])
  assert.equal(heard.length, 1)
})

test('an event that is counted in the turn in which the time is over is in time', async (t) => {
  const { clock, heard, progress } = watched(t, { firstEventMs, eventMs: 0 })

  clock.pass(firstEventMs)
  progress.events++
  await new Promise(setImmediate)

  assert.deepEqual(heard, [])
})

for (const [how, end] of [
  ['ends', (sink?: BodySink) => sink?.onEnd()],
  ['breaks', (sink?: BodySink) => sink?.onBroken(new Error('reset'))],
] as const) {
  test(`a body that ${how} right behind its first event leaves no timer`, async (t) => {
    const { clock, heard, sink, progress, given } = watched(t, { firstEventMs, eventMs })
    sink()?.onData(Buffer.from('data: x\n\n'))
    progress.events++

    end(sink())
    await pass(clock, 10 * firstEventMs)

    assert.equal(heard.length, 1)
    assert.deepEqual(given, ['start'])
  })
}

test('one timer waits for events at a time, however many come', async (t) => {
  const { read } = watched(t, { firstEventMs, eventMs })
  const made = t.mock.method(globalThis, 'setInterval').mock
  const ended = t.mock.method(globalThis, 'clearInterval').mock

  for (let i = 0; i < 100; i++) await read({ events: 1 })

  assert.deepEqual([made.callCount(), ended.callCount()], [1, 1])
})

test('where both are off there is the body alone', () => {
  const body = { start() {}, pause() {}, unpause() {}, destroy() {} }

  assert.equal(eventWatched(body, { firstEventMs: 0, eventMs: 0 }, { events: 0 }), body)
})

function watched(
  t: TestContext,
  timeouts: Parameters<typeof eventWatched>[1],
  { events = 0, clock = fakeClock(t) } = {},
) {
  const heard: string[] = []
  const given: string[] = []
  const progress = { events }
  let sink: BodySink | undefined
  const upstream: UpstreamBody = {
    start(given_) {
      given.push('start')
      sink = given_
    },
    pause() {},
    unpause() {},
    destroy: (why) => void given.push(`destroy ${why}`),
  }
  const body = eventWatched(upstream, timeouts, progress)
  body.start({
    onData() {},
    onEnd: () => void heard.push('end'),
    onBroken: (error) => void heard.push(`${Reflect.get(error, 'code')} ${Object(error.cause).message}`),
  })
  /** What a read brings is counted behind it, in the same turn. */
  const read = async ({ events: more }: { events: number }) => {
    sink?.onData(Buffer.from('bytes'))
    progress.events += more
    await new Promise(setImmediate)
  }
  return { body, clock, heard, given, progress, read, sink: () => sink }
}

/** In parts, with the reads between them that a watchdog lets come first. */
async function pass(clock: FakeClock, ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 125) {
    clock.pass(Math.min(left, 125))
    await new Promise(setImmediate)
  }
}
