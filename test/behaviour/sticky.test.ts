// Clients that belong to an upstream: by something they bring, or by a cookie they were given.
import assert from 'node:assert/strict'
import type { IncomingMessage } from 'node:http'
import { type TestContext, test } from 'node:test'
import { sseProxy } from 'sse-proxy-middleware'
import { certificate } from '../support/certificate.ts'
import type { Client, RequestOptions } from '../support/client.ts'
import { type Host, hostsByProtocol, type Middleware, startFront } from '../support/front.ts'
import type { SseProxyOptions } from '../support/proxied.ts'
import { type Several, type SeveralArrangement, several } from '../support/several-upstreams.ts'
import type { Exchange, Upstream } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

type Sticky = SseProxyOptions['sticky']

const secret = 'a secret of the tests'
const seat = { issueCookie: 'seat', secret }

for (const host of hostsByProtocol) {
  test(`alice always reaches the same upstream, from every proxy (${host})`, async (t) => {
    const sticky: Sticky = { header: 'X-User-ID' }
    const one = await several(t, { sticky }, { ...telling, host, count: 5 })
    const other = sseProxy({ target: [...one.urls].reverse(), sticky, balance: 'random' })
    const otherFront = await startFront(host, other)
    t.after(() => otherFront.close())

    const names = ['alice', 'bob', 'carol', 'dave', 'erin', 'frank', 'grace', 'heidi']
    const homes = new Map<string, Set<string>>()
    for (const name of [...names, ...names, ...names]) {
      for (const front of [one.front, otherFront]) {
        const place = await placeOf(front, '', { headers: { 'x-user-id': name } })
        homes.set(name, (homes.get(name) ?? new Set()).add(place))
      }
    }

    for (const [name, places] of homes) assert.equal(places.size, 1, `${name} was at ${[...places]}`)
    assert.ok(new Set([...homes.values()].flatMap((places) => [...places])).size > 1)
  })
}

const ways: { name: string; sticky: Sticky; as: (user: string) => [path: string, options: RequestOptions] }[] = [
  { name: 'a header', sticky: { header: 'x-user' }, as: (user) => ['', { headers: { 'X-User': user } }] },
  { name: 'a cookie', sticky: { cookie: 'user' }, as: (user) => ['', { headers: { cookie: `a=1; user=${user}` } }] },
  { name: 'a query parameter', sticky: { query: 'user' }, as: (user) => [`/path?a=1&user=${user}`, {}] },
  {
    name: 'a query parameter at the mount point itself',
    sticky: { query: 'user' },
    as: (user) => [`?user=${encodeURIComponent(user)}`, {}],
  },
  {
    name: "a function of the app's",
    sticky: { key: (req) => String(req.headers.authorization).slice('Bearer '.length) },
    as: (user) => ['', { headers: { authorization: `Bearer ${user}` } }],
  },
  {
    name: "a function of the app's that returns a number",
    sticky: { key: (req: IncomingMessage) => Number(req.headers['x-number']) as unknown as string },
    as: (user) => ['', { headers: { 'x-number': String(Number(user.slice('user-'.length)) + 1) } }],
  },
]

for (const { name, sticky, as } of ways) {
  test(`clients belong to an upstream by ${name}`, async (t) => {
    const { front } = await several(t, { sticky }, telling)
    // The ports, which are others every time, decide who belongs where: of so many, no upstream is without some.
    const users = Array.from({ length: 60 }, (_, i) => `user-${i}`)

    const places = await Promise.all(users.map((user) => placeOf(front, ...as(user))))
    const again = await Promise.all(users.map((user) => placeOf(front, ...as(user))))

    assert.deepEqual(again, places)
    assert.equal(new Set(places).size, 3)
  })
}

test('clients belong to an upstream by their address', async (t) => {
  const { front } = await several(t, { sticky: 'ip' }, telling)

  const places = await Promise.all(Array.from({ length: 20 }, () => placeOf(front)))

  assert.equal(new Set(places).size, 1)
})

test('behind a proxy that Express trusts, the address is the one that the proxy tells', async (t) => {
  const trusting: Middleware = (req, _res, next) => {
    req.app.set('trust proxy', true)
    next()
  }
  const { front } = await several(t, { sticky: { by: 'ip' } }, { ...telling, before: [trusting] })
  const from = (i: number): RequestOptions => ({ headers: { 'x-forwarded-for': `10.0.0.${i}` } })

  const places = await Promise.all(Array.from({ length: 60 }, (_, i) => placeOf(front, '', from(i))))
  const again = await Promise.all(Array.from({ length: 60 }, (_, i) => placeOf(front, '', from(i))))

  assert.equal(new Set(places).size, 3)
  assert.deepEqual(again, places)
})

test('an address that nobody trusted cannot be made up', async (t) => {
  const { front } = await several(t, { sticky: 'ip' }, telling)
  const from = (i: number): RequestOptions => ({ headers: { 'x-forwarded-for': `10.0.0.${i}` } })

  const places = await Promise.all(Array.from({ length: 20 }, (_, i) => placeOf(front, '', from(i))))

  assert.equal(new Set(places).size, 1)
})

test('clients that bring no key are balanced', async (t) => {
  const { upstreams, front } = await several(t, { sticky: { header: 'x-user' } }, telling)

  await Promise.all(Array.from({ length: 12 }, () => front.open('?stream')))

  assert.deepEqual(
    upstreams.map(({ open }) => open),
    [4, 4, 4],
  )
})

test('a key function that throws is told to the error handling of the app', async (t) => {
  const mistake = new Error('no user')
  const key = (): string => {
    throw mistake
  }
  const { upstreams, front } = await several(t, { sticky: { key } }, telling)

  const client = front.request()
  await client.ended()

  assert.equal(client.status, 500)
  assert.deepEqual(front.errors, [mistake])
  assert.ok(upstreams.every(({ exchanges }) => exchanges.length === 0))
})

test('a client whose upstream is down is served by another one, and comes back', async (t) => {
  const stage = await fallible(t, { sticky: { header: 'x-user' } })
  const home = await placeOf(stage.front, '', alice)

  stage.down.add(home)
  const substitutes = await placesOf(stage, 3)
  assert.ok(!substitutes.includes(home))
  assert.equal(new Set(substitutes).size, 1)

  stage.down.delete(home)
  await stage.untilHealthy()
  assert.deepEqual(await placesOf(stage, 3), [home, home, home])
})

test('with ttlMs a client stays where it was put while its upstream was down, as long as it keeps coming', async (t) => {
  const stage = await fallible(t, { sticky: { header: 'x-user', ttlMs: 60_000 } })
  const home = await placeOf(stage.front, '', alice)

  stage.down.add(home)
  const [substitute] = await placesOf(stage, 1)
  stage.down.delete(home)
  await stage.untilHealthy()

  assert.notEqual(substitute, home)
  assert.deepEqual(await placesOf(stage, 3), [substitute, substitute, substitute])
})

test('when ttlMs has passed without a request a client goes home', async (t) => {
  const stage = await fallible(t, { sticky: { header: 'x-user', ttlMs: 1 } })
  const home = await placeOf(stage.front, '', alice)
  stage.down.add(home)
  await placesOf(stage, 1)
  stage.down.delete(home)
  await stage.untilHealthy()
  const since = Date.now()
  await until(() => Date.now() > since + 1, 'the time to pass')

  assert.deepEqual(await placesOf(stage, 1), [home])
})

test('a stream that is lost goes on at its own upstream', async (t) => {
  const { upstreams, front } = await several(t, { sticky: { header: 'x-user' }, resume: { delayMs: 1 }, health: false })
  for (let i = 0; i < 10; i += 1) {
    const client = front.request('', { headers: { 'x-user': `user-${i}` } })
    const { upstream, exchange } = await arrival(upstreams)
    const stream = exchange.stream()
    stream.send({ id: '1', data: 'one' })
    await client.waitFor('one')

    stream.reset()

    const again = await upstream.next()
    assert.equal(again.headers['last-event-id'], '1')
    client.close()
    await again.leftByPeer()
  }
})

// The cookie for those who bring nothing.

for (const host of hostsByProtocol) {
  test(`a client without a key gets a cookie, and with it the same upstream from every proxy (${host})`, async (t) => {
    const one = await several(t, { sticky: seat }, { ...telling, host })
    const other = sseProxy({ target: [...one.urls].reverse(), sticky: seat, balance: 'random' })
    const otherFront = await startFront(host, other)
    t.after(() => otherFront.close())

    for (let i = 0; i < 6; i += 1) {
      const client = one.front.request()
      const place = await client.whole()
      const headers = { cookie: pairOf(client) }
      for (const front of [one.front, otherFront]) {
        const again = front.request('', { headers })
        assert.equal(await again.whole(), place)
        assert.equal(seatOf(again), '')
      }
    }
  })
}

test('clients that are given cookies are balanced', async (t) => {
  const { upstreams, front } = await several(t, { sticky: seat }, telling)

  await Promise.all(Array.from({ length: 12 }, () => front.open('?stream')))

  assert.deepEqual(
    upstreams.map(({ open }) => open),
    [4, 4, 4],
  )
})

const kinds: { name: string; path: string; method?: string; others: string[] }[] = [
  { name: 'an event stream', path: '?stream', others: ['app', 'app2', 'up', 'up2'] },
  // Of an ordinary answer, http-proxy-middleware puts the upstream's cookies in the place of the app's.
  { name: 'an ordinary answer', path: '', others: ['up', 'up2'] },
  { name: 'an ordinary answer without cookies', path: '?plain', others: ['app', 'app2'] },
  { name: 'an answer to HEAD', path: '', method: 'HEAD', others: ['up', 'up2'] },
  { name: 'an answer without a body', path: '?nothing', others: ['up', 'up2'] },
]

for (const host of hostsByProtocol) {
  for (const { name, path, method = 'GET', others } of kinds) {
    test(`${name} brings the cookie beside the app's and the upstream's own (${host})`, async (t) => {
      const appCookies: Middleware = (_req, res, next) => {
        res.setHeader('Set-Cookie', ['app=1; Path=/', 'app2=2'])
        next()
      }
      const { front } = await several(t, { sticky: seat }, { ...telling, host, before: [appCookies] })

      const client = await front.open(path, { method })

      const names = cookiesOf(client).map((cookie) => cookie.split('=')[0])
      assert.deepEqual(names, [...others, 'seat'])
    })
  }
}

test('the cookie is for HTTP only, for the whole site, and holds a day', async (t) => {
  const { front } = await several(t, { sticky: seat }, telling)

  const client = await front.open()

  const [, ...attributes] = seatOf(client).split('; ')
  assert.deepEqual(attributes, ['Path=/', 'Max-Age=86400', 'HttpOnly', 'SameSite=Lax'])
})

test('the cookie holds as long as ttlMs says', async (t) => {
  const { front } = await several(t, { sticky: { ...seat, ttlMs: 5_400_000 } }, telling)

  assert.match(seatOf(await front.open()), /; Max-Age=5400;/)
})

const secureHosts: {
  name: string
  host: Host
  before?: Middleware[]
  isSecure: boolean
  headers?: RequestOptions['headers']
}[] = [
  { name: 'HTTP/2', host: 'connect over http2', isSecure: true },
  { name: 'HTTP/2 in Express', host: 'express5 over http2', isSecure: true },
  { name: 'plain HTTP', host: 'http', isSecure: false },
  {
    name: 'a proxy in front that ends TLS and that Express trusts',
    host: 'express5',
    before: [(req, _res, next) => next(void req.app.set('trust proxy', true))],
    headers: { 'x-forwarded-proto': 'https' },
    isSecure: true,
  },
  {
    name: 'a proxy in front that nobody trusts',
    host: 'express5',
    headers: { 'x-forwarded-proto': 'https' },
    isSecure: false,
  },
]

for (const { name, host, before = [], isSecure, headers = {} } of secureHosts) {
  test(`the cookie is ${isSecure ? 'Secure' : 'not Secure'} over ${name}`, async (t) => {
    const { front } = await several(t, { sticky: seat }, { ...telling, host, before })

    const client = await front.open('', { headers })

    assert.equal(/; Secure$/.test(seatOf(client)), isSecure)
  })
}

test('the cookie is Secure over HTTP/1.1 with TLS', async (t) => {
  const { front } = await several(t, { sticky: seat }, { ...telling, host: 'express5 over http2' })

  const client = await front.open('', { protocol: 'http/1.1' })

  assert.match(seatOf(client), /; Secure$/)
})

test("nothing of the upstream's address is in the cookie", async (t) => {
  const { upstreams, front } = await several(t, { sticky: seat }, telling)

  for (let i = 0; i < 3; i += 1) {
    const value = pairOf(await front.open())
    const readings = [
      value,
      ...['base64', 'hex'].map((coding) => Buffer.from(value, coding as BufferEncoding).toString('latin1')),
    ]
    for (const reading of readings) {
      for (const { port } of upstreams) assert.ok(!reading.includes(String(port)))
      assert.doesNotMatch(reading, /127\.0|http|stream/)
    }
  }
})

const badCookies: { name: string; from: (pair: string) => string }[] = [
  { name: 'was changed', from: (pair) => pair.replace(/=./, (start) => (start === '=A' ? '=B' : '=A')) },
  { name: 'was cut short', from: (pair) => pair.slice(0, -1) },
  { name: 'is empty', from: () => 'seat=' },
  { name: 'is of another kind', from: () => 'seat=12' },
  { name: 'is full of dots', from: () => `seat=${'.'.repeat(1_000)}` },
]

for (const { name, from } of badCookies) {
  test(`a cookie that ${name} is ignored, and replaced`, async (t) => {
    const { upstreams, front } = await several(t, { sticky: seat }, telling)
    const pair = pairOf(await front.open())
    const headers = { cookie: from(pair) }

    const clients = await Promise.all(Array.from({ length: 6 }, () => front.open('?stream', { headers })))

    assert.deepEqual(
      upstreams.map(({ open }) => open),
      [2, 2, 2],
    )
    for (const client of clients) assert.notEqual(seatOf(client), '')
  })
}

test("a cookie of another proxy's secret is ignored, and replaced", async (t) => {
  const { urls, front } = await several(t, { sticky: seat }, telling)
  const foreign = sseProxy({ target: urls, sticky: { ...seat, secret: `${secret}, but another` } })
  const foreignFront = await startFront('express5', foreign)
  t.after(() => foreignFront.close())

  const client = await front.open('', { headers: { cookie: pairOf(await foreignFront.open()) } })

  assert.notEqual(seatOf(client), '')
})

test('a cookie that is too old is ignored, and replaced', async (t) => {
  const { front } = await several(t, { sticky: { ...seat, ttlMs: 1_000 } }, telling)
  const first = await front.open()
  const issuedAt = Date.now()
  await until(() => Date.now() > issuedAt + 1_000, 'the cookie to expire')

  const client = await front.open('', { headers: { cookie: pairOf(first) } })

  assert.notEqual(seatOf(client), '')
})

test('a client whose upstream is down keeps its cookie and comes back with it', async (t) => {
  const stage = await fallible(t, { sticky: seat })
  const client = stage.front.request()
  const home = await client.whole()
  const headers = { cookie: pairOf(client) }

  stage.down.add(home)
  for (let i = 0; i < 3; i += 1) {
    const displaced = stage.front.request('', { headers })
    assert.notEqual(await displaced.whole(), home)
    assert.deepEqual(cookiesOf(displaced), [])
  }

  stage.down.delete(home)
  await stage.untilHealthy()
  assert.equal(await placeOf(stage.front, '', { headers }), home)
})

test('an upstream that has only failed a client gives it no cookie', async (t) => {
  const { front } = await several(t, { sticky: seat }, { upstream: { handler: (exchange) => exchange.answer(503) } })

  const client = await front.open()

  assert.equal(client.status, 503)
  assert.deepEqual(cookiesOf(client), [])
})

test('an upstream over TLS is as good a home as any', async (t) => {
  const upstream = { ...telling.upstream, tls: certificate }
  const { front } = await several(t, { sticky: seat, secure: false }, { upstream })
  const client = front.request()
  const place = await client.whole()

  assert.equal(await placeOf(front, '', { headers: { cookie: pairOf(client) } }), place)
})

const alice: RequestOptions = { headers: { 'x-user': 'alice' } }

/** Upstreams that tell who they are. */
const telling = {
  upstream: {
    handler: (exchange: Exchange): void => {
      const headers = { 'set-cookie': ['up=1', 'up2=2; Path=/'] }
      if (exchange.url.includes('?stream')) exchange.stream(headers)
      else if (exchange.url.includes('?plain')) exchange.answer(200)
      else if (exchange.url.includes('?nothing')) exchange.answer(204, headers)
      else exchange.answer(200, headers, String(exchange.req.socket.localPort))
    },
  },
} satisfies SeveralArrangement

async function placeOf(front: Several['front'], path: string = '', options: RequestOptions = {}): Promise<string> {
  const place = await front.request(path, options).whole()
  assert.match(place, /^\d+$/)
  return place
}

interface Fallible {
  front: Several['front']
  /** Upstreams that close every connection. */
  down: Set<string>
  untilHealthy(): Promise<void>
}

/** Upstreams that tell who they are, unless they are down; they are left alone for a moment only. */
async function fallible(t: TestContext, options: Partial<SseProxyOptions>): Promise<Fallible> {
  const down = new Set<string>()
  const handler = (exchange: Exchange): void => {
    const place = String(exchange.req.socket.localPort)
    if (down.has(place)) exchange.req.socket.resetAndDestroy()
    else exchange.answer(200, {}, place)
  }
  const { front, proxy } = await several(
    t,
    { health: { failures: 1, ejectMs: 100 }, ...options },
    { upstream: { handler } },
  )
  const untilHealthy = (): Promise<void> =>
    until(() => proxy.stats().upstreams.every(({ healthy }) => healthy), 'all upstreams to be asked again')
  return { front, down, untilHealthy }
}

async function placesOf({ front }: Fallible, times: number): Promise<string[]> {
  const places: string[] = []
  for (let i = 0; i < times; i += 1) places.push(await placeOf(front, '', alice))
  return places
}

/** The upstream that was reached by a request that nobody has taken, with its exchange. */
async function arrival(upstreams: readonly Upstream[]): Promise<{ upstream: Upstream; exchange: Exchange }> {
  await until(() => upstreams.some(({ open }) => open > 0), 'a request to arrive')
  const upstream = upstreams.find(({ open }) => open > 0) as Upstream
  return { upstream, exchange: await upstream.next() }
}

function cookiesOf(client: Client): string[] {
  return [client.headers['set-cookie'] ?? []].flat()
}

function seatOf(client: Client): string {
  return cookiesOf(client).find((cookie) => cookie.startsWith('seat=')) ?? ''
}

/** What the client sends back of it. */
function pairOf(client: Client): string {
  return seatOf(client).split(';')[0] as string
}
