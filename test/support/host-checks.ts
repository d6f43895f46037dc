// What must hold in every host: the same tests, for whatever carries the middleware.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { sseProxy } from 'sse-proxy-middleware'
import { type Client, headerOf, type RequestOptions, request } from './client.ts'
import type { SseProxy, SseProxyOptions } from './proxied.ts'
import { refusingUrl } from './several-upstreams.ts'
import { startUpstream, type Upstream } from './upstream.ts'
import { within } from './waiting.ts'

/** A host that listens, with the middleware at `/events`. */
export interface Hosting {
  origin: string
  /** Ends the host as its own documents say, the middleware's `close` included where it has a hook for that. */
  close(): Promise<unknown>
}

export interface HostUnderTest {
  start(proxy: SseProxy): Promise<Hosting>
  /** Why it is not tested here. */
  skip?: string | false | undefined
  /** What a request with a JSON body has to bring, where the host's parser wants more than its type. */
  headers?: Record<string, string>
}

interface Hosted {
  upstream: Upstream
  proxy: SseProxy
  hosting: Hosting
  request(options?: RequestOptions): Client
}

/** Registers the tests of one host. */
export function checkHost(name: string, host: HostUnderTest): void {
  const check = (what: string, work: (t: TestContext) => Promise<void>): void => {
    test(`${name}: ${what}`, { skip: host.skip ?? false }, work)
  }

  check('the headers arrive before the first event, and each event at once', async (t) => {
    const { upstream, request } = await hosted(t, host)
    const client = request()
    const stream = (await upstream.next()).stream()

    await client.head()
    stream.send({ data: 'one' })
    await client.waitFor('data: one\n\n')
    stream.send({ data: 'two' })
    await client.waitFor('data: two\n\n')
    stream.end()

    assert.equal(await client.ended(), 'clean')
    assert.equal(headerOf(client, 'content-type'), 'text/event-stream')
  })

  check('a client that leaves frees the upstream, before and after the head', async (t) => {
    const { upstream, request } = await hosted(t, host)
    const waiting = request()
    const waited = await upstream.next()
    const streaming = request()
    const streamed = await upstream.next()
    streamed.stream()
    await streaming.head()

    waiting.close()
    streaming.close()

    await waited.leftByPeer()
    await streamed.leftByPeer()
  })

  check('a POST with a JSON body reaches the upstream, whoever has parsed it', async (t) => {
    const { upstream, request } = await hosted(t, host)
    const headers = { 'content-type': 'application/json', ...host.headers }
    const client = request({ method: 'POST', headers, body: '{"model":"x","stream":true}' })
    const exchange = await upstream.next()
    const body = await exchange.body()

    exchange.stream().end('data: x\n\n')

    assert.deepEqual(JSON.parse(String(body)), { model: 'x', stream: true })
    assert.equal(await client.whole(), 'data: x\n\n')
  })

  check('a silence is broken by keepalive comments', async (t) => {
    const { upstream, request } = await hosted(t, host, { keepalive: 20 })
    const client = request()

    ;(await upstream.next()).stream()

    await client.waitFor(': keepalive\n\n')
  })

  check('an upstream that breaks off breaks the transfer', async (t) => {
    const { upstream, request } = await hosted(t, host)
    const client = request()
    const stream = (await upstream.next()).stream()
    stream.send({ data: 'one' })
    await client.waitFor('data: one\n\n')

    stream.reset()

    assert.equal(await client.ended(), 'broken')
    assert.equal(client.text, 'data: one\n\n')
  })

  check('an upstream that refuses is a 502 with a code', async (t) => {
    const { request } = await hosted(t, host, { target: refusingUrl })

    const client = request()

    assert.equal(JSON.parse(await client.whole()).error.code, 'ERR_SSE_PROXY_UNREACHABLE')
    assert.equal(client.status, 502)
  })

  check('an ordinary answer passes as it is', async (t) => {
    const { upstream, request } = await hosted(t, host)
    const client = request()

    ;(await upstream.next()).answer(418, { 'x-kind': 'teapot' }, 'short and stout')

    assert.equal(await client.whole(), 'short and stout')
    assert.equal(client.status, 418)
    assert.equal(headerOf(client, 'x-kind'), 'teapot')
  })

  check('an open stream is told to come back, and does not hold the shutdown up', async (t) => {
    const { upstream, proxy, hosting, request } = await hosted(t, host)
    const client = request()
    ;(await upstream.next()).stream().send({ data: 'x' })
    await client.waitFor('data: x\n\n')

    const closing = proxy.close({ withinMs: 100 })
    const ending = await client.ended()
    const result = await closing
    client.close()
    await within(hosting.close(), 'the host to close')

    assert.equal(ending, 'clean')
    assert.match(client.text, /^data: x\n\nretry: \d+\n\n$/)
    assert.equal(result.drained, 1)
  })
}

async function hosted(t: TestContext, host: HostUnderTest, options: Partial<SseProxyOptions> = {}): Promise<Hosted> {
  const upstream = await startUpstream()
  const proxy = sseProxy({ target: `${upstream.url}/stream`, ...options })
  const hosting = await host.start(proxy)
  const clients: Client[] = []
  t.after(async () => {
    for (const client of clients) client.close()
    await proxy.close({ withinMs: 0 })
    await hosting.close()
    await upstream.close()
  })
  return {
    upstream,
    proxy,
    hosting,
    request(options) {
      const client = request(`${hosting.origin}/events`, options)
      clients.push(client)
      return client
    },
  }
}
