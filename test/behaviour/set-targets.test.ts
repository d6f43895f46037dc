// Upstreams that come and go while streams are open: who is asked, what becomes of those that are there, and what is left.
import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { request } from 'node:http'
import type { Duplex } from 'node:stream'
import { type TestContext, test } from 'node:test'
import { ConfigError, sseProxy } from 'sse-proxy-middleware'
import { headerOf } from '../support/client.ts'
import type { Front } from '../support/front.ts'
import { proxied, type SseProxyOptions } from '../support/proxied.ts'
import { refusingUrl, several } from '../support/several-upstreams.ts'
import { areOverHttp2, type Exchange, type Upstream, type UpstreamOptions } from '../support/upstream.ts'
import { until, within } from '../support/waiting.ts'

const one = 'id: 1\ndata: one\n\n'
const two = 'id: 2\ndata: two\n\n'
const three = 'id: 3\ndata: three\n\n'
// An idle connection is closed by an upstream after 5 s.
const closingMs = 3000
const overHttp1 = { skip: areOverHttp2 && 'it is about connections of HTTP/1.1' }

// Who is asked.

test('a target that is new is asked at once, and one that went is not asked any more', async (t) => {
  const { upstreams, urls, proxy, front } = await several(t, {}, { count: 2, upstream: { handler: answering } })

  proxy.setTargets(urls[1])
  for (let i = 0; i < 4; i++) await front.request().whole()

  assert.deepEqual([upstreams[0].exchanges.length, upstreams[1].exchanges.length], [0, 4])
  assert.deepEqual(urlsOf(proxy), [urls[1]])
})

test('a target that stays keeps its counts and its health, and takes the new weight and headers', async (t) => {
  const target = (urls: string[]) => [{ url: urls[0] ?? '', headers: { 'x-key': 'old' } }, refusingUrl]
  const options = (urls: string[]) => ({ target: target(urls), health: { failures: 1 }, balance: 'failover' as const })
  const { upstreams, urls, proxy, front } = await several(t, options, { count: 1, upstream: { handler: answering } })
  proxy.setTargets([refusingUrl, urls[0]])
  await front.request().whole()

  proxy.setTargets([
    { url: refusingUrl, weight: 2 },
    { url: urls[0], weight: 3, headers: { 'x-key': 'new' } },
  ])
  await front.request().whole()

  const [refusing, well] = proxy.stats().upstreams
  assert.deepEqual([refusing?.healthy, refusing?.failures, refusing?.requests, refusing?.weight], [false, 1, 1, 2])
  assert.deepEqual([well?.requests, well?.weight], [2, 3])
  assert.deepEqual(
    upstreams[0].exchanges.map(({ headers }) => headers['x-key']),
    [undefined, 'new'],
  )
})

test('failover follows the order of the new list', async (t) => {
  const { upstreams, urls, proxy, front } = await several(
    t,
    { balance: 'failover' },
    { count: 2, upstream: { handler: answering } },
  )
  await front.request().whole()

  proxy.setTargets([urls[1], urls[0]])
  await front.request().whole()

  assert.deepEqual([upstreams[0].exchanges.length, upstreams[1].exchanges.length], [1, 1])
})

test('a client that belongs to a target that went gets another, and others keep theirs', async (t) => {
  const issued = { issueCookie: 'seat', secret: 'a secret of the tests' }
  for (const sticky of [{ header: 'x-user' }, { header: 'x-user', ttlMs: 60_000 }, issued]) {
    const { upstreams, urls, proxy, front } = await several(t, { sticky }, { upstream: { handler: answering } })
    const cookies = new Map<string, string>()
    const homeOf = async (user: string): Promise<string> => {
      const client = front.request('', { headers: { 'x-user': user, cookie: cookies.get(user) ?? '' } })
      const home = await client.whole()
      const given = headerOf(client, 'set-cookie')?.split(';')[0]
      if (given !== undefined) cookies.set(user, given)
      return home
    }
    // A hash spreads them: of so many each of three targets gets one.
    const users = Array.from({ length: 50 }, (_, i) => `user-${i}`)
    const before = new Map<string, string>()
    for (const user of users) before.set(user, await homeOf(user))

    proxy.setTargets(urls.slice(1))
    const after = new Map<string, string>()
    for (const user of users) after.set(user, await homeOf(user))

    const gone = String(upstreams[0].port)
    for (const user of users) {
      if (before.get(user) === gone) assert.notEqual(after.get(user), gone)
      else assert.equal(after.get(user), before.get(user))
      assert.equal(await homeOf(user), after.get(user))
    }
    assert.ok([...before.values()].includes(gone))
  }
})

test('retries follow from how many targets there are now', async (t) => {
  const { urls, proxy, front } = await several(t, { target: refusingUrl }, { upstream: { handler: answering } })
  const alone = await front.open()

  proxy.setTargets([refusingUrl, urls[0]])
  const statuses = [(await front.open()).status, (await front.open()).status]
  proxy.setTargets(refusingUrl)
  const last = await front.open()

  assert.deepEqual([alone.status, ...statuses, last.status], [502, 200, 200, 502])
})

test('a WebSocket goes to the first of the new targets, with its own headers', overHttp1, async (t) => {
  const { upstreams, urls, proxy, front } = await several(t, { target: refusingUrl }, { count: 1 })
  const arrived = new Promise<unknown>((resolve) => {
    upstreams[0].server.on('upgrade', (req, socket: Duplex) => {
      resolve(req.headers['x-key'])
      socket.destroy()
    })
  })
  front.server.on('upgrade', proxy.upgrade)

  proxy.setTargets({ url: urls[0], headers: { 'x-key': 'own' } })
  const headers = { connection: 'Upgrade', upgrade: 'websocket' }
  request(front.url, { headers })
    .on('error', () => {})
    .end()

  assert.equal(await within(arrived, 'the upgrade to reach the upstream'), 'own')
})

// Requests without an answer.

test('a request that waits for its answer is sent to another target when its own goes, and nobody calls that a failure', async (t) => {
  const told: string[] = []
  const logger = { info() {}, warn() {}, error: (text: string) => void told.push(text) }
  const { left, other, leave, proxy, front } = await pair(t, { retry: false, logger })
  const client = front.request()
  const waiting = await left.next()

  leave()
  const again = await other.next()
  again.stream().end(one)

  await waiting.leftByPeer()
  assert.equal(await client.whole(), one)
  const { retries, errors, upstreams: known } = proxy.stats()
  assert.deepEqual([retries, errors, known.map(({ failures }) => failures), told], [0, {}, [0], []])
})

test('a POST that waits for its answer stays where it may have arrived', async (t) => {
  const { left, other, leave, front } = await pair(t, { retry: { attempts: 1 } })
  const client = front.request('', { method: 'POST', body: 'x', headers: { 'content-length': '1' } })
  const waiting = await left.next()

  leave()
  waiting.stream().end(one)

  assert.equal(await client.whole(), one)
  assert.equal(other.exchanges.length, 0)
})

test('an answer that is held back is given up for one of another target', async (t) => {
  const commit = () => 'hold' as const
  const { left, other, leave, proxy, front } = await pair(t, { retry: { commit, attempts: 0, holdMs: 60_000 } })
  const client = front.request()
  const held = await left.next()
  held.stream().write(one)
  await until(() => proxy.stats().upstreams.some(({ active }) => active === 1), 'the answer to be held')

  leave()
  const again = await other.next()
  again.stream().end(two)

  await held.leftByPeer()
  assert.equal(await client.whole(), two)
})

test('a request that waits to be tried again chooses among the new targets', async (t) => {
  const retry = { attempts: 1, backoffMs: 100, maxBackoffMs: 100 }
  const { urls, proxy, front } = await several(t, { target: refusingUrl, retry }, { upstream: { handler: answering } })
  const client = front.request()
  await until(() => proxy.stats().retries === 1, 'the first attempt to fail')

  proxy.setTargets(urls)

  await client.whole()
  assert.equal(client.status, 200)
})

// Open streams.

test('a stream goes over to another target between two events, in the same response, and its old connection ends', async (t) => {
  atOnce(t)
  const resumes = published(t, 'sse-proxy:resume')
  const { left, other, leave, proxy, front } = await pair(t, { resume: true })
  const client = front.request()
  const old = await left.next()
  old.stream().write(`${one}id: 2\ndata: tw`)
  await client.waitFor(one)

  leave()
  const taken = await other.next()
  assert.equal(old.isLeft, false, 'it stays where it is until the other has answered')
  taken.stream().end(two + three)

  await old.leftByPeer()
  assert.equal(taken.headers['last-event-id'], '1')
  assert.equal(await client.whole(), one + two + three)
  assert.deepEqual([proxy.stats().resumes, resumes.length, proxy.stats().errors], [1, 1, {}])
  assert.deepEqual(urlsOf(proxy), [`${other.url}/stream`])
})

test('a stream without resume stays, and its target leaves the statistics with it', async (t) => {
  atOnce(t)
  const { left, other, leave, proxy, front } = await pair(t, {})
  const { client, stream } = await reading(front, left)

  leave()
  const during = proxy.stats().upstreams
  stream.end(two)

  assert.equal(await client.whole(), one + two)
  assert.deepEqual(
    during.map(({ url, active, leaving }) => [url, active, leaving]),
    [
      [`${other.url}/stream`, 0, undefined],
      [`${left.url}/stream`, 1, true],
    ],
  )
  await until(() => urlsOf(proxy).length === 1, 'the target to leave')
  assert.equal(other.exchanges.length, 0)
})

test('a stream that no other target would have stays where it is, and loses nothing', async (t) => {
  atOnce(t)
  for (const refusal of [404, 204, 500, undefined]) {
    const { left, other, leave, proxy, front } = await pair(t, { resume: true, retry: false })
    const { client, stream } = await reading(front, left)

    leave()
    const asked = await other.next()
    stream.write(two)
    if (refusal === undefined) asked.res.socket?.resetAndDestroy()
    else asked.answer(refusal)
    await client.waitFor(two)
    stream.end(three)

    assert.equal(await client.whole(), one + two + three)
    assert.equal(proxy.stats().resumes, 0)
  }
})

test('a stream whose events have no ids stays', async (t) => {
  atOnce(t)
  const { left, other, leave, front } = await pair(t, { resume: true })
  const client = front.request()
  const stream = (await left.next()).stream()
  stream.write('data: one\n\n')
  await client.waitFor('one')

  leave()
  stream.write('data: two\n\n')
  await client.waitFor('two')
  stream.end('data: three\n\n')

  assert.equal(await client.whole(), 'data: one\n\ndata: two\n\ndata: three\n\n')
  assert.equal(other.exchanges.length, 0)
})

test('an upstream that ends while another one is asked in vain has ended its stream', async (t) => {
  atOnce(t)
  const { left, other, leave, front } = await pair(t, { resume: true })
  const { client, stream } = await reading(front, left)

  leave()
  const asked = await other.next()
  stream.end(two)
  asked.answer(404)

  assert.equal(await client.whole(), one + two)
})

test('a stream that is lost while it is about to go over is resumed', async (t) => {
  atOnce(t)
  const { left, other, leave, front } = await pair(t, { resume: { delayMs: 1 } })
  const { client, stream } = await reading(front, left)

  leave()
  const given = await other.next()
  stream.reset()
  await given.leftByPeer()
  const again = await other.next()
  again.stream().end(two)

  assert.equal(again.headers['last-event-id'], '1')
  assert.equal(await client.whole(), one + two)
})

test('what goes on after it has gone over is paused where the client does not read', async (t) => {
  atOnce(t)
  const large = `data: ${'x'.repeat(60_000)}\n\n`
  const { left, other, leave, front } = await pair(t, { resume: true })
  const { client, stream, exchange: old } = await reading(front, left)
  client.pause()
  while (stream.write(`id: 1\n${large}`)) await new Promise((resolve) => setImmediate(resolve))

  leave()
  const next = (await other.next()).stream()
  await old.leftByPeer()
  let sent = 0
  while (sent < 2000 && next.write(`id: 2\n${large}`)) {
    sent++
    await new Promise((resolve) => setImmediate(resolve))
  }
  client.resume()
  next.end(three)

  assert.ok(sent < 2000, 'backpressure reaches the new upstream')
  await client.waitFor(three)
  assert.equal(client.text.split('id: 2').length - 1, sent + 1)
})

test('a shared stream goes over for all its clients', async (t) => {
  atOnce(t)
  const { left, other, leave, front } = await pair(t, { resume: true, share: { lingerMs: 0 } })
  const clients = [front.request(), front.request(), front.request()]
  const old = await left.next()
  old.stream().write(one)
  await Promise.all(clients.map((client) => client.waitFor(one)))

  leave()
  const taken = await other.next()
  taken.stream().end(two)

  await old.leftByPeer()
  assert.deepEqual(await Promise.all(clients.map((client) => client.whole())), Array(3).fill(one + two))
  assert.deepEqual([taken.headers['last-event-id'], other.exchanges.length], ['1', 1])
})

test('a target that comes back while its old streams run is the same, once', async (t) => {
  const { left, other, leave, proxy, front } = await pair(t, {})
  const client = front.request()
  const stream = (await left.next()).stream()
  await client.head()

  leave()
  proxy.setTargets([left.url, other.url].map((url) => `${url}/stream`))

  assert.deepEqual(
    proxy.stats().upstreams.map(({ url, active, requests, leaving }) => [url, active, requests, leaving]),
    [
      [`${left.url}/stream`, 1, 1, undefined],
      [`${other.url}/stream`, 0, 0, undefined],
    ],
  )
  stream.end()
  await client.whole()
})

test('where the targets stay, in another order and with others beside them, nothing moves', async (t) => {
  atOnce(t)
  const { left, other, urls, proxy, front } = await pair(t, { resume: true })
  const { client, stream } = await reading(front, left)

  proxy.setTargets([...urls].reverse())
  stream.write(two)
  await client.waitFor(two)
  stream.end(three)

  assert.equal(await client.whole(), one + two + three)
  assert.equal(other.exchanges.length, 0)
})

// What is left of a target.

test(
  'the idle connections to a target that went close, and one in use closes when its answer is over',
  overHttp1,
  async (t) => {
    const handler = (exchange: Exchange): void => {
      if (exchange.url === '/stream') answering(exchange)
    }
    const { left, leave, front } = await pair(t, {}, { handler })
    const client = front.request('/open')
    const open = await left.next()
    open.stream()
    await client.head()
    await front.request().whole()
    assert.equal(left.connections, 2)

    leave()
    await until(() => left.connections === 1, 'the idle connection to close', closingMs)
    open.res.end()
    await client.whole()

    await until(() => left.connections === 0, 'the last connection to close', closingMs)
  },
)

test('probes of a target that went end, the one under way too, and a new one is probed at once', async (t) => {
  const health = { probe: { path: '/health', intervalMs: 20, timeoutMs: 60_000 } }
  const { upstreams, urls, proxy } = await several(t, { health }, { count: 2 })
  proxy.setTargets(urls[0])
  const probe = await upstreams[0].next()
  assert.equal(probe.url, '/health')
  const before = upstreams[1].exchanges.length

  proxy.setTargets(urls[1])
  await probe.leftByPeer()
  await until(() => upstreams[1].exchanges.length > before, 'the new one to be probed')

  await until(() => upstreams[0].open === 0, 'the probe to be over')
  assert.equal(upstreams[0].exchanges.length, 1)
  await proxy.close({ withinMs: 0 })
})

test('a thousand changes leave nothing behind', async (t) => {
  atOnce(t)
  const { left, other, urls, proxy, front } = await pair(t, { resume: true, balance: 'round-robin' })
  const { client } = await reading(front, left)
  const waiting = front.request('/waiting')
  await left.next()

  for (let i = 0; i < 1000; i++) proxy.setTargets([urls[i % 2] ?? '', `http://127.0.0.1:1/${i}`])
  const known = urlsOf(proxy).length
  proxy.setTargets(urls)
  for (let i = 0; i < 1000; i++) proxy.setTargets(urls[1] ?? '')
  const moved = await Promise.all([other.next(), other.next()])
  for (const exchange of moved) exchange.stream().end(two)

  assert.deepEqual([await client.whole(), await waiting.whole()], [one + two, two])
  assert.equal(known, 3)
  assert.deepEqual([urlsOf(proxy), left.exchanges.length, other.exchanges.length], [[urls[1]], 2, 2])
})

// What is refused.

const wrong: [targets: unknown, message: RegExp][] = [
  [undefined, /^targets: expected an http or https URL/],
  [[], /^targets: expected at least one upstream/],
  ['localhost:8080', /^targets: /],
  [['http://a', 'http://a/'], /^targets\[1\]: expected an upstream that is not in the list yet/],
  [['http://a', { url: 'ftp://b' }], /^targets\[1\]\.url: /],
  [[{ url: 'http://a', weight: 0 }], /^targets\[0\]\.weight: expected a number above 0/],
  [{ url: 'http://a', headers: 'x' }, /^targets\.headers: /],
  [{ url: 'http://a', wieght: 1 }, /wieght.*weight/],
]

test('wrong targets are refused as at creation, and nothing has changed', async (t) => {
  const { urls, proxy } = await several(t, {}, { count: 2 })

  for (const [targets, message] of wrong) {
    assert.throws(
      () => proxy.setTargets(targets as string),
      (error) => error instanceof ConfigError && message.test(error.message),
      String(message),
    )
  }

  assert.deepEqual(urlsOf(proxy), urls)
})

test('where a router chooses there are no targets to set, nor headers for one beside forward', () => {
  const routed = sseProxy({ target: 'http://a', router: () => 'http://b' })
  const forwarding = sseProxy({ target: 'http://a', forward: 'http://b' })

  assert.throws(() => routed.setTargets('http://c'), /^ConfigError.*: setTargets: .*router/)
  assert.throws(() => forwarding.setTargets({ url: 'http://c', headers: { a: 'b' } }), /forward/)
  assert.doesNotThrow(() => forwarding.setTargets('http://c'))
})

test('after close it does nothing, so that a late answer of a service discovery harms nobody', async (t) => {
  const { proxy, upstream } = await proxied(t)
  await proxy.close({ withinMs: 0 })

  proxy.setTargets('http://other')

  assert.deepEqual(urlsOf(proxy), [`${upstream.url}/stream`])
  assert.throws(() => proxy.setTargets(''), ConfigError)
})

test('a target that is taken away while it is being chosen is asked once more, and then it is gone', async (t) => {
  const seen: (string | undefined)[][] = []
  const handler = (exchange: Exchange): void => {
    seen.push(proxy.stats().upstreams.map(({ active, leaving }) => `${active}${leaving ? ' leaving' : ''}`))
    answering(exchange)
  }
  const { upstreams, urls, proxy, front } = await several(
    t,
    (all) => ({
      target: all.slice(0, 2),
      balance: (candidates) => {
        proxy.setTargets(all.slice(1, 2))
        return candidates[0] ?? assert.fail()
      },
    }),
    { upstream: { handler } },
  )

  const asked = [await front.request().whole(), await front.request().whole()]
  await until(() => upstreams[0].connections === 0, 'its connection to close', closingMs)

  assert.deepEqual(asked, [upstreams[0].port, upstreams[1].port].map(String))
  assert.deepEqual(seen, [['0', '1 leaving'], ['1']])
  assert.deepEqual(urlsOf(proxy), [urls[1]])
})

/** Tells which upstream it is. */
function answering(exchange: Exchange): void {
  const text = String(exchange.req.socket.localPort)
  exchange.answer(200, { 'content-type': 'text/plain', 'content-length': String(text.length) }, text)
}

/** Every stream moves at once: chance puts it first. */
function atOnce(t: TestContext): void {
  t.mock.method(Math, 'random', () => 0)
}

function urlsOf(proxy: ReturnType<typeof sseProxy>): string[] {
  return proxy.stats().upstreams.map(({ url }) => url)
}

/** Two upstreams, of which only the first is a target, until it goes and the other takes its place. */
async function pair(t: TestContext, options: Partial<SseProxyOptions> = {}, upstream?: UpstreamOptions) {
  const { upstreams, urls, proxy, front } = await several(t, options, { count: 2, ...(upstream && { upstream }) })
  proxy.setTargets(urls[0])
  const [left, other] = upstreams
  return { left, other, leave: () => proxy.setTargets(urls[1]), urls, proxy, front }
}

/** A client that has the first event. */
async function reading(front: Front, upstream: Upstream) {
  const client = front.request()
  const exchange = await upstream.next()
  const stream = exchange.stream()
  stream.write(one)
  await client.waitFor(one)
  return { client, stream, exchange }
}

function published(t: TestContext, channel: string): unknown[] {
  const messages: unknown[] = []
  const note = (message: unknown): void => void messages.push(message)
  subscribe(channel, note)
  t.after(() => unsubscribe(channel, note))
  return messages
}
