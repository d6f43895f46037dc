// A proxy whose process is not there for a while, because its event loop stands still or the process is stopped: what the
// others did meanwhile counts, and that it was not noticed is not their fault.
import assert from 'node:assert/strict'
import { after, before, type TestContext, test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import type { ProxyStats } from 'sse-proxy-middleware'
import { type Client, request } from '../support/client.ts'
import { type Child, startChild } from '../support/processes/child.ts'
import type { ProxySetup } from '../support/processes/proxy.ts'
import { type Exchange, startUpstream, type Upstream } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

const mebibyte = 2 ** 20
/** What the proxy is told to wait, and how long it is away. */
const [waitMs, awayMs] = [1_000, 2_000]

let proxy: Child
before(async () => {
  proxy = await startChild('proxy.ts')
})
after(() => proxy.end())

const absences: { name: string; leave: (proxy: Child) => Promise<unknown> }[] = [
  { name: 'the event loop stands still', leave: (proxy) => proxy.ask('stall', awayMs) },
  {
    name: 'the process is stopped',
    leave: async (proxy) => {
      proxy.signal('SIGSTOP')
      // Nothing tells when it has been long enough but the time itself.
      void setTimeout(awayMs).then(() => proxy.signal('SIGCONT'))
    },
  },
]

for (const { name, leave } of absences) {
  test(`streams with an event each 100 ms outlive it that ${name} for longer than idleMs`, async (t) => {
    const { upstream, proxy, open } = await started(t, { timeouts: { idleMs: waitMs } })
    const clients = open(50)
    const streams = (await exchanges(upstream, 50)).map((exchange) => exchange.stream())
    let count = 0
    const sender = setInterval(() => {
      count += 1
      for (const stream of streams) stream.send({ data: `number ${count}` })
    }, 100)
    t.after(() => clearInterval(sender))
    await Promise.all(clients.map((client) => client.waitFor('number 2\n')))

    await leave(proxy)
    await back(proxy)

    await Promise.all(clients.map((client) => client.waitFor(`number ${count + 5}\n`)))
    assert.equal((await proxy.ask<ProxyStats>('stats')).active, 50)
  })

  for (const [when, isAnsweredLater] of [
    ['meanwhile', false],
    ['right after it', true],
  ] as const) {
    test(`answers that come ${when} are no timeouts where ${name} for longer than responseMs`, async (t) => {
      const { proxy, upstream, open } = await started(t, { timeouts: { responseMs: waitMs }, retry: false }, 2)
      const clients = open(20)
      const asked = await exchanges(upstream, 20)
      const answer = () => asked.forEach((exchange) => void exchange.stream().end('data: here\n\n'))

      await leave(proxy)
      if (!isAnsweredLater) answer()
      const stats = await back(proxy)
      if (isAnsweredLater) answer()

      await Promise.all(clients.map((client) => client.ended()))
      assert.deepEqual(new Set(clients.map(({ status }) => status)), new Set([200]))
      assert.deepEqual(
        stats.upstreams.map(({ failures }) => failures),
        [0, 0],
      )
    })
  }

  test(`readers that fell behind before and read on meanwhile are not slow where ${name} for longer than writeMs`, async (t) => {
    const bytes = 16 * mebibyte
    const { upstream, proxy, open } = await started(t, { timeouts: { writeMs: 1.5 * waitMs } })
    const clients = open(2)
    const asked = await exchanges(upstream, 2)
    const streams = asked.map((exchange) => exchange.stream())
    await Promise.all(clients.map((client) => client.head()))
    for (const client of clients) client.pause()
    for (const stream of streams) stream.end(`data: ${'x'.repeat(bytes)}\n\n`)
    await heldBack(proxy)

    await leave(proxy)
    for (const client of clients) client.resume()
    await back(proxy)

    await Promise.all(clients.map((client) => client.ended(30_000)))
    assert.deepEqual(
      clients.map(({ ending }) => ending),
      Array(2).fill('clean'),
    )
  })

  test(`probes that were answered meanwhile have passed where ${name} for longer than their timeout`, async (t) => {
    const held: Exchange[] = []
    const { proxy } = await started(
      t,
      { health: { probe: { path: '/health', intervalMs: 50, timeoutMs: waitMs, fall: 1 } } },
      2,
      (exchange) => void held.push(exchange),
    )
    await until(() => held.length === 2, 'a probe of each upstream')

    await leave(proxy)
    for (const exchange of held) exchange.answer(200)
    const { upstreams } = await back(proxy)

    assert.deepEqual(
      upstreams.map(({ healthy }) => healthy),
      [true, true],
    )
    assert.equal(await proxy.ask('isReady'), true)
  })

  test(`a refusal that came meanwhile reaches its client where ${name} for longer than openAfterMs`, async (t) => {
    const { upstream, proxy, open } = await started(t, { keepalive: { openAfterMs: waitMs } })
    const [client] = open(1)
    const exchange = await upstream.next()

    await leave(proxy)
    exchange.answer(404)
    await back(proxy)

    assert.equal((await client?.head())?.status, 404)
  })

  test(`who comes back meanwhile finds the shared stream where ${name} for longer than lingerMs`, async (t) => {
    const { upstream, proxy, open } = await started(t, { share: { lingerMs: waitMs } })
    const [first] = open(1)
    const stream = (await upstream.next()).stream()
    await first?.head()
    first?.close()
    await proxy.askUntil<ProxyStats>('stats', ({ shared }) => shared.clients === 0)

    await leave(proxy)
    const [second] = open(1)
    await back(proxy)

    await second?.head()
    stream.send({ data: 'here' })
    await second?.waitFor('here')
    assert.equal(upstream.exchanges.length, 1)
  })
}

interface Started {
  upstream: Upstream
  proxy: Child
  open: (count: number) => Client[]
}

async function started(
  t: TestContext,
  options: object,
  targets = 1,
  handler?: (exchange: Exchange) => void,
): Promise<Started> {
  const upstream = await startUpstream(handler ? { handler } : {})
  t.after(() => upstream.close())
  // Several are one behind the scenes: what matters is how each of them is judged.
  const target = Array.from({ length: targets }, (_, i) => `${upstream.url}/${i}`)
  const setup: ProxySetup = { options: { target: targets === 1 ? `${upstream.url}/stream` : target, ...options } }
  const port = await proxy.ask<number>('start', setup)
  const open = (count: number) => {
    const clients = Array.from({ length: count }, () => request(`http://127.0.0.1:${port}/`))
    t.after(() => {
      for (const client of clients) client.close()
    })
    return clients
  }
  return { upstream, proxy, open }
}

async function exchanges(upstream: Upstream, count: number): Promise<Exchange[]> {
  const all: Exchange[] = []
  while (all.length < count) all.push(await upstream.next())
  return all
}

/** Resolves when the process is there again and has done what was due. */
async function back(proxy: Child): Promise<ProxyStats> {
  for (let turn = 0; turn < 20; turn += 1) await proxy.ask<ProxyStats>('stats')
  return await proxy.ask<ProxyStats>('stats')
}

/** Resolves when nothing comes from the upstreams any more, since nobody takes it. */
async function heldBack(proxy: Child): Promise<void> {
  let [before, still] = [0, 0]
  await proxy.askUntil<ProxyStats>('stats', ({ bytesIn }) => {
    still = bytesIn > 0 && bytesIn === before ? still + 1 : 0
    before = bytesIn
    return still === 5
  })
}
