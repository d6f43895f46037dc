// Whose a stream is where the app has not said it: what names a caller is never shared, an answer for one client stays
// with that client, and all others still have one upstream between them.
import assert from 'node:assert/strict'
import { AsyncLocalStorage } from 'node:async_hooks'
import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import { request as requestHttps } from 'node:https'
import { test } from 'node:test'
import type { SseStream } from 'sse-proxy-middleware'
import { certificate } from '../support/certificate.ts'
import type { Headers } from '../support/client.ts'
import { clientCertificate } from '../support/client-certificate.ts'
import type { Middleware } from '../support/front.ts'
import { proxied, type SseProxyOptions } from '../support/proxied.ts'
import { apartFrom, ask, asked, lengthOf, moments, type Room, shared, sharedBy } from '../support/sharing.ts'
import { until } from '../support/waiting.ts'

// Answers that are for one client.

const personal: { name: string; headers: Record<string, string | string[]> }[] = [
  { name: 'sets a cookie', headers: { 'set-cookie': 'session=secret; HttpOnly' } },
  { name: 'sets a cookie and may not be stored', headers: { 'set-cookie': 'session=1', 'cache-control': 'no-store' } },
  { name: 'is private', headers: { 'cache-control': 'private' } },
  { name: 'is private among other things', headers: { 'cache-control': 'no-cache, Private, no-store' } },
  { name: 'is private in a part', headers: { 'cache-control': 'max-age=1,private="x-user"' } },
  { name: 'depends on everything', headers: { vary: 'Accept-Encoding, *' } },
  { name: 'depends on more than is kept', headers: { vary: Array.from({ length: 500 }, (_, i) => `X-${i}`).join() } },
]

for (const moment of moments) {
  for (const preserveHeaderKeyCase of [false, true]) {
    for (const { name, headers } of personal) {
      const how = preserveHeaderKeyCase ? ', header names kept as they are' : ''
      test(`the session of one client is not streamed to the next when an answer ${name}, ${moment}${how}`, async (t) => {
        const room = await shared(t, {}, { preserveHeaderKeyCase })

        const { streams, clients } = await apartFrom(room, moment, asked({}), asked({}), headers)

        streams[0].send({ data: 'for the first' })
        streams[1].send({ data: 'for the second' })
        await clients[0].waitFor('for the first\n\n')
        await clients[1].waitFor('for the second\n\n')
        assert.equal(clients[0].text, 'data: for the first\n\n')
        assert.equal(clients[1].text, 'data: for the second\n\n')
        for (const { headers: got } of clients) {
          assert.deepEqual([got['set-cookie'] ?? []].flat(), [headers['set-cookie'] ?? []].flat())
        }
      })
    }
  }
}

for (const cacheControl of ['no-store', 'no-cache, no-store, max-age=0, must-revalidate', 'x-private', 'public']) {
  test(`clients share a stream whose answer says nothing of one client: Cache-Control: ${cacheControl}`, async (t) => {
    const room = await shared(t)
    const first = ask(room, asked({}))
    const stream = (await room.upstream.next()).stream({ 'cache-control': cacheControl })
    await first.head()

    const second = await ask(room, asked({})).head()
    stream.send({ data: 'for both' })

    await Promise.all([first, second].map((client) => client.waitFor('for both\n\n')))
    assert.equal(room.upstream.exchanges.length, 1)
  })
}

test('a crowd whose answers are private is not served one by one', async (t) => {
  const room = await shared(t)
  const clients = [ask(room, asked({}))]
  const first = await room.upstream.next()
  for (let count = 0; count < 20; count += 1) clients.push(ask(room, asked({})))
  await room.arrivals(21)

  first.stream({ 'set-cookie': 'session=1' })
  await until(() => room.upstream.exchanges.length === 21, 'all who waited to ask for themselves')
  const late = [ask(room, asked({})), ask(room, asked({}))]
  await until(() => room.upstream.exchanges.length === 23, 'those who come later to wait for nobody')

  for (const exchange of room.upstream.exchanges.slice(1)) exchange.stream({ 'set-cookie': 'session=2' })
  await Promise.all([...clients, ...late].map((client) => client.head()))
  assert.deepEqual(sharedBy(room.proxy), { streams: 0, clients: 0 })
})

test('an answer that is no stream and sets a cookie is not given to others who waited', async (t) => {
  const room = await shared(t)
  const clients = [ask(room, asked({}))]
  const first = await room.upstream.next()
  clients.push(ask(room, asked({})))
  await room.arrivals(2)

  const json = { 'content-type': 'application/json', 'set-cookie': 'session=1' }
  first.answer(200, { ...json, ...lengthOf('"the balance of the first"') }, '"the balance of the first"')
  ;(await room.upstream.next()).answer(200, json, '"the balance of the second"')

  const bodies = await Promise.all(clients.map((client) => client.whole()))
  assert.deepEqual(bodies, ['"the balance of the first"', '"the balance of the second"'])
})

test('the app may say that an answer is for all although it sets a cookie', async (t) => {
  const room = await shared(t, { key: () => 'all' })
  const first = ask(room, asked({}))
  const stream = (await room.upstream.next()).stream({ 'set-cookie': 'session=1', 'cache-control': 'private' })
  await first.head()

  const second = await ask(room, asked({})).head()
  stream.send({ data: 'for both' })

  await Promise.all([first, second].map((client) => client.waitFor('for both\n\n')))
  assert.equal(second.headers['set-cookie'], undefined)
})

for (const { name, headers } of [
  { name: 'sets a cookie', headers: { 'set-cookie': 'session=1' } },
  { name: 'is private', headers: { 'cache-control': 'private' } },
  { name: 'varies by what its clients differ in', headers: { vary: 'Accept-Language' } },
] as { name: string; headers: Record<string, string> }[]) {
  test(`a resume whose answer ${name} is not streamed to all, and those who come back are told apart`, async (t) => {
    const room = await shared(t, {}, { resume: { delayMs: 1 } })
    const languages = ['de', 'fr']
    const clients = [ask(room, asked({ 'accept-language': 'de' }))]
    const stream = (await room.upstream.next()).stream()
    await clients[0]!.head()
    clients.push(await ask(room, asked({ 'accept-language': 'fr' })).head())
    stream.send({ id: '1', data: 'for all' })
    await Promise.all(clients.map((client) => client.waitFor('for all\n\n')))

    stream.reset()
    ;(await room.upstream.next()).stream(headers).send({ id: '2', data: 'for one' })
    for (const client of clients) assert.equal(await client.ended(), 'broken')
    const back = languages.map((language) => ask(room, asked({ 'accept-language': language, 'last-event-id': '1' })))
    await until(() => room.upstream.exchanges.length === 4, 'each to ask for itself')

    for (const client of clients) assert.doesNotMatch(client.text, /for one/)
    for (const exchange of room.upstream.exchanges.slice(2)) exchange.stream(headers)
    await Promise.all(back.map((client) => client.head()))
  })
}

test('a resume whose answer is for all goes on', async (t) => {
  const room = await shared(t, {}, { resume: { delayMs: 1 } })
  const client = ask(room, asked({ 'accept-language': 'de' }))
  const stream = (await room.upstream.next()).stream({ vary: 'Accept-Language, Origin' })
  await client.head()
  stream.send({ id: '1', data: 'one' })
  await client.waitFor('one\n\n')

  stream.reset()
  ;(await room.upstream.next()).stream({ vary: 'Origin' }).send({ id: '2', data: 'two' })

  await client.waitFor('two\n\n')
})

// The key is made of what is sent.

for (const moment of moments) {
  test(`a header that Connection takes out of the leader's request does not speak for it, ${moment}`, async (t) => {
    const room = await shared(t)

    const { streams, clients } = await apartFrom(
      room,
      moment,
      asked({ 'x-t': '1', connection: 'x-t' }),
      asked({ 'x-t': '1' }),
      { vary: 'X-T' },
    )

    streams[0].send({ data: 'for nobody in particular' })
    streams[1].send({ data: 'for 1' })
    await clients[1].waitFor('for 1\n\n')
    assert.equal(clients[1].text, 'data: for 1\n\n')
    assert.deepEqual(
      room.upstream.exchanges.map(({ headers }) => headers['x-t']),
      [undefined, '1'],
    )
  })

  test(`Accept-Language taken out by Connection does not choose the language of those who send it, ${moment}`, async (t) => {
    const room = await shared(t)

    await apartFrom(
      room,
      moment,
      asked({ 'accept-language': 'de', connection: 'accept-language' }),
      asked({ 'accept-language': 'de' }),
      { vary: 'Accept-Language' },
    )
  })
}

// Who asks.

const callers = [
  ...['mcp-session-id', 'x-api-key', 'api-key', 'apikey', 'x_api_key', 'proxy-authorization', 'x-auth-token'],
  ...[
    'x-access-token',
    'x-csrf-token',
    'x-xsrf-token',
    'x-amz-security-token',
    'x-goog-api-key',
    'x-goog-iam-authority',
  ],
  ...['x-goog-authenticated-user-email', 'x-goog-iap-jwt-assertion', 'cf-access-jwt-assertion', 'x-user', 'x-user-id'],
  ...['x-session', 'x-session-id', 'session-id', 'ocp-apim-subscription-key', 'x-functions-key', 'private-token'],
  ...['x-ms-client-principal', 'x-forwarded-user', 'x-forwarded-email', 'x-forwarded-client-cert', 'x-ssl-client-s-dn'],
  ...['remote-user', 'x-remote-user', 'x-consumer-id', 'x-account-id', 'x-customer-id', 'x-device-id', 'x-client-id'],
  ...['dpop', 'x-vault-token', 'x-hub-signature-256', 'x-amzn-oidc-identity', 'from', 'x-parse-session-token', 'x-uid'],
]

for (const name of callers) {
  test(`requests that carry ${name} are never joined, not even to their like`, async (t) => {
    const room = await shared(t)

    await apartFrom(room, 'when the stream is open', asked({ [name]: 'a' }), asked({ [name]: 'a' }))

    assert.deepEqual(sharedBy(room.proxy), { streams: 0, clients: 0 })
  })
}

test('the streams of two MCP sessions do not become one', async (t) => {
  const room = await shared(t)

  const { streams, clients } = await apartFrom(
    room,
    'when the stream is open',
    asked({ 'mcp-session-id': 'a' }),
    asked({ 'mcp-session-id': 'b' }),
  )

  streams[0].send({ data: 'for a' })
  streams[1].send({ data: 'for b' })
  await clients[0].waitFor('for a\n\n')
  await clients[1].waitFor('for b\n\n')
  assert.equal(clients[1].text, 'data: for b\n\n')
})

test('a key of a caller that a middleware has checked and removed still keeps callers apart', async (t) => {
  const room = await shared(
    t,
    {},
    {},
    {
      before: [
        (req, _res, next) => {
          delete req.headers['x-api-key']
          next()
        },
      ],
    },
  )

  await apartFrom(room, 'when the stream is open', asked({ 'x-api-key': 'a' }), asked({ 'x-api-key': 'b' }))
})

for (const { name, first, second } of [
  { name: 'a header of their own', first: { 'x-tenant': 'a' }, second: { 'x-tenant': 'b' } },
  { name: 'a header that one lacks', first: { 'x-workspace': 'a' }, second: {} },
  {
    name: 'the host that a proxy was asked for',
    first: { 'x-forwarded-host': 'a' },
    second: { 'x-forwarded-host': 'b' },
  },
  { name: 'the host in Forwarded', first: { forwarded: 'for=1;host=a' }, second: { forwarded: 'for=1;host=b' } },
] as { name: string; first: Headers; second: Headers }[]) {
  test(`clients that differ in ${name} have streams of their own, although the upstream says nothing of it`, async (t) => {
    const room = await shared(t)

    await apartFrom(room, 'when the stream is open', asked(first), asked(second))
  })
}

test('browsers behind load balancers share a stream, whatever those say of them and of the trace', async (t) => {
  const room = await shared(t)
  const ofNumber = (n: number): Headers => ({
    'user-agent': `Mozilla/5.0 (${n})`,
    'accept-language': `en;q=0.${n}`,
    'sec-ch-ua': `"Chromium";v="${n}"`,
    'sec-fetch-user': `?${n}`,
    'x-forwarded-for': `192.0.2.${n}`,
    'x-real-ip': `192.0.2.${n}`,
    forwarded: `for=192.0.2.${n};host=example.org`,
    'cf-ray': `${n}`,
    'cf-connecting-ip': `192.0.2.${n}`,
    'cloudfront-viewer-address': `192.0.2.${n}`,
    'x-amzn-trace-id': `Root=${n}`,
    'x-request-id': `${n}`,
    traceparent: `00-${n}`,
    'x-b3-traceid': `${n}`,
    via: `1.1 edge-${n}`,
    'x-forwarded-proto': 'https',
    'x-forwarded-host': 'example.org',
  })
  const one = ask(room, asked(ofNumber(1)))
  const stream = (await room.upstream.next()).stream()
  await one.head()

  // The same headers in another order.
  const reversed = Object.fromEntries(Object.entries(ofNumber(2)).reverse())
  const other = await ask(room, asked(reversed)).head()
  stream.send({ data: 'for both' })

  await Promise.all([one, other].map((client) => client.waitFor('for both\n\n')))
  assert.equal(room.upstream.exchanges.length, 1)
})

for (const protocol of ['http/1.1', 'h2'] as const) {
  test(`a client that shows a certificate has a stream of its own (${protocol})`, async (t) => {
    const tls = { ca: clientCertificate.cert, requestCert: true, rejectUnauthorized: false }
    const room = await shared(t, {}, {}, { host: 'connect over http2', tls })

    const clients: { leave(): void }[] = []
    for (const shown of [clientCertificate, clientCertificate, {}, {}]) {
      const before = room.upstream.exchanges.length
      const client = openTls(room, protocol, shown)
      clients.push(client)
      await until(() => room.upstream.exchanges.length > before || room.proxy.stats().shared.clients === 2, 'an answer')
      if (room.upstream.exchanges.length > before) room.upstream.exchanges.at(-1)!.stream()
      await client.head
    }
    const { shared: sharedNow } = room.proxy.stats()
    for (const client of clients) client.leave()

    assert.equal(room.upstream.exchanges.length, 3)
    assert.deepEqual([sharedNow.streams, sharedNow.clients], [1, 2])
  })
}

// The app's own key.

const url = (req: { url?: string | undefined }): string => String(req.url)
const warned: { name: string; key: (req: never) => string; headers: Headers; warnings: number }[] = [
  { name: 'the URL, with a cookie', key: url, headers: { cookie: 'session=a' }, warnings: 1 },
  { name: 'the URL, with Authorization', key: url, headers: { authorization: 'Bearer a' }, warnings: 1 },
  { name: 'the URL, with an API key', key: url, headers: { 'x-api-key': 'a' }, warnings: 1 },
  {
    name: 'the whole URL',
    key: ({ originalUrl }: { originalUrl: string }) => originalUrl,
    headers: { cookie: 'a=1' },
    warnings: 1,
  },
  {
    name: 'the path of the URL',
    key: (req: { url: string }) => req.url.replace(/\?.*/, ''),
    headers: { cookie: 'a=1' },
    warnings: 1,
  },
  {
    name: 'the query of the URL',
    key: (req: { url: string }) => req.url.replace(/.*\?/, ''),
    headers: { cookie: 'a=1' },
    warnings: 1,
  },
  { name: 'the URL, without credentials', key: url, headers: { 'accept-language': 'de' }, warnings: 0 },
  { name: 'a constant', key: () => '/?room=1', headers: { cookie: 'session=a' }, warnings: 0 },
  {
    name: 'the user and the URL',
    key: (req: { url: string; headers: Record<string, string> }) => `${req.headers.cookie} ${req.url}`,
    headers: { cookie: 'session=a' },
    warnings: 0,
  },
]

for (const { name, key, headers, warnings } of warned) {
  test(`a key function that returns ${name} is warned of ${warnings === 0 ? 'never' : 'once'}`, async (t) => {
    const told: string[] = []
    const logger = { info() {}, error() {}, warn: (text: string) => void told.push(text) }
    const room = await shared(t, { key } as { key: () => string }, { logger, name: 'feed' })

    const first = ask(room, asked(headers, '?room=1'))
    ;(await room.upstream.next()).stream()
    await first.head()
    const second = await ask(room, asked(headers, '?room=1')).head()

    assert.equal(second.status, 200)
    const ours = told.filter((text) => text.includes('share.key'))
    assert.equal(ours.length, warnings)
    if (warnings > 0) assert.match(ours[0]!, /^\[feed\] share\.key returned the URL alone .* credentials/)
  })
}

for (const logger of [undefined, { info() {}, error() {}, warn: () => assert.fail('a logger that throws') }]) {
  test(`a key function is no reason to fail where the logger ${logger ? 'throws' : 'is missing'}`, async (t) => {
    const room = await shared(t, { key: url }, { ...(logger && { logger }) } as Partial<SseProxyOptions>)

    const client = ask(room, asked({ cookie: 'session=a' }))
    ;(await room.upstream.next()).stream()

    assert.equal((await client.head()).status, 200)
  })
}

/** Sends a request over TLS; tells when its answer's head is there, and how to leave. */
function openTls(
  { front }: Room,
  protocol: 'http/1.1' | 'h2',
  shown: { key?: string; cert?: string },
): { head: Promise<unknown>; leave(): void } {
  const options = { ...shown, ca: certificate.cert, servername: 'localhost' }
  if (protocol === 'h2') {
    const session = connectHttp2(front.origin, options)
    const head = once(session.request({ ':path': front.mount }), 'response')
    return { head, leave: () => session.destroy() }
  }
  const request = requestHttps(front.url, { ...options, agent: false }).end()
  return { head: once(request, 'response'), leave: () => request.destroy() }
}

test('the callbacks of a client run in its own async context, and not in that of whoever has opened the stream', async (t) => {
  const user = new AsyncLocalStorage<string>()
  const seen: string[] = []
  const note = (what: string) => (stream: SseStream) =>
    void seen.push(`${what} for ${stream.req.headers['x-user']} as ${user.getStore()}`)
  const asUser: Middleware = (req, _res, next) => user.run(req.headers['x-user'], next)
  const { proxy, upstream, front } = await proxied(
    t,
    {
      share: { lingerMs: 0, key: () => 'all', transform: (_event, stream) => note('transform')(stream) },
      onOpen: note('onOpen'),
      onEnd: note('onEnd'),
      onClose: note('onClose'),
    },
    { before: [asUser] },
  )
  const clients = ['ada', 'bob'].map((name) => front.request('', { headers: { 'x-user': name } }))
  const stream = (await upstream.next()).stream()
  await until(() => proxy.stats().shared.clients === 2, 'both clients to share')
  stream.end('data: one\n\n')
  await Promise.all(clients.map((client) => client.whole()))

  const expected = ['ada', 'bob'].flatMap((name) =>
    ['onClose', 'onEnd', 'onOpen', 'transform'].map((what) => `${what} for ${name} as ${name}`),
  )
  assert.deepEqual(seen.sort(), expected.sort())
})
