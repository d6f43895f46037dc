// What the app can do with open streams from outside: find them, close some, send to some.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { SseStream } from 'sse-proxy-middleware'
import { type Client, openHttp2Session } from '../support/client.ts'
import { type Front, hostsByProtocol } from '../support/front.ts'
import { type Proxied, proxied, type SseProxy } from '../support/proxied.ts'
import type { EventStream, Upstream } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

for (const host of hostsByProtocol) {
  test(`the streams of one user are found and closed, and nobody else's (${host})`, async (t) => {
    const arrangement = await proxied(t, {}, { host })
    const ada = [await open(arrangement, 'ada'), await open(arrangement, 'ada')]
    const grace = await open(arrangement, 'grace')

    for (const stream of arrangement.proxy.streams) if (userOf(stream) === 'ada') stream.close()

    for (const { client } of ada) assert.equal(await client.ended(), 'clean')
    grace.stream.send({ data: 'still here' })
    await grace.client.waitFor('still here')
    assert.deepEqual([...arrangement.proxy.streams].map(userOf), ['grace'])
    assert.equal(arrangement.proxy.stats().closed.closed, 2)
    await until(() => arrangement.upstream.open === 1, 'their upstreams to be let go')
  })

  test(`a stream that is closed ends after the event that is on its way and before one that is not whole (${host})`, async (t) => {
    const arrangement = await proxied(t, { framing: 'bytes' }, { host })
    const { client, stream } = await open(arrangement, 'ada')
    stream.write('data: the first')
    await client.waitFor('the first')

    only(arrangement.proxy).close()
    stream.write(' half\n\ndata: behind')

    assert.equal(await client.whole(), 'data: the first half\n\n')
  })

  test(`a notice to one user arrives between two events and at nobody else's (${host})`, async (t) => {
    const arrangement = await proxied(t, {}, { host })
    const ada = await open(arrangement, 'ada')
    const grace = await open(arrangement, 'grace')
    ada.stream.write('data: the first half')

    const notice = { event: 'notice', id: 'n-1', data: 'two\nlines' }
    const taken = [...arrangement.proxy.streams].filter((stream) => userOf(stream) === 'ada' && stream.send(notice))
    await ada.client.waitFor('lines')
    ada.stream.write(' and the second\n\n')
    await ada.client.waitFor('the second')
    grace.stream.send({ data: 'for grace' })
    await grace.client.waitFor('for grace')

    assert.equal(taken.length, 1)
    assert.equal(
      ada.client.text,
      'event: notice\nid: n-1\ndata: two\ndata: lines\n\ndata: the first half and the second\n\n',
    )
    assert.equal(grace.client.text, 'data: for grace\n\n')
  })

  test(`a notice in the middle of an event that has begun to leave waits for its end (${host})`, async (t) => {
    const arrangement = await proxied(t, { framing: 'bytes' }, { host })
    const { client, stream } = await open(arrangement, 'ada')
    stream.write('data: the first half')
    await client.waitFor('half')

    assert.equal(only(arrangement.proxy).send({ data: 'notice one' }), true)
    assert.equal(only(arrangement.proxy).send({ data: 'notice two' }), true)
    stream.write(' and the second\n\ndata: next\n\n')
    await client.waitFor('notice two')

    assert.ok(client.text.startsWith('data: the first half and the second\n\n'), client.text)
    assert.deepEqual(client.text.split('\n\n').sort(), [
      '',
      'data: next',
      'data: notice one',
      'data: notice two',
      'data: the first half and the second',
    ])
  })
}

test('streams are found by what the app noted on them, and by their ids', async (t) => {
  const onOpen = (stream: SseStream): void => {
    stream.locals.plan = userOf(stream) === 'ada' ? 'paid' : 'free'
  }
  const arrangement = await proxied(t, { onOpen })
  for (const user of ['ada', 'grace', 'edsger']) await open(arrangement, user)

  const all = [...arrangement.proxy.streams]
  const paying = all.filter(({ locals }) => locals.plan === 'paid')

  assert.deepEqual(paying.map(userOf), ['ada'])
  assert.equal(new Set(all.map(({ id }) => id)).size, 3)
})

test('the streams may be walked as often as one likes, also while they end', async (t) => {
  const arrangement = await proxied(t)
  for (const user of ['ada', 'grace', 'edsger']) await open(arrangement, user)
  const { streams } = arrangement.proxy

  assert.equal([...streams].length, 3)
  for (const stream of streams) stream.close()

  assert.equal([...streams].length, 0)
})

test('what waits for its upstream is no stream yet', async (t) => {
  const { upstream, front, proxy } = await proxied(t)
  const client = front.request()
  const exchange = await upstream.next()

  assert.equal([...proxy.streams].length, 0)
  exchange.stream()
  await client.head()

  assert.equal([...proxy.streams].length, 1)
})

test('a stream that is over takes nothing, and closing it again does nothing', async (t) => {
  const arrangement = await proxied(t)
  const { client } = await open(arrangement, 'ada')
  const stream = only(arrangement.proxy)
  client.close()
  await until(() => stream.signal.aborted, 'the end of the stream')

  assert.equal(stream.send({ data: 'too late' }), false)
  stream.close()

  assert.equal(stream.signal.reason, 'client-left')
  assert.deepEqual(arrangement.proxy.stats().closed['client-left'], 1)
  assert.equal(arrangement.proxy.stats().closed.closed, 0)
})

test('a client that is too far behind is not sent more, and send() says so', async (t) => {
  const arrangement = await proxied(t, { limits: { bufferBytes: 100_000 } })
  const { client } = await open(arrangement, 'ada')
  const stream = only(arrangement.proxy)
  client.pause()

  const event = { data: 'x'.repeat(50_000) }
  let taken = 0
  await until(() => {
    if (!stream.send(event)) return true
    taken += 1
    return false
  }, 'a refusal')
  client.resume()
  await client.waitForLength(taken * (event.data.length + 8))

  assert.equal(client.length, taken * (event.data.length + 8))
  await until(() => stream.send({ data: 'again' }), 'it to take events again')
})

test('an event that would smuggle in others is refused before anything is sent', async (t) => {
  const arrangement = await proxied(t)
  const { client } = await open(arrangement, 'ada')
  const stream = only(arrangement.proxy)

  const wrong = [
    { data: 'x', id: 'a\nb' },
    { data: 'x', event: 'a\rdata: b' },
    { data: 'x', id: 'a\0' },
    { data: 1 },
    {},
    null,
  ]
  for (const event of wrong) assert.throws(() => stream.send(event as never), TypeError)
  stream.send({ data: 'right' })
  await client.waitFor('right')

  assert.equal(client.text, 'data: right\n\n')
})

test('with share each client is a stream of its own that can be sent to and closed', async (t) => {
  const arrangement = await proxied(t, { share: { key: () => 'all', lingerMs: 0 } })
  const { upstream, front, proxy } = arrangement
  const clients = ['ada', 'grace'].map((user) => front.request('', { headers: { 'x-user': user } }))
  const stream = (await upstream.next()).stream()
  await Promise.all(clients.map((client) => client.head()))
  const [ada, grace] = clients as [Client, Client]

  for (const one of proxy.streams) if (userOf(one) === 'ada') one.send({ data: 'for ada' })
  await ada.waitFor('for ada')
  for (const one of proxy.streams) if (userOf(one) === 'ada') one.close()
  assert.equal(await ada.ended(), 'clean')
  stream.send({ data: 'for who is left' })
  await grace.waitFor('for who is left')

  assert.equal(grace.text, 'data: for who is left\n\n')
})

test('closing one stream of an HTTP/2 connection leaves the connection to the others', async (t) => {
  const arrangement = await proxied(t, {}, { host: 'connect over http2' })
  const session = openHttp2Session(arrangement.front.origin)
  t.after(() => session.destroy())
  const ada = await open(arrangement, 'ada', { session })
  const grace = await open(arrangement, 'grace', { session })

  for (const stream of arrangement.proxy.streams) if (userOf(stream) === 'ada') stream.close()
  assert.equal(await ada.client.ended(), 'clean')
  grace.stream.send({ data: 'still here' })
  await grace.client.waitFor('still here')

  assert.equal(session.closed, false)
})

async function open(
  { upstream, front, proxy }: Proxied<Upstream>,
  user: string,
  options: Parameters<Front['request']>[1] = {},
): Promise<{ client: Client; stream: EventStream }> {
  const before = [...proxy.streams].length
  const client = front.request('', { ...options, headers: { 'x-user': user } })
  const stream = (await upstream.next()).stream()
  await client.head()
  assert.equal([...proxy.streams].length, before + 1)
  return { client, stream }
}

function only(proxy: SseProxy): SseStream {
  const [stream, ...more] = proxy.streams
  assert.ok(stream && more.length === 0)
  return stream
}

function userOf({ req }: SseStream): string {
  return String(req.headers['x-user'])
}
