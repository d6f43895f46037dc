// Several upstreams behind one route: streams are spread over them, ill ones are left alone, nobody is sent away
// while there is one left to ask.
import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { type TestContext, test } from 'node:test'
import { sseProxy } from 'sse-proxy-middleware'
import { hostsByProtocol, startFront } from '../support/front.ts'
import type { SseProxyOptions } from '../support/proxied.ts'
import { refusingUrl, type Several, several } from '../support/several-upstreams.ts'
import { type Exchange, startUpstream } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

const streaming = { handler: (exchange: Exchange): void => void exchange.stream() }
const answering = { handler: (exchange: Exchange): void => exchange.answer(200) }

for (const host of hostsByProtocol) {
  test(`streams that stay are spread evenly (${host})`, async (t) => {
    const { upstreams, front } = await several(t, {}, { host, upstream: streaming })

    await Promise.all(Array.from({ length: 12 }, () => front.open()))

    assert.deepEqual(
      upstreams.map(({ open }) => open),
      [4, 4, 4],
    )
  })
}

test('streams that stay are spread in proportion to the weights', async (t) => {
  const weighted = (urls: string[]): Partial<SseProxyOptions> => ({
    target: urls.map((url, i) => ({ url, weight: i + 1 })),
  })
  const { upstreams, front } = await several(t, weighted, { upstream: streaming })

  await Promise.all(Array.from({ length: 12 }, () => front.open()))

  assert.deepEqual(
    upstreams.map(({ open }) => open),
    [2, 4, 6],
  )
})

test('the upstream whose streams have ended takes the next ones', async (t) => {
  const { upstreams, front, proxy } = await several(t, {}, { upstream: streaming })
  await Promise.all(Array.from({ length: 9 }, () => front.open()))
  for (const { res } of upstreams[1].exchanges) res.end()
  await until(() => active(proxy)[1] === 0, 'the ended streams to be given back')

  for (let i = 0; i < 3; i += 1) await front.open()

  assert.equal(upstreams[1].open, 3)
})

test('round-robin does not look at how many streams there are', async (t) => {
  const { upstreams, front } = await several(t, { balance: 'round-robin' }, { upstream: answering })

  for (let i = 0; i < 12; i += 1) await front.request().ended()

  assert.deepEqual(
    upstreams.map(({ exchanges }) => exchanges.length),
    [4, 4, 4],
  )
})

test('random reaches everybody', async (t) => {
  const { upstreams, front } = await several(t, { balance: 'random' }, { upstream: answering })

  // That one of three stays without any of these is less likely than 1 in 10 billion.
  for (let i = 0; i < 60; i += 1) await front.request().ended()

  for (const { exchanges } of upstreams) assert.ok(exchanges.length > 0)
})

test('failover asks the first in the list, the second while that is out, and the first again', async (t) => {
  let isUp = true
  const handler = (exchange: Exchange): void => exchange.answer(isUp ? 200 : 503)
  const { upstreams, front, proxy } = await several(
    t,
    { balance: 'failover', health: { failures: 1, ejectMs: 200 } },
    { upstream: (at) => (at === 0 ? { handler } : answering) },
  )
  const asked = (): number[] => upstreams.map(({ exchanges }) => exchanges.length)

  for (let i = 0; i < 3; i += 1) await front.request().ended()
  const before = asked()
  isUp = false
  for (let i = 0; i < 3; i += 1) await front.request().ended()
  const during = asked()
  isUp = true
  await until(() => proxy.stats().upstreams[0]?.healthy === true, 'the first to be asked again')
  await front.request().ended()

  assert.deepEqual(before, [3, 0, 0])
  assert.deepEqual(during, [4, 3, 0])
  assert.deepEqual(asked(), [5, 3, 0])
})

test("the app's own function chooses, by whatever it finds in the request", async (t) => {
  const balance: SseProxyOptions['balance'] = (candidates, req) => {
    const wanted = candidates[Number(req.headers['x-shard'])]
    assert.ok(wanted)
    return wanted
  }
  const { upstreams, front } = await several(t, { balance }, { upstream: answering })

  for (const shard of ['2', '0', '2']) await front.request('', { headers: { 'x-shard': shard } }).ended()

  assert.deepEqual(
    upstreams.map(({ exchanges }) => exchanges.length),
    [1, 0, 2],
  )
})

const mistakes: { name: string; balance: SseProxyOptions['balance'] }[] = [
  { name: 'chooses a stranger', balance: () => ({ url: 'http://stranger', weight: 1, active: 0, healthy: true }) },
  { name: 'chooses nobody', balance: () => undefined as never },
  {
    name: 'throws',
    balance: () => {
      throw new Error('the secret of the inside')
    },
  },
]

for (const { name, balance } of mistakes) {
  test(`a function of the app that ${name} costs that request a 503, and is reported`, async (t) => {
    const reported: unknown[] = []
    const onError = (error: Error): void => void reported.push(error)
    let isWrong = true
    const sometimes: SseProxyOptions['balance'] = (candidates, req) =>
      (isWrong && typeof balance === 'function' ? balance(candidates, req) : candidates[0]) as (typeof candidates)[0]
    const { front } = await several(t, { balance: sometimes, on: { error: onError } }, { upstream: answering })

    const client = front.request()
    await client.ended()

    assert.equal(client.status, 503)
    assert.equal(JSON.parse(client.text).error.code, 'ERR_SSE_PROXY_NO_UPSTREAM')
    assert.doesNotMatch(client.text, /secret|stranger|127\.0/)
    const [error] = reported as { code: string; cause: Error }[]
    assert.equal(reported.length, 1)
    assert.equal(error?.code, 'ERR_SSE_PROXY_NO_UPSTREAM')
    assert.match(error?.cause.message ?? '', /secret of the inside|none of its candidates/)

    isWrong = false
    const next = front.request()
    await next.ended()
    assert.equal(next.status, 200)
  })
}

test('a router goes on working, for one target and without any', async (t) => {
  const upstream = await startUpstream(answering)
  t.after(() => upstream.close())
  for (const target of [undefined, refusingUrl]) {
    const proxy = sseProxy({ target, router: () => `${upstream.url}/routed` })
    const front = await startFront('express5', proxy)
    t.after(() => front.close())

    const client = front.request('/path')
    await client.ended()

    assert.equal(client.status, 200)
    assert.deepEqual(proxy.stats().upstreams, [])
  }
  assert.deepEqual(
    upstream.exchanges.map(({ url }) => url),
    ['/routed/path', '/routed/path'],
  )
})

// Health, as requests find out.

const illnesses: { name: string; then: (exchange: Exchange) => void; options?: Partial<SseProxyOptions> }[] = [
  { name: 'answers 502', then: (exchange) => exchange.answer(502) },
  { name: 'answers 503', then: (exchange) => exchange.answer(503) },
  { name: 'answers 504', then: (exchange) => exchange.answer(504) },
  { name: 'resets before its answer', then: ({ req }) => req.socket.resetAndDestroy() },
  { name: 'closes before its answer', then: ({ req }) => req.socket.end() },
  { name: 'does not answer in time', then: () => {}, options: { timeouts: { responseMs: 200 } } },
  { name: 'breaks its streams in their first second', then: (exchange) => exchange.stream().cut() },
  {
    name: 'falls silent in the first second of its streams',
    then: (exchange) => void exchange.stream(),
    options: { timeouts: { idleMs: 30 } },
  },
]

for (const { name, then, options = {} } of illnesses) {
  test(`an upstream that ${name} is left alone after three times in a row`, async (t) => {
    const ejections = heard<Ejection>(t, 'sse-proxy:eject')
    const { upstreams, urls, front, proxy } = await several(
      t,
      { balance: first, retry: false, name: 'feed', ...options },
      { upstream: (at) => ({ handler: at === 0 ? then : well }) },
    )

    for (let i = 0; i < 3; i += 1) await front.request().ended()

    const [state, ...others] = proxy.stats().upstreams
    assert.deepEqual([state?.healthy, state?.failures, state?.ejections], [false, 3, 1])
    assert.ok(others.every(({ healthy }) => healthy))
    const [ejection] = ejections
    assert.equal(ejections.length, 1)
    assert.deepEqual([ejection?.proxy, ejection?.upstream, ejection?.failures], ['feed', urls[0], 3])
    assert.ok(Math.abs(Number(ejection?.untilMs) - Number(state?.ejectedUntil)) <= 1)
    assert.ok(Math.abs(Number(ejection?.untilMs) - Date.now() - 10_000) < 5_000)

    for (let i = 0; i < 3; i += 1) await front.request().ended()
    assert.deepEqual(
      upstreams.map(({ exchanges }) => exchanges.length),
      [3, 3, 0],
    )
  })
}

test('an upstream that refuses connections is left alone after three times in a row', async (t) => {
  const refusing = refusingUrl
  const { front, proxy } = await several(
    t,
    ([url = '']) => ({ target: [refusing, url], balance: first, retry: false }),
    { upstream: { handler: well } },
  )

  const statuses = await statusesOf(front, 5)

  assert.deepEqual(statuses, [502, 502, 502, 200, 200])
  assert.equal(proxy.stats().upstreams[0]?.healthy, false)
})

test('an upstream whose streams have lived for a second is not blamed for their end', async (t) => {
  const { upstreams, front, proxy } = await several(
    t,
    { balance: first, health: { failures: 1 } },
    { upstream: streaming },
  )
  const clients = await Promise.all([front.open(), front.open()])
  await until(() => lifetimeOf(upstreams[0].exchanges[1]) > 1_050, 'the streams to grow older than a second')

  for (const { req } of upstreams[0].exchanges) req.socket.resetAndDestroy()

  for (const client of clients) assert.equal(await client.ended(), 'broken')
  assert.equal(proxy.stats().upstreams[0]?.healthy, true)
})

test('clients that leave early are not held against the upstream', async (t) => {
  const { upstreams, front, proxy } = await several(
    t,
    { balance: first, health: { failures: 1 } },
    { upstream: streaming },
  )

  for (let i = 0; i < 5; i += 1) {
    const client = await front.open()
    client.close()
    await upstreams[0].exchanges[i]?.leftByPeer()
  }
  const silent = front.request()
  await until(() => upstreams[0].exchanges.length === 6, 'the request')
  silent.close()

  await until(() => active(proxy)[0] === 0, 'all to be given back')
  assert.equal(proxy.stats().upstreams[0]?.healthy, true)
})

test('an app that fails before the upstream is asked is not held against the upstream', async (t) => {
  const pathRewrite = (path: string): string => {
    if (path.includes('bad')) throw new Error('a mistake')
    return path
  }
  const { front, proxy } = await several(
    t,
    { balance: first, health: { failures: 1 }, pathRewrite },
    { upstream: { handler: well } },
  )

  for (let i = 0; i < 3; i += 1) await front.request('?bad').ended()

  assert.ok(proxy.stats().upstreams.every(({ healthy }) => healthy))
})

test('a client that uploads slowly, but steadily, gets its answer however long that takes', async (t) => {
  const timeouts = { responseMs: 400 }
  const { upstreams, front, proxy } = await several(t, { balance: first, health: { failures: 1 }, timeouts })
  // As much as counts as progress.
  const parts = [...'steadily!'].map((letter) => letter.repeat(4096))
  const body = parts.join('')
  const headers = { 'content-length': String(body.length) }
  const client = front.request('', { method: 'POST', headers, sendsBodyLater: true })

  for (const part of parts) {
    client.send(part)
    const sent = performance.now()
    await until(() => performance.now() - sent > 60, 'the next part')
  }
  const exchange = await upstreams[0].next()
  assert.equal((await exchange.body()).toString(), body)
  exchange.answer(200)
  await client.ended()

  assert.equal(client.status, 200)
  assert.equal(proxy.stats().upstreams[0]?.healthy, true)
})

test('a client that stops in the middle of its upload is not held against the upstream', async (t) => {
  const timeouts = { responseMs: 50 }
  const { upstreams, front, proxy } = await several(t, {
    balance: first,
    retry: false,
    health: { failures: 1 },
    timeouts,
  })
  const client = front.request('', { method: 'POST', headers: { 'content-length': '4' }, sendsBodyLater: true })
  client.send('a')
  await upstreams[0].next()

  await client.ended()

  assert.equal(proxy.stats().upstreams[0]?.healthy, true)
})

test('an upstream that is well again is asked again when its time is over', async (t) => {
  let isIll = true
  const sometimes = (exchange: Exchange): void => exchange.answer(isIll ? 503 : 200)
  const { upstreams, front, proxy } = await several(
    t,
    { balance: first, retry: false, health: { failures: 1, ejectMs: 500 } },
    { upstream: (at) => ({ handler: at === 0 ? sometimes : well }) },
  )
  assert.deepEqual(await statusesOf(front, 2), [503, 200])

  isIll = false
  await until(() => proxy.stats().upstreams[0]?.healthy === true, 'the ejection to be over')
  assert.deepEqual(await statusesOf(front, 2), [200, 200])

  assert.equal(upstreams[0].exchanges.length, 3)
  assert.equal(proxy.stats().upstreams[0]?.ejections, 0)
})

test('where all upstreams are ill requests still go out, so that the first that is well again serves', async (t) => {
  let isIll = true
  const sometimes = (exchange: Exchange): void => exchange.answer(isIll ? 503 : 200)
  const { front, proxy } = await several(t, { health: { failures: 1 } }, { upstream: { handler: sometimes } })
  await front.request().ended()
  assert.ok(proxy.stats().upstreams.every(({ healthy }) => !healthy))

  isIll = false

  assert.deepEqual(await statusesOf(front, 1), [200])
})

test('with health off an upstream is asked however often it fails', async (t) => {
  const { upstreams, front, proxy } = await several(
    t,
    { balance: first, retry: false, health: false },
    { upstream: { handler: (exchange) => exchange.answer(503) } },
  )

  await statusesOf(front, 10)

  assert.equal(upstreams[0].exchanges.length, 10)
  assert.equal(proxy.stats().upstreams[0]?.healthy, true)
})

// Health, as probes find out.

test('an upstream that fails its probes gets no requests until it passes them again', async (t) => {
  const ejections = heard<Ejection>(t, 'sse-proxy:eject')
  let isIll = true
  const requests: string[] = []
  const handler = (exchange: Exchange): void => {
    if (exchange.url !== '/health') requests.push(exchange.url)
    exchange.answer(exchange.url === '/health' && isIll ? 500 : 200)
  }
  const probe = { path: '/health', intervalMs: 10, rise: 2, fall: 2 }
  const { urls, front, proxy } = await several(
    t,
    { balance: first, health: { probe } },
    { upstream: (at) => ({ handler: at === 0 ? handler : well }) },
  )
  t.after(() => proxy.close({ withinMs: 0 }))

  await until(() => proxy.stats().upstreams[0]?.healthy === false, 'the upstream to be out')
  await statusesOf(front, 3)
  assert.deepEqual(requests, [])
  assert.deepEqual(
    ejections.map(({ upstream, untilMs }) => [upstream, untilMs]),
    [[urls[0], Number.POSITIVE_INFINITY]],
  )
  assert.equal(proxy.stats().upstreams[0]?.ejectedUntil, undefined)

  isIll = false
  await until(() => proxy.stats().upstreams[0]?.healthy === true, 'the upstream to be back')
  await statusesOf(front, 1)
  assert.equal(requests.length, 1)
})

test('probes stop when the proxy closes', async (t) => {
  const probe = { path: '/health', intervalMs: 5 }
  const { upstreams, proxy } = await several(t, { health: { probe } }, { upstream: { handler: well } })
  await until(() => upstreams.every(({ exchanges }) => exchanges.length > 2), 'probes')

  await proxy.close({ withinMs: 0 })

  // Another proxy's probes are the clock; a connection that was on its way may still be accepted meanwhile.
  const other = await several(t, { health: { probe } }, { upstream: { handler: well } })
  t.after(() => other.proxy.close({ withinMs: 0 }))
  await until(() => other.upstreams.every(({ exchanges }) => exchanges.length > 3), "another proxy's probes")
  await until(() => upstreams.every(({ connections }) => connections === 0), 'the last probes')
  const before = upstreams.map(({ accepted }) => accepted)
  await until(() => other.upstreams.every(({ exchanges }) => exchanges.length > 13), "another proxy's probes")
  assert.deepEqual(
    upstreams.map(({ accepted }) => accepted),
    before,
  )
})

interface Ejection {
  proxy: string
  upstream: string
  untilMs: number
  failures: number
}

function first<C>(candidates: readonly C[]): C {
  return candidates[0] as C
}

function well(exchange: Exchange): void {
  exchange.answer(200)
}

function active(proxy: Several['proxy']): number[] {
  return proxy.stats().upstreams.map((upstream) => upstream.active)
}

async function statusesOf(front: Several['front'], times: number): Promise<number[]> {
  const statuses: number[] = []
  for (let i = 0; i < times; i += 1) {
    const client = front.request()
    await client.ended()
    statuses.push(client.status)
  }
  return statuses
}

const arrivedAt = new WeakMap<Exchange, number>()

/** How long an exchange has been looked at. */
function lifetimeOf(exchange: Exchange | undefined): number {
  if (!exchange) return 0
  if (!arrivedAt.has(exchange)) arrivedAt.set(exchange, performance.now())
  return performance.now() - (arrivedAt.get(exchange) ?? 0)
}

function heard<T>(t: TestContext, channel: string): T[] {
  const messages: T[] = []
  const hear = (message: unknown): void => void messages.push(message as T)
  subscribe(channel, hear)
  t.after(() => unsubscribe(channel, hear))
  return messages
}
