// Whether and when another attempt is made: decisions of values.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { UpstreamError, type UpstreamErrorCode } from '../../../src/errors.ts'
import type { RetryPolicy } from '../../../src/options/resolve-retry.ts'
import { mayRetryAnswer, mayRetryFailure, retryAfterMs, retryDelay } from '../../../src/upstream/pool/retry.ts'
import type { UpstreamResponse } from '../../../src/upstream-response.ts'

const policy: RetryPolicy = {
  attempts: 3,
  backoffMs: 100,
  maxBackoffMs: 2_000,
  statuses: [502, 503, 504],
  methods: ['GET', 'HEAD'],
}
const withPost: RetryPolicy = { ...policy, methods: ['GET', 'HEAD', 'POST'] }

const codes = [
  'ERR_SSE_PROXY_UNREACHABLE',
  'ERR_SSE_PROXY_CONNECT_TIMEOUT',
  'ERR_SSE_PROXY_RESPONSE_TIMEOUT',
  'ERR_SSE_PROXY_BAD_ANSWER',
] as const

for (const code of codes) {
  test(`${code} is tried again for GET and HEAD, and for others only where the upstream has certainly got nothing`, () => {
    for (const method of ['GET', 'HEAD']) assert.equal(mayRetryFailure(failure(code), method, policy), true)
    for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
      assert.equal(mayRetryFailure(failure(code, false), method, policy), true, method)
      assert.equal(mayRetryFailure(failure(code), method, policy), false, method)
    }
  })

  test(`${code} is tried again for the methods that the app names`, () => {
    assert.equal(mayRetryFailure(failure(code), 'POST', withPost), true)
    assert.equal(mayRetryFailure(failure(code), 'PUT', withPost), false)
  })
}

test("what is the app's own fault is not tried again", () => {
  for (const code of ['ERR_SSE_PROXY_APP', 'ERR_SSE_PROXY_NO_UPSTREAM'] as const) {
    assert.equal(mayRetryFailure(failure(code, false), 'GET', policy), false)
  }
})

test('an answer is tried again for the statuses and methods of the policy', () => {
  for (let status = 100; status < 600; status += 1) {
    const isListed = [502, 503, 504].includes(status)
    assert.equal(mayRetryAnswer(answer(status), 'GET', policy), isListed)
    assert.equal(mayRetryAnswer(answer(status), 'HEAD', policy), isListed)
    assert.equal(mayRetryAnswer(answer(status), 'POST', policy), false)
    assert.equal(mayRetryAnswer(answer(status), 'POST', withPost), isListed)
  }
  assert.equal(mayRetryAnswer(answer(429), 'GET', { ...policy, statuses: [429] }), true)
  assert.equal(mayRetryAnswer(answer(503), 'GET', { ...policy, statuses: [429] }), false)
})

test('the wait doubles with each attempt up to maxBackoffMs, and chance takes up to half of it away', () => {
  const policies = fc.record({
    attempts: fc.constant(100),
    backoffMs: fc.nat(5_000),
    maxBackoffMs: fc.nat(60_000),
    statuses: fc.constant([]),
    methods: fc.constant([]),
  })
  const chances = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })
  fc.assert(
    fc.property(policies, fc.nat(100), chances, (given, attempt, chance) => {
      const ceiling = Math.min(given.backoffMs * 2 ** attempt, given.maxBackoffMs)

      const delay = retryDelay(attempt, undefined, given, () => chance)

      assert.ok(Number.isInteger(delay))
      assert.ok(delay >= Math.floor(ceiling / 2) && delay <= ceiling, `${delay} of ${ceiling}`)
    }),
  )
})

test('chance uses the whole of its range', () => {
  assert.deepEqual(
    [0, 0.5, 1].map((chance) => retryDelay(0, undefined, policy, () => chance)),
    [50, 75, 100],
  )
  assert.deepEqual(
    [0, 1, 2, 3, 4, 5].map((attempt) => retryDelay(attempt, undefined, policy, () => 1)),
    [100, 200, 400, 800, 1_600, 2_000],
  )
})

test('clients that fail together do not come back together', () => {
  const delays = Array.from({ length: 100 }, () => retryDelay(4, undefined, policy))

  assert.ok(new Set(delays).size > 50)
})

test('an answer that says when to come back is obeyed, up to maxBackoffMs', () => {
  const delayAfter = (header: string): number => retryDelay(0, answer(503, header), policy, () => 1)

  assert.equal(delayAfter('1'), 1_000)
  assert.equal(delayAfter('0'), 0)
  assert.equal(delayAfter('2'), 2_000)
  assert.equal(delayAfter('3600'), 2_000)
  assert.equal(delayAfter('9'.repeat(400)), 2_000)
  assert.equal(delayAfter(new Date(Date.now() + 3_600_000).toUTCString()), 2_000)
  assert.equal(delayAfter(new Date(Date.now() - 3_600_000).toUTCString()), 0)
})

test('an answer that does not say when to come back leaves it to the back-off', () => {
  assert.equal(
    retryDelay(1, answer(503), policy, () => 1),
    200,
  )
  for (const header of ['', 'soon', '5 s', '-1', '1.5', '1e3', '0x10', 'Infinity']) {
    assert.equal(
      retryDelay(1, answer(503, header), policy, () => 1),
      200,
      JSON.stringify(header),
    )
  }
})

test('a date is counted from now', () => {
  const now = Date.parse('Tue, 01 Jan 2030 00:00:00 GMT')

  assert.equal(retryAfterMs('Tue, 01 Jan 2030 00:00:07 GMT', now), 7_000)
  assert.equal(retryAfterMs('Tuesday, 01-Jan-30 00:00:07 GMT', now), 7_000)
  assert.equal(retryAfterMs('Mon, 31 Dec 2029 23:59:59 GMT', now), 0)
})

function failure(code: UpstreamErrorCode, mayHaveArrived = true): UpstreamError {
  return new UpstreamError(code, 'http://upstream', undefined, mayHaveArrived)
}

function answer(status: number, retryAfter?: string): UpstreamResponse {
  return {
    status,
    statusMessage: '',
    headers: retryAfter === undefined ? [] : [['Retry-After', retryAfter]],
    upstream: 'http://upstream',
    body: { start() {}, pause() {}, unpause() {}, destroy() {} },
    delimited: true,
  }
}
