// While a callback of the app's makes events of what has come, no silence is the upstream's: by a clock that only the test moves.
import assert from 'node:assert/strict'
import type { IncomingMessage } from 'node:http'
import { type TestContext, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import type { StreamError } from '../../src/errors.ts'
import type { ToEvent } from '../../src/options/format-options.ts'
import { eventStreamOf } from '../../src/stream/event-stream.ts'
import { eventWatched } from '../../src/stream/event-watch.ts'
import { linesAsEvents } from '../../src/translate/ndjson.ts'
import { polled } from '../../src/translate/poll.ts'
import type { UpstreamBody, UpstreamResponse } from '../../src/upstream-response.ts'
import { fakeClock } from '../support/fake-clock.ts'
import { HandBody, Received } from '../support/hand-body.ts'
import { gate } from '../support/waiting.ts'

const silenceMs = 1000

interface Room {
  hand: HandBody
  received: Received
  /** Lets the callback return. */
  settle(): Promise<void>
  pass(ms: number): Promise<void>
}

const answerOf = (type: string, body: UpstreamBody): UpstreamResponse => ({
  status: 200,
  statusMessage: '',
  headers: [['Content-Type', type]],
  upstream: 'http://here',
  body,
  delimited: true,
})

const formats: Record<string, (hand: HandBody, toEvent: ToEvent) => UpstreamResponse> = {
  lines: (hand, toEvent) =>
    linesAsEvents(answerOf('application/x-ndjson', hand), {} as IncomingMessage, { toEvent, lineBytes: 100 }),
  'a polled value': (hand, toEvent) =>
    polled(
      answerOf('application/json', hand),
      { req: { method: 'GET' } as IncomingMessage, again: () => () => new Promise(() => {}) },
      { everyMs: 1, maxDelayMs: 1, bodyBytes: 100, stallMs: 0, toEvent, observer: { pollFailed() {} } },
    ),
}

const watches: Record<string, (response: UpstreamResponse) => UpstreamBody> = {
  idleMs: (response) => eventStreamOf(response, silenceMs) ?? assert.fail('no event stream'),
  eventMs: ({ body }) => eventWatched(body, { firstEventMs: 0, eventMs: silenceMs }, { events: 1 }),
  firstEventMs: ({ body }) => eventWatched(body, { firstEventMs: silenceMs, eventMs: 0 }, { events: 0 }),
}

async function waiting(t: TestContext, format: string, watch: string): Promise<Room> {
  const { pass } = fakeClock(t)
  const pending = gate()
  const hand = new HandBody()
  const response = formats[format]?.(hand, () => pending.promise.then(() => null)) ?? assert.fail(format)
  const body = watches[watch]?.(response) ?? assert.fail(watch)
  const received = new Received()
  t.after(() => body.destroy())
  body.start(received)
  hand.sink?.onData(Buffer.from('1\n'))
  if (format !== 'lines') hand.sink?.onEnd()
  await setImmediate()
  return {
    hand,
    received,
    async settle() {
      pending.open()
      await setImmediate()
    },
    async pass(ms) {
      pass(ms)
      await setImmediate()
    },
  }
}

for (const format of Object.keys(formats)) {
  for (const watch of Object.keys(watches)) {
    test(`${watch} waits while a callback makes events of ${format}`, async (t) => {
      const { received, pass, settle } = await waiting(t, format, watch)
      await pass(10.5 * silenceMs)
      const meanwhile = received.endings

      await settle()
      await pass(0.8 * silenceMs)

      assert.deepEqual([meanwhile, received.endings], [0, 0])
    })
  }
}

for (const watch of Object.keys(watches)) {
  test(`${watch} begins anew when the callback is done`, async (t) => {
    const { received, hand, pass, settle } = await waiting(t, 'lines', watch)
    await pass(10.5 * silenceMs)
    await settle()

    await pass(1.2 * silenceMs)

    assert.equal((received.broken as StreamError).code, 'ERR_SSE_PROXY_IDLE')
    assert.equal(hand.destroyed, true)
  })
}
