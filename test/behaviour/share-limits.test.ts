// Shared streams that nobody follows are held by the proxy all the same: they count, and they go first.
import assert from 'node:assert/strict'
import type { IncomingMessage } from 'node:http'
import { test } from 'node:test'
import { hostsByProtocol } from '../support/front.ts'
import { heapUsed } from '../support/memory.ts'
import { proxied } from '../support/proxied.ts'
import type { Exchange } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

const streaming = { handler: (exchange: Exchange) => exchange.stream().send({ id: '1', data: 'x' }) }

for (const host of hostsByProtocol) {
  test(`one client with one connection at a time and a new URL each time holds no more upstream connections than its limit (${host})`, async (t) => {
    const limits = { streams: 20, streamsPerClient: 2 }
    const { upstream, front, proxy } = await proxied(
      t,
      { share: { lingerMs: 600_000 }, limits },
      { host, upstream: streaming },
    )
    let most = 0

    for (let count = 0; count < 200; count++) {
      const client = await front.open(`?${count}`)
      assert.equal(client.status, 200)
      client.close()
      await until(() => front.connections === 0 && upstream.open <= 2, 'what is held to be within the limit')
      most = Math.max(most, upstream.open)
    }

    assert.equal(most, 2)
    assert.equal(upstream.exchanges.length, 200)
    await proxy.close({ withinMs: 0 })
  })

  test(`many clients, each with a new URL, hold no more upstream connections than limits.streams (${host})`, async (t) => {
    const limits = { streams: 20, streamsPerClient: 2, clientKey: (req: IncomingMessage) => String(req.url) }
    const { upstream, front, proxy } = await proxied(
      t,
      { share: { lingerMs: 600_000 }, limits },
      { host, upstream: streaming },
    )

    for (let count = 0; count < 100; count++) {
      const client = await front.open(`?${count}`)
      assert.equal(client.status, 200)
      client.close()
      await until(() => front.connections === 0 && upstream.open <= 20, 'what is held to be within the limit')
    }

    assert.equal(upstream.open, 20)
    assert.equal(proxy.stats().shared.streams, 20)
    assert.equal(proxy.stats().refused.full, 0)
    assert.deepEqual(
      upstream.exchanges.filter(({ isLeft }) => !isLeft).map(({ url }) => url),
      Array.from({ length: 20 }, (_, i) => `/stream?${i + 80}`),
    )
    await proxy.close({ withinMs: 0 })
  })
}

test('streams that clients follow are not closed for others, who are refused', async (t) => {
  const { upstream, front, proxy } = await proxied(t, { share: true, limits: { streams: 2 } }, { upstream: streaming })
  await front.open('?one')
  await front.open('?two')

  const third = await front.open('?three')

  assert.equal(third.status, 503)
  assert.equal(upstream.open, 2)
  await proxy.close({ withinMs: 0 })
})

test('a client at its limit that comes back to the stream it has left goes on with it', async (t) => {
  const limits = { streams: 1, streamsPerClient: 1 }
  const { upstream, front, proxy } = await proxied(t, { share: { lingerMs: 600_000 }, limits }, { upstream: streaming })
  const client = await front.open()
  await client.waitFor('data: x')
  client.close()
  await until(() => proxy.stats().shared.clients === 0, 'the client to have left')
  upstream.exchanges[0]?.res.write('id: 2\ndata: y\n\n')

  const again = await front.open('', { headers: { 'last-event-id': '1' } })

  await again.waitFor('data: y')
  assert.equal(again.text, 'id: 2\ndata: y\n\n')
  assert.equal(upstream.exchanges.length, 1)
  again.close()
  await until(() => proxy.stats().shared.clients === 0, 'the client to have left again')
  const other = await front.open('?other')
  assert.equal(other.status, 200)
  await upstream.exchanges[0]?.leftByPeer()
  await proxy.close({ withinMs: 0 })
})

test('a stream holds the place of the client that opened it, also when another has followed it longer', async (t) => {
  const limits = {
    streamsPerClient: 1,
    clientKey: (req: IncomingMessage) => `${req.headers['x-user']}`,
  }
  const options = { share: { key: (req: IncomingMessage) => `${req.url}`, lingerMs: 600_000 }, limits }
  const { upstream, front, proxy } = await proxied(t, options, { upstream: streaming })
  const ada = await front.open('?one', { headers: { 'x-user': 'ada' } })
  const grace = await front.open('?one', { headers: { 'x-user': 'grace' } })
  ada.close()
  await until(() => proxy.stats().shared.clients === 1, 'its leader to have left')
  grace.close()
  await until(() => proxy.stats().shared.clients === 0, 'all to have left')

  await front.open('?two', { headers: { 'x-user': 'grace' } })
  assert.equal(upstream.exchanges[0]?.isLeft, false)
  await front.open('?three', { headers: { 'x-user': 'ada' } })

  await upstream.exchanges[0]?.leftByPeer()
  assert.equal(upstream.open, 2)
  await proxy.close({ withinMs: 0 })
})

test('400 URLs of 100 KB that nobody follows any more take no more memory than share.maxBytes allows', async (t) => {
  const share = { lingerMs: 600_000, maxBytes: 8 * 2 ** 20, key: (req: IncomingMessage) => `${req.url}` }
  // Node's own bound on headers is smaller: what makes a URL this long is in front of the proxy.
  const lengthen = (req: { url: string }, _res: unknown, next: () => void) => {
    req.url += `&${req.url.slice(2).padStart(5, '0').repeat(20_000)}`
    next()
  }
  const { upstream, front, proxy } = await proxied(
    t,
    { share, ignorePath: true },
    { host: 'http', upstream: streaming, before: [lengthen] },
  )
  const before = heapUsed()

  for (let count = 0; count < 400; count++) {
    const client = await front.open(`?${count}`)
    client.close()
    await until(() => proxy.stats().shared.clients === 0, 'the client to have left')
  }

  const { streams } = proxy.stats().shared
  const grown = heapUsed() - before
  assert.ok(streams > 5 && streams < 100, `${streams} streams`)
  assert.ok(grown < 32 * 2 ** 20, `${grown} bytes`)
  assert.ok(upstream.open < 100)
  await proxy.close({ withinMs: 0 })
})

test('past share.maxBytes the streams that nobody follows are closed, and the followed one keeps what it has', async (t) => {
  const text = 'x'.repeat(10_000)
  const handler = (exchange: Exchange) => {
    const stream = exchange.stream()
    for (let id = 1; id <= 10; id++) stream.send({ id: `${id}`, data: text })
  }
  const options = { share: { maxBytes: 250_000, lingerMs: 600_000 } }
  const { upstream, front, proxy } = await proxied(t, options, { upstream: { handler } })
  const followed = await front.open('?followed')
  await followed.waitFor('id: 10')

  for (const name of ['one', 'two', 'three']) {
    const client = await front.open(`?${name}`)
    await client.waitFor('id: 10')
    client.close()
    await until(() => proxy.stats().shared.clients === 1, 'the client to have left')
  }

  await upstream.exchanges[1]?.leftByPeer()
  await upstream.exchanges[2]?.leftByPeer()
  assert.equal(proxy.stats().shared.streams, 2)
  const late = await front.open('?followed', { headers: { 'last-event-id': '1' } })
  await late.waitFor('id: 10')
  assert.equal(late.text.match(/^id/gm)?.length, 9)
  await proxy.close({ withinMs: 0 })
})

test('past share.maxBytes with streams that are all followed, each keeps its latest events', async (t) => {
  const options = { share: { maxBytes: 100_000 } }
  const { upstream, front, proxy } = await proxied(t, options)
  const text = 'x'.repeat(10_000)

  for (const name of ['one', 'two']) {
    const client = front.request(`?${name}`)
    const stream = (await upstream.next()).stream()
    for (let id = 1; id <= 20; id++) {
      stream.send({ id: `${id}`, data: text })
      await client.waitFor((got) => got.includes(`id: ${id}\n`))
    }
  }

  for (const name of ['one', 'two']) {
    const late = await front.open(`?${name}`, { headers: { 'last-event-id': '1' } })
    await late.waitFor('id: 20')
    const kept = late.text.match(/^id/gm)?.length ?? 0
    assert.ok(kept >= 3 && kept <= 6, `${kept} events of ${name}`)
  }
  await proxy.close({ withinMs: 0 })
})
