import assert from 'node:assert/strict'
import { mock, type TestContext, test } from 'node:test'
import { Drain } from '../src/drain.ts'
import type { Session } from '../src/stream/session.ts'
import { fakeClock, setWallClock } from './support/fake-clock.ts'

/** A session as far as a drain goes: what it was told, and when. */
interface FakeSession {
  readonly session: Session
  endedAt: number | undefined
  retryMs: number | undefined
  isAborted: boolean
}

test('a hundred sessions end one after the other, each in a slice of the window of its own', (t) => {
  startClock(t)
  const drain = new Drain({ withinMs: 10_000, retryMs: () => 1 })
  const fakes = sessions(100)

  drain.schedule(fakes.map(({ session }) => session))
  pass(10_000)

  const moments = fakes.map(({ endedAt }) => endedAt!).sort((a, b) => a - b)
  for (const [index, at] of moments.entries()) {
    assert.ok(at >= index * 90 && at <= (index + 1) * 90 + 1, `number ${index} ended after ${at} ms`)
  }
})

test('the order has nothing to do with the age of the sessions', (t) => {
  startClock(t)
  const drain = new Drain({ withinMs: 1000, retryMs: () => 1 })
  const fakes = sessions(100)

  drain.schedule(fakes.map(({ session }) => session))
  pass(1000)

  const moments = fakes.map(({ endedAt }) => endedAt!)
  const ascents = moments.filter((at, index) => index > 0 && at > moments[index - 1]!).length
  assert.ok(ascents > 20 && ascents < 80, `${ascents} of 99 ended after the one that is older`)
})

test('each session is given a value of its own to come back after', (t) => {
  startClock(t)
  let next = 0
  const drain = new Drain({ withinMs: 100, retryMs: () => next++ })
  const fakes = sessions(20)

  drain.schedule(fakes.map(({ session }) => session))
  pass(100)

  assert.equal(new Set(fakes.map(({ retryMs }) => retryMs)).size, 20)
})

test('a session that opens in the middle of a drain ends before the deadline', (t) => {
  startClock(t)
  const drain = new Drain({ withinMs: 1000, retryMs: () => 1 })
  const [late] = sessions(1) as [FakeSession]

  pass(600)
  drain.add(late.session)
  pass(399)

  assert.ok(late.endedAt! >= 600 && late.endedAt! <= 960, `ended after ${late.endedAt} ms`)
})

test('a session that opens during a drain ends in time although the clock is set back by a day', (t) => {
  const clock = fakeClock(t)
  const drain = new Drain({ withinMs: 1000, retryMs: () => 1 })
  const [late] = sessions(1) as [FakeSession]
  clock.pass(500)

  setWallClock(t, -86_400_000)
  drain.add(late.session)
  clock.pass(500)

  assert.notEqual(late.endedAt, undefined)
})

test('a session that opens after the deadline ends at once', (t) => {
  startClock(t)
  const drain = new Drain({ withinMs: 100, retryMs: () => 1 })
  const [late] = sessions(1) as [FakeSession]

  pass(500)
  drain.add(late.session)
  pass(1)

  assert.ok(late.endedAt! <= 501)
})

test('the result tells how each ended: in its turn, broken off, or by itself', (t) => {
  startClock(t)
  const drain = new Drain({ withinMs: 1000, retryMs: () => 1 })
  const [drained, leaving, stuck] = sessions(3) as [FakeSession, FakeSession, FakeSession]
  drain.schedule([drained.session, leaving.session, stuck.session])

  drain.noteEnd(leaving.session, 'client-left')
  drain.noteEnd(leaving.session, 'client-left')
  pass(1000)
  drain.noteEnd(drained.session, 'drained')
  drain.abortRest()
  drain.noteEnd(stuck.session, 'drained')

  assert.deepEqual(drain.result, { drained: 1, aborted: 1, other: 1 })
  assert.equal(stuck.isAborted, true)
  assert.equal(drained.isAborted, false)
})

test('the end of a session that is none of its own is nothing to it', () => {
  const drain = new Drain({ withinMs: 1000, retryMs: () => 1 })
  const [other] = sessions(1) as [FakeSession]

  drain.noteEnd(other.session, 'drained')

  assert.deepEqual(drain.result, { drained: 0, aborted: 0, other: 0 })
})

test('after the deadline no timer is left to end anything', (t) => {
  startClock(t)
  const drain = new Drain({ withinMs: 1000, retryMs: () => 1 })
  const fakes = sessions(10)
  drain.schedule(fakes.map(({ session }) => session))

  drain.abortRest()
  pass(2000)

  assert.ok(fakes.every(({ endedAt, isAborted }) => endedAt === undefined && isAborted))
  assert.deepEqual(drain.result, { drained: 0, aborted: 10, other: 0 })
})

function startClock(t: TestContext): void {
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 0 })
  t.mock.method(performance, 'now', () => Date.now())
  t.after(() => mock.timers.reset())
}

/** Millisecond by millisecond: a timer sees the time it was set for. */
function pass(ms: number): void {
  for (let passed = 0; passed < ms; passed += 1) mock.timers.tick(1)
}

function sessions(count: number): FakeSession[] {
  return Array.from({ length: count }, () => {
    const fake = { endedAt: undefined, retryMs: undefined, isAborted: false } as Omit<FakeSession, 'session'>
    const session = {
      end(_reason: string, retryMs: number) {
        fake.endedAt = Date.now()
        fake.retryMs = retryMs
      },
      abort() {
        fake.isAborted = true
      },
    }
    return Object.assign(fake, { session: session as unknown as Session })
  })
}
