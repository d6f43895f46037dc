// When a plain endpoint is asked again, with what, and what becomes of its answers: by a clock that only the test moves.
import assert from 'node:assert/strict'
import type { IncomingMessage } from 'node:http'
import { describe, type TestContext, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { type SseProxyError, type StreamError, UpstreamError } from '../../src/errors.ts'
import type { ToEvent } from '../../src/options/format-options.ts'
import { polled } from '../../src/translate/poll.ts'
import type { Header, OpenRequest, UpstreamBody, UpstreamResponse } from '../../src/upstream-response.ts'
import { type FakeClock, fakeClock } from '../support/fake-clock.ts'
import { HandBody, Received } from '../support/hand-body.ts'
import { interpret } from '../support/oracle.ts'

const everyMs = 1000
// A wait may be a tenth longer, and one step of the clock.
const waitedMs = 1110

interface Arrangement {
  toEvent?: ToEvent
  maxDelayMs?: number
  bodyBytes?: number
  method?: string
}

interface Poll {
  request: OpenRequest
  /** Answers the poll. */
  answer(body: string, headers?: Record<string, string>, status?: number): Promise<void>
  /** Gives the poll the head of an answer. */
  head(status?: number, headers?: Record<string, string>): HandBody
  fail(error: unknown): Promise<void>
}

interface Feed {
  body: UpstreamBody
  received: Received
  polls: Poll[]
  failures: [code: string, isNews: boolean][]
  clock: FakeClock
  /** Lets a time pass and what it brings happen. */
  pass(ms: number): Promise<void>
}

const json = 'application/json; charset=utf-8'

function responseOf(body: UpstreamBody, status = 200, headers: Record<string, string> = {}): UpstreamResponse {
  const all: Header[] = Object.entries({ 'content-type': json, ...headers })
  return { status, statusMessage: '', headers: all, upstream: 'http://here', body, delimited: true }
}

/** A feed whose first answer says this. */
async function feed(
  t: TestContext,
  first: string,
  headers: Record<string, string> = {},
  { toEvent, maxDelayMs = 8000, bodyBytes = 100, method = 'GET' }: Arrangement = {},
): Promise<Feed> {
  const clock = fakeClock(t)
  const polls: Poll[] = []
  const failures: [string, boolean][] = []
  const hand = new HandBody()
  const response = polled(
    responseOf(hand, 200, headers),
    {
      req: { method } as IncomingMessage,
      again: () => (request) => new Promise((resolve, reject) => polls.push(pollOf(request, resolve, reject))),
    },
    {
      everyMs,
      maxDelayMs,
      bodyBytes,
      stallMs: 5000,
      toEvent,
      observer: { pollFailed: ({ code }: SseProxyError, _req, isNews) => failures.push([code, isNews]) },
    },
  )
  const received = new Received()
  response.body.start(received)
  hand.sink?.onData(Buffer.from(first))
  hand.sink?.onEnd()
  await setImmediate()
  const pass = async (ms: number): Promise<void> => {
    clock.pass(ms)
    await setImmediate()
  }
  t.after(() => response.body.destroy())
  return { body: response.body, received, polls, failures, clock, pass }
}

function pollOf(
  request: OpenRequest,
  resolve: (response: UpstreamResponse) => void,
  reject: (error: unknown) => void,
): Poll {
  const head: Poll['head'] = (status, headers) => {
    const hand = new HandBody()
    resolve(responseOf(hand, status, headers))
    return hand
  }
  return {
    request,
    head,
    async answer(body, headers, status) {
      const hand = head(status, headers)
      await setImmediate()
      if (body !== '') hand.sink?.onData(Buffer.from(body))
      hand.sink?.onEnd()
      await setImmediate()
    },
    async fail(error) {
      reject(error)
      await setImmediate()
    },
  }
}

const dataOf = ({ received }: Feed): string[] => interpret(received.bytes).events.map(({ data }) => data)

test('the first answer is an event, and each later one whose bytes have changed', async (t) => {
  const feeding = await feed(t, '{"n":1}')
  const { polls, pass } = feeding

  for (const body of ['{"n":1}', '{"n":2}', '{"n":2}', '{"n":1}']) {
    await pass(waitedMs)
    await polls.at(-1)?.answer(body)
  }

  assert.deepEqual(dataOf(feeding), ['{"n":1}', '{"n":2}', '{"n":1}'])
  assert.equal(polls.length, 4)
})

test('the next poll begins a time after the last answer has ended, and never twice at once', async (t) => {
  const { polls, pass } = await feed(t, '1')
  await pass(everyMs - 5)
  const early = polls.length
  await pass(waitedMs - everyMs + 5)
  const onTime = polls.length

  const hand = polls[0]?.head()
  await pass(4000)
  hand?.sink?.onData(Buffer.from('2'))
  await pass(4000)
  const meanwhile = polls.length
  hand?.sink?.onEnd()
  await setImmediate()
  await pass(everyMs - 5)
  const tooEarly = polls.length
  await pass(waitedMs)

  assert.deepEqual([early, onTime, meanwhile, tooEarly, polls.length], [0, 1, 1, 1, 2])
})

test('the waits differ, by a tenth at most', async (t) => {
  const chances = [0, 1]
  t.mock.method(Math, 'random', () => chances.shift() ?? 0)
  const { polls, pass } = await feed(t, '1')

  await pass(everyMs)
  await polls[0]?.answer('2')
  await pass(1095)
  const before = polls.length
  await pass(5)

  assert.deepEqual([before, polls.length], [1, 2])
})

test('a poll asks whether anything has changed since the last answer that said something', async (t) => {
  const feeding = await feed(t, '1', { etag: '"a"', 'last-modified': 'Fri, 27 Nov 2026 03:00:00 GMT' })
  const { polls, pass } = feeding

  await pass(waitedMs)
  await polls[0]?.answer('', { etag: '"a"' }, 304)
  await pass(waitedMs)
  await polls[1]?.answer('2', { etag: '"b"' })
  await pass(waitedMs)
  await polls[2]?.answer('{', { etag: '"c"' })
  await pass(2 * waitedMs)

  const a = { 'if-none-match': '"a"', 'if-modified-since': 'Fri, 27 Nov 2026 03:00:00 GMT' }
  const b = { 'if-none-match': '"b"', 'if-modified-since': undefined }
  assert.deepEqual(
    polls.map(({ request }) => request.headers),
    [a, a, b, b],
  )
  assert.deepEqual(dataOf(feeding), ['1', '2'])
})

test('an answer that has not changed is a sign of life', async (t) => {
  const { received, polls, pass } = await feed(t, '1')
  const before = received.chunks.length

  await pass(waitedMs)
  await polls[0]?.answer('', {}, 304)

  assert.equal(received.chunks.length, before + 1)
})

test('JSON over several lines, with white space and a mark around it, is one event', async (t) => {
  const feeding = await feed(t, '\uFEFF\r\n {\r\n  "n": 1\n}\n\n')

  assert.deepEqual(dataOf(feeding), ['{\n  "n": 1\n}'])
})

test('a callback makes the events of an answer, at once or later', async (t) => {
  const toEvent: ToEvent = async (value) => (value as string[]).map((id) => ({ id, data: id }))
  const feeding = await feed(t, '["a","b"]', {}, { toEvent })

  await feeding.pass(waitedMs)
  await feeding.polls[0]?.answer('["c"]')

  assert.deepEqual(dataOf(feeding), ['a', 'b', 'c'])
})

const failing: Record<string, [code: string, (poll: Poll) => Promise<void>]> = {
  'no answer': [
    'ERR_SSE_PROXY_UNREACHABLE',
    (poll) => poll.fail(new UpstreamError('ERR_SSE_PROXY_UNREACHABLE', 'http://here')),
  ],
  'a mistake of the app': ['ERR_SSE_PROXY_APP', (poll) => poll.fail(new Error('of a router'))],
  'status 503': ['ERR_SSE_PROXY_BAD_ANSWER', (poll) => poll.answer('{}', {}, 503)],
  'status 404': ['ERR_SSE_PROXY_BAD_ANSWER', (poll) => poll.answer('{}', {}, 404)],
  'status 204': ['ERR_SSE_PROXY_BAD_ANSWER', (poll) => poll.answer('', {}, 204)],
  'a page': ['ERR_SSE_PROXY_BAD_ANSWER', (poll) => poll.answer('<html>', { 'content-type': 'text/html' })],
  'what is not JSON': ['ERR_SSE_PROXY_BAD_ANSWER', (poll) => poll.answer('{"n":')],
  'an unknown coding': ['ERR_SSE_PROXY_BAD_ANSWER', (poll) => poll.answer('{}', { 'content-encoding': 'x' })],
  'an answer that is too long': ['ERR_SSE_PROXY_EVENT_TOO_LARGE', (poll) => poll.answer(`"${'x'.repeat(100)}"`)],
  'an answer that breaks': [
    'ERR_SSE_PROXY_UPSTREAM_LOST',
    async (poll) => {
      const hand = poll.head()
      await setImmediate()
      hand.sink?.onData(Buffer.from('{"n":2}'))
      hand.sink?.onBroken(new Error('cut'))
      await setImmediate()
    },
  ],
}

describe('later failures', () => {
  for (const [what, [code, fail]] of Object.entries(failing)) {
    test(`${what} is counted, told once, and does not end the stream`, async (t) => {
      const feeding = await feed(t, '1')
      const { polls, pass, failures, received } = feeding

      for (const wait of [1, 2, 4]) {
        await pass(wait * waitedMs)
        await fail(polls.at(-1) as Poll)
      }
      await pass(8 * waitedMs)
      await polls.at(-1)?.answer('2')
      await pass(waitedMs)
      await fail(polls.at(-1) as Poll)

      assert.deepEqual(failures, [
        [code, true],
        [code, false],
        [code, false],
        [code, true],
      ])
      assert.deepEqual(dataOf(feeding), ['1', '2'])
      assert.equal(received.endings, 0)
    })
  }

  test('an answer that stops in the middle is one', async (t) => {
    const { polls, pass, failures } = await feed(t, '1')
    await pass(waitedMs)
    const hand = polls[0]?.head()
    await setImmediate()

    hand?.sink?.onData(Buffer.from('{"n":'))
    await pass(6000)

    assert.deepEqual(failures, [['ERR_SSE_PROXY_IDLE', true]])
    assert.equal(hand?.destroyed, true)
  })

  test('the wait doubles up to a bound, and is the usual one after a good answer', async (t) => {
    t.mock.method(Math, 'random', () => 1)
    const { polls, clock } = await feed(t, '1', {}, { maxDelayMs: 5000 })
    const waits: number[] = []
    const next = async (): Promise<Poll> => {
      const count = polls.length
      const from = performance.now()
      while (polls.length === count) {
        clock.pass(5)
        await setImmediate()
      }
      waits.push(Math.round(performance.now() - from))
      return polls.at(-1) as Poll
    }

    await (await next()).answer('{}', {}, 500)
    await (await next()).answer('{}', {}, 500)
    await (await next()).answer('{}', {}, 500)
    await (await next()).answer('{}', {}, 500)
    await (await next()).answer('2')
    await next()

    assert.deepEqual(waits, [1100, 2000, 4000, 5000, 5000, 1100])
  })

  test('another upstream is better after one, and the same one after an answer', async (t) => {
    const { polls, pass } = await feed(t, '1')
    await pass(waitedMs)
    await polls[0]?.fail(new UpstreamError('ERR_SSE_PROXY_UNREACHABLE', 'http://there'))
    await pass(2 * waitedMs)
    await polls[1]?.answer('{}', {}, 503)
    await pass(4 * waitedMs)
    await polls[2]?.answer('2')
    await pass(waitedMs)

    assert.deepEqual(
      polls.map(({ request: { stay, avoid } }) => ({ stay, avoid })),
      [
        { stay: 'http://here', avoid: undefined },
        { stay: undefined, avoid: 'http://there' },
        { stay: undefined, avoid: 'http://here' },
        { stay: 'http://here', avoid: undefined },
      ],
    )
  })

  test('Retry-After counts within that bound, and never shortens the wait', async (t) => {
    const { polls, pass } = await feed(t, '1')
    await pass(waitedMs)
    await polls[0]?.answer('{}', { 'retry-after': '0' }, 503)
    await pass(everyMs - 5)
    const atOnce = polls.length
    await pass(10)
    await polls[1]?.answer('{}', { 'retry-after': '100' }, 503)
    await pass(7990)
    const before = polls.length
    await pass(15)

    assert.deepEqual([atOnce, before, polls.length], [1, 2, 3])
  })
})

describe('the first answer', () => {
  for (const [what, text, code] of [
    ['is not JSON', '{', 'ERR_SSE_PROXY_BAD_ANSWER'],
    ['is too long', `"${'x'.repeat(100)}"`, 'ERR_SSE_PROXY_EVENT_TOO_LARGE'],
  ] as const) {
    test(`that ${what} loses the stream`, async (t) => {
      const { received, polls, pass } = await feed(t, text)

      await pass(waitedMs)

      assert.equal((received.broken as SseProxyError).code, code)
      assert.equal(polls.length, 0)
    })
  }

  for (const [what, status, headers] of [
    ['another status', 201, {}],
    ['another type', 200, { 'content-type': 'text/html' }],
    ['an unknown coding', 200, { 'content-encoding': 'x' }],
  ] as const) {
    test(`with ${what} passes as it is`, () => {
      const response = responseOf(new HandBody(), status, headers)
      const options = {
        everyMs,
        maxDelayMs: 1,
        bodyBytes: 1,
        stallMs: 0,
        toEvent: undefined,
        observer: { pollFailed() {} },
      }

      const result = polled(response, { req: { method: 'GET' } as IncomingMessage, again: () => never }, options)

      assert.equal(result, response)
    })
  }

  test('to a request that may not be repeated passes as it is', () => {
    const response = responseOf(new HandBody())
    const options = {
      everyMs,
      maxDelayMs: 1,
      bodyBytes: 1,
      stallMs: 0,
      toEvent: undefined,
      observer: { pollFailed() {} },
    }

    assert.equal(polled(response, { req: { method: 'POST' } as IncomingMessage }, options), response)
  })
})

function never(): Promise<never> {
  return new Promise(() => {})
}

test('a callback that fails ends the stream as broken, at whatever answer', async (t) => {
  const toEvent: ToEvent = (value) => {
    if (value === 2) throw new Error('a mistake')
  }
  const { polls, pass, received, failures } = await feed(t, '1', {}, { toEvent })

  await pass(waitedMs)
  await polls[0]?.answer('2')

  assert.equal((received.broken as StreamError).code, 'ERR_SSE_PROXY_HOOK')
  assert.deepEqual(failures, [])
  await pass(10 * waitedMs)
  assert.equal(polls.length, 1)
})

test('a client that does not read is not polled for, until it reads again', async (t) => {
  const { body, polls, pass } = await feed(t, '1')

  body.pause()
  await pass(10 * waitedMs)
  const paused = polls.length
  body.unpause()
  await setImmediate()

  assert.deepEqual([paused, polls.length], [0, 1])
})

describe('a feed that is given up asks no more', () => {
  test('while it waits', async (t) => {
    const { body, polls, pass } = await feed(t, '1')

    body.destroy()
    await pass(10 * waitedMs)

    assert.equal(polls.length, 0)
  })

  test('while its client does not read', async (t) => {
    const { body, polls, pass } = await feed(t, '1')
    body.pause()
    await pass(waitedMs)

    body.destroy()
    await pass(10 * waitedMs)

    assert.equal(polls.length, 0)
  })

  test('while it asks, and gives that up', async (t) => {
    const { body, polls, pass, failures } = await feed(t, '1')
    await pass(waitedMs)

    body.destroy()
    const late = polls[0]?.head()
    await setImmediate()

    assert.equal(polls[0]?.request.signal.aborted, true)
    assert.equal(late?.destroyed, true)
    assert.deepEqual(failures, [])
  })

  test('while it reads, and gives that up', async (t) => {
    const { body, polls, pass, failures } = await feed(t, '1')
    await pass(waitedMs)
    const hand = polls[0]?.head()
    await setImmediate()

    body.destroy()
    await pass(10 * waitedMs)

    assert.equal(hand?.destroyed, true)
    assert.equal(polls.length, 1)
    assert.deepEqual(failures, [])
  })
})
