// Three upstreams are restarted one after the other under many open streams. With `resume` no client notices; without,
// every client knows that something is missing.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { sseProxy } from 'sse-proxy-middleware'
import { type Client, openHttp2Session } from '../support/client.ts'
import { type Front, type Host, startFront } from '../support/front.ts'
import {
  type Death,
  NumberedFeed,
  type NumberedUpstream,
  numberedEvent,
  startNumberedUpstream,
} from '../support/numbered-upstreams.ts'
import type { SseProxy, SseProxyOptions } from '../support/proxied.ts'
import { until } from '../support/waiting.ts'

const streams = 200
const eventEveryMs = 50

const runs: { death: Death; host: Host }[] = [
  { death: 'reset', host: 'express5' },
  { death: 'half', host: 'connect over http2' },
  { death: 'stall', host: 'express5' },
]

for (const { death, host } of runs) {
  test(`every event reaches all ${streams} clients once, in order, in one response (${death}, ${host})`, async (t) => {
    // Nothing else tells of an upstream that hangs.
    const timeouts = death === 'stall' ? { idleMs: 500, responseMs: 500 } : {}
    const { feed, upstreams, proxy, clients } = await stage(t, host, { resume: true, timeouts })

    await restartEach(feed, upstreams, death)
    await feed.reached(feed.last + 5)
    feed.finish()

    const endings = await Promise.all(clients.map((client) => client.ended()))
    assert.deepEqual(new Set(endings), new Set(['clean']))
    const everything = Array.from({ length: feed.last }, (_, i) => numberedEvent(i + 1)).join('')
    for (const client of clients) assert.equal(client.text, everything)
    const { opened, resumes, closed, active } = proxy.stats()
    const struck = upstreams.reduce((sum, upstream) => sum + upstream.struck, 0)
    t.diagnostic(`${feed.last} events to each, ${struck} streams lost their upstream, ${resumes} times resumed`)
    assert.ok(upstreams.every((upstream) => upstream.struck > 0))
    // Wherever a stream was at first, that upstream has been down.
    assert.ok(resumes >= streams)
    assert.deepEqual([opened, active, closed['upstream-ended']], [streams, 0, streams])
  })
}

for (const host of ['express5', 'connect over http2'] as const) {
  test(`without resume the transfer of all ${streams} clients breaks and none ends cleanly (${host})`, async (t) => {
    const { feed, upstreams, proxy, clients } = await stage(t, host, { resume: false })

    await restartEach(feed, upstreams, 'reset')

    const endings = await Promise.all(clients.map((client) => client.ended()))
    feed.finish()
    assert.deepEqual(new Set(endings), new Set(['broken']))
    for (const client of clients) {
      const count = client.text.split('\n\n').length - 1
      assert.equal(client.text, Array.from({ length: count }, (_, i) => numberedEvent(i + 1)).join(''))
    }
    assert.deepEqual(proxy.stats().closed['upstream-lost'], streams)
    assert.equal(proxy.stats().resumes, 0)
  })
}

interface Stage {
  feed: NumberedFeed
  upstreams: NumberedUpstream[]
  proxy: SseProxy
  clients: Client[]
}

/** All clients have their first events. */
async function stage(t: TestContext, host: Host, options: Partial<SseProxyOptions>): Promise<Stage> {
  const feed = new NumberedFeed()
  const upstreams = await Promise.all([1, 2, 3].map(() => startNumberedUpstream(feed)))
  const proxy = sseProxy({ target: upstreams.map(({ url }) => url), ...options })
  const front = await startFront(host, proxy)
  t.after(async () => {
    feed.finish()
    front.closeClients()
    await until(() => proxy.stats().active === 0, 'all streams to be over')
    await proxy.close({ withinMs: 0 })
    await front.close()
    await Promise.all(upstreams.map((upstream) => upstream.close()))
  })
  feed.start(eventEveryMs)
  const clients = connectAll(t, front)
  await until(() => clients.every(({ chunks }) => chunks.length > 0), 'the first event at every client')
  return { feed, upstreams, proxy, clients }
}

function connectAll(t: TestContext, front: Front): Client[] {
  if (front.protocol === 'http/1.1') return Array.from({ length: streams }, () => front.request())
  const sessions = Array.from({ length: 4 }, () => openHttp2Session(front.origin))
  t.after(() => {
    for (const session of sessions) session.destroy()
  })
  return sessions.flatMap((session) => Array.from({ length: streams / 4 }, () => front.request('', { session })))
}

/** One after the other goes down for a while and comes back. */
async function restartEach(feed: NumberedFeed, upstreams: NumberedUpstream[], death: Death): Promise<void> {
  for (const upstream of upstreams) {
    await upstream.kill(death)
    // Long enough for silence to be noticed.
    await feed.reached(feed.last + (death === 'stall' ? 20 : 6))
    await upstream.restart()
    await feed.reached(feed.last + 5)
  }
}
