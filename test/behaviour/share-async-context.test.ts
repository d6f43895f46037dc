// Whose async context the app's callbacks run in where clients share: that of the request which they are about, so that an app
// that keeps its user in an AsyncLocalStorage never takes one client for another.
import assert from 'node:assert/strict'
import { AsyncLocalStorage } from 'node:async_hooks'
import type { IncomingMessage } from 'node:http'
import { type TestContext, test } from 'node:test'
import { memoryStore } from 'sse-proxy-middleware'
import type { Client } from '../support/client.ts'
import type { Middleware } from '../support/front.ts'
import type { SseProxyOptions } from '../support/proxied.ts'
import { type Room, shared } from '../support/sharing.ts'
import type { Exchange, Upstream } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

type Share = Exclude<NonNullable<SseProxyOptions['share']>, boolean>

interface Users extends Room {
  /** Every call of a callback: which, for whose request, in whose context. */
  readonly calls: string[]
  request(user: string, options?: Parameters<Room['front']['request']>[1]): Client
}

test('what collects the events of a client as JSON, in the context of that client', async (t) => {
  const { calls, request, upstream, proxy } = await users(t)
  const clients = ['ada', 'bob'].map((user) => request(user, { headers: { accept: 'application/json' } }))
  const stream = (await upstream.next()).stream()
  await until(() => proxy.stats().shared.clients === 2, 'both clients to share')

  stream.end('data: one\n\n')
  await Promise.all(clients.map((client) => client.whole()))

  assert.deepEqual(callsOf(calls, 'collect'), ['collect for ada as ada', 'collect for bob as bob'])
})

test('what is called for a client that waited, and gets a stream of its own after all, in the context of that client', async (t) => {
  const { calls, request, upstream, arrivals } = await users(t)
  const clients = ['ada', 'bob'].map((user) => request(user))
  const first = await upstream.next()
  await arrivals(2)

  const streams = [first.stream({ 'cache-control': 'private' })]
  streams.push((await upstream.next()).stream({ 'cache-control': 'private' }))
  for (const stream of streams) stream.send({ data: 'one' })
  await Promise.all(clients.map((client) => client.waitFor('one')))
  for (const { res } of upstream.exchanges) res.socket?.resetAndDestroy()
  await Promise.all(clients.map((client) => client.ended()))
  await until(() => callsOf(calls, 'error').length === 2, 'the losses to be told')

  for (const what of ['proxyReq', 'proxyRes', 'transform', 'onLost', 'error', 'onClose']) {
    assert.deepEqual(callsOf(calls, what), [`${what} for ada as ada`, `${what} for bob as bob`])
  }
})

test("what is called for a client that waited for an answer which is its leader's alone, in the context of that client", async (t) => {
  const { calls, request, upstream, arrivals } = await users(t)
  const clients = ['ada', 'bob'].map((user) => request(user))
  const first = await upstream.next()
  await arrivals(2)

  // Without a length it may be of any size, and is not kept for others.
  for (const exchange of [first, await answered(first, upstream)]) exchange.res.end()
  await Promise.all(clients.map((client) => client.whole()))

  assert.deepEqual(callsOf(calls, 'proxyReq'), ['proxyReq for ada as ada', 'proxyReq for bob as bob'])
})

test('what is told of an answer that did not come, in the context of each client that waited', async (t) => {
  const { calls, request, upstream, arrivals } = await users(t)
  const clients = ['ada', 'bob'].map((user) => request(user))
  const exchange = await upstream.next()
  await arrivals(2)

  exchange.res.socket?.resetAndDestroy()
  await Promise.all(clients.map((client) => client.ended()))

  assert.deepEqual(callsOf(calls, 'error'), ['error for ada as ada', 'error for bob as bob'])
})

test('what is told of a client that does not read, in the context of that client', async (t) => {
  const { calls, request, upstream } = await users(t, {}, { limits: { bufferBytes: 65_536 } })
  const quick = request('ada')
  const stream = (await upstream.next()).stream()
  const slow = request('bob')
  await Promise.all([quick, slow].map((client) => client.head()))
  slow.pause()

  for (let sent = 1; sent < 1_000 && callsOf(calls, 'error').length === 0; sent++) {
    stream.send({ data: ''.padEnd(65_528, 'x') })
    await quick.waitForLength(sent * 65_536)
  }

  assert.deepEqual(callsOf(calls, 'error'), ['error for bob as bob'])
})

test('what is called for a client whose leader left before its request was whole, in the context of that client', async (t) => {
  const { calls, request, upstream, arrivals } = await users(t, {
    open: ['GET', 'POST'],
    key: () => 'all',
    busy: 'join',
  })
  const leader = request('ada', { method: 'POST', headers: { 'content-length': '9' }, sendsBodyLater: true })
  leader.send('half')
  await upstream.next()
  const other = request('bob')
  await arrivals(2)

  leader.close()
  ;(await upstream.next()).stream().send({ data: 'one' })
  await other.waitFor('one')

  assert.deepEqual(callsOf(calls, 'proxyReq'), ['proxyReq for ada as ada', 'proxyReq for bob as bob'])
})

for (const [where, share] of [
  ['', {}],
  [', with a store', { store: memoryStore() }],
] as [string, Share][]) {
  test(`what is called of the loss of a stream, in the context of the client that it was opened for${where}`, async (t) => {
    const { calls, request, upstream, proxy } = await users(t, share)
    const clients = ['ada', 'bob'].map((user) => request(user))
    const exchange = await upstream.next()
    exchange.stream().send({ data: 'one' })
    await until(() => proxy.stats().shared.clients === 2, 'both clients to share')
    await Promise.all(clients.map((client) => client.waitFor('one')))

    exchange.res.socket?.resetAndDestroy()
    await Promise.all(clients.map((client) => client.ended()))
    await until(() => callsOf(calls, 'error').length === 1, 'the loss to be told')

    for (const what of ['transform', 'onLost', 'error']) {
      assert.deepEqual(callsOf(calls, what), [`${what} for ada as ada`])
    }
  })
}

test('what a node calls when it goes on with the stream of another, in the context of the client that it is about', async (t) => {
  const share: Share = { key: () => 'all', store: memoryStore() }
  const one = await users(t, share)
  const other = await users(t, share, { target: `${one.upstream.url}/stream` })
  const first = one.request('ada')
  const stream = (await one.upstream.next()).stream()
  await first.head()
  const [bob, ...rest] = ['bob', 'eve', 'joe'].map((user) => other.request(user)) as [Client, Client, Client]
  await until(() => other.proxy.stats().shared.clients === 3, 'all clients to share')
  stream.send({ data: 'without an id' })
  await Promise.all(rest.map((client) => client.waitFor('without an id')))
  bob.close()
  await until(() => other.proxy.stats().shared.clients === 2, 'the first to have left')

  await one.proxy.close({ withinMs: 0 })
  ;(await one.upstream.next()).stream().send({ data: 'two' })
  await Promise.all(rest.map((client) => client.waitFor('two')))
  other.front.closeClients()

  assert.deepEqual(callsOf(other.calls, 'proxyReq'), ['proxyReq for eve as eve'])
  assert.deepEqual(callsOf(other.calls, 'onGap'), ['onGap for eve as eve', 'onGap for joe as joe'])
})

/** The next request, once this one has the beginning of an answer that is no stream. */
async function answered({ res }: Exchange, upstream: Upstream): Promise<Exchange> {
  res.writeHead(200, { 'content-type': 'application/json' })
  res.write('{')
  return await upstream.next()
}

/** Clients with a name each, and an app that keeps it in its context. */
async function users(t: TestContext, share: Share = {}, options: Partial<SseProxyOptions> = {}): Promise<Users> {
  const user = new AsyncLocalStorage<string>()
  const calls: string[] = []
  const note = (what: string, req: { readonly headers: IncomingMessage['headers'] }): void => {
    calls.push(`${what} for ${req.headers['user-agent']} as ${user.getStore()}`)
  }
  const asUser: Middleware = (req, _res, next) => user.run(req.headers['user-agent'], next)
  const room = await shared(
    t,
    { lingerMs: 0, onGap: ({ req }) => note('onGap', req), ...share },
    {
      transform: (_event, { req }) => note('transform', req),
      onLost: (_error, { req }) => note('onLost', req),
      onClose: ({ req }) => note('onClose', req),
      to: {
        format: ({ headers }) => (headers.accept ? 'json' : 'event-stream'),
        collect: (events, req) => {
          note('collect', req)
          return events
        },
      },
      on: {
        proxyReq: (_request, req) => note('proxyReq', req),
        proxyRes: (_answer, req) => note('proxyRes', req),
        error: (_error, req) => note('error', req),
      },
      ...options,
    },
    { before: [asUser] },
  )
  return {
    ...room,
    calls,
    request: (name, given = {}) =>
      room.front.request('', { ...given, headers: { ...given.headers, 'user-agent': name } }),
  }
}

function callsOf(calls: readonly string[], what: string): string[] {
  return calls.filter((call) => call.startsWith(`${what} `)).sort()
}
