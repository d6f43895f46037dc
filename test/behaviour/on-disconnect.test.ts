// What happens to the upstream when its client has gone: let go at once, some time later, or not before its own end.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { hostsByProtocol } from '../support/front.ts'
import { watchLeftovers } from '../support/leftovers.ts'
import { proxied, rawProxied, type SseProxyOptions } from '../support/proxied.ts'
import { chunk, streamHead } from '../support/raw-upstream.ts'
import { until } from '../support/waiting.ts'

for (const host of hostsByProtocol) {
  test(`'drain' lets hooks see the stream to its end (${host})`, async (t) => {
    const leftovers = watchLeftovers(t)
    const { upstream, front, seen } = await recording(t, host, 'drain')
    const client = front.request()
    const exchange = await upstream.next()
    const stream = exchange.stream()
    stream.send({ data: 'before' })
    await client.waitFor('before')

    client.close()
    await until(() => front.connections === 0, 'the client to be gone')
    for (const data of ['after', 'usage: 42 tokens']) {
      stream.send({ data })
      await until(() => seen.includes(data), `the hook to see ${data}`)
    }
    stream.end()
    await until(() => seen.some((entry) => entry.startsWith('close')), 'onClose')

    assert.equal(exchange.isLeft, false)
    assert.deepEqual(
      seen.filter((entry) => !entry.startsWith('end')),
      ['before', 'after', 'usage: 42 tokens', 'close client-left'],
    )
    await front.close()
    await upstream.close()
    await leftovers.assertNone()
  })

  test(`'drain' goes on through a slow and full stream without holding anything for the client (${host})`, async (t) => {
    const { upstream, front, seen } = await recording(t, host, 'drain')
    const client = front.request()
    const exchange = await upstream.next()
    const stream = exchange.stream()
    await client.head()
    client.close()
    await until(() => front.connections === 0, 'the client to be gone')

    const event = `data: ${'x'.repeat(256 * 1024)}\n\n`
    for (let count = 0; count < 100; count += 1) stream.write(event)
    stream.end('data: last\n\n')

    await until(() => seen.includes('last'), 'the last event')
    assert.equal(exchange.isLeft, false)
  })

  test(`'drain' goes on where the client had been too slow (${host})`, async (t) => {
    const { upstream, front, seen } = await recording(t, host, 'drain')
    const client = front.request()
    const exchange = await upstream.next()
    const stream = exchange.stream()
    await client.head()
    client.pause()
    const event = `data: ${'x'.repeat(256 * 1024)}\n\n`
    for (let count = 0; count < 200; count += 1) stream.write(event)
    stream.end('data: last\n\n')
    await standstill(() => seen.length)

    client.close()

    await until(() => seen.includes('last'), 'the last event')
    assert.equal(exchange.isLeft, false)
  })

  test(`'drain' ends with an upstream that breaks off (${host})`, async (t) => {
    const closed: string[] = []
    const options: Partial<SseProxyOptions> = {
      onDisconnect: 'drain',
      onClose: (_stream, reason) => void closed.push(reason),
    }
    const { upstream, front } = await rawProxied(t, { ...options, transform: () => {} }, { host })
    const client = front.request()
    const conversation = await upstream.next()
    conversation.send(streamHead)
    conversation.send(chunk('data: one\n\n'))
    await client.waitFor('one')
    client.close()
    await until(() => front.connections === 0, 'the client to be gone')

    conversation.reset()

    await until(() => closed.length === 1, 'onClose')
  })

  test(`{ graceMs } lets the upstream go on for that long and then lets it go (${host})`, async (t) => {
    const leftovers = watchLeftovers(t)
    const { upstream, front, seen } = await recording(t, host, { graceMs: 400 })
    const client = front.request()
    const exchange = await upstream.next()
    const stream = exchange.stream()
    stream.send({ data: 'before' })
    await client.waitFor('before')

    client.close()
    await until(() => front.connections === 0, 'the client to be gone')
    stream.send({ data: 'after' })
    await until(() => seen.includes('after') || exchange.isLeft, 'the hook to see the event')
    await exchange.leftByPeer()
    await until(() => seen.some((entry) => entry.startsWith('close')), 'onClose')

    assert.deepEqual(seen, ['before', 'after', 'close client-left'])
    await front.close()
    await upstream.close()
    await leftovers.assertNone()
  })

  test(`{ graceMs } ends early with the stream (${host})`, async (t) => {
    const { upstream, front, seen } = await recording(t, host, { graceMs: 60_000 })
    const client = front.request()
    const exchange = await upstream.next()
    const stream = exchange.stream()
    await client.head()

    client.close()
    await until(() => front.connections === 0, 'the client to be gone')
    stream.end('data: last\n\n')
    await until(() => seen.some((entry) => entry.startsWith('close')), 'onClose')

    assert.ok(seen.includes('last'))
    assert.equal(exchange.isLeft, false)
  })

  test(`'abort' shows hooks nothing more (${host})`, async (t) => {
    const { upstream, front, seen } = await recording(t, host, 'abort')
    const client = front.request()
    const exchange = await upstream.next()
    exchange.stream().send({ data: 'before' })
    await client.waitFor('before')

    client.close()
    await exchange.leftByPeer()
    await until(() => seen.some((entry) => entry.startsWith('close')), 'onClose')

    assert.deepEqual(seen, ['before', 'close client-left'])
  })

  for (const onDisconnect of ['drain', { graceMs: 60_000 }] as const) {
    const name = typeof onDisconnect === 'string' ? `'${onDisconnect}'` : '{ graceMs }'
    test(`with ${name} a client that leaves and comes back holds no more streams than its limit (${host})`, async (t) => {
      const limits = { streams: 20, streamsPerClient: 2 }
      const { upstream, front, proxy } = await proxied(t, { onDisconnect, limits }, { host })
      const statuses: number[] = []

      for (let count = 0; count < 30; count++) {
        const client = front.request(`?${count}`)
        if (count < 2) (await upstream.next()).stream()
        await client.head()
        statuses.push(client.status)
        client.close()
        await until(() => front.connections === 0, 'the client to be gone')
      }
      const openAtOnce = upstream.open
      upstream.exchanges[0]?.res.end()
      await until(() => proxy.stats().active === 1, 'the end of one')
      const after = front.request()
      ;(await upstream.next()).stream()
      await after.head()
      for (const { res } of upstream.exchanges) res.end()
      await after.ended()

      assert.equal(openAtOnce, 2)
      assert.deepEqual(statuses, [200, 200, ...Array(28).fill(429)])
      assert.equal(after.status, 200)
    })
  }

  test(`'drain' lets a stream without its client finish while the proxy closes (${host})`, async (t) => {
    const { upstream, front, proxy, seen } = await recording(t, host, 'drain')
    const client = front.request()
    const exchange = await upstream.next()
    const stream = exchange.stream()
    await client.head()
    client.close()
    await until(() => front.connections === 0, 'the client to be gone')

    const closing = proxy.close({ withinMs: 20_000 })
    stream.send({ data: 'usage' })
    await until(() => seen.includes('usage') || exchange.isLeft, 'the hook to see the event')
    stream.end()
    await closing

    assert.deepEqual(seen, ['usage', 'end', 'close client-left'])
    assert.equal(exchange.isLeft, false)
  })

  test(`before the upstream has answered there is nothing to drain (${host})`, async (t) => {
    const { upstream, front } = await recording(t, host, 'drain')
    const client = front.request()
    const exchange = await upstream.next()

    client.close()

    await exchange.leftByPeer()
  })
}

/** Resolves when the count has begun to rise and has then stayed the same for a while. */
async function standstill(count: () => number): Promise<void> {
  let last = 0
  let since = performance.now()
  await until(() => {
    if (count() !== last) {
      last = count()
      since = performance.now()
    }
    return last > 0 && performance.now() - since > 300
  }, 'the stream to be held back')
}

/** An arrangement whose hooks and observers write down what they see. */
async function recording(
  t: TestContext,
  host: (typeof hostsByProtocol)[number],
  onDisconnect: NonNullable<SseProxyOptions['onDisconnect']>,
) {
  const seen: string[] = []
  const arrangement = await proxied(
    t,
    {
      onDisconnect,
      transform: ({ data }) => void seen.push(data),
      onEnd: () => void seen.push('end'),
      onClose: (_stream, reason) => void seen.push(`close ${reason}`),
    },
    { host },
  )
  return { ...arrangement, seen }
}
