// Whether, when and from where a lost stream goes on: the decisions, with upstreams that are played.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { Abort, type AbortState } from '../../src/abort.ts'
import { Cursor } from '../../src/events/cursor.ts'
import type { ResumePolicy } from '../../src/options/resolve-resume.ts'
import { ResumedBody } from '../../src/stream/resume.ts'
import { Resumer, resumeDelay } from '../../src/stream/resumer.ts'
import type { BodySink, OpenRequest, UpstreamBody, UpstreamResponse } from '../../src/upstream-response.ts'
import { fakeClock } from '../support/fake-clock.ts'

const policy: ResumePolicy = { attempts: 3, delayMs: 1, maxDelayMs: 4, onEnd: false, withoutIds: false }
const lost = new Error('lost')
const at = 'http://upstream'

test('a stream is resumed after a loss when an id has passed', () => {
  const { resumer, cursor } = resumerOf()
  pass(cursor, 'data: w\n\n')
  assert.equal(resumer.shouldResume('lost'), false)

  pass(cursor, 'id: 7\ndata: x\n\n')

  assert.equal(resumer.shouldResume('lost'), true)
})

test('a stream is resumed when the client brought an id, although none has passed', () => {
  assert.equal(resumerOf({ lastEventId: '7' }).resumer.shouldResume('lost'), true)
})

test('an empty id means that the stream is not to be resumed', () => {
  const { resumer, cursor } = resumerOf({ lastEventId: '7' })

  pass(cursor, 'id\ndata: x\n\n')

  assert.equal(resumer.shouldResume('lost'), false)
})

test('a stream without ids is resumed only where the app says so', () => {
  for (const withoutIds of [false, true]) {
    const { resumer, cursor } = resumerOf({ policy: { ...policy, withoutIds } })

    pass(cursor, 'data: x\n\n')

    assert.equal(resumer.shouldResume('lost'), withoutIds)
  }
})

test('a stream that is lost before its first event begins anew, and one that ended before it has ended', () => {
  const { resumer, cursor } = resumerOf({ policy: { ...policy, onEnd: true } })

  pass(cursor, ': hello\n\nretry: 5\n\n')

  assert.equal(resumer.shouldResume('lost'), true)
  assert.equal(resumer.shouldResume('complete'), false)
})

test('a stream whose id no header can carry is not resumed, since it would start elsewhere', () => {
  for (const id of ['a\u0007b', '\u007f', 'x'.repeat(20_000)]) {
    const { resumer, cursor } = resumerOf({ lastEventId: '7' })

    pass(cursor, `id: ${id}\ndata: x\n\n`)

    assert.equal(resumer.shouldResume('lost'), false, JSON.stringify(id.slice(0, 10)))
  }
})

test('a clean end is followed by a resume only where the app says so', () => {
  assert.equal(resumerOf({ lastEventId: '7' }).resumer.shouldResume('complete'), false)
  const onEnd = { ...policy, onEnd: true }
  assert.equal(resumerOf({ lastEventId: '7', policy: onEnd }).resumer.shouldResume('complete'), true)
  assert.equal(resumerOf({ policy: onEnd }).resumer.shouldResume('complete'), false)
})

test('a stream whose client has gone is not resumed', () => {
  const { resumer, controller } = resumerOf({ lastEventId: '7' })

  controller.abort('over')

  assert.equal(resumer.shouldResume('lost'), false)
})

test('an upstream is asked for what follows the last id that has passed, and another one than the lost is preferred', async () => {
  const { resumer, cursor, asked } = resumerOf({ lastEventId: '1', answers: [stream()] })
  pass(cursor, 'id: 2\ndata: x\n\nid: 3\n\n')

  await resumer.resume(lost, at)

  assert.deepEqual(
    asked.map(({ lastEventId, avoid }) => [lastEventId, avoid]),
    [['3', at]],
  )
})

test('a stream is what a resume wants', async () => {
  const response = stream()
  const { resumer } = resumerOf({ answers: [response] })

  const resumed = await resumer.resume(lost, at)

  assert.notEqual(resumed, 'ended')
  assert.equal(typeof resumed === 'object' && resumed.response, response)
})

const finals = [204, 400, 401, 404, 409, 410, 429, 499]

for (const status of finals) {
  test(`a ${status} ends the stream, so that the client's own reconnect meets it`, async () => {
    const response = answer(status)
    const { resumer, asked } = resumerOf({ answers: [response] })

    assert.equal(await resumer.resume(lost, at), 'ended')
    assert.equal(asked.length, 1)
    assert.equal(response.isDestroyed, true)
  })
}

const failures: [name: string, response: () => Played][] = [
  ['another content type', () => answer(200, 'text/html')],
  ['no content type', () => answer(200)],
  ['206', () => answer(206, 'text/event-stream')],
  ['a redirection', () => answer(302)],
  ['500', () => answer(500)],
  ['503', () => answer(503)],
  ['a coding that nobody knows', () => answer(200, 'text/event-stream', 'smoke')],
]

for (const [name, failure] of failures) {
  test(`${name} is a failure, and tried again`, async () => {
    const response = failure()
    const { resumer, asked } = resumerOf({ answers: [response, stream()] })

    assert.notEqual(await resumer.resume(lost, at), 'ended')
    assert.equal(asked.length, 2)
    assert.equal(response.isDestroyed, true)
  })
}

test('an upstream that cannot be had is tried again, and its failure told when there are no attempts left', async () => {
  const refused = new Error('refused')
  const { resumer, asked, tries } = resumerOf({ answers: [new Error('first'), new Error('second'), refused, stream()] })

  await assert.rejects(resumer.resume(lost, at), refused)

  assert.equal(asked.length, 3)
  assert.deepEqual(tries, [
    [at, 1],
    [at, 2],
    [at, 3],
  ])
})

test('losses in a row without an event share their attempts', async () => {
  const { resumer, asked } = resumerOf({ answers: [stream(), stream(), stream(), stream()] })

  for (let i = 0; i < 3; i += 1) await resumer.resume(lost, at)

  await assert.rejects(resumer.resume(lost, at), lost)
  assert.equal(asked.length, 3)
})

test('an event says that things are well, and attempts are counted anew', async () => {
  const { resumer, cursor, tries } = resumerOf({ answers: Array.from({ length: 50 }, () => stream()) })

  for (let i = 0; i < 50; i += 1) {
    pass(cursor, `id: ${i}\ndata: x\n\n`)
    await resumer.resume(lost, at)
  }

  assert.deepEqual(new Set(tries.map(([, attempt]) => attempt)), new Set([1]))
})

test('an id that moves without an event is progress too', async () => {
  const { resumer, cursor, asked } = resumerOf({ answers: Array.from({ length: 10 }, () => stream()) })

  for (let i = 0; i < 10; i += 1) {
    pass(cursor, `id: ${i}\n\n`)
    await resumer.resume(lost, at)
  }

  assert.equal(asked.length, 10)
})

test('an upstream that sends its last event again each time, and dies, is given up', async () => {
  const { resumer, cursor, asked } = resumerOf({ answers: Array.from({ length: 10 }, () => stream()) })

  await assert.rejects(async () => {
    for (;;) {
      pass(cursor, 'id: 7\ndata: x\n\n')
      await resumer.resume(lost, at)
    }
  }, lost)

  assert.equal(asked.length, policy.attempts)
})

test('where there are no ids, or none that a header can carry, an event is progress', async () => {
  for (const event of ['data: x\n\n', 'id: a\u0007b\ndata: x\n\n']) {
    const withoutIds = { ...policy, withoutIds: true }
    const { resumer, cursor, asked } = resumerOf({
      policy: withoutIds,
      answers: Array.from({ length: 10 }, () => stream()),
    })

    for (let i = 0; i < 10; i += 1) {
      pass(cursor, event)
      await resumer.resume(lost, at)
    }

    assert.equal(asked.length, 10)
  }
})

test('comments are no progress', async () => {
  const { resumer, cursor } = resumerOf({ answers: Array.from({ length: 10 }, () => stream()) })

  for (let i = 0; i < 3; i += 1) {
    pass(cursor, ': here I am\n\n')
    await resumer.resume(lost, at)
  }

  await assert.rejects(resumer.resume(lost, at), lost)
})

test('a client that leaves during the wait ends it at once', async () => {
  const { resumer, controller, asked } = resumerOf({ policy: { ...policy, delayMs: 3_600_000, maxDelayMs: 3_600_000 } })

  const resuming = resumer.resume(lost, at)
  controller.abort('client-left')

  await assert.rejects(resuming)
  assert.equal(asked.length, 0)
})

test('a client that leaves while an upstream is asked is not tried for again', async () => {
  const { resumer, controller, asked } = resumerOf({
    answers: [
      () => {
        controller.abort('client-left')
        throw new Error('given up')
      },
    ],
  })

  await assert.rejects(resumer.resume(lost, at))

  assert.equal(asked.length, 1)
})

test("the upstream's own retry: is waited for", async () => {
  const { resumer, cursor } = resumerOf({ policy: { ...policy, delayMs: 0, maxDelayMs: 60_000 }, answers: [stream()] })
  pass(cursor, 'retry: 200\nid: 1\ndata: x\n\n')
  const started = performance.now()

  await resumer.resume(lost, at)

  // Timers of Node may be a millisecond early.
  assert.ok(performance.now() - started >= 99)
})

test('the wait doubles with each try from what the upstream said, up to maxDelayMs, less up to half of it by chance', () => {
  const policies = fc.record({ delayMs: fc.nat(10_000), maxDelayMs: fc.nat(100_000) })
  const retries = fc.option(fc.nat(), { nil: undefined })
  const chances = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })
  fc.assert(
    fc.property(fc.nat(1_000), retries, policies, chances, (tries, retryMs, given, chance) => {
      const base = retryMs ?? given.delayMs
      const doubled = base === 0 ? 0 : Math.min(base * 2 ** tries, given.maxDelayMs)
      const least = retryMs === undefined ? 0 : Math.min(100, given.maxDelayMs)
      const ceiling = Math.max(doubled, least)

      const delay = resumeDelay(tries, retryMs, given, () => chance)

      assert.ok(Number.isInteger(delay))
      assert.ok(delay >= Math.max(Math.floor(ceiling / 2), least) && delay <= ceiling, `${delay} of ${ceiling}`)
    }),
  )
})

test('an upstream that ends at once behind ever other ids is asked ever more rarely, and never given up', async (t) => {
  const { lose, waits } = flapping(t)

  for (let i = 0; i < 20; i += 1) await lose(`id: ${i % 2}\n\n`, 10)

  assert.deepEqual(waits.slice(0, 7), [100, 200, 400, 800, 1600, 3200, 5000])
  assert.deepEqual(new Set(waits.slice(6)), new Set([5000]))
})

test('a connection that brings something and lasts a second has the next one asked for after the first delay again', async (t) => {
  const { lose, waits } = flapping(t)
  for (let i = 0; i < 4; i += 1) await lose(`id: ${i}\ndata: x\n\n`, 990)

  await lose('id: 4\ndata: x\n\n', 1000)
  await lose('id: 5\ndata: x\n\n', 990)

  assert.deepEqual(waits, [100, 200, 400, 800, 100, 200])
})

test('a connection that lasts less than it took to get does not have the delay begin anew', async (t) => {
  const { lose, waits } = flapping(t, { connectMs: 2900 })
  await lose('id: 1\n\n', 2950)

  await lose('id: 2\n\n', 2950)
  await lose('id: 3\n\n', 3200)

  assert.deepEqual(waits, [100, 200, 100])
})

test('retry: 0 does not have an upstream that dies asked as fast as it can', () => {
  assert.equal(
    resumeDelay(0, 0, { delayMs: 100, maxDelayMs: 5_000 }, () => 0),
    100,
  )
  assert.equal(
    resumeDelay(0, 120, { delayMs: 100, maxDelayMs: 5_000 }, () => 0),
    100,
  )
})

test('streams that are lost together do not come back together', () => {
  const delays = Array.from({ length: 100 }, () => resumeDelay(4, undefined, { delayMs: 100, maxDelayMs: 5_000 }))

  assert.ok(new Set(delays).size > 50)
})

test('a body that goes on is read by the same sink, from the connection that has taken over', async () => {
  const second = new Connection()
  const next = { ...stream(), upstream: 'http://other', body: second }
  const { resumer, asked } = resumerOf({ lastEventId: '7', answers: [next] })
  const first = new Connection()
  const body = new ResumedBody(first, at, resumer, undefined)
  const heard: string[] = []
  const connected = resolvers<void>()
  const sink: BodySink = {
    onData: () => void heard.push('data'),
    onEnd: () => void heard.push('end'),
    onBroken: () => void heard.push('broken'),
    onReconnected: ({ upstream }, attempt) => {
      heard.push(`${upstream} after ${attempt}`)
      connected.resolve()
    },
  }

  body.start(sink)
  assert.equal(first.sink, sink)
  body.pause()
  assert.equal(body.reconnect(lost), true)
  await connected.promise

  assert.deepEqual(heard, ['http://other after 1'])
  assert.equal(second.sink, sink)
  assert.equal(second.isPaused, true, 'backpressure lasts')
  assert.deepEqual(
    asked.map(({ avoid }) => avoid),
    [at],
  )
})

test('where no connection is to be had, the last failure is told, and it is not asked for again', async () => {
  const { resumer } = resumerOf({
    lastEventId: '7',
    policy: { ...policy, attempts: 1 },
    answers: [new Error('refused')],
  })
  const body = new ResumedBody(new Connection(), at, resumer, undefined)
  const broken = resolvers<Error>()

  body.start({ onData() {}, onEnd() {}, onBroken: (cause) => broken.resolve(cause) })
  assert.equal(body.reconnect(lost), true)

  assert.equal((await broken.promise).message, 'refused')
  assert.equal(body.reconnect(lost), false)
})

test('a connection that comes when nothing more is wanted is given up', async () => {
  const response = stream()
  const gone = resolvers<void>()
  const { resumer } = resumerOf({
    lastEventId: '7',
    answers: [
      () => {
        body.destroy()
        setImmediate(gone.resolve)
        return response
      },
    ],
  })
  const body = new ResumedBody(new Connection(), at, resumer, undefined)

  body.start({ onData() {}, onEnd() {}, onBroken() {} })
  body.reconnect(lost)
  await gone.promise

  assert.equal(response.isDestroyed, true)
})

/** A stream that is lost again and again, and the delays after which an upstream is asked. Time is the test's, and chance at its most. */
function flapping(t: TestContext, { connectMs = 0 } = {}) {
  const clock = fakeClock(t)
  t.mock.method(Math, 'random', () => 1 - Number.EPSILON)
  const waits: number[] = []
  let lostAt = 0
  const connect = (): UpstreamResponse => {
    waits.push(Math.round(performance.now() - lostAt))
    clock.pass(connectMs)
    return stream()
  }
  const { resumer, cursor } = resumerOf({
    policy: { ...policy, attempts: 2, delayMs: 100, maxDelayMs: 5000 },
    answers: Array.from({ length: 50 }, () => connect),
  })
  /** The connection brings this, and is lost after so long. */
  const lose = async (text: string, lastedMs: number): Promise<void> => {
    pass(cursor, text)
    clock.pass(lastedMs)
    lostAt = performance.now()
    const resuming = resumer.resume(lost, at)
    for (const before = waits.length; waits.length === before; ) {
      clock.pass(5)
      await new Promise(setImmediate)
    }
    await resuming
  }
  return { lose, waits }
}

test('a body goes over to another upstream: it reads nothing while that is asked, and the old one is given up afterwards', async () => {
  const second = new Connection()
  const states: unknown[] = []
  const { body, first, sink, heard, asked } = movable(() => {
    states.push(first.isPaused, first.isDestroyed)
    return { ...stream(), upstream: 'http://other', body: second }
  })

  assert.equal(await body.move(), true)

  assert.deepEqual(states, [true, false])
  assert.deepEqual([first.isDestroyed, second.sink, second.isPaused], [true, sink, false])
  assert.deepEqual([body.upstream, heard], ['http://other', ['reconnected']])
  assert.deepEqual(
    asked.map(({ lastEventId, avoid }) => [lastEventId, avoid]),
    [['7', at]],
  )
})

const inVain: [name: string, answer: () => UpstreamResponse | Error][] = [
  ['cannot be had', () => new Error('refused')],
  ['has no stream', () => answer(404)],
]

for (const [name, given] of inVain) {
  test(`a body stays where it is when another upstream ${name}`, async () => {
    const { body, first, heard } = movable(given)

    assert.equal(await body.move(), false)

    assert.deepEqual([first.isPaused, first.isDestroyed, heard, body.upstream], [false, false, [], at])
  })
}

test('a body stays where it is when another upstream does not answer in five seconds', async (t) => {
  const clock = fakeClock(t)
  const { body, first } = movable(() => new Promise(() => {}))

  const moving = body.move()
  clock.pass(4900)
  assert.equal(first.isPaused, true)
  clock.pass(400)

  assert.equal(await moving, false)
  assert.deepEqual([first.isPaused, first.isDestroyed], [false, false])
})

test('a body does not go over in the middle of an event, nor where it could not be resumed', async () => {
  const midway = movable(() => stream())
  midway.sink.mayMove = false
  const withoutId = movable(() => stream(), '')
  pass(withoutId.cursor, 'data: x\n\n')

  assert.deepEqual([await midway.body.move(), await withoutId.body.move()], [false, false])
  assert.deepEqual([midway.asked, withoutId.asked], [[], []])
  assert.equal(midway.first.isPaused, false)
})

test('what a paused body brings yet is not brought again by another one', async () => {
  const response = stream()
  const { body, first, cursor } = movable(() => {
    pass(cursor, 'id: 8\ndata: x\n\n')
    return response
  })

  assert.equal(await body.move(), false)

  assert.deepEqual([response.isDestroyed, first.isDestroyed, first.isPaused], [true, false, false])
})

test('backpressure that comes while another upstream is asked, or goes, counts afterwards', async () => {
  const second = new Connection()
  const states: boolean[] = []
  const behind = movable(() => {
    behind.body.pause()
    return { ...stream(), body: second }
  })
  const inFlow = movable(() => {
    inFlow.body.unpause()
    states.push(inFlow.first.isPaused)
    return new Error('refused')
  })

  await behind.body.move()
  await inFlow.body.move()

  assert.deepEqual([second.isPaused, states, inFlow.first.isPaused], [true, [true], false])
})

test('a stream that is over while another upstream is asked does not want its answer', async () => {
  const response = stream()
  const { body, heard } = movable(() => {
    body.destroy()
    return response
  })

  assert.equal(await body.move(), false)

  assert.deepEqual([response.isDestroyed, heard], [true, []])
})

/** A body that has begun, at a boundary, behind the id 7 unless told otherwise. */
function movable(given: () => UpstreamResponse | Error | Promise<UpstreamResponse>, lastEventId = '7') {
  const played = resumerOf({ lastEventId, answers: [given] })
  const first = new Connection()
  const body = new ResumedBody(first, at, played.resumer, undefined)
  const heard: string[] = []
  const sink = {
    mayMove: true,
    onData() {},
    onEnd() {},
    onBroken() {},
    onReconnected: () => void heard.push('reconnected'),
  }
  body.start(sink)
  return { ...played, first, body, sink, heard }
}

function resolvers<T>() {
  let resolve: (value: T) => void = () => {}
  const promise = new Promise<T>((done) => {
    resolve = done
  })
  return { promise, resolve }
}

class Connection implements UpstreamBody {
  sink: BodySink | undefined
  isPaused = false
  isDestroyed = false
  start(sink: BodySink): void {
    this.sink = sink
  }
  pause(): void {
    this.isPaused = true
  }
  unpause(): void {
    this.isPaused = false
  }
  destroy(): void {
    this.isDestroyed = true
  }
}

type Played = UpstreamResponse & { readonly isDestroyed: boolean }

interface Given {
  policy?: ResumePolicy
  lastEventId?: string
  answers?: (UpstreamResponse | Error | (() => UpstreamResponse | Error | Promise<UpstreamResponse>))[]
}

function resumerOf({ policy: given = policy, lastEventId = '', answers = [] }: Given = {}) {
  const cursor = new Cursor(lastEventId)
  const controller = new Abort()
  const asked: OpenRequest[] = []
  const tries: [string, number][] = []
  const resumer = new Resumer({
    policy: given,
    cursor,
    signal: controller,
    timeouts: { idleMs: 0, firstEventMs: 0, eventMs: 0 },
    onAttempt: (upstream, attempt) => void tries.push([upstream, attempt]),
    open: async (request) => {
      asked.push(request)
      const given = answers[asked.length - 1]
      if (given === undefined) throw new Error('asked more often than expected')
      const next = typeof given === 'function' ? given() : given
      if (next instanceof Error) throw next
      return await abortable(next, request.signal)
    },
  })
  return { resumer, cursor, controller, asked, tries }
}

function abortable<T>(given: T | Promise<T>, signal: AbortState): Promise<T> {
  return new Promise((resolve, reject) => {
    signal.onAbort(() => reject(signal.reason))
    Promise.resolve(given).then(resolve, reject)
  })
}

function pass(cursor: Cursor, text: string): void {
  cursor.pass(Buffer.from(text), true)
}

function stream(): Played {
  return answer(200, 'Text/Event-Stream; charset=utf-8')
}

function answer(status: number, contentType?: string, contentEncoding?: string): Played {
  const headers: [string, string][] = []
  if (contentType !== undefined) headers.push(['Content-Type', contentType])
  if (contentEncoding !== undefined) headers.push(['Content-Encoding', contentEncoding])
  let isDestroyed = false
  return {
    status,
    headers,
    statusMessage: '',
    upstream: at,
    delimited: true,
    body: {
      start() {},
      pause() {},
      unpause() {},
      destroy() {
        isDestroyed = true
      },
    },
    get isDestroyed() {
      return isDestroyed
    },
  }
}
