// A stream that loses its upstream may have a last event of the app's own: at a boundary, and then the transfer breaks.
import assert from 'node:assert/strict'
import type { ServerResponse } from 'node:http'
import { type TestContext, test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import type { Request } from 'express'
import { memoryStore, type ShareStore } from 'sse-proxy-middleware'
import type { Client } from '../support/client.ts'
import { type Host, hostsByProtocol } from '../support/front.ts'
import { proxied, type SseProxy, type SseProxyOptions } from '../support/proxied.ts'
import { shared } from '../support/sharing.ts'
import type { EventStream, Upstream } from '../support/upstream.ts'
import { Arrivals, until } from '../support/waiting.ts'

const first = 'id: 1\ndata: one\n\n'
const apology = 'event: error\ndata: ERR_SSE_PROXY_UPSTREAM_LOST\n\n'
const onLost: SseProxyOptions['onLost'] = ({ code }) => ({ event: 'error', data: code })

type End = (res: ServerResponse | undefined) => void

const ways: Record<string, Partial<SseProxyOptions>> = {
  plain: {},
  hooked: { transform: () => undefined },
  shared: { share: { lingerMs: 0 } },
  'shared, with hooks for each client': { share: { lingerMs: 0, transform: () => undefined } },
}

for (const host of hostsByProtocol) {
  for (const [way, options] of Object.entries(ways)) {
    test(`a lost stream gets the app's event behind the last whole one, and breaks (${way}, ${host})`, async (t) => {
      const { upstream, proxy, front } = await proxied(t, { onLost, ...options }, { host })
      const client = front.request()
      const stream = (await upstream.next()).stream()
      stream.write(`${first}data: half`)
      await client.waitFor(first)

      stream.reset()

      assert.equal(await client.ended(), 'broken')
      assert.equal(client.text, first + apology)
      assert.equal(proxy.stats().closed['upstream-lost'], 1)
    })
  }
}

for (const [way, options] of Object.entries({
  ...ways,
  'shared over a slow store': { share: { lingerMs: 0, store: slow(memoryStore()) } },
})) {
  for (const [told, ends] of Object.entries({
    'on.error': (end: End) => ({ on: { error: (_error: Error, _req: Request, res: ServerResponse) => end(res) } }),
    onClose: (end: End) => ({ onClose: ({ req }: { req: Request }) => end(req.res) }),
  })) {
    test(`an app that ends the answer in ${told} does not make it look whole (${way})`, async (t) => {
      const ended = new Arrivals<string>()
      const { upstream, front } = await proxied(t, {
        onLost,
        ...options,
        ...ends((res) => {
          res?.end('data: all is well\n\n')
          ended.add('ended')
        }),
      } as Partial<SseProxyOptions>)
      const client = front.request()
      const stream = (await upstream.next()).stream()
      stream.write(first)
      await client.waitFor(first)

      stream.cut()
      await ended.next('the loss to be told')

      assert.equal(await client.ended(), 'broken')
      assert.equal(client.text, first + apology)
    })
  }
}

for (const [code, options, then] of [
  ['ERR_SSE_PROXY_INCOMPLETE', { isEnd: () => false }, (stream: EventStream) => stream.end()],
  ['ERR_SSE_PROXY_IDLE', { timeouts: { idleMs: 50 } }, () => {}],
  ['ERR_SSE_PROXY_EVENT_TOO_LARGE', { limits: { eventBytes: 50 }, transform: () => undefined }, sendMuch],
] as const) {
  test(`onLost is told of ${code}`, async (t) => {
    const { upstream, front } = await proxied(t, { onLost, ...options })
    const client = front.request()
    const stream = (await upstream.next()).stream()
    stream.write(first)
    await client.waitFor(first)

    then(stream)

    assert.equal(await client.ended(), 'broken')
    assert.equal(client.text, `${first}event: error\ndata: ${code}\n\n`)
  })
}

test('onLost waits for what resume brings, and is called when that is given up', async (t) => {
  let calls = 0
  const { upstream, front } = await proxied(t, {
    resume: { attempts: 1, delayMs: 0 },
    onLost: () => {
      calls += 1
      return { data: 'sorry' }
    },
  })
  const client = front.request()
  const stream = (await upstream.next()).stream()
  stream.write(first)
  await client.waitFor(first)
  stream.reset()
  const again = (await upstream.next()).stream()
  again.write('id: 2\ndata: two\n\n')
  await client.waitFor('two')
  const callsBefore = calls

  again.reset()
  ;(await upstream.next()).answer(503)

  assert.equal(await client.ended(), 'broken')
  assert.equal(client.text, `${first}id: 2\ndata: two\n\ndata: sorry\n\n`)
  assert.deepEqual([callsBefore, calls], [0, 1])
})

test('an onLost that returns nothing changes nothing', async (t) => {
  const { upstream, front } = await proxied(t, { onLost: () => undefined })
  const client = front.request()
  const stream = (await upstream.next()).stream()
  stream.write(first)
  await client.waitFor(first)

  stream.reset()

  assert.equal(await client.ended(), 'broken')
  assert.equal(client.text, first)
})

test('an event that is forwarded as it comes is not completed by an event of onLost', async (t) => {
  const { upstream, front } = await proxied(t, { onLost, limits: { eventBytes: 50 } })
  const client = front.request()
  const stream = (await upstream.next()).stream()
  stream.write(`data: ${'x'.repeat(100)}`)
  await client.waitFor('x'.repeat(100))

  stream.reset()

  assert.equal(await client.ended(), 'broken')
  assert.equal(client.text, `data: ${'x'.repeat(100)}`)
})

for (const [what, fails] of [
  [
    'throws',
    () => {
      throw new Error('a mistake of the app')
    },
  ],
  ['returns what is no event', () => ({ data: 5 })],
] as const) {
  test(`an onLost that ${what} is a failure of a hook, and the stream is lost all the same`, async (t) => {
    const { upstream, proxy, front } = await proxied(t, { onLost: fails as () => undefined })
    const client = front.request()
    const stream = (await upstream.next()).stream()
    stream.write(first)
    await client.waitFor(first)

    stream.reset()

    assert.equal(await client.ended(), 'broken')
    assert.equal(client.text, first)
    await until(() => Object.keys(proxy.stats().errors).length === 2, 'both to be told')
    assert.deepEqual(proxy.stats().errors, { ERR_SSE_PROXY_HOOK: 1, ERR_SSE_PROXY_UPSTREAM_LOST: 1 })
    assert.equal(proxy.stats().closed['upstream-lost'], 1)
  })
}

for (const [what, options] of Object.entries({
  'goes on without its client': { onDisconnect: 'drain' },
  'is shared and followed by nobody': { share: { lingerMs: 60_000 } },
} as const)) {
  test(`onLost is not called for a stream that ${what}`, async (t) => {
    let calls = 0
    const { upstream, proxy, front } = await proxied(t, { ...options, onLost: () => void calls++ })
    const client = front.request()
    const stream = (await upstream.next()).stream()
    stream.write(first)
    await client.waitFor(first)
    client.close()
    await until(() => front.connections === 0, 'the client to be gone')

    stream.reset()

    await until(() => proxy.stats().errors.ERR_SSE_PROXY_UPSTREAM_LOST === 1, 'the loss to be told')
    assert.equal(calls, 0)
  })
}

for (const [way, options] of Object.entries(ways)) {
  test(`a stream that is lost before a drain has come to it has the event of onLost (${way})`, async (t) => {
    const { upstream, proxy, front } = await proxied(t, { onLost, ...options })
    const client = front.request()
    const stream = (await upstream.next()).stream()
    stream.write(first)
    await client.waitFor(first)
    // In the middle of that time.
    t.mock.method(Math, 'random', () => 0.5)
    const closing = proxy.close({ withinMs: 60_000 })

    stream.reset()

    assert.equal(await client.ended(), 'broken')
    assert.equal(client.text, first + apology)
    assert.deepEqual(await closing, { drained: 0, aborted: 0, other: 1 })
  })
}

test('onLost is not called for a stream that a drain has ended', async (t) => {
  let calls = 0
  const { upstream, proxy, front } = await proxied(t, { onLost: () => void calls++ })
  const client = front.request()
  const exchange = await upstream.next()
  exchange.stream().write(first)
  await client.waitFor(first)

  const { drained } = await proxy.close({ withinMs: 10 })
  await exchange.leftByPeer()

  assert.equal(await client.ended(), 'clean')
  assert.deepEqual([drained, calls], [1, 0])
})

test('a hook that fails is no loss', async (t) => {
  let calls = 0
  const fail = () => {
    throw new Error('a mistake of the app')
  }
  const { upstream, proxy, front } = await proxied(t, { transform: fail, onLost: () => void calls++ })
  const client = front.request()

  ;(await upstream.next()).stream().write(first)

  assert.equal(await client.ended(), 'broken')
  assert.equal(proxy.stats().closed['hook-failed'], 1)
  assert.equal(calls, 0)
})

test('the event of onLost is made once for all clients of a shared stream', async (t) => {
  const streams: string[] = []
  const room = await shared(
    t,
    {},
    {
      onLost: (_error, { upstream, lastEventId }) => {
        streams.push(`${new URL(upstream).pathname} ${lastEventId}`)
        return { data: 'sorry' }
      },
    },
  )
  const clients = [room.front.request(), room.front.request()]
  const exchange = await room.upstream.next()
  await room.arrivals(2)
  const stream = exchange.stream()
  stream.write(first)
  for (const client of clients) await client.waitFor(first)

  stream.reset()

  for (const client of clients) {
    assert.equal(await client.ended(), 'broken')
    assert.equal(client.text, `${first}data: sorry\n\n`)
  }
  assert.deepEqual(streams, ['/stream 1'])
})

test('a stream that was opened early and gets no answer has the event of onLost', async (t) => {
  const options = ({ url }: Upstream) => ({
    target: `${url}/stream`,
    keepalive: { intervalMs: 10_000, openAfterMs: 10 },
    onLost: ({ code }: { code: string }) => ({ data: code }),
  })
  const { upstream, front } = await proxied(t, options)
  const client = front.request()
  const exchange = await upstream.next()
  await client.head()

  exchange.answer(500)

  assert.equal(await client.ended(), 'broken')
  assert.equal(client.text, 'data: ERR_SSE_PROXY_BAD_ANSWER\n\n')
})

// More than the buffers of all the sockets on the way take, and than an HTTP/2 client lets come unread.
const large = 'x'.repeat(12_000_000)

/** A stream whose upstream is lost while the client does not read; what `onLost` returns is on its way. */
async function losing(
  t: TestContext,
  host: Host,
  timeouts: { writeMs: number },
  data = large,
): Promise<{ client: Client; proxy: SseProxy; isOver: () => boolean }> {
  let isOver = false
  const { upstream, proxy, front } = await proxied(
    t,
    { onLost: () => ({ data }), limits: { bufferBytes: 50_000_000 }, timeouts },
    { host, before: [noteEnd] },
  )
  function noteEnd(_req: unknown, res: ServerResponse, next: () => void): void {
    res.once('close', () => {
      isOver = true
    })
    next()
  }
  const client = front.request()
  const stream = (await upstream.next()).stream()
  stream.write(first)
  await client.waitFor(first)
  client.pause()
  stream.reset()
  await until(() => proxy.stats().closed['upstream-lost'] === 1, 'the loss')
  // A turn for what is done behind the loss.
  await new Promise(setImmediate)
  await new Promise(setImmediate)
  return { client, proxy, isOver: () => isOver }
}

// The window of an HTTP/2 stream, unless its client says otherwise.
const windowBytes = 65_535

for (const spareBytes of [-1, 0, 1]) {
  test(`the transfer breaks where the client's window has room for the event of onLost and ${spareBytes} bytes`, async (t) => {
    const data = 'x'.repeat(windowBytes - spareBytes - first.length - 'data: \n\n'.length)
    const { client, isOver } = await losing(t, 'connect over http2', { writeMs: 60_000 }, data)

    if (spareBytes < 0) client.resume()

    await until(isOver, 'the transfer to break')
  })
}

for (const host of hostsByProtocol) {
  test(`a client that reads late has the whole event of onLost, however large, before the break (${host})`, async (t) => {
    const { client, isOver } = await losing(t, host, { writeMs: 60_000 })
    const isOverBefore = isOver()

    client.resume()

    assert.equal(await client.ended(), 'broken')
    assert.equal(client.length, first.length + `data: ${large}\n\n`.length)
    assert.equal(isOverBefore, false)
  })

  test(`a client that does not read the event of onLost is let go after writeMs (${host})`, async (t) => {
    const { isOver } = await losing(t, host, { writeMs: 80 })

    await until(isOver, 'the client to be let go')
  })

  test(`a client that does not read the event of onLost is let go at the end of a drain (${host})`, async (t) => {
    const { isOver, proxy } = await losing(t, host, { writeMs: 60_000 })

    await proxy.close({ withinMs: 50 })

    await until(isOver, 'the client to be let go')
  })
}

function sendMuch(stream: EventStream): void {
  stream.write(`data: ${'x'.repeat(100)}\n\n`)
}

/** The same store, whose answers take their time. */
function slow(store: ShareStore): ShareStore {
  return new Proxy(store, {
    get(target, name) {
      const value = Reflect.get(target, name)
      if (typeof value !== 'function') return value
      return async (...given: unknown[]) => {
        const result = await value.apply(target, given)
        await setTimeout(20)
        return result
      }
    },
  })
}
