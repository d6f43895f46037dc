import assert from 'node:assert/strict'
import { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { Admission, type AdmissionPolicy, type Ticket } from '../src/admission.ts'
import { AdmissionError, type AdmissionErrorCode } from '../src/errors.ts'

const unlimited: AdmissionPolicy = { streams: 0, streamsPerClient: 0, clientKey: clientOf }

test('everybody enters where nothing is limited, and no client is kept in mind', () => {
  const admission = new Admission(unlimited)

  for (let count = 0; count < 1000; count += 1) admission.enter(requestOf('one'))

  assert.equal(admission.inside, 1000)
  assert.equal(admission.clients, 0)
})

test('past the limit in all a request is refused with 503, until somebody leaves', () => {
  const admission = new Admission({ ...unlimited, streams: 2 })
  const first = admission.enter(requestOf('one'))
  admission.enter(requestOf('two'))

  assertRefused(admission, 'three', 'ERR_SSE_PROXY_FULL', 503)
  first.giveBack()

  admission.enter(requestOf('three'))
  assertRefused(admission, 'four', 'ERR_SSE_PROXY_FULL', 503)
})

test("past a client's own limit its request is refused with 429, and other clients do not notice", () => {
  const admission = new Admission({ ...unlimited, streamsPerClient: 2 })
  const first = admission.enter(requestOf('one'))
  admission.enter(requestOf('one'))

  assertRefused(admission, 'one', 'ERR_SSE_PROXY_CLIENT_LIMIT', 429)
  admission.enter(requestOf('two'))
  first.giveBack()

  admission.enter(requestOf('one'))
})

test('where the house is full as well, a client hears of that and not of its own limit', () => {
  const admission = new Admission({ ...unlimited, streams: 1, streamsPerClient: 1 })
  admission.enter(requestOf('one'))

  assertRefused(admission, 'one', 'ERR_SSE_PROXY_FULL', 503)
})

test('from the drain on nobody enters, and tickets still come back', () => {
  const admission = new Admission({ ...unlimited, streams: 1 })
  const ticket = admission.enter(requestOf('one'))

  admission.drain()
  assertRefused(admission, 'two', 'ERR_SSE_PROXY_DRAINING', 503)
  ticket.giveBack()

  assert.equal(admission.isDraining, true)
  assert.equal(admission.inside, 0)
  assertRefused(admission, 'two', 'ERR_SSE_PROXY_DRAINING', 503)
})

test('the key of a client is asked for only where clients are limited', () => {
  const clientKey = (): string => assert.fail('nobody needs it')

  new Admission({ streams: 1, streamsPerClient: 0, clientKey }).enter(requestOf('one'))
})

test('a clientKey that throws has taken nothing', () => {
  let isBroken = true
  const clientKey = (): string => {
    if (isBroken) throw new Error('no session')
    return 'one'
  }
  const admission = new Admission({ streams: 1, streamsPerClient: 1, clientKey })

  assert.throws(() => admission.enter(requestOf('one')), /no session/)
  isBroken = false

  assert.equal(admission.inside, 0)
  admission.enter(requestOf('one'))
})

test('names that mean something to objects are clients like any other', () => {
  const admission = new Admission({ ...unlimited, streamsPerClient: 1 })

  for (const name of ['__proto__', 'constructor', '', 'toString']) admission.enter(requestOf(name))

  for (const name of ['__proto__', 'constructor', '', 'toString']) {
    assertRefused(admission, name, 'ERR_SSE_PROXY_CLIENT_LIMIT', 429)
  }
})

test('before anybody is refused, the stream that nobody has followed for longest goes', () => {
  const admission = new Admission({ ...unlimited, streams: 3 })
  const closed: string[] = []
  lingering(admission, 'first', closed)
  lingering(admission, 'second', closed)
  admission.enter(requestOf('one'))

  admission.enter(requestOf('two'))
  assert.deepEqual(closed, ['first'])
  admission.enter(requestOf('three'))

  assert.deepEqual(closed, ['first', 'second'])
  assert.equal(admission.inside, 3)
  assertRefused(admission, 'four', 'ERR_SSE_PROXY_FULL', 503)
})

test("past a client's own limit its own stream without a follower goes, and nobody else's", () => {
  const admission = new Admission({ ...unlimited, streamsPerClient: 2 })
  const closed: string[] = []
  lingering(admission, "another client's", closed, 'two')
  lingering(admission, 'its first', closed, 'one')
  lingering(admission, 'its second', closed, 'one')

  admission.enter(requestOf('one'))
  assert.deepEqual(closed, ['its first'])
  admission.enter(requestOf('one'))

  assert.deepEqual(closed, ['its first', 'its second'])
  assertRefused(admission, 'one', 'ERR_SSE_PROXY_CLIENT_LIMIT', 429)
})

test('where both limits are reached, one stream without a follower goes for both', () => {
  const admission = new Admission({ ...unlimited, streams: 2, streamsPerClient: 1 })
  const closed: string[] = []
  lingering(admission, "another client's", closed, 'two')
  lingering(admission, 'its own', closed, 'one')

  admission.enter(requestOf('one'))

  assert.deepEqual(closed, ['its own'])
  assert.equal(admission.inside, 2)
})

test('a client that is refused for its own limit has cost nobody a stream', () => {
  const admission = new Admission({ ...unlimited, streams: 2, streamsPerClient: 1 })
  const closed: string[] = []
  lingering(admission, "another client's", closed, 'two')
  admission.enter(requestOf('one'))

  assertRefused(admission, 'one', 'ERR_SSE_PROXY_CLIENT_LIMIT', 429)

  assert.deepEqual(closed, [])
})

test('who follows a stream that nobody followed takes its place, and nobody goes for that', () => {
  const admission = new Admission({ ...unlimited, streams: 2, streamsPerClient: 2 })
  const closed: string[] = []
  lingering(admission, 'other', closed, 'one')
  const place = lingering(admission, 'followed', closed, 'one')

  const ticket = admission.enter(requestOf('one'), place)
  place.giveBack()

  assert.deepEqual(closed, [])
  assert.equal(admission.inside, 2)
  ticket.giveBack()
  assert.equal(admission.inside, 1)
})

test('10,000 random sequences of comings and goings stay within the limits and end at 0', () => {
  const step = fc.oneof(
    { weight: 5, arbitrary: fc.record({ kind: fc.constant('enter' as const), client: fc.nat(4) }) },
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('leave' as const), ticket: fc.nat(50) }) },
  )
  const limits = fc.record({ streams: fc.nat(6), streamsPerClient: fc.nat(3) })

  fc.assert(
    fc.property(limits, fc.array(step, { maxLength: 40 }), (policy, steps) => {
      const admission = new Admission({ ...policy, clientKey: clientOf })
      const held: { client: number; ticket: Ticket }[] = []
      for (const one of steps) {
        if (one.kind === 'enter') {
          const ofClient = held.filter(({ client }) => client === one.client).length
          const mayEnter =
            (policy.streams === 0 || held.length < policy.streams) &&
            (policy.streamsPerClient === 0 || ofClient < policy.streamsPerClient)
          const ticket = tryEnter(admission, `${one.client}`)
          assert.equal(ticket !== undefined, mayEnter)
          if (ticket) held.push({ client: one.client, ticket })
        } else if (held.length > 0) {
          for (const { ticket } of held.splice(one.ticket % held.length, 1)) ticket.giveBack()
        }
        assert.equal(admission.inside, held.length)
      }
      for (const { ticket } of held) ticket.giveBack()
      assert.equal(admission.inside, 0)
      assert.equal(admission.clients, 0)
    }),
    { numRuns: 10_000 },
  )
})

/** The place of a stream that nobody follows. */
function lingering(admission: Admission, name: string, closed: string[], client?: string): Ticket {
  const ticket = admission.linger(client, () => {
    closed.push(name)
    ticket.giveBack()
  })
  return ticket
}

function requestOf(client: string): IncomingMessage {
  const req = new IncomingMessage(new Socket())
  req.headers['x-client'] = client
  return req
}

function clientOf(req: IncomingMessage): string {
  return String(req.headers['x-client'])
}

function tryEnter(admission: Admission, client: string): Ticket | undefined {
  try {
    return admission.enter(requestOf(client))
  } catch (error) {
    assert.ok(error instanceof AdmissionError)
    return undefined
  }
}

function assertRefused(admission: Admission, client: string, code: AdmissionErrorCode, status: number): void {
  const insideBefore = admission.inside
  assert.throws(
    () => admission.enter(requestOf(client)),
    (error) => error instanceof AdmissionError && error.code === code && error.status === status,
  )
  assert.equal(admission.inside, insideBefore)
}
