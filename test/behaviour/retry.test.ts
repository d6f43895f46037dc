// A request whose upstream fails before the client has anything is tried again, without doing twice what was meant once.
import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { Agent } from 'node:http'
import type { Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import express from 'express'
import { headerOf, type RequestOptions } from '../support/client.ts'
import { type Front, hostsByProtocol } from '../support/front.ts'
import { watchLeftovers } from '../support/leftovers.ts'
import { startNeverAccepting } from '../support/never-accepts.ts'
import { proxied, rawProxied, type SseProxyOptions } from '../support/proxied.ts'
import { type Conversation, type RawUpstream, startRawUpstream } from '../support/raw-upstream.ts'
import { refusingUrl, several } from '../support/several-upstreams.ts'
import { type Exchange, startUpstream } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

const event = 'data: one\n\n'
const post: RequestOptions = { method: 'POST', body: '{"n":1}', headers: { 'content-type': 'application/json' } }
const postToo: Partial<SseProxyOptions> = { balance: first, retry: { methods: ['GET', 'HEAD', 'post'] } }
const forEver = { attempts: 5, backoffMs: 3_600_000, maxBackoffMs: 3_600_000 }

for (const host of hostsByProtocol) {
  test(`a stream is opened at another upstream, at once, when the first refuses connections (${host})`, async (t) => {
    const refusing = refusingUrl
    const options = ([url = '']: string[]): Partial<SseProxyOptions> => ({
      target: [refusing, url],
      balance: first,
      retry: { backoffMs: 3_600_000, maxBackoffMs: 3_600_000 },
    })
    const { front } = await several(t, options, { host, upstream: { handler: streams } })

    const client = front.request()

    await client.waitFor(event)
    assert.equal(client.status, 200)
  })
}

const failures: { name: string; then: (exchange: Exchange) => void; options?: Partial<SseProxyOptions> }[] = [
  { name: 'resets', then: ({ req }) => req.socket.resetAndDestroy() },
  { name: 'closes', then: ({ req }) => req.socket.end() },
  { name: 'answers something that is no HTTP', then: ({ req }) => req.socket.end('what?\r\n\r\n') },
  { name: 'does not answer in time', then: () => {}, options: { timeouts: { responseMs: 300 } } },
  { name: 'answers 502', then: (exchange) => exchange.answer(502) },
  { name: 'answers 503', then: (exchange) => exchange.answer(503, { 'retry-after': '3600' }, 'later') },
  { name: 'answers 504', then: (exchange) => exchange.res.writeHead(504).flushHeaders() },
]

for (const { name, then, options = {} } of failures) {
  for (const method of ['GET', 'HEAD']) {
    test(`a ${method} is answered by another upstream when the first ${name}`, async (t) => {
      const { upstreams, front, proxy } = await several(
        t,
        { balance: first, ...options },
        {
          upstream: (at) => ({ handler: at === 0 ? then : (exchange) => exchange.answer(200, { 'x-from': `${at}` }) }),
        },
      )

      const client = await front.open('', { method })

      assert.equal(client.status, 200)
      assert.equal(headerOf(client, 'x-from'), '1')
      assert.equal(headerOf(client, 'retry-after'), undefined)
      assert.equal(proxy.stats().retries, 1)
      await until(() => upstreams[0].open === 0, 'the first upstream to be let go')
    })
  }
}

test('a connection that is not established in time is tried elsewhere, even for a POST', async (t) => {
  const blocked = await startNeverAccepting()
  t.after(() => blocked.close())
  const options = ([url = '']: string[]): Partial<SseProxyOptions> => ({
    target: [blocked.url, url],
    balance: first,
    timeouts: { connectMs: 300 },
  })
  const { front } = await several(t, options, { upstream: { handler: echoes } })

  const client = front.request('', post)

  assert.equal(await client.whole(), '{"n":1}')
})

test('each of several upstreams is asked once, and the last answer is passed on as it came', async (t) => {
  const handler = (exchange: Exchange): void =>
    exchange.answer(503, { 'content-type': 'text/plain', 'retry-after': '7', 'x-place': place(exchange) }, 'so sorry')
  const { upstreams, front } = await several(t, {}, { count: 4, upstream: { handler } })

  const client = front.request()
  const body = await client.whole()

  assert.equal(client.status, 503)
  assert.equal(body, 'so sorry')
  assert.equal(headerOf(client, 'retry-after'), '7')
  assert.equal(headerOf(client, 'content-type'), 'text/plain')
  assert.deepEqual(
    upstreams.map(({ exchanges }) => exchanges.length),
    [1, 1, 1, 1],
  )
})

test('of many upstreams four are asked at most', async (t) => {
  const { upstreams, front } = await several(t, {}, { count: 6, upstream: { handler: isIll } })

  await front.request().ended()

  assert.equal(upstreams.filter(({ exchanges }) => exchanges.length > 0).length, 4)
})

test('the last failure is told when no upstream answers at all', async (t) => {
  const told: unknown[] = []
  const options = { on: { error: (error: Error) => void told.push(error) } }
  const { front, proxy } = await several(t, options, {
    upstream: { handler: ({ req }) => req.socket.resetAndDestroy() },
  })

  const client = front.request()
  await client.ended()

  assert.equal(client.status, 502)
  assert.equal(JSON.parse(client.text).error.code, 'ERR_SSE_PROXY_UNREACHABLE')
  assert.equal(told.length, 1)
  assert.equal(proxy.stats().retries, 2)
})

test('a single upstream is not asked twice unless the app says so', async (t) => {
  const { upstream, front } = await proxied(t, {}, { upstream: { handler: isIll } })

  const client = front.request()
  await client.ended()

  assert.equal(client.status, 503)
  assert.equal(upstream.exchanges.length, 1)
})

test('retry: false asks one upstream of several', async (t) => {
  const { upstreams, front } = await several(t, { retry: false }, { upstream: { handler: isIll } })

  await front.request().ended()

  assert.equal(upstreams.filter(({ exchanges }) => exchanges.length > 0).length, 1)
})

test('a single upstream is asked again after waits that double, each shortened by chance', async (t) => {
  const retries = heard(t)
  const policy = { attempts: 4, backoffMs: 20, maxBackoffMs: 100 }
  const { upstream, front } = await proxied(t, { retry: policy, name: 'feed' }, { upstream: { handler: isIll } })
  const started = performance.now()

  const client = front.request()
  await client.ended()

  assert.equal(client.status, 503)
  assert.equal(upstream.exchanges.length, 5)
  assert.deepEqual(
    retries.map(({ proxy, attempt }) => [proxy, attempt]),
    [1, 2, 3, 4].map((attempt) => ['feed', attempt]),
  )
  for (const [i, ceiling] of [20, 40, 80, 100].entries()) {
    const delay = retries[i]?.delayMs ?? 0
    assert.ok(delay >= ceiling / 2 && delay <= ceiling, `wait ${i} is ${delay}`)
    assert.match(retries[i]?.upstream ?? '', /^http:\/\/127\.0\.0\.1:\d+\/stream$/)
  }
  // Timers of Node may be a millisecond early.
  assert.ok(performance.now() - started >= retries.reduce((sum, { delayMs }) => sum + delayMs - 1, 0))
})

test('a single upstream that says when to come back is asked again then, but not later than maxBackoffMs', async (t) => {
  const retries = heard(t)
  const waits = ['0', '3600', 'soon']
  const handler = (exchange: Exchange): void => {
    const wait = waits.shift()
    exchange.answer(...((wait ? [503, { 'retry-after': wait }] : [200]) as Parameters<Exchange['answer']>))
  }
  const policy = { attempts: 3, backoffMs: 1, maxBackoffMs: 60 }
  const { front } = await proxied(t, { retry: policy }, { upstream: { handler } })

  const client = front.request()
  await client.ended()

  assert.equal(client.status, 200)
  const [atOnce, capped, own] = retries.map(({ delayMs }) => delayMs)
  assert.deepEqual([atOnce, capped], [0, 60])
  assert.ok(Number(own) >= 2 && Number(own) <= 4, `the back-off is ${own}`)
})

test('statuses that the app names are tried again, others are passed on', async (t) => {
  for (const [status, attempts] of [
    [429, 2],
    [503, 1],
  ] as const) {
    const handler = (exchange: Exchange): void => exchange.answer(status)
    const retry = { attempts: 1, backoffMs: 1, statuses: [429] }
    const { upstream, front } = await proxied(t, { retry }, { upstream: { handler } })

    await front.request().ended()

    assert.equal(upstream.exchanges.length, attempts)
  }
})

test('with a router the same upstream is asked again after a wait', async (t) => {
  let asked = 0
  const handler = (exchange: Exchange): void => exchange.answer(++asked < 3 ? 503 : 200)
  const upstream = await startUpstream({ handler })
  t.after(() => upstream.close())
  const options = { target: undefined, router: () => upstream.url, retry: { attempts: 3, backoffMs: 1 } }
  const { front } = await proxied(t, options)

  const client = front.request()
  await client.ended()

  assert.equal(client.status, 200)
  assert.equal(asked, 3)
})

// What may not be done twice.

for (const host of hostsByProtocol) {
  test(`a POST that express.json() has read is sent again, whole, where retry.methods names it (${host})`, async (t) => {
    const before = host === 'express5' ? [express.json()] : [express.json() as never]
    const { upstreams, front } = await several(t, postToo, {
      host,
      before,
      upstream: (at) => ({ handler: at === 0 ? resetsAfterBody : echoes }),
    })

    const client = front.request('', post)

    assert.equal(await client.whole(), '{"n":1}')
    assert.equal(upstreams[0].exchanges.length, 1)
  })

  test(`a POST that streams by is sent again from its start, while it is still streaming (${host})`, async (t) => {
    const { upstreams, front } = await several(t, postToo, {
      host,
      upstream: (at) => (at === 0 ? {} : { handler: echoes }),
    })
    const headers = { 'content-length': '15' }
    const client = front.request('', { method: 'POST', headers, sendsBodyLater: true })
    client.send('first ')
    const failing = await upstreams[0].next()
    client.send('then ')
    failing.req.socket.resetAndDestroy()
    await upstreams[1].next()

    client.send('last')
    client.finish()

    assert.equal(await client.whole(), 'first then last')
  })
}

test('a POST that does not tell its length is sent again with its end', async (t) => {
  const { front } = await several(t, postToo, { upstream: (at) => ({ handler: at === 0 ? resetsAfterBody : echoes }) })
  const headers = { 'transfer-encoding': 'chunked' }

  const client = front.request('', { method: 'POST', headers, body: '5\r\nhello\r\n0\r\n\r\n' })

  assert.equal(await client.whole(), 'hello')
})

test('a large POST is sent again, byte for byte, up to limits.bodyBytes', async (t) => {
  const body = Buffer.alloc(1_000_000, 'abcdefg')
  const { front } = await several(
    t,
    { ...postToo, limits: { bodyBytes: body.length } },
    { upstream: (at) => ({ handler: at === 0 ? resetsAfterBody : echoes }) },
  )

  const client = front.request('', { method: 'POST', body })
  await client.whole()

  assert.ok(client.bytes.equals(body))
})

test('a POST of one byte more is not sent again', async (t) => {
  const body = Buffer.alloc(1_001)
  const { upstreams, front } = await several(
    t,
    { ...postToo, limits: { bodyBytes: 1_000 } },
    { upstream: (at) => ({ handler: at === 0 ? resetsAfterBody : echoes }) },
  )

  const client = front.request('', { method: 'POST', body })
  await client.ended()

  assert.equal(client.status, 502)
  assert.equal(upstreams[1].exchanges.length, 0)
})

test('a POST of any size reaches another upstream when the first refuses connections', async (t) => {
  const body = Buffer.alloc(3_000_000, 'x')
  const refusing = refusingUrl
  const options = ([url = '']: string[]): Partial<SseProxyOptions> => ({ target: [refusing, url], balance: first })
  const { front } = await several(t, options, { upstream: { handler: echoes } })

  const client = front.request('', { method: 'POST', body })
  await client.whole()

  assert.ok(client.bytes.equals(body))
})

test('a POST is passed on to whoever answers it, 503 or not', async (t) => {
  const { upstreams, front } = await several(
    t,
    { balance: first },
    { upstream: { handler: (exchange) => exchange.answer(503, {}, 'so sorry') } },
  )

  const client = front.request('', post)

  assert.equal(await client.whole(), 'so sorry')
  assert.deepEqual(
    upstreams.map(({ exchanges }) => exchanges.length),
    [1, 0, 0],
  )
})

test('a POST that is answered 503 goes to another upstream, whole, where retry.methods names it', async (t) => {
  const fails = async (exchange: Exchange): Promise<void> => {
    await exchange.body()
    exchange.answer(503, { 'retry-after': '3600' })
  }
  const { upstreams, front } = await several(t, postToo, {
    upstream: (at) => ({ handler: at === 0 ? fails : echoes }),
  })

  const client = front.request('', post)

  assert.equal(await client.whole(), '{"n":1}')
  assert.deepEqual(
    upstreams.map(({ exchanges }) => exchanges.length),
    [1, 1, 0],
  )
})

test('methods that retry.methods does not name are not sent again', async (t) => {
  const { upstreams, front } = await several(
    t,
    { ...postToo, retry: { methods: ['POST'] } },
    {
      upstream: { handler: resetsAfterBody },
    },
  )

  for (const method of ['GET', 'PUT']) await front.request('', { method }).ended()

  assert.deepEqual(
    upstreams.map(({ exchanges }) => exchanges.length),
    [2, 0, 0],
  )
})

const onceOnly: Record<string, { then: (exchange: Exchange) => Promise<void> | void; status: number }> = {
  'is merely slower than responseMs': { then: () => {}, status: 504 },
  'resets when it has the request': { then: resetsAfterBody, status: 502 },
  'closes when it has the request': {
    then: async (exchange) => {
      await exchange.body()
      exchange.req.socket.end()
    },
    status: 502,
  },
}

for (const [name, { then, status }] of Object.entries(onceOnly)) {
  for (const way of ['unread', 'parsed'] as const) {
    test(`a POST is executed once, although the upstream ${name} (${way} body)`, async (t) => {
      const { upstreams, front } = await several(
        t,
        { balance: first, timeouts: { responseMs: 300 } },
        {
          before: way === 'parsed' ? [express.json()] : [],
          upstream: (at) => ({ handler: at === 0 ? then : echoes }),
        },
      )

      const client = front.request('', post)
      await client.ended()

      assert.equal(client.status, status)
      assert.deepEqual(
        upstreams.map(({ exchanges }) => exchanges.length),
        [1, 0, 0],
      )
    })
  }
}

test('a POST is sent again when a TLS upstream resets before there is a secure connection', async (t) => {
  const resets = await startRawUpstream((conversation) => conversation.socket.once('data', () => conversation.reset()))
  t.after(() => resets.close())
  const secure = resets.url.replace('http', 'https')
  const { front } = await several(t, ([url = '']) => ({ target: [secure, url], balance: first, secure: false }), {
    upstream: { handler: echoes },
  })

  const client = front.request('', post)

  assert.equal(await client.whole(), '{"n":1}')
})

const beginnings = ['H', 'HTTP/1.1 200 OK\r\n', 'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n']

for (const beginning of beginnings) {
  test(`a POST is not sent again when of its answer has come ${JSON.stringify(beginning)}`, async (t) => {
    const failing = await startRawUpstream()
    t.after(() => failing.close())
    const options = ([url = '']: string[]): Partial<SseProxyOptions> => ({ target: [failing.url, url], balance: first })
    const { upstreams, front } = await several(t, options, { upstream: { handler: echoes } })
    const client = front.request('', post)
    const conversation = await failing.next()
    await conversation.head()

    conversation.socket.write(beginning, () => conversation.reset())
    await client.ended()

    assert.equal(client.status, 502)
    assert.ok(upstreams.every(({ exchanges }) => exchanges.length === 0))
  })
}

test('a GET is not sent again when its answer has been passed on', async (t) => {
  const { upstreams, front } = await several(t, { balance: first })
  const client = front.request()
  const exchange = await upstreams[0].next()
  const stream = exchange.stream()
  stream.write(event)
  await client.waitFor(event)

  stream.reset()

  assert.equal(await client.ended(), 'broken')
  assert.deepEqual(
    upstreams.map(({ exchanges }) => exchanges.length),
    [1, 0, 0],
  )
})

// Connections that were kept alive and turn out dead.

test('a GET that meets a connection being closed is sent on a new one, which counts for nothing', async (t) => {
  const { upstream, front, proxy } = await rawProxied(t, { health: { failures: 1 } })
  const kept = await keptConnection(upstream, front)
  const client = front.request()
  await secondRequest(kept)

  kept.reset()

  const fresh = await upstream.next()
  await fresh.head()
  fresh.send('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine')
  assert.equal(await client.whole(), 'fine')
  assert.equal(proxy.stats().retries, 0)
  assert.deepEqual(
    proxy.stats().upstreams.map(({ healthy, failures, requests }) => [healthy, failures, requests]),
    [[true, 0, 2]],
  )
})

test('a GET that is given a kept connection which has just ended is sent on a new one, which counts for nothing', async (t) => {
  const kept: Socket[] = []
  const { upstream, front, proxy } = await proxied(
    t,
    { on: { proxyReq: ({ socket }) => void (socket && kept.push(socket)) }, health: { failures: 1 } },
    { before: [endsSecond] },
  )
  // Of those that are idle Node looks at the first, and gives the last.
  function endsSecond(_req: unknown, _res: unknown, next: () => void): void {
    kept[1]?.destroy()
    next()
  }
  const clients = [front.request(), front.request()]
  const exchanges = [await upstream.next(), await upstream.next()]
  for (const [at, exchange] of exchanges.entries()) {
    exchange.answer(200)
    await clients[at]?.ended()
  }

  const client = front.request()
  const exchange = await upstream.next()
  exchange.answer(200, {}, 'fine')

  assert.equal(await client.whole(), 'fine')
  assert.equal(proxy.stats().upstreams[0]?.failures, 0)
})

for (const [what, bytes] of Object.entries({
  'no HTTP': 'what?\r\n\r\n',
  'half an answer': 'HTTP/1.1 200 OK\r\nConte',
})) {
  test(`a GET that meets ${what}, left on a kept connection behind an earlier answer, is sent on a new one`, async (t) => {
    const { upstream, front, proxy } = await rawProxied(t)
    const kept = await keptConnection(upstream, front)
    const client = front.request()
    await secondRequest(kept)

    kept.socket.write(bytes, () => kept.reset())

    const fresh = await upstream.next()
    await fresh.head()
    fresh.send('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine')
    assert.equal(await client.whole(), 'fine')
    assert.equal(proxy.stats().upstreams[0]?.failures, 0)
  })
}

for (const [way, before] of Object.entries({ unread: [], parsed: [express.json()] })) {
  test(`a POST has a connection of its own, which cannot have died meanwhile (${way} body)`, async (t) => {
    const { upstream, front } = await rawProxied(t, { retry: { attempts: 1 } }, { before })
    const kept = await keptConnection(upstream, front)

    const client = front.request('', post)
    const fresh = await upstream.next()
    await until(() => fresh.received.endsWith('{"n":1}'), 'the whole request')
    fresh.reset()

    await client.ended()
    assert.equal(client.status, 502)
    assert.equal(kept.received.split('HTTP/1.1\r\n').length, 2)
    assert.equal(upstream.connections, 1)
  })
}

test('a POST that retry.methods names goes to a kept connection, and on a new one when that is being closed', async (t) => {
  const { upstream, front } = await rawProxied(t, { retry: { attempts: 1, methods: ['POST'] } })
  const kept = await keptConnection(upstream, front)
  const client = front.request('', post)
  await secondRequest(kept)

  kept.reset()

  const fresh = await upstream.next()
  await until(() => fresh.received.endsWith('{"n":1}'), 'the whole request')
  fresh.send('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine')
  assert.equal(await client.whole(), 'fine')
})

test("a POST is executed once where an agent of the app's gives it a kept connection that dies before the answer", async (t) => {
  const agent = new Agent({ keepAlive: true })
  t.after(() => agent.destroy())
  const { upstream, front } = await rawProxied(t, { agent, retry: { attempts: 1 } }, { before: [express.json()] })
  const kept = await keptConnection(upstream, front)
  const client = front.request('', post)
  await secondRequest(kept)

  kept.reset()

  await client.ended()
  assert.equal(client.status, 502)
  assert.equal(upstream.connections, 0)
})

test('a new connection that is reset as well is a failure', async (t) => {
  const { upstream, front, proxy } = await rawProxied(t)
  const kept = await keptConnection(upstream, front)
  const client = front.request()
  await secondRequest(kept)

  kept.reset()
  const fresh = await upstream.next()
  await fresh.head()
  fresh.reset()

  await client.ended()
  assert.equal(client.status, 502)
  assert.equal(proxy.stats().upstreams[0]?.failures, 1)
})

test('an answer that does not come in time on a kept connection is not asked for again', async (t) => {
  const { upstream, front } = await proxied(t, { timeouts: { responseMs: 300 } }, { before: [express.json()] })
  const one = front.request()
  const exchange = await upstream.next()
  exchange.answer(200)
  await one.ended()

  for (const options of [{}, post]) {
    const client = front.request('', options)
    await client.ended()
    assert.equal(client.status, 504)
  }

  assert.equal(upstream.exchanges.length, 3)
})

test('an upstream that closes idle connections after each answer costs nobody an answer', async (t) => {
  const handler = (exchange: Exchange): void => {
    exchange.answer(200, {}, 'fine')
    // As late as can be: the answer is out, and so may be the next request.
    exchange.res.once('close', () => setImmediate(() => exchange.req.socket.destroy()))
  }
  const { upstream, front } = await proxied(t, {}, { upstream: { handler } })

  for (let i = 0; i < 200; i += 1) {
    const client = front.request()
    await client.ended()
    assert.equal(client.status, 200)
  }

  assert.ok(upstream.exchanges.length >= 200)
})

test('connections of an agent of the app are tried again as well', async (t) => {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.after(() => agent.destroy())
  const { upstream, front } = await rawProxied(t, { agent })
  const kept = await keptConnection(upstream, front)
  const client = front.request()
  await secondRequest(kept)

  kept.reset()

  const fresh = await upstream.next()
  await fresh.head()
  fresh.send('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine')
  assert.equal(await client.whole(), 'fine')
})

// Clients that leave.

for (const host of hostsByProtocol) {
  test(`a client that leaves during a back-off ends it, and nothing is left (${host})`, async (t) => {
    const leftovers = watchLeftovers(t)
    const retries = heard(t)
    const arrangement = await proxied(t, { retry: forEver }, { host, upstream: { handler: isIll } })
    const { upstream, front, proxy } = arrangement
    const client = front.request()
    await until(() => retries.length === 1, 'the back-off to begin')

    client.close()

    await until(() => upstream.open === 0, 'the upstream to be free')
    await until(() => front.connections === 0, 'the clients to be gone')
    assert.equal(proxy.stats().upstreams[0]?.active, 0)
    assert.equal(upstream.exchanges.length, 1)
    await proxy.close({ withinMs: 0 })
    await front.close()
    await upstream.close()
    await leftovers.assertNone()
  })
}

test('a client that leaves while its second upstream is silent frees that one', async (t) => {
  const { upstreams, front } = await several(
    t,
    { balance: first },
    { upstream: (at) => (at === 0 ? { handler: isIll } : {}) },
  )
  const client = front.request()
  const exchange = await upstreams[1].next()

  client.close()

  await exchange.leftByPeer()
})

interface Retry {
  proxy: string
  upstream: string
  attempt: number
  delayMs: number
}

function heard(t: TestContext): Retry[] {
  const messages: Retry[] = []
  const hear = (message: unknown): void => void messages.push(message as Retry)
  subscribe('sse-proxy:retry', hear)
  t.after(() => unsubscribe('sse-proxy:retry', hear))
  return messages
}

/** A connection to the upstream that has carried one request and is kept for the next. */
async function keptConnection(upstream: RawUpstream, front: Front): Promise<Conversation> {
  const client = front.request()
  const conversation = await upstream.next()
  await conversation.head()
  conversation.send('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
  assert.equal(await client.whole(), 'ok')
  return conversation
}

function secondRequest(kept: Conversation): Promise<void> {
  return until(() => kept.received.split('HTTP/1.1\r\n').length === 3, 'the request on the kept connection')
}

function first<C>(candidates: readonly C[]): C {
  return candidates[0] as C
}

function place(exchange: Exchange): string {
  return String(exchange.req.socket.localPort)
}

function streams(exchange: Exchange): void {
  exchange.stream().write(event)
}

function isIll(exchange: Exchange): void {
  exchange.answer(503)
}

async function echoes(exchange: Exchange): Promise<void> {
  exchange.answer(200, {}, await exchange.body())
}

async function resetsAfterBody(exchange: Exchange): Promise<void> {
  await exchange.body()
  exchange.req.socket.resetAndDestroy()
}
