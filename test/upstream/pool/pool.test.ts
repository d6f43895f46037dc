// Who takes the next request, and how many each upstream has: after whatever ending, nobody is counted any more.
import assert from 'node:assert/strict'
import { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import type express from 'express'
import fc from 'fast-check'
import { UpstreamError } from '../../../src/errors.ts'
import { Middleware } from '../../../src/middleware.ts'
import { resolveOptions } from '../../../src/options/resolve-options.ts'
import { type Balance, custom, leastStreams } from '../../../src/upstream/pool/balance.ts'
import { Member, Pool } from '../../../src/upstream/pool/pool.ts'
import type { Client } from '../../support/client.ts'
import { type Front, type FrontOptions, startFront } from '../../support/front.ts'
import { startNeverAccepting } from '../../support/never-accepts.ts'
import type { SseProxyOptions } from '../../support/proxied.ts'
import { refusingUrl } from '../../support/several-upstreams.ts'
import { type Exchange, startUpstream, type Upstream } from '../../support/upstream.ts'
import { gate, until } from '../../support/waiting.ts'

const req = new IncomingMessage(new Socket())
const policy = { failures: 1, ejectMs: 1_000, maxEjectMs: 8_000 }
const now = 1_800_000_000_000

test('an upstream that was asked in vain is not asked again while there is another', () => {
  const pool = poolOf(3)
  const tried = new Set<Member>()

  for (let i = 0; i < 3; i += 1) tried.add(pool.choose(req, { tried, avoid: undefined }, now))

  assert.equal(tried.size, 3)
  assert.ok(pool.members.includes(pool.choose(req, { tried, avoid: undefined }, now)))
})

test('an ejected upstream is left alone while there is another', () => {
  const pool = poolOf(3)
  pool.members[1]?.health.failed(now)

  const chosen = new Set(Array.from({ length: 30 }, () => choose(pool).url))

  assert.deepEqual([...chosen].sort(), ['http://upstream-0', 'http://upstream-2'])
})

test('an upstream whose time is over is asked again', () => {
  const pool = poolOf(2)
  pool.members[0]?.health.failed(now)

  assert.equal(choose(pool, now + 999).url, 'http://upstream-1')
  assert.equal(choose(pool, now + 1_000).url, 'http://upstream-0')
})

test('where all are ejected the one that is due soonest is asked', () => {
  const pool = poolOf(3)
  for (const [at, i] of [2, 0, 1].entries()) pool.members[i]?.health.failed(now + at)

  assert.equal(choose(pool, now + 10).url, 'http://upstream-2')
})

test('where all are ejected, one that only waits is asked before one that fails its probes', () => {
  const pool = poolOf(2)
  pool.members[0]?.health.probed(false, { path: '/', intervalMs: 1, timeoutMs: 1, rise: 1, fall: 1 }, now)
  pool.members[1]?.health.failed(now)

  assert.equal(choose(pool, now).url, 'http://upstream-1')
})

test('there is always somebody to ask, whatever has failed', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5 }), fc.array(fc.nat(4)), fc.array(fc.nat(4)), (size, failed, asked) => {
      const pool = poolOf(size)
      for (const i of failed) pool.members[i]?.health.failed(now)
      const tried = new Set(asked.flatMap((i) => pool.members[i] ?? []))

      const chosen = pool.choose(req, { tried, avoid: undefined }, now)

      assert.ok(pool.members.includes(chosen))
      assert.ok(tried.size >= size || !tried.has(chosen))
    }),
  )
})

test('the upstream that has just lost a stream is avoided while there is another', () => {
  const pool = poolOf(2)
  const avoid = 'http://upstream-0'

  const chosen = Array.from({ length: 10 }, () => pool.choose(req, { tried: new Set(), avoid }, now).url)
  pool.members[1]?.health.failed(now)
  const last = pool.choose(req, { tried: new Set(), avoid }, now)

  assert.deepEqual(new Set(chosen), new Set(['http://upstream-1']))
  assert.equal(last.url, avoid)
})

test('a choice is counted until it is given back', () => {
  const pool = poolOf(1)

  const members = [choose(pool), choose(pool)]
  assert.equal(pool.members[0]?.active, 2)

  for (const member of members) pool.giveBack(member)
  assert.equal(pool.members[0]?.active, 0)
  assert.equal(pool.members[0]?.requests, 2)
})

test("an app's function that throws or chooses a stranger is a failure with that cause, and nobody is counted", () => {
  const mistake = new Error('no idea')
  const functions: [() => Member, RegExp | Error][] = [
    [() => ({ url: 'http://upstream-0' }) as Member, /none of its candidates/],
    [
      () => {
        throw mistake
      },
      mistake,
    ],
  ]
  for (const [choice, cause] of functions) {
    const pool = poolOf(2, custom(choice))

    assert.throws(
      () => choose(pool),
      (error) => {
        assert.ok(error instanceof UpstreamError)
        assert.equal(error.code, 'ERR_SSE_PROXY_NO_UPSTREAM')
        assert.equal(error.status, 503)
        if (cause instanceof RegExp) assert.match((error.cause as Error).message, cause)
        else assert.equal(error.cause, cause)
        return true
      },
    )
    assert.deepEqual(
      pool.members.map(({ active }) => active),
      [0, 0],
    )
  }
})

test('what an app does to the list it chooses from is nothing to anybody else', () => {
  for (const size of [1, 2]) {
    const pool = poolOf(
      size,
      custom((candidates) => (candidates as Member[]).pop() as Member),
    )

    for (let i = 0; i < 3; i += 1) assert.equal(choose(pool), pool.members[size - 1])
  }
})

test('an app that chooses sees healthy candidates only, and how much each carries', () => {
  const seen: [string, number, number, boolean][][] = []
  const pool = poolOf(
    3,
    custom((candidates) => {
      seen.push(candidates.map(({ url, weight, active, healthy }) => [url, weight, active, healthy]))
      return candidates[0] as Member
    }),
  )
  pool.members[1]?.health.failed(now)

  choose(pool)
  choose(pool)

  assert.deepEqual(seen, [
    [
      ['http://upstream-0', 1, 0, true],
      ['http://upstream-2', 1, 0, true],
    ],
    [
      ['http://upstream-0', 1, 1, true],
      ['http://upstream-2', 1, 0, true],
    ],
  ])
})

// Every kind of ending, over real sockets.

interface Ended {
  pool: Counted
  front: Front
  upstream: Upstream
}

const endings: { name: string; options?: Partial<SseProxyOptions>; then: (ended: Ended) => Promise<void> }[] = [
  {
    name: 'the client leaves before the answer',
    then: async ({ front, upstream }) => {
      const client = front.request()
      await upstream.next()
      client.close()
    },
  },
  {
    name: 'the client leaves an open stream',
    then: async ({ front, upstream }) => {
      const { client } = await opened(front, upstream)
      client.close()
    },
  },
  {
    name: 'the client leaves while a hook is at work',
    options: { transform: () => gate().promise },
    then: async ({ front, upstream }) => {
      const client = front.request()
      const exchange = await upstream.next()
      exchange.stream().send({ data: 'one' })
      await client.head()
      client.close()
    },
  },
  {
    name: 'the client leaves in the middle of its body',
    then: async ({ front, upstream }) => {
      const client = front.request('', { method: 'POST', headers: { 'content-length': '10' }, sendsBodyLater: true })
      client.send('half')
      await upstream.next()
      client.close()
    },
  },
  {
    name: 'the client leaves during a back-off',
    options: { retry: { attempts: 5, backoffMs: 60_000, maxBackoffMs: 60_000 } },
    then: async ({ front, upstream, pool }) => {
      const client = front.request()
      await answered(upstream, 503)
      await until(() => total(pool) === 0, 'the failed attempt to be given back')
      client.close()
    },
  },
  {
    name: 'the client leaves while its stream is to be resumed',
    options: { resume: { delayMs: 60_000, maxDelayMs: 60_000 } },
    then: async ({ front, upstream, pool }) => {
      const { client, stream } = await opened(front, upstream)
      stream.reset()
      await until(() => total(pool) === 0, 'the lost stream to be given back')
      client.close()
    },
  },
  {
    name: 'the client leaves a resumed stream',
    options: { resume: { delayMs: 1 } },
    then: async ({ front, upstream }) => {
      const { client, stream } = await opened(front, upstream)
      stream.reset()
      const again = await upstream.next()
      again.stream().send({ id: '2', data: 'two' })
      await client.waitFor('two')
      client.close()
    },
  },
  {
    name: 'the client leaves an ordinary answer',
    then: async ({ front, upstream }) => {
      const client = front.request()
      const exchange = await upstream.next()
      exchange.res.writeHead(200, { 'content-type': 'text/plain' }).write('half')
      await client.waitFor('half')
      client.close()
    },
  },
  {
    name: 'the upstream ends its stream',
    then: async ({ front, upstream }) => {
      const { client, stream } = await opened(front, upstream)
      stream.end()
      await client.ended()
    },
  },
  {
    name: 'the upstream answers at once and completely',
    then: async ({ front, upstream }) => {
      const client = front.request()
      await answered(upstream, 200, { 'content-type': 'text/event-stream' }, 'data: x\n\n')
      await client.ended()
    },
  },
  {
    name: 'the upstream gives an ordinary answer',
    then: async ({ front, upstream }) => {
      const client = front.request()
      await answered(upstream, 200, { 'content-type': 'text/plain' }, 'ok')
      await client.ended()
    },
  },
  {
    name: 'the upstream gives an answer without a body',
    then: async ({ front, upstream }) => {
      for (const method of ['GET', 'HEAD']) {
        const client = front.request('', { method })
        await answered(upstream, method === 'GET' ? 204 : 200)
        await client.ended()
      }
    },
  },
  {
    name: 'the upstream answers HEAD like an event stream',
    then: async ({ front, upstream }) => {
      const client = front.request('', { method: 'HEAD' })
      await answered(upstream, 200, { 'content-type': 'text/event-stream' })
      await client.ended()
    },
  },
  {
    name: 'the upstream fails with a status',
    then: async ({ front, upstream }) => {
      const client = front.request()
      await answered(upstream, 503)
      await client.ended()
    },
  },
  {
    name: 'the upstream resets before its answer',
    then: async ({ front, upstream }) => {
      const client = front.request()
      const { req } = await upstream.next()
      req.socket.resetAndDestroy()
      await client.ended()
    },
  },
  {
    name: 'the upstream resets an open stream',
    then: async ({ front, upstream }) => {
      const { client, stream } = await opened(front, upstream)
      stream.reset()
      await client.ended()
    },
  },
  {
    name: 'the upstream closes an open stream in the middle',
    then: async ({ front, upstream }) => {
      const { client, stream } = await opened(front, upstream)
      stream.cut()
      await client.ended()
    },
  },
  {
    name: 'the upstream resets an ordinary answer',
    then: async ({ front, upstream }) => {
      const client = front.request()
      const exchange = await upstream.next()
      exchange.res.writeHead(200, { 'content-type': 'text/plain' }).write('half')
      await client.waitFor('half')
      exchange.req.socket.resetAndDestroy()
      await client.ended()
    },
  },
  {
    name: 'the upstream does not answer in time',
    options: { timeouts: { responseMs: 50 } },
    then: async ({ front }) => void (await front.request().ended()),
  },
  {
    name: 'the upstream falls silent',
    options: { timeouts: { idleMs: 50 } },
    then: async ({ front, upstream }) => {
      const { client } = await opened(front, upstream)
      await client.ended()
    },
  },
  {
    name: 'the stream is older than it may be',
    options: { timeouts: { lifetimeMs: 50 } },
    then: async ({ front, upstream }) => {
      const { client } = await opened(front, upstream)
      await client.ended()
    },
  },
  {
    name: 'the app closes the stream',
    options: { onOpen: (stream) => stream.close() },
    then: async ({ front, upstream }) => {
      const client = front.request()
      const exchange = await upstream.next()
      exchange.stream()
      await client.ended()
    },
  },
  {
    name: 'a hook throws',
    options: {
      transform: () => {
        throw new Error('a mistake')
      },
    },
    then: async ({ front, upstream }) => {
      const client = front.request()
      const exchange = await upstream.next()
      exchange.stream().send({ data: 'one' })
      await client.ended()
    },
  },
  {
    name: 'a function that rewrites the path throws',
    options: {
      pathRewrite: () => {
        throw new Error('a mistake')
      },
    },
    then: async ({ front }) => void (await front.request().ended()),
  },
  {
    name: "a handler of the app's answers in place of the upstream",
    options: { on: { proxyReq: (_proxyReq, _req, res) => void res.end('by the app') } },
    then: async ({ front }) => void (await front.request().ended()),
  },
  {
    name: 'attempts fail until one succeeds',
    options: { retry: { attempts: 3, backoffMs: 1 } },
    then: async ({ front, upstream }) => {
      const client = front.request()
      await answered(upstream, 503)
      await answered(upstream, 502)
      await answered(upstream, 200)
      await client.ended()
    },
  },
]

for (const { name, options, then } of endings) {
  test(`nobody is counted any more when ${name}`, async (t) => {
    const upstream = await startUpstream()
    t.after(() => upstream.close())
    const ended = await frontOf(t, { target: upstream.url, ...options })

    await then({ ...ended, upstream })

    await until(
      () => total(ended.pool) === 0,
      () => `the count to be 0, it is ${total(ended.pool)}`,
    )
    assert.ok(ended.pool.members.every(({ requests }) => requests > 0))
    await until(() => upstream.open === 0, 'the upstream to be free')
    // One that is given back twice would be counted below 0 by now.
    await until(() => total(ended.pool) === 0, 'the count to stay 0')
  })
}

test('nobody is counted any more when the connection is refused', async (t) => {
  const { pool, front } = await frontOf(t, { target: refusingUrl })

  await front.request().ended()

  assert.equal(total(pool), 0)
})

test('nobody is counted any more when the client leaves while the connection is established', async (t) => {
  const blocked = await startNeverAccepting()
  t.after(() => blocked.close())
  const { pool, front } = await frontOf(t, { target: blocked.url })
  const client = front.request()
  await until(() => total(pool) === 1, 'the attempt')

  client.close()

  await until(() => total(pool) === 0, 'the attempt to be given back')
})

test('nobody is counted any more when a connection is not established in time', async (t) => {
  const blocked = await startNeverAccepting()
  t.after(() => blocked.close())
  const { pool, front } = await frontOf(t, { target: blocked.url, timeouts: { connectMs: 50 } })

  await front.request().ended()

  assert.equal(total(pool), 0)
})

test('nobody is counted any more when a body cannot be read again', async (t) => {
  const upstream = await startUpstream()
  t.after(() => upstream.close())
  const swallow: express.RequestHandler = (req, _res, next) => {
    req.resume().on('end', () => next())
  }
  const { pool, front } = await frontOf(t, { target: upstream.url }, { before: [swallow] })

  await front.request('', { method: 'POST', body: 'x' }).ended()

  assert.equal(total(pool), 0)
})

test('every open stream is counted once, at its own upstream', async (t) => {
  const upstreams = await Promise.all([startUpstream(), startUpstream()])
  t.after(() => Promise.all(upstreams.map((one) => one.close())))
  const { pool, front } = await frontOf(t, { target: upstreams.map(({ url }, i) => ({ url, weight: i + 1 })) })

  const clients = Array.from({ length: 9 }, () => front.request())
  await until(() => upstreams.every(({ exchanges }, i) => exchanges.length === 3 * (i + 1)), 'all requests')
  for (const { exchanges } of upstreams) for (const exchange of exchanges) exchange.stream()
  await Promise.all(clients.map((client) => client.head()))

  assert.deepEqual(
    pool.members.map(({ active }) => active),
    [3, 6],
  )
  for (const client of clients.slice(0, 5)) client.close()
  await until(() => total(pool) === 4, 'those who left to be given back')
  const isSameThere = (): boolean => upstreams.every(({ open }, i) => open === pool.members[i]?.active)
  await until(isSameThere, 'the upstreams to have as many')
})

function poolOf(size: number, balance: Balance<Member> = leastStreams()): Pool {
  const urls = Array.from({ length: size }, (_, i) => `http://upstream-${i}`)
  return new Pool(
    urls.map((url) => new Member({ target: url, url, weight: 1, headers: undefined }, policy)),
    balance,
    undefined,
  )
}

function choose(pool: Pool, at: number = now): Member {
  return pool.choose(req, { tried: new Set(), avoid: undefined }, at)
}

/** The middleware, and who is counted at each of its upstreams. */
async function frontOf(
  t: TestContext,
  options: SseProxyOptions,
  mounting: FrontOptions = {},
): Promise<{ pool: Counted; front: Front }> {
  const middleware = new Middleware(resolveOptions(options))
  const front = await startFront('express5', (req, res, next) => middleware.handle(req, res, next), mounting)
  t.after(() => front.close())
  return {
    pool: {
      get members() {
        return middleware.stats().upstreams
      },
    },
    front,
  }
}

interface Counted {
  readonly members: readonly { readonly active: number; readonly requests: number }[]
}

function total({ members }: Counted): number {
  return members.reduce((sum, { active }) => sum + active, 0)
}

async function opened(
  front: Front,
  upstream: Upstream,
): Promise<{ client: Client; stream: ReturnType<Exchange['stream']> }> {
  const client = front.request()
  const exchange = await upstream.next()
  const stream = exchange.stream()
  stream.send({ id: '1', data: 'one' })
  await client.waitFor('one')
  return { client, stream }
}

async function answered(upstream: Upstream, ...answer: Parameters<Exchange['answer']>): Promise<void> {
  const exchange = await upstream.next()
  exchange.answer(...answer)
}
