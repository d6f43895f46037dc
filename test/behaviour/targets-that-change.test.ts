// Six upstreams of which three are replaced under load, twice, the second time while the first is under way: with `resume`
// no client notices.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sseProxy } from 'sse-proxy-middleware'
import { startFront } from '../support/front.ts'
import { NumberedFeed, numberedEvent, startNumberedUpstream } from '../support/numbered-upstreams.ts'
import { areOverHttp2 } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

const streams = 200

test(`every event reaches all ${streams} clients once, in order, in one response`, async (t) => {
  const feed = new NumberedFeed()
  const upstreams = await Promise.all(Array.from({ length: 12 }, () => startNumberedUpstream(feed)))
  const [first, second, third] = [upstreams.slice(0, 6), upstreams.slice(3, 9), upstreams.slice(6, 12)]
  const http2 = areOverHttp2 && ('prior-knowledge' as const)
  const proxy = sseProxy({ target: first.map(({ url }) => url), resume: true, http2 })
  const front = await startFront('express5', proxy)
  t.after(async () => {
    feed.finish()
    front.closeClients()
    await until(() => proxy.stats().active === 0, 'all streams to be over')
    await proxy.close({ withinMs: 0 })
    await front.close()
    await Promise.all(upstreams.map((upstream) => upstream.close()))
  })
  const openAt = (some: typeof upstreams): number => some.reduce((sum, { open }) => sum + open, 0)
  feed.start(50)
  const clients = Array.from({ length: streams }, () => front.request())
  await until(() => clients.every(({ chunks }) => chunks.length > 0), 'the first event at every client')
  const left = openAt(first.slice(0, 3))

  proxy.setTargets(second.map(({ url }) => url))
  await until(() => openAt(first.slice(0, 3)) < left / 2, 'half of them to have moved')
  assert.ok(openAt(first.slice(0, 3)) > 0, 'they do not move all at once')
  proxy.setTargets(third.map(({ url }) => url))
  await until(() => openAt(third) === streams && openAt(upstreams) === streams, 'all of them to have moved', 30_000)
  await feed.reached(feed.last + 5)
  feed.finish()

  const endings = await Promise.all(clients.map((client) => client.ended()))
  assert.deepEqual(new Set(endings), new Set(['clean']))
  const everything = Array.from({ length: feed.last }, (_, i) => numberedEvent(i + 1)).join('')
  for (const client of clients) assert.equal(client.text, everything)
  const { opened, resumes, closed, errors, upstreams: known } = proxy.stats()
  t.diagnostic(`${feed.last} events to each, ${resumes} moves`)
  assert.deepEqual([opened, closed['upstream-ended'], errors], [streams, streams, {}])
  assert.ok(resumes >= streams)
  assert.deepEqual(
    known.map(({ url }) => url),
    third.map(({ url }) => url),
  )
})
