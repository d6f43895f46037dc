import assert from 'node:assert/strict'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { test } from 'node:test'
import fc from 'fast-check'
import { Abort } from '../../src/abort.ts'
import type { StreamError } from '../../src/errors.ts'
import { Meter } from '../../src/observe/meter.ts'
import { Stats } from '../../src/observe/stats.ts'
import type { SseProxyOptions } from '../../src/options/options.ts'
import { resolveOptions } from '../../src/options/resolve-options.ts'
import { DirectFollower } from '../../src/share/direct-follower.ts'
import { MemoryEventLog } from '../../src/share/event-log.ts'
import type { Delivery, Follower } from '../../src/share/followers.ts'
import { ReplayBudget } from '../../src/share/replay-budget.ts'
import { SharedStream } from '../../src/share/shared-stream.ts'
import type { Session } from '../../src/stream/session.ts'
import type { BodySink, UpstreamBody, UpstreamResponse } from '../../src/upstream-response.ts'
import { BOM, cutsOf, everyMix, fixtures, forAll, randomPieces } from '../stream/fixtures.ts'
import { interpret } from '../support/oracle.ts'

type Share = Exclude<NonNullable<SseProxyOptions['share']>, boolean>

test('followers get the bytes of the upstream, whole events at a time, with every cut', async () => {
  for (const { bytes } of everyMix.slice(0, 81)) {
    for (const pieces of cutsOf(bytes, 4)) {
      const { shared, body, over } = start()
      const first = new Listener(shared)

      for (const piece of pieces) await body.give(piece)
      await body.end()

      assert.equal(first.bytes.toString(), bytes.toString())
      assert.deepEqual(first.outcome, 'ended')
      assert.deepEqual(over, ['upstream-ended'])
    }
  }
})

test('ids of our own change nothing but ids, in every fixture, with every way to end lines', async () => {
  for (const { name, bytes } of [...fixtures, ...everyMix]) {
    if (hasSeveralMarks(bytes)) continue
    const { shared, body } = start({ replay: { ids: 'assign' } })
    const listener = new Listener(shared)

    await body.give(bytes)
    await body.end()

    checkAssigned(bytes, listener.bytes, name)
  }
})

test('ids of our own change nothing but ids, however the stream is cut', async () => {
  for (const pieces of streams({ seed: 20_260_711, numRuns: 300 })) {
    const { shared, body } = start({ replay: { ids: 'assign' } })
    const listener = new Listener(shared)

    for (const piece of pieces) await body.give(piece)
    await body.end()

    checkAssigned(Buffer.concat(pieces), listener.bytes, JSON.stringify(String(Buffer.concat(pieces))))
  }
})

test('what is replayed from any id of our own on is what the others got after it', async () => {
  for (const pieces of streams({ seed: 7, numRuns: 200 })) {
    const { shared, body } = start({ replay: { ids: 'assign' } })
    const listener = new Listener(shared)
    for (const piece of pieces) await body.give(piece)

    const { events } = interpret(listener.bytes)
    for (const [i, { lastEventId }] of events.entries()) {
      const position = shared.log.positionAfter(lastEventId)
      assert.notEqual(position, undefined)
      const rest = interpret(Buffer.concat(shared.log.since(position!).map(({ bytes }) => bytes))).events
      assert.deepEqual(
        rest.map(({ data, lastEventId: id }) => [data, id]),
        events.slice(i + 1).map(({ data, lastEventId: id }) => [data, id]),
      )
    }
    shared.close()
  }
})

test('a follower that joins at any moment gets each event exactly once, from its place on', async () => {
  for (const pieces of streams({ seed: 11, numRuns: 200 })) {
    const { shared, body } = start()
    const first = new Listener(shared)
    const later: { follower: Listener; missed: number }[] = []
    for (const piece of pieces) {
      const missed = interpret(first.bytes).events.length
      const replayed = Buffer.concat(shared.log.since(0).map(({ bytes }) => bytes))
      assert.equal(interpret(replayed).events.length, missed)
      later.push({ follower: new Listener(shared), missed })
      await body.give(piece)
    }
    await body.end()

    const all = interpret(first.bytes).events.map(({ data }) => data)
    for (const { follower, missed } of later) {
      assert.deepEqual(
        interpret(follower.bytes).events.map(({ data }) => data),
        all.slice(missed),
      )
    }
  }
})

test('the place of a client is known from what it came with to what it has got', async () => {
  const { shared, body } = start()
  const follower = new Listener(shared)
  await body.give(Buffer.from('id: 1\ndata: a\n\ndata: b\n\n'))
  const session = { context: { lastEventId: 'own' } } as Session
  const early = new DirectFollower(shared, session, shared.log.first).progress
  const late = new DirectFollower(shared, session, shared.log.end).progress

  assert.deepEqual([early.lastEventId, early.events], ['1', 2])
  assert.deepEqual([late.lastEventId, late.events], ['own', 0])
  await body.give(Buffer.from('id: 2\ndata: c\n\n'))

  assert.deepEqual([early.lastEventId, early.events], ['2', 3])
  assert.deepEqual([late.lastEventId, late.events], ['2', 1])
  follower.leave()
  shared.close()
})

test('the last one to leave ends it, at once where nobody could come back', async () => {
  const { shared, body, over, setLingers } = start({ lingerMs: 60_000 })
  const [one, other] = [new Listener(shared), new Listener(shared)]
  one.leave()
  setLingers(false)

  assert.equal(body.isDestroyed, false)
  other.leave()

  assert.equal(body.isDestroyed, true)
  assert.equal(over.length, 1)
  assert.equal(shared.isOver, true)
})

test('after its end it takes nothing more and tells nobody again', async () => {
  const { shared, body, over } = start()
  const follower = new Listener(shared)
  await body.end()

  shared.end()
  shared.close()

  assert.equal(shared.send({ data: 'too late' }), false)
  assert.equal(over.length, 1)
  assert.equal(follower.outcome, 'ended')
  assert.equal(follower.bytes.length, 0)
})

test('a follower that leaves while an event is handed out does not disturb the others', async () => {
  const { shared, body } = start()
  const last = new Listener(shared)
  const leaving: Listener[] = Array.from({ length: 5 }, () => new Listener(shared))
  for (const each of leaving) each.onBytes = () => each.leave()
  const after = new Listener(shared)

  await body.give(Buffer.from('data: a\n\n'))
  await body.give(Buffer.from('data: b\n\n'))

  assert.equal(last.bytes.toString(), 'data: a\n\ndata: b\n\n')
  assert.equal(after.bytes.toString(), 'data: a\n\ndata: b\n\n')
  for (const each of leaving) assert.equal(each.bytes.toString(), 'data: a\n\n')
  shared.close()
})

test('property: counts and bytes are those of the upstream, counted once', () => {
  forAll(
    fc.array(fc.integer({ min: 0, max: 30 }), { maxLength: 20 }),
    (lengths) => {
      const { shared, stats } = start()
      for (let count = 0; count < 3; count += 1) new Listener(shared)
      for (const length of lengths) shared.send({ data: 'x'.repeat(length) })

      assert.equal(stats.eventsIn, 0)
      assert.equal(
        shared.bytes,
        lengths.reduce((sum, length) => sum + 'data: \n\n'.length + length, 0),
      )
      shared.close()
    },
    100,
  )
})

function streams(parameters: { seed: number; numRuns: number }): Buffer[][] {
  return fc.sample(randomPieces, parameters).filter((pieces) => !hasSeveralMarks(Buffer.concat(pieces)))
}

/** Where a stream has several byte order marks, the place of a client decides which of them is one. */
function hasSeveralMarks(bytes: Buffer): boolean {
  return bytes.toString().lastIndexOf(BOM) > 0
}

function checkAssigned(source: Buffer, result: Buffer, name: string): void {
  const expected = interpret(source)
  const { events, retry } = interpret(result)
  assert.deepEqual(
    events.map(({ type, data }) => [type, data]),
    expected.events.map(({ type, data }) => [type, data]),
    name,
  )
  const ids = events.map(({ lastEventId }) => lastEventId.split('-'))
  assert.ok(
    ids.every(([epoch]) => epoch === ids[0]![0]),
    name,
  )
  const numbers = ids.map(([, number]) => Number(number))
  assert.ok(
    numbers.every((number, i) => i === 0 || number > numbers[i - 1]!),
    `${name}: ${numbers}`,
  )
  if (retry !== undefined) assert.equal(retry, expected.retry, name)
}

/** One that follows from now on, and keeps what it hears. */
class Listener implements Follower {
  readonly isIdle = false
  readonly isDone = true
  readonly #shared: SharedStream
  readonly #parts: Buffer[] = []
  outcome: 'ended' | 'closed' | StreamError | undefined
  onBytes: () => void = () => {}

  constructor(shared: SharedStream) {
    this.#shared = shared
    shared.join(this)
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#parts)
  }

  leave(): void {
    this.#shared.leave(this)
  }

  onEvents({ shared: { bytes } }: Delivery): void {
    this.#parts.push(Buffer.from(bytes))
    this.onBytes()
  }

  onGap(): void {}

  onEnd(): void {
    this.outcome = 'ended'
  }

  onClosed(): void {
    this.outcome = 'closed'
  }

  onFailed(error: StreamError): void {
    this.outcome = error
  }
}

test('a flood of blank lines is passed on without a look at each as a block', async () => {
  const { body, shared } = start()
  const listener = new Listener(shared)
  const read = Buffer.from(`data: x\n\n${'\n'.repeat(65_536)}`)
  const before = process.cpuUsage()

  for (let count = 0; count < 128; count++) await body.give(read)

  const { user } = process.cpuUsage(before)
  assert.ok(user < 500_000, `${user} us for 8 MiB`)
  assert.equal(listener.bytes.length, 128 * read.length)
  assert.equal(shared.sent.events, 128)
})

class Body implements UpstreamBody {
  isDestroyed = false
  #sink: BodySink | undefined

  start(sink: BodySink): void {
    this.#sink = sink
  }

  pause(): void {}

  unpause(): void {}

  destroy(): void {
    this.isDestroyed = true
    this.#sink = undefined
  }

  /** One read of the socket. */
  async give(bytes: Buffer): Promise<void> {
    this.#sink?.onData(bytes)
    await new Promise<void>((resolve) => setImmediate(resolve))
  }

  async end(): Promise<void> {
    this.#sink?.onEnd()
    await new Promise<void>((resolve) => setImmediate(resolve))
  }
}

function start(share: Share = {}) {
  const options = resolveOptions({ target: 'http://localhost', keepalive: false, share })
  if (!options.share) throw new Error('not shared')
  const stats = new Stats('test')
  const body = new Body()
  const over: unknown[] = []
  const controller = new Abort()
  const budget = new ReplayBudget(1_000_000, () => false)
  let lingers = true
  const observer = {
    meter: (at: number) => new Meter(stats, at),
    joined() {},
    replayed() {},
    resuming() {},
    resumed() {},
    failed() {},
  }
  const response: UpstreamResponse = {
    status: 200,
    statusMessage: '',
    headers: [['Content-Type', 'text/event-stream']],
    upstream: 'http://localhost',
    body,
    delimited: true,
  }
  const shared = new SharedStream(
    {
      id: '1',
      req: { rawHeaders: [] as string[] } as IncomingMessage,
      res: { closed: true } as ServerResponse,
      moves: undefined,
      controller,
      options,
      share: options.share,
      open: () => () => Promise.reject(new Error('not again')),
      observer,
      meter: observer.meter(0),
      log: new MemoryEventLog(options.share.replay, '', budget),
      budget,
      linger: () => ({ client: undefined, giveBack() {} }),
      lingers: () => lingers,
      onOver: () => over.push(controller.reason),
    },
    response,
    body,
  )
  shared.start()
  const setLingers = (value: boolean): void => {
    lingers = value
  }
  return { shared, body, over, stats, setLingers }
}
