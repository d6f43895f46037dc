// An answer that is an event stream is held back until the app says that it has begun well; else another upstream is asked.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import express from 'express'
import type { CommitAnswer, StreamEvent, TimeoutOptions } from 'sse-proxy-middleware'
import { headerOf, type RequestOptions } from '../support/client.ts'
import { hostsByProtocol } from '../support/front.ts'
import { watchLeftovers } from '../support/leftovers.ts'
import { proxied, type SseProxyOptions } from '../support/proxied.ts'
import { type Several, several } from '../support/several-upstreams.ts'
import { shared } from '../support/sharing.ts'
import type { Exchange } from '../support/upstream.ts'
import { gate, until, within } from '../support/waiting.ts'

const preamble = ': hello\n\nevent: start\ndata: {}\n\n: ping\n\nid: 7\n\nretry: 50\n\n'
const output = 'data: output\n\n'
const failure = 'event: error\ndata: overloaded\n\n'
const post: RequestOptions = { method: 'POST', body: '{"n":1}', headers: { 'content-type': 'application/json' } }

/** As for many providers: a preamble says nothing, an error says that it failed, anything else is output. */
function commit({ event }: StreamEvent): 'hold' | 'commit' | 'retry' {
  if (event === 'start') return 'hold'
  return event === 'error' ? 'retry' : 'commit'
}

/** Before two upstreams, asked in order. */
function held(
  t: TestContext,
  first: (exchange: Exchange) => void,
  { retry, ...options }: Partial<Omit<SseProxyOptions, 'retry'>> & { retry?: object } = {},
  second: (exchange: Exchange) => void = answers,
): Promise<Several> {
  return several(
    t,
    { balance: 'failover', retry: { commit, methods: ['GET', 'POST'], ...retry }, keepalive: false, ...options },
    { count: 2, upstream: (at) => ({ handler: at === 0 ? first : second }) },
  )
}

function answers(exchange: Exchange): void {
  void exchange.body().then((body) => {
    exchange.stream({ 'x-from': 'second', 'x-body': body.toString() }).end(preamble + output)
  })
}

for (const host of hostsByProtocol) {
  test(`nothing leaves until an event is output; then all that was held does, in one piece (${host})`, async (t) => {
    const asked: string[] = []
    const { front, upstream } = await proxied(
      t,
      { retry: { commit: (event) => noting(asked, event) }, keepalive: false },
      { host },
    )

    const client = front.request()
    const stream = (await upstream.next()).stream({ 'x-from': 'here' })
    stream.write(preamble)
    await until(() => asked.length === 1, 'the preamble to be looked at')
    const before = client.hasHead
    stream.write(output)
    const first = await client.nextChunk()
    stream.end('event: start\ndata: later\n\nevent: error\ndata: later\n\n')
    const whole = await client.whole()

    assert.equal(before, false)
    assert.equal(first.toString(), preamble + output)
    assert.equal(headerOf(client, 'x-from'), 'here')
    assert.equal(whole, `${preamble}${output}event: start\ndata: later\n\nevent: error\ndata: later\n\n`)
    assert.deepEqual(asked, ['{}', 'output'])
  })
}

function commentsFollow(exchange: Exchange, start: string): void {
  const stream = exchange.stream()
  stream.write(start)
  const timer = setInterval(() => stream.write(': ping\n\n'), 20)
  exchange.res.once('close', () => clearInterval(timer))
}

const failures: { name: string; then: (exchange: Exchange) => void; options?: { timeouts: TimeoutOptions } }[] = [
  { name: 'an error as its first event', then: (exchange) => void exchange.stream().write(failure) },
  { name: 'an error behind a preamble', then: (exchange) => void exchange.stream().write(preamble + failure) },
  {
    name: 'an error compressed',
    then: (exchange) => exchange.stream({ 'content-encoding': 'gzip' }).end(gzipSync(failure)),
  },
  { name: 'nothing', then: (exchange) => exchange.stream().end() },
  { name: 'nothing but comments', then: (exchange) => exchange.stream().end(': ping\n\n: ping\n\n') },
  { name: 'nothing but an id and a retry', then: (exchange) => exchange.stream().end('id: 1\n\nretry: 5\n\n') },
  { name: 'a preamble and the end', then: (exchange) => exchange.stream().end(preamble) },
  { name: 'half an event and the end', then: (exchange) => exchange.stream().end('data: outp') },
  { name: 'a preamble and a reset', then: (exchange) => resetsBehind(exchange, preamble) },
  { name: 'a comment and a reset', then: (exchange) => resetsBehind(exchange, ': ping\n\n') },
  {
    name: 'comments for ever',
    then: (exchange) => commentsFollow(exchange, ''),
    options: { timeouts: { firstEventMs: 200 } },
  },
  {
    name: 'comments for ever behind a preamble',
    then: (exchange) => commentsFollow(exchange, preamble),
    options: { timeouts: { eventMs: 200 } },
  },
  { name: 'silence', then: (exchange) => void exchange.stream(), options: { timeouts: { idleMs: 100 } } },
]

for (const { name, then, options } of failures) {
  for (const method of ['GET', 'POST']) {
    test(`a ${method} whose stream brings ${name} is answered by the next upstream`, async (t) => {
      const { front, upstreams, proxy } = await held(t, then, options)

      const client = front.request('', method === 'POST' ? post : {})
      const text = await client.whole()

      assert.equal(client.status, 200)
      assert.equal(headerOf(client, 'x-from'), 'second')
      assert.equal(text, preamble + output)
      assert.equal(proxy.stats().retries, 1)
      assert.equal(proxy.stats().upstreams[0]?.failures, 1)
      assert.equal(proxy.stats().upstreams[1]?.failures, 0)
      await until(() => upstreams[0].open === 0, 'the first upstream to be let go')
      assert.equal(headerOf(client, 'x-body'), method === 'POST' ? '{"n":1}' : '')
    })
  }
}

test('a POST that retry.methods does not name is sent once, and the answer passes as it came', async (t) => {
  const { front, upstreams } = await held(t, (exchange) => exchange.stream({ 'x-a': 'b' }).end(preamble + failure), {
    retry: { methods: ['GET'] },
  })

  const client = front.request('', post)

  assert.equal(await client.whole(), preamble + failure)
  assert.equal(headerOf(client, 'x-a'), 'b')
  assert.equal(upstreams[1].exchanges.length, 0)
})

test('a POST that retry.methods does not name is a 502 when its stream is reset before output', async (t) => {
  const { front, upstreams } = await held(t, (exchange) => resetsBehind(exchange, preamble), {
    retry: { methods: ['GET'] },
  })

  const client = front.request('', post)
  await client.ended()

  assert.equal(client.status, 502)
  assert.equal(JSON.parse(client.text).error.code, 'ERR_SSE_PROXY_BAD_ANSWER')
  assert.equal(upstreams[1].exchanges.length, 0)
})

test('the last answer passes as it came when no attempt is left, and goes on as it comes', async (t) => {
  const refuses = gate<Exchange>()
  const { front, proxy } = await held(
    t,
    (exchange) => void exchange.stream().write(failure),
    {},
    (exchange) => {
      refuses.open(exchange)
    },
  )

  const client = front.request()
  const stream = (await within(refuses.promise, 'the second to be asked')).stream({ 'x-from': 'second' })
  stream.write(preamble + failure)
  await client.waitFor(failure)
  stream.end('data: for the reader\n\n')

  assert.equal(await client.whole(), `${preamble}${failure}data: for the reader\n\n`)
  assert.equal(headerOf(client, 'x-from'), 'second')
  assert.deepEqual(
    proxy.stats().upstreams.map(({ failures }) => failures),
    [1, 1],
  )
})

test('an empty last answer passes as an empty answer', async (t) => {
  const { front } = await held(t, resets, {}, (exchange) => exchange.stream({ 'x-from': 'second' }).end())

  const client = front.request()

  assert.equal(await client.whole(), '')
  assert.equal(client.status, 200)
  assert.equal(headerOf(client, 'x-from'), 'second')
})

test('a last answer that is reset before output is a 502', async (t) => {
  const { front } = await held(t, resets, {}, (exchange) => resetsBehind(exchange, preamble))

  const client = front.request()
  await client.ended()

  assert.equal(client.status, 502)
})

test('each of the others is asked once, however many there are', async (t) => {
  const { front, upstreams } = await several(
    t,
    { balance: 'failover', retry: { commit } },
    { count: 6, upstream: { handler: (exchange) => exchange.stream().end(failure) } },
  )

  await front.request().ended()

  assert.deepEqual(
    upstreams.map(({ exchanges }) => exchanges.length),
    [1, 1, 1, 1, 1, 1],
  )
})

for (const [name, limits, timing] of [
  ['at its deadline', {}, { holdMs: 50 }],
  ['at limits.bufferBytes', { bufferBytes: 2000 }, { holdMs: 60_000 }],
] as const) {
  test(`a stream of comments is committed to ${name}`, async (t) => {
    const { front, upstreams } = await held(
      t,
      (exchange) => {
        const stream = exchange.stream({ 'x-from': 'first' })
        stream.write(name.startsWith('at limits') ? ': x\n\n'.repeat(500) : ': x\n\n')
      },
      { limits, retry: timing },
    )

    const client = await front.open()
    await client.waitFor(': x\n\n')

    assert.equal(headerOf(client, 'x-from'), 'first')
    assert.equal(upstreams[1].exchanges.length, 0)
  })
}

for (const [way, options] of Object.entries({ plain: {}, shared: { share: { lingerMs: 0 } } })) {
  for (const [name, start] of [
    ['firstEventMs', ''],
    ['eventMs', preamble],
  ] as const) {
    test(`a hold that commits at its deadline does not start ${name} anew (${way})`, async (t) => {
      const { front } = await held(t, (exchange) => commentsFollow(exchange, start), {
        ...options,
        timeouts: { [name]: 800 },
        retry: { holdMs: 700 },
      })
      const startedAt = performance.now()

      const client = await front.open()
      const ending = await client.ended()

      const ms = performance.now() - startedAt
      assert.equal(ending, 'broken')
      assert.ok(ms >= 700 && ms < 1400, `${ms} ms`)
    })
  }
}

test('one event that reaches limits.bufferBytes in its middle commits, and leaves byte for byte', async (t) => {
  const event = `data: ${'x'.repeat(50_000)}\n\n`
  const letGo = gate()
  const { front, upstreams } = await held(
    t,
    (exchange) => {
      const stream = exchange.stream({ 'x-from': 'first' })
      stream.write(preamble + event.slice(0, 30_000))
      void letGo.promise.then(() => stream.end(event.slice(30_000)))
    },
    { limits: { bufferBytes: 20_000 }, retry: { holdMs: 60_000, commit: () => 'hold' } },
  )

  const client = await front.open()
  letGo.open()

  assert.equal(await client.whole(), preamble + event)
  assert.equal(headerOf(client, 'x-from'), 'first')
  assert.equal(upstreams[1].exchanges.length, 0)
})

test('an upstream whose answers were not committed to three times is left alone', async (t) => {
  const { front, upstreams, proxy } = await held(t, (exchange) => exchange.stream().end(preamble + failure))
  for (let i = 0; i < 3; i += 1) await front.request().whole()
  const { healthy, ejections } = proxy.stats().upstreams[0]!

  const text = await front.request().whole()

  assert.deepEqual({ healthy, ejections }, { healthy: false, ejections: 1 })
  assert.equal(text, preamble + output)
  assert.deepEqual(
    upstreams.map(({ exchanges }) => exchanges.length),
    [3, 4],
  )
})

test('an event that comes in thousands of chunks is held like any other', async (t) => {
  const { front } = await held(
    t,
    (exchange) => {
      const stream = exchange.stream()
      for (const byte of Buffer.from(`data: ${'x'.repeat(5000)}\n\n`)) stream.write(Buffer.of(byte))
      stream.end(failure)
    },
    { retry: { commit: ({ data }: StreamEvent) => (data === 'output' ? 'commit' : data === '{}' ? 'hold' : 'retry') } },
  )

  const client = front.request()

  assert.equal(await client.whole(), preamble + output)
  assert.equal(headerOf(client, 'x-from'), 'second')
})

for (const host of hostsByProtocol) {
  test(`a client that leaves during the hold ends its upstream at once, and no other is asked (${host})`, async (t) => {
    const leftovers = watchLeftovers(t)
    const asked: string[] = []
    const { front, upstreams, proxy } = await several(
      t,
      { balance: 'failover', retry: { commit: (event) => noting(asked, event), holdMs: 60_000 } },
      {
        host,
        count: 2,
        upstream: (at) => ({ handler: (exchange) => void (at === 0 && exchange.stream().write(preamble)) }),
      },
    )

    const client = front.request()
    await until(() => asked.length === 1, 'the preamble to be looked at')
    client.close()
    await upstreams[0].exchanges[0]?.leftByPeer()
    await front.close()
    await Promise.all(upstreams.map((upstream) => upstream.close()))

    await leftovers.assertNone()
    assert.equal(upstreams[1].exchanges.length, 0)
    assert.equal(proxy.stats().retries, 0)
    assert.equal(proxy.stats().upstreams[0]?.failures, 0)
  })
}

test('proxy.close() answers 503 to those whose answer is held', async (t) => {
  const asked: string[] = []
  const { front, proxy } = await held(t, (exchange) => void exchange.stream().write(preamble), {
    retry: { commit: (event: StreamEvent) => noting(asked, event), holdMs: 60_000 },
  })

  const client = front.request()
  await until(() => asked.length === 1, 'the preamble to be looked at')
  await proxy.close({ withinMs: 5 })
  await client.ended()

  assert.equal(client.status, 503)
})

const misbehaving: [name: string, commit: () => unknown][] = [
  [
    'throws',
    () => {
      throw new Error('secret of the app')
    },
  ],
  ['returns nothing', () => undefined],
  ['returns true', () => true],
  ['promises', () => Promise.resolve('commit')],
]

for (const [name, wrong] of misbehaving) {
  test(`a predicate that ${name} fails the attempt, is reported, and is told to no client`, async (t) => {
    const reported: string[] = []
    const logger = { info() {}, warn() {}, error: (text: string) => void reported.push(text) }
    const { front, proxy } = await held(t, answers, { logger, retry: { commit: wrong } })

    const client = front.request()
    await client.ended()

    assert.equal(client.status, 502)
    assert.deepEqual(JSON.parse(client.text), { error: { code: 'ERR_SSE_PROXY_HOOK', message: 'A hook failed.' } })
    assert.equal(reported.filter((text) => text.includes('retry.commit failed: ')).length, 2)
    assert.equal(proxy.stats().errors.ERR_SSE_PROXY_HOOK, 1)
    assert.equal(proxy.stats().upstreams[0]?.failures, 0)
  })
}

test('a predicate that fails on the answer of one upstream may do with that of the next', async (t) => {
  const { front } = await held(
    t,
    (exchange) => void exchange.stream().write('data: no JSON\n\n'),
    {
      retry: { commit: ({ data }: StreamEvent) => (JSON.parse(data).done ? 'commit' : 'hold') },
    },
    (exchange) => exchange.stream().end('data: {"done":1}\n\n'),
  )

  assert.equal(await front.request().whole(), 'data: {"done":1}\n\n')
})

test('the predicate is told the head of the answer, where it came from, and who asked', async (t) => {
  const told: CommitAnswer[] = []
  const { front, urls } = await held(
    t,
    (exchange) => exchange.stream({ 'X-Model': 'a', 'set-cookie': ['a=1', 'b=2'] }).end(output),
    {
      retry: {
        commit: (_event: StreamEvent, answer: CommitAnswer) => {
          told.push(answer)
          return 'commit'
        },
      },
    },
  )

  await front.request('?x=1').whole()

  const [{ status, headers, upstream, req }] = told as [CommitAnswer]
  assert.equal(status, 200)
  assert.equal(headers['x-model'], 'a')
  assert.deepEqual(headers['set-cookie'], ['a=1', 'b=2'])
  assert.equal(upstream, urls[0])
  assert.match(req.url ?? '', /x=1/)
})

test('other answers than event streams pass without a question', async (t) => {
  const { front } = await held(t, (exchange) => exchange.answer(200, { 'content-type': 'application/json' }, '{}'), {
    retry: { commit: () => assert.fail('it was asked') },
  })

  assert.equal(await front.request().whole(), '{}')
})

test('a HEAD is answered at once', async (t) => {
  const { front } = await held(t, (exchange) => void exchange.stream(), { retry: { commit, holdMs: 60_000 } })

  const client = await front.open('', { method: 'HEAD' })

  assert.equal(client.status, 200)
})

test('the Retry-After of a failed answer is heeded before the same upstream is asked again, for a POST too', async (t) => {
  const times: number[] = []
  const { front } = await proxied(
    t,
    { retry: { commit, methods: ['POST'], attempts: 1, backoffMs: 0, maxBackoffMs: 300 } },
    {
      upstream: {
        handler: (exchange) => {
          times.push(performance.now())
          if (times.length > 1) exchange.stream().end(output)
          else exchange.stream({ 'retry-after': '1' }).end(failure)
        },
      },
    },
  )

  const text = await front.request('', post).whole()

  assert.equal(text, output)
  assert.ok(times[1]! - times[0]! >= 290, `${times[1]! - times[0]!} ms`)
})

test('a stream that resumes is not held again', async (t) => {
  const asked: string[] = []
  const { front, upstreams } = await several(
    t,
    { balance: 'failover', resume: true, retry: { commit: (event) => noting(asked, event) } },
    { count: 2 },
  )

  const client = front.request()
  const first = (await upstreams[0].next()).stream()
  first.write('id: 1\ndata: output\n\n')
  await client.waitFor('data: output\n\n')
  first.reset()
  const second = (await upstreams[1].next()).stream()
  second.write('event: start\ndata: {}\n\n')
  await client.waitFor('event: start\ndata: {}\n\n')

  assert.deepEqual(asked, ['output'])
})

test('with share it is decided once for all who wait', async (t) => {
  let asked = 0
  const room = await shared(
    t,
    {},
    {
      retry: {
        commit: (event) => {
          asked += 1
          return commit(event)
        },
        attempts: 1,
        backoffMs: 0,
      },
    },
  )

  const clients = [room.front.request(), room.front.request()]
  const first = await room.upstream.next()
  await room.arrivals(2)
  first.stream().end(failure)
  ;(await room.upstream.next()).stream().end(preamble + output)

  assert.deepEqual(await Promise.all(clients.map((client) => client.whole())), [preamble + output, preamble + output])
  assert.equal(asked, 3)
  assert.equal(room.upstream.exchanges.length, 2)
})

test('a body that has come by and is too large to keep is not sent again', async (t) => {
  const { front, upstreams } = await held(
    t,
    (exchange) => void exchange.body().then(() => exchange.stream().end(failure)),
    {
      limits: { bodyBytes: 10 },
    },
  )

  const client = front.request('', { ...post, body: 'x'.repeat(1000) })

  assert.equal(await client.whole(), failure)
  assert.equal(upstreams[1].exchanges.length, 0)
})

test('a body that a parser has read is sent again', async (t) => {
  const { front } = await several(
    t,
    { balance: 'failover', retry: { commit, methods: ['POST'] } },
    {
      count: 2,
      before: [express.json()],
      upstream: (at) => ({ handler: (exchange) => (at === 0 ? exchange.stream().end(failure) : answers(exchange)) }),
    },
  )

  const client = front.request('', post)
  await client.whole()

  assert.equal(headerOf(client, 'x-body'), '{"n":1}')
})

function noting(asked: string[], event: StreamEvent): 'hold' | 'commit' | 'retry' {
  asked.push(event.data)
  return commit(event)
}

function resets({ req }: Exchange): void {
  req.socket.resetAndDestroy()
}

/** The kernel has the bytes before the reset. */
function resetsBehind(exchange: Exchange, bytes: string): void {
  const stream = exchange.stream()
  exchange.res.write(bytes, () => stream.reset())
}
