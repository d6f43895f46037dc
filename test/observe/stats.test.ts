import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Stats } from '../../src/observe/stats.ts'
import { busyProxy, fakeUpstream } from './fake-proxy.ts'

const nothingOpen = { active: 0, upstreams: [], shared: { streams: 0, clients: 0, unread: 0, kept: 0 } }

test('every known reason is there from the start, and codes only when they occur', () => {
  const stats = new Stats('sse-proxy')

  const before = stats.snapshot(nothingOpen)
  stats.countError('ERR_SSE_PROXY_IDLE')
  stats.countError('ERR_SSE_PROXY_IDLE')

  assert.deepEqual(before.refused, { full: 0, 'client-limit': 0, draining: 0, 'no-upstream': 0 })
  assert.deepEqual(before.closed, {
    'client-left': 0,
    'upstream-ended': 0,
    'upstream-lost': 0,
    'slow-client': 0,
    drained: 0,
    expired: 0,
    'hook-failed': 0,
    closed: 0,
  })
  assert.deepEqual(before.errors, {})
  assert.deepEqual(stats.snapshot(nothingOpen).errors, { ERR_SSE_PROXY_IDLE: 2 })
})

test('a snapshot has the counted, the open, and the name, and survives JSON', () => {
  const proxy = busyProxy('feed')

  const snapshot = proxy.stats()

  assert.equal(snapshot.name, 'feed')
  assert.equal(snapshot.active, 3)
  assert.equal(snapshot.opened, 60)
  assert.equal(snapshot.bytesOut, 3_000_000_000)
  assert.equal(snapshot.closed['client-left'], 50)
  assert.deepEqual(snapshot.upstreams[1], {
    ...fakeUpstream('http://two:8080', { active: 1, requests: 20, healthy: false, failures: 3 }),
  })
  const store = { isUp: true, owned: 11, followed: 12, takeovers: 13, checksFound: 14 }
  assert.deepEqual(snapshot.shared, { streams: 2, clients: 7, unread: 1, kept: 3, joined: 4, replayed: 5, store })
  assert.equal(snapshot.timeToHeadersSeconds.count, 4)
  assert.deepEqual(JSON.parse(JSON.stringify(snapshot)), snapshot)
})

test('a snapshot does not change with what comes later', () => {
  const proxy = busyProxy('feed')

  const snapshot = proxy.stats()
  const copy = structuredClone(snapshot)
  proxy.counted.opened += 1
  proxy.counted.refused.full += 1
  proxy.counted.closed.closed += 1
  proxy.counted.countError('ERR_SSE_PROXY_HOOK')
  proxy.counted.eventGap.observe(1)

  assert.deepEqual(snapshot, copy)
})

test('the bounds of each histogram ascend from its shortest time to its longest', () => {
  const snapshot = new Stats('sse-proxy').snapshot(nothingOpen)
  const ends = {
    timeToHeadersSeconds: [0.001, 120],
    timeToFirstEventSeconds: [0.001, 120],
    eventGapSeconds: [0.001, 300],
    lifetimeSeconds: [1, 86_400],
  } as const

  for (const name of [
    'timeToHeadersSeconds',
    'timeToFirstEventSeconds',
    'eventGapSeconds',
    'lifetimeSeconds',
  ] as const) {
    const bounds = snapshot[name].buckets.map((bucket) => bucket.le)

    assert.deepEqual([bounds[0], bounds.at(-1)], ends[name])
    assert.deepEqual(
      bounds,
      [...new Set(bounds)].sort((a, b) => a - b),
    )
  }
})
