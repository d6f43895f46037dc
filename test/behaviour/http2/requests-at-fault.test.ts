// `http2`: nobody can have upstreams ejected, or the streams of others ended, with what a request contains.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { overHttp2, reset } from '../../support/over-http2.ts'

// PROTOCOL_ERROR, for a path that it does not take say, and ENHANCE_YOUR_CALM, for more headers than it takes.
for (const code of [1, 11]) {
  test(`an upstream that finds fault with requests, with code ${code}, stays healthy`, async (t) => {
    const { front, proxy } = await overHttp2(t, {}, { upstream: { handler: (exchange) => reset(exchange, code) } })

    for (let i = 0; i < 6; i += 1) {
      const client = front.request()
      await client.ended()
      assert.equal(client.status, 502)
      assert.equal(JSON.parse(client.text).error.code, 'ERR_SSE_PROXY_UNREACHABLE')
    }

    assert.equal(proxy.stats().upstreams[0]?.failures, 0)
    assert.equal(proxy.ready(), true)
  })
}

test('an upstream that resets requests for a reason of its own does not', async (t) => {
  const { front, proxy } = await overHttp2(t, {}, { upstream: { handler: (exchange) => reset(exchange, 2) } })

  for (let i = 0; i < 3; i += 1) await front.request().ended()

  assert.equal(proxy.ready(), false)
})

for (const host of ['a b', '"x"', 'é', 'x/y', 'user@x', '[::1', 'x:y']) {
  test(`a request with the Host ${host} is a 400, and does not reach the upstream`, async (t) => {
    const { upstream, front, proxy } = await overHttp2(t)

    for (let i = 0; i < 3; i += 1) {
      const client = front.request('', { headers: { host } })
      await client.ended()
      assert.equal(client.status, 400)
      assert.equal(JSON.parse(client.text).error.code, 'ERR_SSE_PROXY_NOT_SENT')
    }

    assert.equal(upstream.exchanges.length, 0)
    assert.equal(proxy.ready(), true)
  })
}

for (const host of ['x.test', 'x_y.test:8080', '127.0.0.1', '[::1]:80', 'a%20b']) {
  test(`a request with the Host ${host} has it as its authority`, async (t) => {
    const { upstream, front } = await overHttp2(t)
    const client = front.request('', { headers: { host } })

    const exchange = await upstream.next()
    exchange.answer(204)
    await client.head()

    assert.equal(exchange.headers[':authority'], host)
  })
}

test('a header that HTTP/2 does not have twice is a 500 where a handler sends it twice, and no failure of the upstream', async (t) => {
  const on = {
    proxyReq: (proxyReq: { setHeader(name: string, value: string[]): void }) => proxyReq.setHeader('etag', ['1', '2']),
  }
  const { upstream, front, proxy } = await overHttp2(t, { on })

  for (let i = 0; i < 3; i += 1) {
    const client = front.request()
    await client.ended()
    assert.equal(client.status, 500)
    assert.equal(JSON.parse(client.text).error.code, 'ERR_SSE_PROXY_NOT_SENT')
  }

  assert.equal(upstream.exchanges.length, 0)
  assert.equal(proxy.stats().upstreams[0]?.failures, 0)
})
