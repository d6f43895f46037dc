import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SharedBytes } from '../../src/http-chunks.ts'
import { DirectFollower } from '../../src/share/direct-follower.ts'
import { MemoryEventLog } from '../../src/share/event-log.ts'
import type { SharedStream } from '../../src/share/shared-stream.ts'
import type { Session } from '../../src/stream/session.ts'

const bufferBytes = 100

test('what a client has missed and what came since it joined leave together on release, in order', () => {
  const { follower, session, give } = joined({ missed: ['a', 'b'] })

  give('c')
  assert.deepEqual(session.told, [])
  follower.release()
  give('d')

  assert.deepEqual(session.told, ['a+b+c (3 events)', 'd'])
})

test('a client that is held for longer than its buffer lasts is let go', () => {
  const { session, give } = joined()

  give('x'.repeat(bufferBytes))
  assert.deepEqual(session.told, [])
  give('y')

  assert.deepEqual(session.told, ['stalled'])
})

test('a client that does not read is let go once more waits for it than its buffer holds', () => {
  const { follower, session, give } = joined()
  follower.release()

  session.context.writer = { isBehind: true, waitingBytes: bufferBytes }
  give('a')
  session.context.writer.waitingBytes += 1
  give('b')

  assert.deepEqual(session.told, ['a', 'stalled'])
})

test('what a client had missed is no sign that it is slow, until it has taken that', () => {
  const { follower, session, give } = joined({ missed: ['m'.repeat(1000)] })
  follower.release()
  session.told.length = 0

  session.context.writer = { isBehind: true, waitingBytes: bufferBytes + 1000 }
  give('a')
  follower.unpause()
  give('b')

  assert.deepEqual(session.told, ['a', 'stalled'])
})

test('an end that comes before release is told after what came before it', () => {
  const { follower, session, give } = joined()

  give('a')
  follower.onEnd()
  follower.release()

  assert.deepEqual(session.told, ['a (1 events)', 'ended'])
})

test('a client that has left before release is not told of the end', () => {
  const { follower, session, followers } = joined()
  follower.onEnd()

  follower.stop()
  follower.release()

  assert.deepEqual(session.told, [])
  assert.equal(followers.size, 0)
})

test('a stream that was closed while it opened is not joined', () => {
  const { follower, session, followers } = created()
  session.isOver = true

  follower.stop()
  follower.start()

  assert.equal(followers.size, 0)
})

function joined(given: { missed?: string[] } = {}) {
  const all = created(given)
  all.follower.start()
  return all
}

function created({ missed = [] }: { missed?: string[] } = {}) {
  const unbounded = { add() {}, enter() {}, leave() {} }
  const log = new MemoryEventLog({ events: 100, bytes: 10_000, ageMs: 1000 }, '', unbounded)
  log.append(
    missed.map((text) => ({ bytes: Buffer.from(text), id: undefined, isEvent: true })),
    0,
  )
  const followers = new Set<DirectFollower>()
  const shared = {
    log,
    sent: { events: missed.length, lastEventId: '' },
    join: (follower: DirectFollower) => followers.add(follower),
    leave: (follower: DirectFollower) => followers.delete(follower),
  }
  const told: string[] = []
  const session = {
    told,
    isOver: false,
    context: {
      lastEventId: '',
      options: { limits: { bufferBytes } },
      writer: { isBehind: false, waitingBytes: 0 },
    },
    onReceived() {},
    onEvents: (pieces: readonly Buffer[], events: number) => told.push(`${pieces.join('+')} (${events} events)`),
    onShared: ({ bytes }: SharedBytes) => told.push(bytes.toString()),
    onStall: () => told.push('stalled'),
    onEnd: () => told.push('ended'),
  }
  const follower = new DirectFollower(shared as unknown as SharedStream, session as unknown as Session, 0)
  const give = (text: string): void =>
    follower.onEvents({ shared: new SharedBytes([Buffer.from(text)]), events: 1, now: 0 })
  return { follower, session, followers, give }
}
