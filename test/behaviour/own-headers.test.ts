// Headers that a target gets of its own, and headers of clients that no upstream gets.
import assert from 'node:assert/strict'
import { type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http'
import type { Duplex } from 'node:stream'
import { type TestContext, test } from 'node:test'
import { headerOf } from '../support/client.ts'
import { type Front, hostsByProtocol } from '../support/front.ts'
import { type OptionsFor, type Proxied, proxied, type SseProxyOptions } from '../support/proxied.ts'
import { several } from '../support/several-upstreams.ts'
import { shared } from '../support/sharing.ts'
import { type Exchange, startUpstream, type Upstream } from '../support/upstream.ts'
import { until, within } from '../support/waiting.ts'

const client = { authorization: 'Bearer of-the-user', cookie: 'session=1', 'x-user': 'ada' }
const streams = { handler: (exchange: Exchange): void => exchange.stream().end('data: x\n\n') }
const stripHeaders = ['Cookie', 'authorization']

for (const host of hostsByProtocol) {
  test(`a target's own headers take the place of the client's and of those for all, in any case (${host})`, async (t) => {
    const { front, upstream } = await proxied(
      t,
      ({ url }) => ({
        target: { url, headers: { Authorization: 'Bearer of-the-provider', 'X-Team': 'red' } },
        headers: { AUTHORIZATION: 'Bearer for-all', 'x-team': 'blue', 'x-all': 'yes' },
      }),
      { host, upstream: streams },
    )

    await front.request('', { headers: client }).whole()

    const { headers, rawHeaders } = upstream.exchanges[0]!
    assert.equal(headers.authorization, 'Bearer of-the-provider')
    assert.equal(headers['x-team'], 'red')
    assert.equal(headers['x-all'], 'yes')
    assert.equal(headers['x-user'], 'ada')
    assert.equal(rawHeaders.filter((name) => name.toLowerCase() === 'authorization').length, 1)
  })

  test(`stripped headers reach no upstream, and the app still has them (${host})`, async (t) => {
    const seen: unknown[] = []
    const onOpen: SseProxyOptions['onOpen'] = ({ req }) => void seen.push(req.headers.cookie)
    const { front, upstream } = await proxied(t, { stripHeaders, onOpen }, { host, upstream: streams })

    await front.request('', { headers: client }).whole()
    await front.request('', { method: 'POST', body: '{}', headers: client }).whole()

    for (const { headers } of upstream.exchanges) assert.deepEqual(ofClient(headers), { 'x-user': 'ada' })
    assert.deepEqual(seen, ['session=1', 'session=1'])
  })
}

test('each of several targets gets its own headers, also when it is asked after another', async (t) => {
  const handler = (exchange: Exchange): void => exchange.answer(503, { 'x-key': String(exchange.headers['x-key']) })
  const { front, upstreams } = await several(
    t,
    (urls) => ({
      balance: 'failover',
      target: urls.map((url, i) => ({ url, headers: i === 2 ? {} : { 'x-key': `${i}` } })),
    }),
    { upstream: { handler } },
  )

  await front.request().ended()

  assert.deepEqual(
    upstreams.map(({ exchanges }) => exchanges.map(({ headers }) => headers['x-key'])),
    [['0'], ['1'], [undefined]],
  )
})

test('a stream that goes on with another target goes on with the headers of that one', async (t) => {
  const { front, upstreams } = await several(
    t,
    (urls) => ({
      balance: 'failover',
      resume: true,
      target: urls.map((url, i) => ({ url, headers: { 'x-key': `${i}` } })),
    }),
    { count: 2 },
  )

  const reader = front.request()
  const first = (await upstreams[0].next()).stream()
  first.send({ id: '1', data: 'one' })
  await reader.waitFor('data: one\n\n')
  first.reset()
  const second = await upstreams[1].next()

  assert.equal(second.headers['x-key'], '1')
  assert.equal(second.headers['last-event-id'], '1')
})

test("a target's own headers reach it although stripHeaders names them", async (t) => {
  const { front, upstream } = await proxied(
    t,
    ({ url }) => ({ target: { url, headers: { authorization: 'Bearer own' } }, stripHeaders }),
    { upstream: streams },
  )

  await front.request('', { headers: client }).whole()

  assert.deepEqual(ofClient(upstream.exchanges[0]!.headers), { authorization: 'Bearer own', 'x-user': 'ada' })
})

test('what the app adds for all reaches the upstream although stripHeaders names it', async (t) => {
  const headers = { authorization: 'Bearer for-all' }
  const { front, upstream } = await proxied(t, { headers, stripHeaders }, { upstream: streams })

  await front.request('', { headers: client }).whole()

  assert.deepEqual(ofClient(upstream.exchanges[0]!.headers), { authorization: 'Bearer for-all', 'x-user': 'ada' })
})

for (const elsewhere of [true, false]) {
  test(`a redirect to ${elsewhere ? 'another origin does not get' : 'the same origin gets'} the target's own headers`, async (t) => {
    const other = await startUpstream(streams)
    t.after(() => other.close())
    const { front, upstream } = await proxied(
      t,
      ({ url }) => ({
        target: { url, headers: { 'x-api-key': 'secret' } },
        followRedirects: true,
        stripHeaders: ['cookie'],
      }),
      {
        upstream: {
          handler: (exchange) => {
            if (exchange.url.endsWith('moved')) return exchange.answer(200)
            exchange.answer(307, { location: `${elsewhere ? other.url : upstream.url}/moved` })
          },
        },
      },
    )

    await front.request('', { headers: client }).ended()

    const last = elsewhere ? other.exchanges[0] : upstream.exchanges[1]
    assert.equal(upstream.exchanges[0]?.headers['x-api-key'], 'secret')
    assert.equal(last?.headers['x-api-key'], elsewhere ? undefined : 'secret')
    assert.equal(last?.headers.cookie, undefined)
  })
}

for (const elsewhere of [true, false]) {
  test(`a redirect to ${elsewhere ? 'another origin goes without' : 'the same origin goes with'} the target's own host`, async (t) => {
    const other = await startUpstream(streams)
    t.after(() => other.close())
    const { front, upstream } = await proxied(
      t,
      ({ url }) => ({
        target: { url, headers: { host: 'virtual.example', authorization: 'Bearer secret' } },
        changeOrigin: true,
        followRedirects: true,
      }),
      {
        upstream: {
          handler: (exchange) => {
            if (exchange.url.endsWith('moved')) return exchange.answer(200)
            exchange.answer(307, { location: elsewhere ? `${other.url}/moved` : '/moved' })
          },
        },
      },
    )

    await front.request('', { headers: client }).ended()

    const last = elsewhere ? other.exchanges[0] : upstream.exchanges[1]
    assert.equal(upstream.exchanges[0]?.headers.host, 'virtual.example')
    assert.equal(last?.headers.host, elsewhere ? new URL(other.url).host : 'virtual.example')
    assert.equal(last?.headers.authorization, elsewhere ? undefined : 'Bearer secret')
  })
}

test("an upgrade carries its target's own host", async (t) => {
  const { front, arrived } = await upgradable(t, ({ url }) => ({
    target: { url, headers: { host: 'virtual.example' } },
    changeOrigin: true,
  }))

  upgrade(t, front, client)

  assert.equal((await within(arrived, 'the upgrade to reach the upstream')).host, 'virtual.example')
})

test('what a resume asks for is stripped like the first request, and says where to go on all the same', async (t) => {
  const { front, upstream } = await proxied(t, {
    resume: { delayMs: 0 },
    stripHeaders: [...stripHeaders, 'last-event-id'],
  })
  const reader = front.request('', { headers: { ...client, 'last-event-id': 'of-the-client' } })
  const first = await upstream.next()
  const stream = first.stream()
  stream.send({ id: '1', data: 'one' })
  await reader.waitFor('data: one\n\n')

  stream.reset()
  const second = await upstream.next()

  assert.equal(first.headers['last-event-id'], undefined)
  assert.equal(second.headers['last-event-id'], '1')
  for (const { headers } of [first, second]) assert.deepEqual(ofClient(headers), { 'x-user': 'ada' })
})

test("a probe carries its target's own headers", async (t) => {
  const { upstream } = await proxied(
    t,
    ({ url }) => ({ target: { url, headers: { 'x-api-key': 'secret' } }, health: { probe: { path: '/health' } } }),
    { upstream: { handler: (exchange) => exchange.answer(200) } },
  )

  await until(() => upstream.exchanges.length > 0, 'the first probe')

  assert.equal(upstream.exchanges[0]?.headers['x-api-key'], 'secret')
})

test('an upgrade is stripped too, and carries what the app and the target add', async (t) => {
  const { front, arrived } = await upgradable(t, ({ url }) => ({
    target: { url, headers: { 'x-api-key': 'secret' } },
    headers: { Authorization: 'Bearer for-all' },
    stripHeaders: [...stripHeaders, 'x-api-key'],
  }))

  upgrade(t, front, { ...client, 'x-api-key': 'of-the-user' })
  const headers = await within(arrived, 'the upgrade to reach the upstream')

  assert.deepEqual(ofClient(headers), { authorization: 'Bearer for-all', 'x-user': 'ada' })
  assert.equal(headers['x-api-key'], 'secret')
  assert.equal(headers.upgrade, 'websocket')
})

test('an upgrade carries what auth, headers and xfwd add, although stripHeaders names it', async (t) => {
  const { front, arrived } = await upgradable(t, {
    auth: 'app:secret',
    headers: { 'X-Api-Key': 'of-the-app' },
    xfwd: true,
    stripHeaders: ['authorization', 'cookie', 'x-api-key', 'x-forwarded-for', 'x-forwarded-proto'],
  })

  upgrade(t, front, { ...client, 'x-api-key': 'of-the-user', 'x-forwarded-for': '6.6.6.6', 'x-forwarded-proto': 'wss' })
  const headers = await within(arrived, 'the upgrade to reach the upstream')

  assert.deepEqual(ofClient(headers), {
    authorization: `Basic ${Buffer.from('app:secret').toString('base64')}`,
    'x-user': 'ada',
  })
  assert.equal(headers['x-api-key'], 'of-the-app')
  assert.match(String(headers['x-forwarded-for']), /127\.0\.0\.1$/)
  assert.doesNotMatch(String(headers['x-forwarded-for']), /6\.6\.6\.6/)
  assert.equal(headers['x-forwarded-proto'], 'ws')
})

test('the app still sees what an upgrade is stripped of', async (t) => {
  const seen: unknown[] = []
  const { front, arrived } = await upgradable(t, {
    stripHeaders,
    on: { proxyReqWs: (_proxyReq, req) => void seen.push(req.headers.cookie) },
  })
  front.server.on('upgrade', (req: IncomingMessage) => seen.push(req.headers.cookie))

  upgrade(t, front, client)
  await within(arrived, 'the upgrade to reach the upstream')

  assert.deepEqual(seen, ['session=1', 'session=1'])
})

test('clients that differ in stripped headers alone share a stream', async (t) => {
  const room = await shared(t, {}, { stripHeaders: [...stripHeaders, 'X-Api-Key'] })

  const one = room.front.request('', { headers: { cookie: 'session=1', 'x-api-key': 'a' } })
  const stream = (await room.upstream.next()).stream({ vary: 'x-api-key' })
  await one.head()
  const other = room.front.request('', { headers: { authorization: 'Bearer b', 'x-api-key': 'b' } })
  await other.head()
  stream.end('data: for both\n\n')

  assert.deepEqual(await Promise.all([one.whole(), other.whole()]), ['data: for both\n\n', 'data: for both\n\n'])
  assert.equal(room.upstream.exchanges.length, 1)
  assert.equal(headerOf(other, 'content-type'), 'text/event-stream')
})

test('a stripped Last-Event-ID does not come back out of the query', async (t) => {
  const { front, upstream } = await proxied(t, { stripHeaders: ['last-event-id'] }, { upstream: streams })

  await front.request('?lastEventId=7', { headers: { 'last-event-id': '6' } }).whole()

  assert.equal(upstream.exchanges[0]?.headers['last-event-id'], undefined)
})

interface Upgradable extends Proxied<Upstream> {
  /** The headers of the first upgrade that reaches the upstream. */
  arrived: Promise<IncomingHttpHeaders>
}

async function upgradable(t: TestContext, options: OptionsFor<Upstream>): Promise<Upgradable> {
  const arrangement = await proxied(t, options)
  const arrived = new Promise<IncomingHttpHeaders>((resolve) => {
    arrangement.upstream.server.on('upgrade', (req: IncomingMessage, socket: Duplex) => {
      resolve(req.headers)
      socket.end()
    })
  })
  arrangement.front.server.on('upgrade', arrangement.proxy.upgrade)
  return { ...arrangement, arrived }
}

/** What of a client's headers has arrived. */
function ofClient(headers: IncomingHttpHeaders): Record<string, unknown> {
  return Object.fromEntries(Object.keys(client).flatMap((name) => (headers[name] ? [[name, headers[name]]] : [])))
}

function upgrade(t: TestContext, front: Front, headers: Record<string, string>): void {
  const asked = request(front.url, { headers: { ...headers, connection: 'Upgrade', upgrade: 'websocket' } })
  t.after(() => asked.destroy())
  asked.on('error', () => {})
  asked.end()
}
