// From a choice to an answer: which upstream is asked next, and what each outcome means for its health. Upstreams are
// played at the seam to http-proxy-middleware; time is fake where it counts.
import assert from 'node:assert/strict'
import { IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { Abort } from '../../src/abort.ts'
import { UpstreamError } from '../../src/errors.ts'
import type { RetryPolicy } from '../../src/options/resolve-retry.ts'
import { createAgents, http1Agents } from '../../src/upstream/agents.ts'
import type { HttpProxy } from '../../src/upstream/http-proxy.ts'
import { createOpen } from '../../src/upstream/open.ts'
import { PathBoundary } from '../../src/upstream/path-boundary.ts'
import { type Balance, leastStreams } from '../../src/upstream/pool/balance.ts'
import { Member, Pool, type Stickiness } from '../../src/upstream/pool/pool.ts'
import { StickyCookie } from '../../src/upstream/pool/sticky.ts'
import type { StandInRequest, StandInResponse } from '../../src/upstream/stand-ins.ts'
import { createHttpxyTransport } from '../../src/upstream/transport-httpxy.ts'
import type { OpenUpstream, UpstreamResponse } from '../../src/upstream-response.ts'
import { fakeClock } from '../support/fake-clock.ts'

/** How a played upstream takes a request. */
type Behaviour = (res: StandInResponse) => void

const [a, b, c] = ['http://a', 'http://b', 'http://c']
const retryTwice: RetryPolicy = {
  attempts: 2,
  backoffMs: 1,
  maxBackoffMs: 5,
  statuses: [502, 503, 504],
  methods: ['GET', 'HEAD'],
}
const health = { failures: 2, ejectMs: 10_000, maxEjectMs: 40_000 }

const refuses: Behaviour = (res) => res.handler.onFailure(systemError('ECONNREFUSED'))
const resets: Behaviour = (res) => res.handler.onFailure(systemError('ECONNRESET'))
const isSilent: Behaviour = () => {}

test('another upstream is asked at once, and each is asked once', async (t) => {
  const played = play(t, { [a]: refuses, [b]: resets, [c]: answers(200) }, { retry: retryTwice })

  const response = await played.open()

  assert.equal(response.status, 200)
  assert.deepEqual(played.asked, [a, b, c])
  assert.deepEqual(played.delays, [0, 0])
})

test('an upstream is asked again only when all have been, and then after a wait', async (t) => {
  const played = play(t, { [a]: refuses, [b]: refuses }, { retry: { ...retryTwice, attempts: 4, backoffMs: 4 } })

  await assert.rejects(played.open(), UpstreamError)

  assert.equal(played.asked.length, 5)
  assert.deepEqual(new Set(played.asked.slice(0, 2)), new Set([a, b]))
  assert.equal(played.delays[0], 0)
  for (const delay of played.delays.slice(1)) assert.ok(delay > 0)
})

test('after the last attempt its failure is the answer', async (t) => {
  const played = play(t, { [a]: refuses, [b]: answers(503), [c]: resets }, { retry: retryTwice })

  await assert.rejects(played.open(), (error) => error instanceof UpstreamError && error.upstream === c)
})

test('after the last attempt its answer is the answer, its body untouched', async (t) => {
  const played = play(t, { [a]: refuses, [b]: resets, [c]: answers(503, 'try later') }, { retry: retryTwice })

  const response = await played.open()

  assert.equal(response.status, 503)
  assert.equal(await bodyOf(response), 'try later')
})

test('an answer that is not passed on is given up', async (t) => {
  const bodies: PlayedBody[] = []
  const fails = answersWith(503, {}, (body) => void bodies.push(body))
  const played = play(t, { [a]: fails, [b]: streams() }, { retry: retryTwice })

  await played.open()

  assert.equal(bodies[0]?.destroyed, true)
  assert.deepEqual(played.active(), [0, 1])
})

test('without a retry policy the first outcome counts', async (t) => {
  const played = play(t, { [a]: refuses, [b]: answers(200) }, { retry: false })

  await assert.rejects(played.open(), UpstreamError)

  assert.deepEqual(played.asked, [a])
})

test('who watches is told of the upstream that failed, and of the attempt that comes', async (t) => {
  const played = play(t, { [a]: refuses, [b]: answers(503), [c]: answers(200) }, { retry: retryTwice })

  await played.open()

  assert.deepEqual(played.retries, [
    [a, 'ERR_SSE_PROXY_UNREACHABLE', 1],
    [b, 'ERR_SSE_PROXY_BAD_ANSWER', 2],
  ])
})

test('a client that leaves during a wait ends it at once', async (t) => {
  const forEver = { ...retryTwice, backoffMs: 3_600_000, maxBackoffMs: 3_600_000 }
  const played = play(t, { [a]: refuses }, { retry: forEver })
  const controller = new Abort()
  played.onRetry = () => controller.abort('client-left')

  await assert.rejects(played.open({ signal: controller }), UpstreamError)

  assert.deepEqual(played.asked, [a])
})

test('a client that has left is not tried again for', async (t) => {
  const controller = new Abort()
  const leaves: Behaviour = (res) => {
    controller.abort('client-left')
    refuses(res)
  }
  const played = play(t, { [a]: leaves, [b]: answers(200) }, { retry: retryTwice })

  await assert.rejects(played.open({ signal: controller }), UpstreamError)

  assert.deepEqual(played.asked, [a])
  assert.deepEqual(played.retries, [])
  assert.deepEqual(played.failures(), [0, 0])
})

test('with a router there is no other upstream: every further attempt waits', async (t) => {
  const played = play(t, { '': answers(503) }, { retry: retryTwice, routed: true })

  const response = await played.open()

  assert.equal(response.status, 503)
  assert.equal(played.asked.length, 3)
  for (const delay of played.delays) assert.ok(delay > 0)
})

test('Retry-After is obeyed where the same upstream is asked again', async (t) => {
  const played = play(t, { [a]: answers(503, '', { 'retry-after': '0' }) }, { retry: { ...retryTwice, backoffMs: 5 } })

  await played.open()

  assert.deepEqual(played.delays, [0, 0])
})

test('what was asked for reaches the upstream: the last event id and the method', async (t) => {
  const played = play(t, { [a]: answers(200) })

  await played.open({ lastEventId: 'größer' })

  const [request] = played.requests
  assert.equal(request?.method, 'GET')
  assert.equal(Buffer.from(String(request?.headers['last-event-id']), 'latin1').toString(), 'größer')
})

test('every attempt starts from the request as the client sent it', async (t) => {
  const rewriting: Behaviour = (res) => resets(res)
  const played = play(t, { [a]: rewriting, [b]: answers(200) }, { retry: retryTwice })
  played.onRequest = (request) => {
    request.url = `/rewritten${request.url}`
    request.headers['x-forwarded-for'] = `${request.headers['x-forwarded-for'] ?? ''}1`
    played.seen.push([request.url, request.headers['x-forwarded-for']])
  }

  await played.open()

  assert.deepEqual(played.seen, [
    ['/rewritten/path?x=1', '1'],
    ['/rewritten/path?x=1', '1'],
  ])
})

// Health.

const countedOutcomes: { name: string; then: Behaviour; ms?: number }[] = [
  { name: 'a refused connection', then: refuses },
  { name: 'a reset before the answer', then: resets },
  { name: 'a connection that is not established in time', then: isSilent, ms: 1_000 },
  { name: 'an answer that is no HTTP', then: (res) => res.handler.onFailure(systemError('HPE_INVALID_CONSTANT')) },
  { name: 'a 502', then: answers(502) },
  { name: 'a 503', then: answers(503) },
  { name: 'a 504', then: answers(504) },
  { name: 'a 503 that comes whole with its head', then: answersWith(503, {}, (body) => body.finish()) },
  { name: 'a stream that breaks at once', then: streams((body) => setImmediate(() => body.breakOff())) },
  { name: 'a stream that breaks together with its head', then: streams((body) => body.breakOff()) },
]

for (const { name, then, ms } of countedOutcomes) {
  test(`${name} counts as a failure of the upstream`, async (t) => {
    const clock = fakeClock(t)
    const played = play(t, { [a]: then, [b]: answers(200) }, { balance: () => played.members[0] })

    for (let i = 0; i < 2; i += 1) {
      const outcome = played.open().catch((error) => error)
      if (ms !== undefined) clock.pass(ms)
      await outcome
      await nextTurn()
      clock.pass(2_000)
    }

    assert.deepEqual(played.failures(), [2, 0])
    assert.deepEqual(played.ejected, [a])
  })
}

const uncountedOutcomes: { name: string; then: Behaviour }[] = [
  { name: 'an ordinary answer', then: answers(200) },
  { name: 'a status that blames the client', then: answers(404) },
  { name: 'a 429', then: answers(429) },
  { name: 'a 500', then: answers(500) },
  { name: 'a 204', then: answers(204) },
  { name: 'a stream that ends at once, but properly', then: streams((body) => body.finish()) },
  { name: "a mistake of the app's", then: (res) => res.handler.onUnroutable(new Error('a mistake')) },
]

for (const { name, then } of uncountedOutcomes) {
  test(`${name} is no failure of the upstream`, async (t) => {
    const clock = fakeClock(t)
    const played = play(t, { [a]: then, [b]: answers(200) }, { balance: () => played.members[0] })

    const response = await played.open().catch(() => {})
    if (response) await bodyOf(response).catch(() => {})
    clock.pass(10_000)

    assert.deepEqual(played.failures(), [0, 0])
  })
}

test('a stream that has lived for a second is a success, whatever becomes of it then', async (t) => {
  const clock = fakeClock(t)
  const bodies: PlayedBody[] = []
  const played = play(t, { [a]: streams((body) => void bodies.push(body)), [b]: answers(200) })
  played.members[0]?.health.failed(performance.now())

  await played.open()
  assert.deepEqual(played.failures(), [1, 0])
  clock.pass(999)
  assert.deepEqual(played.failures(), [1, 0])
  clock.pass(1)
  assert.deepEqual(played.failures(), [0, 0])

  bodies[0]?.breakOff()
  assert.deepEqual(played.failures(), [0, 0])
})

test('a stream that its client leaves early says nothing about the upstream', async (t) => {
  const clock = fakeClock(t)
  const played = play(t, { [a]: streams(), [b]: answers(200) })
  played.members[0]?.health.failed(performance.now())

  const { body } = await played.open()
  body.destroy()
  clock.pass(10_000)

  assert.deepEqual(played.failures(), [1, 0])
  assert.deepEqual(played.active(), [0, 0])
})

test('a client that leaves before the answer says nothing about the upstream', async (t) => {
  const controller = new Abort()
  const played = play(t, { [a]: isSilent, [b]: answers(200) })

  const opening = played.open({ signal: controller })
  controller.abort('client-left')
  await assert.rejects(opening, UpstreamError)

  assert.deepEqual(played.failures(), [0, 0])
  assert.deepEqual(played.active(), [0, 0])
})

test('who watches is told of an ejection once, and the upstream is left alone', async (t) => {
  fakeClock(t)
  const played = play(t, { [a]: refuses, [b]: answers(200) }, { balance: (candidates) => candidates[0] })

  for (let i = 0; i < 2; i += 1) await assert.rejects(played.open(), UpstreamError)
  assert.deepEqual(played.ejected, [a])

  for (let i = 0; i < 3; i += 1) await played.open()
  assert.deepEqual(played.asked, [a, a, b, b, b])
  assert.deepEqual(played.ejected, [a])
})

test('an ejected upstream is asked again when its time is over, and left alone for twice as long when it still fails', async (t) => {
  const clock = fakeClock(t)
  const played = play(t, { [a]: refuses, [b]: answers(200) }, { balance: (candidates) => candidates[0] })
  const askAt: number[] = []
  const start = Date.now()
  let isAsked = false
  played.onRequest = () => {
    if (played.asked.at(-1) === a) isAsked = true
  }

  for (let second = 0; second < 100; second += 1) {
    isAsked = false
    await played.open().catch(() => {})
    if (isAsked) askAt.push((Date.now() - start) / 1_000)
    clock.pass(1_000)
  }

  assert.deepEqual(askAt, [0, 1, 11, 31, 71])
})

test('where all upstreams are ejected requests go on, to the one that is due soonest', async (t) => {
  const clock = fakeClock(t)
  const played = play(t, { [a]: refuses, [b]: refuses }, { balance: (candidates) => candidates[0] })
  for (let i = 0; i < 2; i += 1) await played.open().catch(() => {})
  clock.pass(100)
  for (let i = 0; i < 2; i += 1) await played.open().catch(() => {})
  assert.deepEqual(played.ejected, [a, b])

  played.behaviours[a] = answers(200)
  const response = await played.open()

  assert.equal(response.status, 200)
  assert.equal(played.asked.at(-1), a)
})

// The cookie of sticky clients.

const cookie = new StickyCookie('seat', 'a secret of the tests', 60_000)

test('a client without a cookie gets one for the upstream that has answered', async (t) => {
  const played = play(t, { [a]: refuses, [b]: answers(200) }, { retry: retryTwice, sticky: cookie })

  const response = await played.open()

  const given = Object.assign(request(), { headers: { cookie: response.cookie?.split(';')[0] } })
  assert.equal(cookie.read(given, played.members, Date.now())?.url, b)
})

test('a client whose cookie says so already gets none', async (t) => {
  const played = play(t, { [a]: answers(200), [b]: answers(200) }, { sticky: cookie })
  const member = played.members[1] as Member
  played.clientHeaders.cookie = cookie.issue(request(), member, Date.now()).split(';')[0]

  const response = await played.open()

  assert.equal(response.upstream, b)
  assert.equal('cookie' in response, false)
})

test('a client is not tied to an upstream that has only failed it', async (t) => {
  const played = play(t, { [a]: answers(503) }, { sticky: cookie })

  const response = await played.open()

  assert.equal(response.status, 503)
  assert.equal(response.cookie, undefined)
})

test('a client whose own upstream is down keeps its cookie, to come back with', async (t) => {
  const played = play(t, { [a]: answers(200), [b]: answers(200) }, { sticky: cookie })
  const home = played.members[0] as Member
  played.clientHeaders.cookie = cookie.issue(request(), home, Date.now()).split(';')[0]
  for (let i = 0; i < health.failures; i += 1) home.health.failed(performance.now())

  const response = await played.open()

  assert.equal(response.upstream, b)
  assert.equal(response.cookie, undefined)
})

// The stage.

/** The body of a played answer; it breaks and ends at once, with no turn in between. */
class PlayedBody extends IncomingMessage {
  constructor() {
    super(new Socket())
  }

  override _read(): void {}

  breakOff(): void {
    this.emit('error', systemError('ECONNRESET'))
  }

  finish(): void {
    this.emit('end')
  }
}

function answersWith(
  status: number,
  headers: Record<string, string>,
  then: (body: PlayedBody, res: StandInResponse) => void,
): Behaviour {
  return (res) => {
    res.statusCode = status
    for (const [name, value] of Object.entries(headers)) res.setHeader(name, value)
    const body = new PlayedBody()
    // The types differ only in what may be undefined.
    res.handler.onHead(body as IncomingMessage)
    then(body, res)
  }
}

function answers(status: number, text: string = '', headers: Record<string, string> = {}): Behaviour {
  return answersWith(status, headers, (body) => {
    if (text !== '') body.push(text)
    body.push(null)
  })
}

function streams(then: (body: PlayedBody) => void = () => {}): Behaviour {
  return answersWith(200, { 'content-type': 'text/event-stream' }, then)
}

interface PlayOptions {
  retry?: RetryPolicy | false
  balance?: Balance<Member>
  sticky?: StickyCookie
  routed?: boolean
}

function play(
  t: TestContext,
  behaviours: Record<string, Behaviour>,
  { retry = false, balance, sticky, routed = false }: PlayOptions = {},
) {
  const members = Object.keys(behaviours).map(
    (url) => new Member({ target: url, url, weight: 1, headers: undefined }, health),
  )
  const policy: Stickiness | undefined = sticky && { readKey: undefined, memory: undefined, cookie: sticky }
  const agents = createAgents(http1Agents(true))
  t.after(() => agents.destroy())
  const played = {
    behaviours,
    members,
    clientHeaders: {} as IncomingMessage['headers'],
    asked: [] as string[],
    requests: [] as StandInRequest[],
    delays: [] as number[],
    retries: [] as [string | undefined, string, number][],
    ejected: [] as string[],
    seen: [] as unknown[],
    onRetry: () => {},
    onRequest: (_request: StandInRequest): void => {},
    failures: () => members.map((member) => member.health.failures),
    active: () => members.map((member) => member.active),
    open: (given: Partial<Parameters<OpenUpstream>[0]> = {}): Promise<UpstreamResponse> =>
      open({ signal: new Abort(), ...given }),
  }
  const req = Object.assign(request(), { headers: played.clientHeaders })
  const proxy: HttpProxy = {
    boundary: new PathBoundary({}),
    accepts: () => true,
    tellsEnd: false,
    tellEnd: () => {},
    upgrade: () => {},
    report: () => Promise.resolve(),
    pass(request, res) {
      const target = res.handler.chosen?.target
      const url = String(target ?? '')
      played.asked.push(url)
      played.requests.push(request)
      played.onRequest(request)
      if (res.handler.prepare(target === undefined ? {} : { target }, request)) played.behaviours[url]?.(res)
    },
  }
  const open = createOpen(
    {
      pool: routed ? undefined : new Pool(members, balance ?? inOrder, policy),
      retry,
      via: false,
      xfwd: false,
      judgesStreams: false,
      stripped: new Set(),
      connectMs: 1_000,
      responseMs: 1_000,
      observer: {
        attempting: () => {},
        retried(_req, { upstream, code }, attempt, delayMs) {
          played.retries.push([upstream, code, attempt])
          played.delays.push(delayMs)
          played.onRetry()
        },
        unanswered: () => {},
        answered: () => {},
        ejected: ({ url }) => void played.ejected.push(url),
      },
      transport: createHttpxyTransport({ proxy, agents, fastLane: true }),
    },
    { id: 'a-1', req, res: new ServerResponse(req), body: { kind: 'none' } },
  )
  return played
}

/** Like least-streams, with the first of equals. */
const inOrder: Balance<Member> = (candidates, req) => leastStreams<Member>()(candidates, req)

function request(): IncomingMessage {
  return Object.assign(new IncomingMessage(new Socket()), { method: 'GET', url: '/path?x=1' })
}

function systemError(code: string): Error {
  return Object.assign(new Error(code), { code })
}

function bodyOf(response: UpstreamResponse): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    const onEnd = (): void => resolve(Buffer.concat(chunks).toString())
    response.body.start({ onData: (chunk) => void chunks.push(chunk), onEnd, onBroken: reject })
  })
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
