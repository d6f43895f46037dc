// One attempt over a transport that is played: whatever carries the request, an attempt settles once, bounds its waits,
// and gives up what is not wanted any more.
import assert from 'node:assert/strict'
import { IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { Abort } from '../../src/abort.ts'
import { UpstreamError } from '../../src/errors.ts'
import { type AttemptResult, makeAttempt } from '../../src/upstream/attempt.ts'
import type { TransportEvents, TransportOrder, TransportRequest } from '../../src/upstream/transport.ts'
import type { UpstreamResponse } from '../../src/upstream-response.ts'
import { fakeClock } from '../support/fake-clock.ts'

const upstream = { target: 'http://a', parsed: new URL('http://a'), url: 'http://a', headers: undefined }

test('the answer of a transport is the result, and the transport is left alone from then on', async (t) => {
  const clock = fakeClock(t)
  const played = play()

  played.events().onConnected()
  played.events().onAnswer(answer)
  played.events().onFailed(new UpstreamError('ERR_SSE_PROXY_UNREACHABLE'), false)
  played.abort.abort('client-left')
  clock.pass(10_000)

  assert.equal(await played.result, answer)
  assert.equal(played.aborts, 0)
})

for (const [waitsFor, code] of [
  ['connection', 'ERR_SSE_PROXY_CONNECT_TIMEOUT'],
  ['agent', 'ERR_SSE_PROXY_CONNECT_TIMEOUT'],
  ['upstream', 'ERR_SSE_PROXY_CONNECT_TIMEOUT'],
  ['client', 'ERR_SSE_PROXY_BODY_TIMEOUT'],
] as const) {
  test(`a connection that takes too long is given up as ${code} where the transport waits for the ${waitsFor}`, async (t) => {
    const clock = fakeClock(t)
    const played = play({ waitsFor })

    clock.pass(1_000)

    assert.equal(codeOf(await played.result), code)
    assert.equal(played.aborts, 1)
  })
}

test('an answer has its own time from when the connection is there, and anew with each progress of the body', async (t) => {
  const clock = fakeClock(t)
  const played = play({ waitsFor: 'upstream' })

  clock.pass(900)
  played.events().onConnected()
  clock.pass(1_900)
  played.events().onProgress()
  clock.pass(1_900)
  await nextTurn()
  assert.equal(played.aborts, 0)
  clock.pass(500)

  assert.equal(codeOf(await played.result), 'ERR_SSE_PROXY_RESPONSE_TIMEOUT')
  assert.equal(played.aborts, 1)
})

test('an answer that a transport has read in time is in time, although it is told of at the end of the turn', async (t) => {
  const clock = fakeClock(t)
  const played = play({ waitsFor: 'upstream' })

  played.events().onConnected()
  clock.pass(2_000)
  setImmediate(() => played.events().onAnswer(answer))

  assert.equal(await played.result, answer)
  await nextTurn()
  assert.equal(played.aborts, 0)
})

test('a client that leaves gives the request up, and the error says whether it may have arrived', async () => {
  for (const mayHaveArrived of [false, true]) {
    const played = play({ mayHaveArrived })

    played.abort.abort('client-left')

    const result = await played.result
    assert.ok(result instanceof UpstreamError)
    assert.deepEqual(
      [result.cause, result.mayHaveArrived, result.upstream],
      ['client-left', mayHaveArrived, 'http://a'],
    )
    assert.equal(played.aborts, 1)
  }
})

test('a client that leaves while its request is handed over does not leave it there', async () => {
  const played = play({ onSend: ({ abort }) => abort.abort('client-left') })

  assert.equal(codeOf(await played.result), 'ERR_SSE_PROXY_UNREACHABLE')
  assert.equal(played.aborts, 1)
})

test('a request whose client has left already is not sent', async () => {
  const abort = new Abort()
  abort.abort('client-left')

  const played = play({ abort })

  assert.equal(codeOf(await played.result), 'ERR_SSE_PROXY_UNREACHABLE')
  assert.equal(played.orders.length, 0)
})

test('a connection that died on reuse is replaced by a fresh one, once', async () => {
  const played = play()
  const dead = new UpstreamError('ERR_SSE_PROXY_UNREACHABLE', 'http://a')

  played.events().onFailed(dead, true)
  played.events().onFailed(dead, true)

  assert.equal(await played.result, dead)
  assert.deepEqual(
    played.orders.map(({ isFresh }) => isFresh),
    [false, true],
  )
})

for (const mayHaveArrived of [true, false]) {
  test(`what must not arrive twice is ${mayHaveArrived ? 'not ' : ''}repeated where it may${mayHaveArrived ? '' : ' not'} have arrived`, async () => {
    const played = play({ mayArriveTwice: false })
    const dead = new UpstreamError('ERR_SSE_PROXY_UNREACHABLE', 'http://a', undefined, mayHaveArrived)

    played.events().onFailed(dead, true)
    if (!mayHaveArrived) played.events().onAnswer(answer)

    assert.equal(await played.result, mayHaveArrived ? dead : answer)
    assert.ok(played.orders.every(({ isFresh }) => isFresh))
  })
}

const answer: UpstreamResponse = {
  status: 200,
  statusMessage: 'OK',
  headers: [],
  upstream: 'http://a',
  delimited: true,
  body: { start() {}, pause() {}, unpause() {}, destroy() {} },
}

interface Played {
  readonly abort: Abort
  readonly orders: TransportOrder[]
  /** Of the latest request. */
  events(): TransportEvents
  aborts: number
  result: Promise<AttemptResult>
}

interface PlayOptions extends Partial<Omit<TransportRequest, 'abort'>> {
  readonly abort?: Abort
  readonly mayArriveTwice?: boolean
  readonly onSend?: (played: Played) => void
}

function play({ abort = new Abort(), mayArriveTwice = true, onSend, ...state }: PlayOptions = {}): Played {
  const told: TransportEvents[] = []
  const req = Object.assign(new IncomingMessage(new Socket()), { method: 'GET', url: '/' })
  const played: Played = {
    abort,
    orders: [],
    events: () => told.at(-1) as TransportEvents,
    aborts: 0,
    result: Promise.resolve(answer),
  }
  const transport = {
    send(order: TransportOrder, events: TransportEvents): TransportRequest {
      played.orders.push(order)
      told.push(events)
      onSend?.(played)
      const sent = { upstream: 'http://a', mayHaveArrived: false, waitsFor: 'connection', ...state } as const
      return { ...sent, abort: () => void played.aborts++ }
    },
    retire() {},
    close() {},
  }
  played.result = makeAttempt({
    context: {
      transport,
      observer: { attempting() {} },
      via: false,
      xfwd: false,
      stripped: new Set<string>(),
      connectMs: 1_000,
      responseMs: 2_000,
    },
    request: { id: 'a-1', req, res: new ServerResponse(req), body: { kind: 'none' } },
    upstream,
    lastEventId: undefined,
    signal: abort,
    mayArriveTwice,
    onOver: undefined,
  })
  return played
}

function codeOf(result: AttemptResult): string {
  return result instanceof UpstreamError ? result.code : 'answered'
}
