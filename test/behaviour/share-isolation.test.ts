// Who may share an upstream stream and who may not: by default two users never meet, whatever they send and whenever
// they come, and what was meant for one client never reaches another.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import cors from 'cors'
import { sseProxy } from 'sse-proxy-middleware'
import type { Client, Headers } from '../support/client.ts'
import type { SseProxyOptions } from '../support/proxied.ts'
import { several } from '../support/several-upstreams.ts'
import { type Asked, apartFrom, ask, asked, joined, lengthOf, moments, shared, sharedBy } from '../support/sharing.ts'
import { until } from '../support/waiting.ts'

interface Case {
  name: string
  first: Asked
  second: Asked
}

const apart: Case[] = [
  { name: 'Authorization', first: asked({ authorization: 'Bearer a' }), second: asked({ authorization: 'Bearer b' }) },
  { name: 'an Authorization and none', first: asked({ authorization: 'Bearer a' }), second: asked({}) },
  { name: 'none and an Authorization', first: asked({}), second: asked({ authorization: 'Bearer a' }) },
  { name: 'an Authorization that is empty and none', first: asked({ authorization: '' }), second: asked({}) },
  {
    name: 'the case of a token',
    first: asked({ authorization: 'Bearer a' }),
    second: asked({ authorization: 'Bearer A' }),
  },
  { name: 'Cookie', first: asked({ cookie: 'session=a' }), second: asked({ cookie: 'session=b' }) },
  { name: 'a Cookie and none', first: asked({ cookie: 'session=a' }), second: asked({}) },
  {
    name: 'one cookie of two',
    first: asked({ cookie: 'x=1; session=a' }),
    second: asked({ cookie: 'x=1; session=b' }),
  },
  {
    name: 'two Cookie lines',
    first: asked({ cookie: ['x=1', 'session=a'] }),
    second: asked({ cookie: ['x=1', 'session=b'] }),
  },
  {
    name: 'a token in Authorization and the same in Cookie',
    first: asked({ authorization: 'a' }),
    second: asked({ cookie: 'a' }),
  },
  { name: 'Host', first: asked({ host: 'a.example' }), second: asked({ host: 'b.example' }) },
  { name: 'the path', first: asked({}, '/a'), second: asked({}, '/b') },
  { name: 'the query', first: asked({}, '?token=a'), second: asked({}, '?token=b') },
  { name: 'a query and none', first: asked({}, '?token=a'), second: asked({}) },
  { name: 'the case of the query', first: asked({}, '?token=a'), second: asked({}, '?token=A') },
  {
    name: 'the query beside an id',
    first: asked({}, '?lastEventId=1&token=a'),
    second: asked({}, '?lastEventId=1&token=b'),
  },
  {
    name: 'what follows an id behind a semicolon',
    first: asked({}, '?lastEventId=1;user=a'),
    second: asked({}, '?lastEventId=1;user=b'),
  },
  {
    name: 'a value that imitates an id',
    first: asked({}, '?user=x?lastEventId=a'),
    second: asked({}, '?user=x?lastEventId=b'),
  },
  {
    name: 'a parameter that ends like an id',
    first: asked({}, '?xlastEventId=1'),
    second: asked({}, '?xlastEventId=2'),
  },
  {
    name: 'a parameter that starts like an id',
    first: asked({}, '?lastEventIds=1'),
    second: asked({}, '?lastEventIds=2'),
  },
  {
    name: 'quotes that imitate the end of a field',
    first: asked({ authorization: 'a","b' }),
    second: asked({ authorization: 'a', cookie: 'b' }),
  },
]

for (const moment of moments) {
  for (const { name, first, second } of apart) {
    test(`clients that differ in ${name} have streams of their own, ${moment}`, async (t) => {
      const room = await shared(t)

      const { streams, clients } = await apartFrom(room, moment, first, second)

      streams[0].send({ data: 'for the first' })
      streams[1].send({ data: 'for the second' })
      await clients[0].waitFor('for the first\n\n')
      await clients[1].waitFor('for the second\n\n')
      assert.equal(clients[0].text, 'data: for the first\n\n')
      assert.equal(clients[1].text, 'data: for the second\n\n')
      assert.deepEqual(sharedBy(room.proxy), { streams: 2, clients: 2 })
    })
  }
}

const together: Case[] = [
  { name: 'Accept', first: asked({ accept: 'text/event-stream' }), second: asked({ accept: '*/*' }) },
  { name: 'an Accept and none', first: asked({ accept: 'text/event-stream' }), second: asked({}) },
  {
    name: 'User-Agent',
    first: asked({ 'user-agent': 'Mozilla/5.0 (X11)' }),
    second: asked({ 'user-agent': 'curl/8' }),
  },
  {
    name: 'Cache-Control and Pragma',
    first: asked({ 'cache-control': 'no-cache', pragma: 'no-cache' }),
    second: asked({ 'cache-control': 'no-store' }),
  },
  { name: 'Accept-Language', first: asked({ 'accept-language': 'de' }), second: asked({ 'accept-language': 'fr' }) },
  { name: 'Accept-Encoding', first: asked({ 'accept-encoding': 'gzip, br, zstd' }), second: asked({}) },
  {
    name: 'Sec-Fetch-* and Sec-CH-*',
    first: asked({ 'sec-fetch-mode': 'cors', 'sec-ch-ua': '"Chromium";v="153"', 'sec-ch-ua-mobile': '?0' }),
    second: asked({ 'sec-fetch-mode': 'no-cors', 'sec-fetch-site': 'same-origin', 'sec-gpc': '1' }),
  },
  {
    name: 'Origin and Referer',
    first: asked({ origin: 'http://a' }),
    second: asked({ origin: 'http://b', referer: 'b' }),
  },
  { name: 'DNT and Priority', first: asked({ dnt: '1' }), second: asked({ priority: 'u=4, i' }) },
  { name: 'Connection', first: asked({ connection: 'keep-alive' }), second: asked({ connection: 'close' }) },
  { name: 'Last-Event-ID', first: asked({ 'last-event-id': '5' }), second: asked({ 'last-event-id': '6' }) },
  { name: 'lastEventId in the query', first: asked({}, '?lastEventId=5'), second: asked({}, '?lastEventId=6') },
  {
    name: 'lastEventId in the query and none',
    first: asked({}, '?a=1&lastEventId=5&b=2'),
    second: asked({}, '?a=1&b=2'),
  },
  { name: 'last_event_id in the query', first: asked({}, '?a=1&last_event_id=5'), second: asked({}, '?a=1') },
]

for (const { name, first, second } of together) {
  test(`clients that differ in ${name} share a stream`, async (t) => {
    const room = await shared(t)
    const one = ask(room, first)
    const stream = (await room.upstream.next()).stream()
    await one.head()

    const other = await ask(room, second).head()
    stream.send({ data: 'for both' })

    await Promise.all([one, other].map((client) => client.waitFor('for both\n\n')))
    assert.equal(room.upstream.exchanges.length, 1)
    assert.deepEqual(sharedBy(room.proxy), { streams: 1, clients: 2 })
  })
}

const chromium: Headers = {
  connection: 'keep-alive',
  'sec-ch-ua-platform': '"Linux"',
  'cache-control': 'no-cache',
  'sec-ch-ua': '"Chromium";v="153", "Not/A)Brand";v="24"',
  'user-agent': 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/153.0.0.0 Safari/537.36',
  accept: 'text/event-stream',
  'sec-fetch-site': 'same-origin',
  'sec-fetch-mode': 'cors',
  'sec-fetch-dest': 'empty',
  referer: 'http://127.0.0.1/',
  'accept-encoding': 'gzip, deflate, br, zstd',
  'accept-language': 'en-US,en;q=0.9',
}
const firefox: Headers = {
  'user-agent': 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
  accept: 'text/event-stream',
  'accept-language': 'de,en-US;q=0.7,en;q=0.3',
  'accept-encoding': 'gzip, deflate',
  connection: 'keep-alive',
  'last-event-id': '17',
  'sec-fetch-dest': 'empty',
  'sec-fetch-mode': 'cors',
  priority: 'u=4',
  pragma: 'no-cache',
  'cache-control': 'no-cache',
}

test('two browsers of one user share a stream, and a browser of another user has its own', async (t) => {
  const room = await shared(t)
  const desk = ask(room, asked({ ...chromium, cookie: 'session=a' }))
  const stream = (await room.upstream.next()).stream()
  await desk.head()
  const phone = await ask(room, asked({ ...firefox, cookie: 'session=a' })).head()

  const stranger = ask(room, asked({ ...chromium, cookie: 'session=b' }))
  const other = (await room.upstream.next()).stream()
  await stranger.head()
  stream.send({ data: 'for a' })
  other.send({ data: 'for b' })

  await Promise.all([desk, phone].map((client) => client.waitFor('for a\n\n')))
  await stranger.waitFor('for b\n\n')
  assert.ok(!desk.text.includes('for b') && !phone.text.includes('for b') && !stranger.text.includes('for a'))
  assert.equal(room.upstream.exchanges.length, 2)
})

// What the upstream's answer depends on.

const varies: { name: string; vary: string | string[]; first: Headers; second: Headers }[] = [
  { name: 'a header', vary: 'X-Tenant', first: { 'x-tenant': 'a' }, second: { 'x-tenant': 'b' } },
  { name: 'a header that one lacks', vary: 'X-Tenant', first: { 'x-tenant': 'a' }, second: {} },
  { name: 'a header that the leader lacks', vary: 'x-tenant', first: {}, second: { 'x-tenant': 'b' } },
  { name: 'a header that is empty and none', vary: 'x-tenant', first: { 'x-tenant': '' }, second: {} },
  {
    name: 'the last of several',
    vary: 'Accept-Encoding, Origin ,X-Key',
    first: { 'x-key': 'a' },
    second: { 'x-key': 'b' },
  },
  {
    name: 'one in a second line',
    vary: ['Accept-Encoding', 'X-Key'],
    first: { 'x-key': 'a' },
    second: { 'x-key': 'b' },
  },
  {
    name: 'Accept-Language',
    vary: 'accept-language',
    first: { 'accept-language': 'de' },
    second: { 'accept-language': 'fr' },
  },
  { name: 'User-Agent', vary: 'User-Agent', first: { 'user-agent': 'a' }, second: { 'user-agent': 'b' } },
  { name: 'Origin', vary: 'Origin', first: { origin: 'http://a.example' }, second: { origin: 'http://b.example' } },
]

for (const moment of moments) {
  for (const preserveHeaderKeyCase of [false, true]) {
    for (const { name, vary, first, second } of varies) {
      const how = preserveHeaderKeyCase ? ', header names kept as they are' : ''
      test(`an upstream that varies by ${name} is asked for each, ${moment}${how}`, async (t) => {
        const room = await shared(t, {}, { preserveHeaderKeyCase })

        const { streams, clients } = await apartFrom(room, moment, asked(first), asked(second), { vary })

        streams[0].send({ data: 'for the first' })
        streams[1].send({ data: 'for the second' })
        await clients[0].waitFor('for the first\n\n')
        await clients[1].waitFor('for the second\n\n')
        assert.equal(clients[0].text, 'data: for the first\n\n')
        assert.equal(clients[1].text, 'data: for the second\n\n')
      })
    }
  }

  test(`an upstream that varies by everything is asked for each, ${moment}`, async (t) => {
    const room = await shared(t)

    const { streams, clients } = await apartFrom(room, moment, asked({}), asked({}), { vary: '*' })

    streams[0].send({ data: 'for the first' })
    streams[1].send({ data: 'for the second' })
    await clients[0].waitFor('for the first\n\n')
    await clients[1].waitFor('for the second\n\n')
    assert.equal(clients[0].text, 'data: for the first\n\n')
    assert.equal(clients[1].text, 'data: for the second\n\n')
  })
}

for (const vary of ['Accept-Encoding', 'Authorization, Cookie', 'Accept', 'X-Tenant']) {
  test(`clients that are alike in what the upstream varies by share a stream: ${vary}`, async (t) => {
    const room = await shared(t)
    const headers = { 'x-tenant': 'a', authorization: 'Bearer a' }
    const first = ask(room, asked({ ...headers, accept: '*/*', 'accept-encoding': 'gzip' }))
    const exchange = await room.upstream.next()
    const waiting = ask(room, asked({ ...headers, accept: '*/*' }))
    await room.arrivals(2)

    const stream = exchange.stream({ vary })
    const later = await ask(room, asked({ ...headers, accept: '*/*' })).head()
    stream.send({ data: 'for all' })

    await Promise.all([first, waiting, later].map((client) => client.waitFor('for all\n\n')))
    assert.equal(room.upstream.exchanges.length, 1)
  })
}

test('clients of several tenants that waited together end up one stream for each tenant', async (t) => {
  const room = await shared(t)
  const tenants = ['a', 'b', 'c', 'a', 'b', 'c', 'c']
  const clients = [ask(room, asked({ 'x-tenant': 'a' }))]
  const first = await room.upstream.next()
  for (const tenant of tenants.slice(1)) clients.push(ask(room, asked({ 'x-tenant': tenant })))
  await room.arrivals(tenants.length)

  const streams = new Map([['a', first.stream({ vary: 'X-Tenant' })]])
  for (let count = 0; count < 2; count += 1) {
    const exchange = await room.upstream.next()
    streams.set(String(exchange.headers['x-tenant']), exchange.stream({ vary: 'X-Tenant' }))
  }
  await Promise.all(clients.map((client) => client.head()))
  for (const [tenant, stream] of streams) stream.send({ data: `for ${tenant}` })

  for (const [i, tenant] of tenants.entries()) {
    await clients[i]!.waitFor('\n\n')
    assert.equal(clients[i]!.text, `data: for ${tenant}\n\n`)
  }
  assert.equal(room.upstream.exchanges.length, 3)
  assert.deepEqual(sharedBy(room.proxy), { streams: 3, clients: tenants.length })
})

test('the stream of an leader that left while it was opening is not given to another tenant', async (t) => {
  const room = await shared(t)
  const leader = ask(room, asked({ 'x-tenant': 'a' }))
  const first = await room.upstream.next()
  const waiting = ask(room, asked({ 'x-tenant': 'b' }))
  await room.arrivals(2)
  leader.close()
  await room.departures(1)

  const lost = first.stream({ vary: 'x-tenant' })
  lost.send({ data: 'for a' })
  const stream = (await room.upstream.next()).stream({ vary: 'x-tenant' })
  stream.send({ data: 'for b' })

  await waiting.waitFor('for b\n\n')
  assert.equal(waiting.text, 'data: for b\n\n')
  await first.leftByPeer()
})

test('an upstream that varies by one header now and by another then mixes nobody up', async (t) => {
  const room = await shared(t)
  const alice = ask(room, asked({ 'x-user': 'alice', 'x-other': '1' }))
  const first = (await room.upstream.next()).stream({ vary: 'X-User' })
  await alice.head()
  const bob = ask(room, asked({ 'x-user': 'bob', 'x-other': '1' }))
  ;(await room.upstream.next()).stream({ vary: 'X-Other' })
  await bob.head()

  const mallory = ask(room, asked({ 'x-user': 'mallory', 'x-other': 'alice' }))
  await until(() => mallory.hasHead || room.upstream.exchanges.length === 3, 'the third to be served')
  first.send({ data: 'for alice' })
  await alice.waitFor('for alice\n\n')

  assert.equal(room.upstream.exchanges.length, 3)
  room.upstream.exchanges[2]!.stream()
  await mallory.head()
  assert.ok(!mallory.text.includes('alice'))
})

for (const vary of ['X-Api-Key', '*']) {
  test(`an answer that is no stream is not given to another user either: Vary: ${vary}`, async (t) => {
    const room = await shared(t)
    const alice = ask(room, asked({ 'x-api-key': 'alice' }))
    const first = await room.upstream.next()
    const bob = ask(room, asked({ 'x-api-key': 'bob' }))
    await room.arrivals(2)

    const balance = '"the balance of alice"'
    first.answer(200, { 'content-type': 'application/json', vary, ...lengthOf(balance) }, balance)
    const second = await room.upstream.next()
    second.answer(200, { 'content-type': 'application/json', vary }, '"the balance of bob"')

    assert.equal(await alice.whole(), '"the balance of alice"')
    assert.equal(await bob.whole(), '"the balance of bob"')
    assert.equal(second.headers['x-api-key'], 'bob')
  })
}

// What the app does with a request decides whose it is, too.

for (const option of ['router', 'pathRewrite'] as const) {
  test(`a ${option} that is a function may tell clients apart, so the app has to say who shares`, () => {
    const target = 'http://127.0.0.1:1'
    const options: SseProxyOptions = { target, [option]: () => target, share: { lingerMs: 1 } }

    assert.throws(() => sseProxy(options), {
      code: 'ERR_SSE_PROXY_OPTION',
      message: new RegExp(`share\\.key.*${option}`),
    })
    assert.throws(() => sseProxy({ ...options, share: true }), { code: 'ERR_SSE_PROXY_OPTION' })
    sseProxy({ ...options, share: { key: () => undefined } })
    sseProxy({ ...options, share: false })
  })
}

test('clients whom a router sends to different upstreams never meet when the key says so', async (t) => {
  const { upstreams, front } = await several(
    t,
    (urls) => ({
      target: urls[0]!,
      router: (req) => urls[req.headers['x-tenant'] === 'b' ? 1 : 0]!,
      share: { lingerMs: 1, key: (req) => String(req.headers['x-tenant']) },
      keepalive: false,
    }),
    { count: 2 },
  )
  const first = front.request('', { headers: { 'x-tenant': 'a' } })
  const stream = (await upstreams[0].next()).stream()
  await first.head()

  const second = front.request('', { headers: { 'x-tenant': 'b' } })
  const other = (await upstreams[1].next()).stream()
  await second.head()
  stream.send({ data: 'for a' })
  other.send({ data: 'for b' })

  await first.waitFor('for a\n\n')
  await second.waitFor('for b\n\n')
  assert.equal(first.text, 'data: for a\n\n')
  assert.equal(second.text, 'data: for b\n\n')
})

test('clients whose URL a middleware has rewritten by who they are never meet', async (t) => {
  const room = await shared(
    t,
    {},
    {},
    {
      before: [
        (req, _res, next) => {
          req.url = `/users/${req.headers['x-user']}`
          next()
        },
      ],
    },
  )

  await apartFrom(room, 'when the stream is open', asked({ 'x-user': 'a' }), asked({ 'x-user': 'b' }))

  assert.deepEqual(
    room.upstream.exchanges.map(({ url }) => url),
    ['/stream/users/a', '/stream/users/b'],
  )
})

test('clients that differ in what follows an id behind a number sign have streams of their own', async (t) => {
  const room = await shared(
    t,
    {},
    {},
    {
      before: [
        (req, _res, next) => {
          req.url = req.url.replace('%23', '#')
          next()
        },
      ],
    },
  )

  await apartFrom(
    room,
    'when the stream is open',
    asked({}, '?lastEventId=1%23user=a'),
    asked({}, '?lastEventId=1%23user=b'),
  )
})

for (const header of ['authorization', 'cookie']) {
  test(`clients whose ${header} a middleware has exchanged for a name never meet`, async (t) => {
    const room = await shared(
      t,
      {},
      {},
      {
        before: [
          (req, _res, next) => {
            req.headers['x-user-id'] = String(req.headers[header]).slice(-1)
            delete req.headers[header]
            next()
          },
        ],
      },
    )

    await apartFrom(room, 'when the stream is open', asked({ [header]: 'user=a' }), asked({ [header]: 'user=b' }))

    assert.deepEqual(
      room.upstream.exchanges.map(({ headers }) => headers['x-user-id']),
      ['a', 'b'],
    )
  })
}

for (const { name, method = 'GET', headers = {}, body } of [
  { name: 'a body', headers: { 'content-type': 'application/json' }, body: '{"room":1}' },
  { name: 'a Range', headers: { range: 'bytes=0-1' } },
  { name: 'If-None-Match', headers: { 'if-none-match': '*' } },
  { name: 'If-Modified-Since', headers: { 'if-modified-since': 'Sat, 01 Jan 2022 00:00:00 GMT' } },
  { name: 'an Accept that excludes event streams', headers: { accept: 'application/json' } },
  { name: 'the method POST', method: 'POST', body: '' },
  { name: 'the method HEAD', method: 'HEAD' },
  { name: 'the method OPTIONS', method: 'OPTIONS' },
] as { name: string; method?: string; headers?: Headers; body?: string }[]) {
  test(`a request with ${name} is nobody else's: neither its stream nor its answer is shared`, async (t) => {
    const room = await shared(t)
    const special = ask(room, { options: { method, headers, ...(body === undefined ? {} : { body }) } })
    const first = await room.upstream.next()

    const usual = ask(room, asked({}))
    const second = await room.upstream.next()
    first.answer(200, { 'content-type': 'application/json', ...lengthOf('{}') }, '{}')
    const stream = second.stream()
    const another = ask(room, { options: { method, headers, ...(body === undefined ? {} : { body }) } })
    const third = await room.upstream.next()
    third.answer(200, { 'content-type': 'application/json' }, '{}')
    stream.send({ data: 'for the usual' })

    await usual.waitFor('for the usual')
    assert.equal(await special.ended(), 'clean')
    assert.equal(await another.ended(), 'clean')
    assert.equal(usual.status, 200)
    assert.deepEqual(sharedBy(room.proxy), { streams: 1, clients: 1 })
  })
}

test('two streams that were asked for by POST are two', async (t) => {
  const room = await shared(t)
  const clients = [1, 2].map(() => ask(room, { options: { method: 'POST', body: '{"prompt":"hello"}' } }))
  const exchanges = [await room.upstream.next(), await room.upstream.next()]

  for (const [i, exchange] of exchanges.entries()) exchange.stream().end(`data: ${i}\n\n`)

  const bodies = await Promise.all(clients.map((client) => client.whole()))
  assert.deepEqual(bodies.sort(), ['data: 0\n\n', 'data: 1\n\n'])
})

// The key of the app's own.

test('clients to whom the app gives one key share a stream, whatever else they are', async (t) => {
  const room = await shared(t, { key: (req) => String(req.headers['x-room']) })
  const first = ask(room, asked({ 'x-room': '1', authorization: 'a', cookie: 'a' }, '?a'))
  const stream = (await room.upstream.next()).stream({ vary: 'Authorization, X-Tenant' })
  await first.head()

  const second = await ask(room, asked({ 'x-room': '1', authorization: 'b', 'x-tenant': 'b' }, '?b')).head()
  const third = ask(room, asked({ 'x-room': '2', authorization: 'a', cookie: 'a' }, '?a'))
  ;(await room.upstream.next()).stream().send({ data: 'for room 2' })
  stream.send({ data: 'for room 1' })

  await Promise.all([first, second].map((client) => client.waitFor('for room 1\n\n')))
  await third.waitFor('for room 2\n\n')
  assert.equal(third.text, 'data: for room 2\n\n')
  assert.equal(room.upstream.exchanges.length, 2)
})

test('an empty key is a key', async (t) => {
  const room = await shared(t, { key: () => '' })
  const first = ask(room, asked({}, '/a'))
  ;(await room.upstream.next()).stream()
  await first.head()

  await ask(room, asked({}, '/b')).head()

  assert.equal(room.upstream.exchanges.length, 1)
})

test('a client to whom the app gives no key has a stream of its own', async (t) => {
  const room = await shared(t, { key: () => undefined })
  const clients = [1, 2].map(() => ask(room, asked({})))
  const exchanges = [await room.upstream.next(), await room.upstream.next()]

  for (const [i, exchange] of exchanges.entries()) exchange.stream().end(`data: ${i}\n\n`)

  const bodies = await Promise.all(clients.map((client) => client.whole()))
  assert.deepEqual(bodies.sort(), ['data: 0\n\n', 'data: 1\n\n'])
  assert.deepEqual(sharedBy(room.proxy), { streams: 0, clients: 0 })
})

for (const { name, key, message } of [
  { name: 'a number', key: 7, message: /share\.key: expected .* string.* got 7 \(number\)/ },
  { name: 'null', key: null, message: /share\.key: expected .* string.* got null/ },
  { name: 'an object', key: { user: 1 }, message: /share\.key: expected .* string.* \(object\)/ },
  { name: 'a promise', key: Promise.resolve('a'), message: /share\.key: expected .* at once, got a promise/ },
  { name: 'a symbol', key: Symbol('a'), message: /share\.key: expected .* string.* \(symbol\)/ },
]) {
  test(`a key that is ${name} is a mistake that the app's error handler is told`, async (t) => {
    const room = await shared(t, { key: (() => key) as never })

    const client = ask(room, asked({}))

    assert.equal(await client.whole(), 'the host caught an error')
    assert.equal(client.status, 500)
    assert.equal(room.front.errors.length, 1)
    assert.ok(room.front.errors[0] instanceof TypeError)
    assert.match(room.front.errors[0].message, message)
    assert.equal(room.upstream.exchanges.length, 0)
  })
}

test("what the key function throws goes to the app's error handler, and the next client is served", async (t) => {
  const thrown = new Error('no user')
  const room = await shared(t, {
    key: (req) => {
      if (req.headers.cookie === undefined) throw thrown
      return req.headers.cookie
    },
  })
  const failed = ask(room, asked({}))
  await failed.ended()

  const served = ask(room, asked({ cookie: 'a' }))
  ;(await room.upstream.next()).stream()
  await served.head()

  assert.equal(failed.status, 500)
  assert.deepEqual(room.front.errors, [thrown])
  assert.equal(served.status, 200)
  assert.equal(room.proxy.stats().active, 1)
})

// What an answer says to one client only.

for (const moment of moments) {
  test(`what an upstream says to its leader alone does not reach those who share by the app's key, ${moment}`, async (t) => {
    const room = await shared(t, { key: () => 'all' })
    const content = { 'content-type': 'text/event-stream; charset=utf-8', 'content-language': 'de', vary: 'X-Own' }
    const personal = {
      'set-cookie': ['session=secret; HttpOnly', 'other=1'],
      'set-cookie2': 'session=secret',
      'x-csrf-token': 'secret',
      'x-session': 'secret',
      'mcp-session-id': 'secret',
      'www-authenticate': 'Digest nonce="secret"',
      'authentication-info': 'nextnonce="secret"',
      'x-request-id': 'secret',
      'server-timing': 'secret',
      'content-location': '/secret',
      link: '</secret>; rel="self"',
      location: '/secret',
      'last-event-id': 'secret',
    }

    const [leader, joiner] = await joined(room, moment, asked({}), asked({}), { ...content, ...personal })

    for (const [name, value] of Object.entries({ ...content, ...personal }))
      assert.deepEqual(leader.headers[name], value)
    for (const [name, value] of Object.entries(content)) assert.equal(joiner.headers[name], value)
    assert.match(String(joiner.headers['cache-control']), /no-transform/)
    assert.doesNotMatch(JSON.stringify(joiner.headers), /secret/)
  })

  test(`a permission for one page's origin does not reach a client of another, ${moment}`, async (t) => {
    const room = await shared(t)
    const permission = {
      'access-control-allow-origin': 'http://a.example',
      'access-control-allow-credentials': 'true',
      'access-control-expose-headers': 'x-secret',
    }

    const [leader, joiner] = await joined(
      room,
      moment,
      asked({ origin: 'http://a.example' }),
      asked({ origin: 'http://b.example' }),
      permission,
    )

    assert.equal(leader.headers['access-control-allow-origin'], 'http://a.example')
    assert.deepEqual(corsOf(joiner), {})
  })

  test(`a permission for any origin, and one for the client's own, reach all, ${moment}`, async (t) => {
    for (const allowed of ['*', 'http://a.example']) {
      const room = await shared(t)

      const clients = await joined(
        room,
        moment,
        asked({ origin: 'http://a.example' }),
        asked({ origin: 'http://a.example' }),
        { 'access-control-allow-origin': allowed },
      )

      for (const client of clients) assert.deepEqual(corsOf(client), { 'access-control-allow-origin': allowed })
    }
  })

  test(`the app's own cors() and headers are each client's own, ${moment}`, async (t) => {
    let count = 0
    const room = await shared(
      t,
      {},
      {},
      {
        before: [
          cors({ origin: true, credentials: true }),
          (_req, res, next) => {
            res.setHeader('x-request', String(++count))
            res.setHeader('set-cookie', `own=${count}`)
            next()
          },
        ],
      },
    )

    const [leader, joiner] = await joined(
      room,
      moment,
      asked({ origin: 'http://a.example' }),
      asked({ origin: 'http://b.example' }),
      { 'access-control-allow-origin': 'http://a.example', 'content-language': 'de' },
    )

    const own = ({ headers }: Client) => [
      headers['access-control-allow-origin'],
      headers['access-control-allow-credentials'],
      headers['x-request'],
      headers['set-cookie'],
      headers['content-language'],
    ]
    assert.deepEqual(own(leader), ['http://a.example', 'true', '1', 'own=1', 'de'])
    assert.deepEqual(own(joiner), ['http://b.example', 'true', '2', 'own=2', 'de'])
  })
}

test('a cookie and a permission in an answer that is no stream reach the one who asked and nobody else', async (t) => {
  const room = await shared(t, { key: () => 'all' })
  const leader = ask(room, asked({ origin: 'http://a.example' }))
  const exchange = await room.upstream.next()
  const waiting = ask(room, asked({ origin: 'http://b.example' }))
  await room.arrivals(2)

  exchange.answer(
    401,
    {
      'set-cookie': 'session=secret',
      'x-csrf-token': 'secret',
      'access-control-allow-origin': 'http://a.example',
      ...lengthOf('who are you?'),
    },
    'who are you?',
  )

  assert.equal(await leader.whole(), 'who are you?')
  assert.equal(await waiting.whole(), 'who are you?')
  assert.equal(leader.headers['set-cookie'], 'session=secret')
  assert.equal(waiting.headers['set-cookie'], undefined)
  assert.equal(waiting.headers['x-csrf-token'], undefined)
  assert.deepEqual(corsOf(waiting), {})
})

test('the cookie that ties a client to an upstream is not given to others', async (t) => {
  const { upstreams, front } = await several(
    t,
    {
      sticky: { issueCookie: 'upstream', secret: 'sixteen characters' },
      balance: 'round-robin',
      share: { lingerMs: 1 },
      keepalive: false,
    },
    { count: 2 },
  )
  const leader = front.request()
  await until(() => upstreams.some(({ open }) => open === 1), 'a request to reach one of the upstreams')
  upstreams.find(({ open }) => open === 1)!.exchanges[0]!.stream()
  await leader.head()

  const joiner = await front.open()

  assert.match(String(leader.headers['set-cookie']), /^upstream=/)
  assert.equal(joiner.headers['set-cookie'], undefined)
})

test("what a client sends in its Last-Event-ID cannot be smuggled into another's headers", async (t) => {
  const room = await shared(t, { replay: { events: 1 } })
  const hostile = ask(room, asked({}, `?lastEventId=${encodeURIComponent('1\r\nSet-Cookie: session=evil\r\n\r\n')}`))
  const stream = (await room.upstream.next()).stream()
  await hostile.head()
  stream.send({ data: 'a' })
  await hostile.waitFor('data: a')

  const other = await ask(room, asked({ 'last-event-id': 'unknown' })).head()

  assert.equal(other.status, 200)
  assert.equal(other.headers['set-cookie'], undefined)
  assert.doesNotMatch(String(other.headers['last-event-id'] ?? ''), /[\r\n]/)
})

function corsOf({ headers }: Client): Headers {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => name.startsWith('access-control-')))
}
