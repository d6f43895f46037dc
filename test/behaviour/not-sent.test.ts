// What the app or a client does to a request is no failure of an upstream: nobody can have upstreams ejected with it.
import assert from 'node:assert/strict'
import type { ClientRequest, IncomingMessage } from 'node:http'
import { type TestContext, test } from 'node:test'
import express from 'express'
import { fixRequestBody } from 'http-proxy-middleware'
import { certificate } from '../support/certificate.ts'
import type { Middleware } from '../support/front.ts'
import type { SseProxyOptions } from '../support/proxied.ts'
import { streamHead } from '../support/raw-upstream.ts'
import { type Several, several } from '../support/several-upstreams.ts'
import { until } from '../support/waiting.ts'

const later = (request: ClientRequest, error?: Error): void => void setImmediate(() => request.destroy(error))

const endings: Record<string, (request: ClientRequest) => unknown> = {
  'with an error': (request) => request.destroy(new Error('not this one')),
  'with an error that looks like one of the system': (request) =>
    request.destroy(Object.assign(new Error('not this one'), { code: 'ECONNRESET' })),
  'without an error': (request) => request.destroy(),
  'with an error, a turn later': (request) => later(request, new Error('not this one')),
  'without an error, a turn later': (request) => later(request),
}

for (const [name, proxyReq] of Object.entries(endings)) {
  test(`a request that on.proxyReq destroys ${name} is answered 500 and ejects nobody`, async (t) => {
    const told: unknown[] = []
    const arrangement = await twoUpstreams(t, { on: { proxyReq, error: (error) => void told.push(error) } })
    const { front, proxy } = arrangement

    for (let i = 0; i < 6; i += 1) {
      const client = front.request()
      await client.ended()
      assert.equal(client.status, 500)
      assert.equal(JSON.parse(client.text).error.code, 'ERR_SSE_PROXY_NOT_SENT')
    }

    assertHealthy(arrangement)
    assert.equal(told.length, 6)
    assert.equal(proxy.stats().retries, 0)
  })
}

test('six forms that smuggle CRLF past fixRequestBody are answered 400 and eject nobody', async (t) => {
  const proxyReq = fixRequestBody as (request: ClientRequest, req: IncomingMessage) => void
  const arrangement = await twoUpstreams(t, { on: { proxyReq } }, [express.text({ type: '*/*' })])
  const headers = { 'content-type': 'multipart/form-data; boundary=x' }

  for (let i = 0; i < 6; i += 1) {
    const client = arrangement.front.request('', { method: 'POST', headers, body: '--x--\r\nevil: 1\r\n' })
    await client.ended()
    assert.equal(client.status, 400)
  }

  assertHealthy(arrangement)
})

test('a path that HTTP/1.1 cannot carry is no failure of an upstream', async (t) => {
  const arrangement = await twoUpstreams(t, { pathRewrite: () => '/✓' })

  for (let i = 0; i < 6; i += 1) {
    const client = arrangement.front.request()
    await client.ended()
    assert.equal(client.status, 500)
  }

  assertHealthy(arrangement)
})

test('a Host that the certificate of an upstream is not good for ejects nobody', async (t) => {
  const { front, proxy } = await several(
    t,
    { health: { failures: 3 }, ssl: { ca: certificate.cert } },
    { count: 2, upstream: { tls: certificate, handler: (exchange) => exchange.answer(204) } },
  )

  for (let i = 0; i < 6; i += 1) {
    const client = front.request('', { headers: { host: 'evil.test' } })
    await client.ended()
    assert.equal(client.status, 502)
  }
  const client = front.request('', { headers: { host: 'localhost' } })

  assert.equal((await client.head()).status, 204)
  assert.equal(proxy.ready(), true)
})

for (const error of [undefined, new Error('not this one')]) {
  test(`an answer that on.proxyRes destroys ${error ? 'with' : 'without'} an error ejects nobody`, async (t) => {
    const arrangement = await twoUpstreams(t, { on: { proxyRes: (answer) => void answer.destroy(error) } })

    for (let i = 0; i < 6; i += 1) assert.equal(await arrangement.front.request().ended(), 'broken')

    assertHealthy(arrangement)
  })
}

test('an upstream that breaks its streams off at once is still ejected', async (t) => {
  const { front, proxy, upstreams } = await several(
    t,
    { health: { failures: 3 } },
    {
      count: 2,
      upstream: { handler: ({ req }) => void req.socket.write(streamHead, () => req.socket.resetAndDestroy()) },
    },
  )

  for (let i = 0; i < 6; i += 1) await front.request().ended()

  assert.equal(upstreams.length, 2)
  await until(() => !proxy.ready(), 'the upstreams to be ejected')
})

function twoUpstreams(t: TestContext, options: Partial<SseProxyOptions>, before: Middleware[] = []): Promise<Several> {
  return several(
    t,
    { health: { failures: 3 }, ...options },
    { count: 2, before, upstream: { handler: (exchange) => void exchange.stream() } },
  )
}

function assertHealthy({ proxy }: Several): void {
  assert.deepEqual(
    proxy.stats().upstreams.map(({ healthy, failures, active }) => [healthy, failures, active]),
    [
      [true, 0, 0],
      [true, 0, 0],
    ],
  )
  assert.equal(proxy.ready(), true)
}
