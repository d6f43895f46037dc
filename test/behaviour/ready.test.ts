// proxy.ready(), as the health route of an app asks it.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { sseProxy } from 'sse-proxy-middleware'
import { type Front, startFront } from '../support/front.ts'
import { proxied, type SseProxyOptions } from '../support/proxied.ts'
import { startUpstream, type Upstream } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

test('a proxy is ready from its creation on, also where it has met nothing but a router', async (t) => {
  const { proxy } = await proxied(t)
  const routed = sseProxy({ router: () => 'http://127.0.0.1:9' })

  assert.equal(proxy.ready(), true)
  assert.equal(routed.ready(), true)
})

test('a proxy that drains is not ready, from the first moment on and after', async (t) => {
  const { upstream, front, proxy } = await proxied(t)
  const client = front.request()
  ;(await upstream.next()).stream()
  await client.head()

  const closing = proxy.close({ withinMs: 100 })
  assert.equal(proxy.ready(), false)
  await closing

  assert.equal(proxy.ready(), false)
})

test('without a healthy target a proxy is not ready, and is again when a target may be asked', async (t) => {
  const health = { failures: 1, ejectMs: 300 }
  const { upstreams, front, proxy } = await two(t, { health })

  await upstreams[0]!.close()
  await refused(front, upstreams[1])
  await until(() => proxy.stats().upstreams.some(({ healthy }) => !healthy), 'one to be left alone')
  const withOne = proxy.ready()
  await upstreams[1]!.close()
  await refused(front)
  const withNone = proxy.ready()

  assert.equal(withOne, true)
  assert.equal(withNone, false)
  await until(() => proxy.ready(), 'the end of an ejection')
})

test('a single target that fails too often counts as well', async (t) => {
  const { upstream, front, proxy } = await proxied(t, { health: { failures: 2, ejectMs: 60_000 } })
  await upstream.close()

  await refused(front)
  assert.equal(proxy.ready(), true)
  await refused(front)

  assert.equal(proxy.ready(), false)
})

test('with probes a proxy finds out without a request, both ways', async (t) => {
  let status = 200
  const handler: Parameters<typeof startUpstream>[0] = { handler: (exchange) => exchange.answer(status) }
  const upstream = await startUpstream(handler)
  const probe = { path: '/health', intervalMs: 20, timeoutMs: 1000, rise: 2, fall: 2 }
  const proxy = sseProxy({ target: upstream.url, health: { probe } })
  t.after(async () => {
    await proxy.close({ withinMs: 0 })
    await upstream.close()
  })

  await until(() => upstream.exchanges.length > 3, 'some probes')
  assert.equal(proxy.ready(), true)
  status = 500
  await until(() => !proxy.ready(), 'the proxy to find out')
  status = 204

  await until(() => proxy.ready(), 'the proxy to find out again')
})

test('an /health route answers 200 before and 503 during a drain', async (t) => {
  const { upstream, front, proxy } = await proxied(t)
  const health = await startFront('express5', (_req, res) => res.status(proxy.ready() ? 200 : 503).end(), {
    mount: '/health',
  })
  t.after(() => health.close())
  const client = front.request()
  ;(await upstream.next()).stream()
  await client.head()

  const before = await health.open()
  const closing = proxy.close({ withinMs: 500 })
  const during = await health.open()
  await closing

  assert.deepEqual([before.status, during.status], [200, 503])
})

async function two(
  t: TestContext,
  options: Partial<SseProxyOptions>,
): Promise<{ upstreams: Upstream[]; front: Front; proxy: ReturnType<typeof sseProxy> }> {
  const upstreams = [await startUpstream(), await startUpstream()]
  const proxy = sseProxy({ target: upstreams.map(({ url }) => url), retry: false, balance: 'round-robin', ...options })
  const front = await startFront('express5', proxy)
  t.after(async () => {
    await front.close()
    await Promise.all(upstreams.map((upstream) => upstream.close().catch(() => {})))
  })
  return { upstreams, front, proxy }
}

/** Asks until a request has met an upstream that is gone, and not the one that lives and does not answer. */
async function refused(front: Front, living?: Upstream): Promise<void> {
  for (let tries = 0; tries < 10; tries += 1) {
    const { length = 0 } = living?.exchanges ?? []
    const client = front.request()
    const isTaken = () => living !== undefined && living.exchanges.length > length
    await until(() => client.hasHead || isTaken(), 'an answer, or the request at the living upstream')
    client.close()
    if (client.status === 502) return
  }
  assert.fail('no request was refused')
}
