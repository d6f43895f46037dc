// A proxy as far as metrics go: real statistics, and what is open is said by the test.
import type { UpstreamStats } from '../../src/observe/stats.ts'
import { type OpenNow, type ProxyStats, Stats } from '../../src/observe/stats.ts'

export interface FakeProxy {
  readonly counted: Stats
  readonly now: { active: number; upstreams: UpstreamStats[]; shared: OpenNow['shared'] }
  /** How often `stats()` was called. */
  readonly asked: () => number
  stats(): ProxyStats
}

export function fakeProxy(name: string): FakeProxy {
  const counted = new Stats(name)
  const now: FakeProxy['now'] = { active: 0, upstreams: [], shared: { streams: 0, clients: 0, unread: 0, kept: 0 } }
  let asked = 0
  return {
    counted,
    now,
    asked: () => asked,
    stats: () => {
      asked += 1
      return counted.snapshot(now)
    },
  }
}

export function fakeUpstream(url: string, more: Partial<UpstreamStats> = {}): UpstreamStats {
  return { url, active: 0, healthy: true, failures: 0, ejections: 0, requests: 0, ...more }
}

/** A proxy that has been through something of every kind; `times` makes each number differ between two of them. */
export function busyProxy(name: string, times = 1): FakeProxy {
  const proxy = fakeProxy(name)
  const { counted, now } = proxy
  now.active = 3 * times
  now.shared = {
    ...{ streams: 2 * times, clients: 7 * times, unread: times, kept: 3 * times },
    store: { isUp: true, owned: 11 * times, followed: 12 * times, takeovers: 13 * times, checksFound: 14 * times },
  }
  now.upstreams = [
    fakeUpstream('http://one:8080', { active: 2 * times, requests: 40 * times, http2Connections: 8 * times }),
    fakeUpstream('http://two:8080', { active: 1 * times, requests: 20 * times, healthy: false, failures: 3 }),
  ]
  counted.opened = 60 * times
  counted.joined = 4 * times
  counted.replayed = 5 * times
  counted.retries = 4 * times
  counted.resumes = 5 * times
  counted.keepalives = 6 * times
  counted.eventsIn = 1000 * times
  counted.eventsOut = 900 * times
  counted.bytesIn = 70_000 * times
  counted.bytesOut = 3_000_000_000 * times
  counted.refused.full = 2 * times
  counted.closed['client-left'] = 50 * times
  counted.closed.drained = 7 * times
  for (let count = 0; count < 9 * times; count += 1) counted.countError('ERR_SSE_PROXY_UPSTREAM_LOST')
  counted.timeToHeaders.observe(0.0004, times)
  counted.timeToHeaders.observe(0.03, 2 * times)
  counted.timeToHeaders.observe(500, times)
  counted.timeToFirstEvent.observe(0.25, 4 * times)
  counted.eventGap.observe(0.02, 800 * times)
  counted.lifetime.observe(90_000, times)
  return proxy
}
