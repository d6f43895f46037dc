// What the options mean for an endpoint that is polled and fails: how long the waits become. By a clock that only the test moves.
import assert from 'node:assert/strict'
import type { IncomingMessage } from 'node:http'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import type { SseProxyOptions } from '../../src/options/options.ts'
import { resolveOptions } from '../../src/options/resolve-options.ts'
import { createTranslate } from '../../src/translate/from.ts'
import type { OpenUpstream, UpstreamResponse } from '../../src/upstream-response.ts'
import { fakeClock } from '../support/fake-clock.ts'
import { HandBody, Received } from '../support/hand-body.ts'

const target = 'http://127.0.0.1:1'

const waits: [what: string, options: Partial<SseProxyOptions>, longestMs: number][] = [
  ['without retry', {}, 30_000],
  ['with retry', { retry: { maxBackoffMs: 4000 } }, 4000],
  ['where polls are further apart than that', { retry: { maxBackoffMs: 100 } }, 1000],
]
for (const [what, options, longestMs] of waits) {
  test(`the wait between failures is ${longestMs} ms at most ${what}`, async (t) => {
    t.mock.method(Math, 'random', () => 1)
    const clock = fakeClock(t)
    const polledAt: number[] = []
    const hand = new HandBody()
    const response: UpstreamResponse = {
      status: 200,
      statusMessage: '',
      headers: [['Content-Type', 'application/json']],
      upstream: target,
      body: hand,
      delimited: true,
    }
    const fail: OpenUpstream = () => {
      polledAt.push(performance.now())
      return Promise.reject(new Error('down'))
    }
    const resolved = resolveOptions({ target, from: { format: 'json', everyMs: 1000 }, ...options })
    const translate = createTranslate(resolved, { pollFailed() {} })
    const feed = translate?.(response, { req: { method: 'GET' } as IncomingMessage, again: () => fail })
    t.after(() => feed?.body.destroy())
    feed?.body.start(new Received())
    hand.sink?.onData(Buffer.from('1'))
    hand.sink?.onEnd()

    while (polledAt.length < 8) {
      await setImmediate()
      clock.pass(100)
    }

    const [last = 0, before = 0] = polledAt.reverse()
    assert.ok(Math.abs(last - before - longestMs) <= 100, `${last - before} ms`)
  })
}

test('upstreams that send event streams need no translation', () => {
  assert.equal(createTranslate(resolveOptions({ target }), { pollFailed() {} }), undefined)
})
