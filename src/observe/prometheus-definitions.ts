// The Prometheus metrics: name, type, help text, and which of the statistics each reads. Label values come from bounded sets
// only: names of proxies, reasons, codes, URLs of upstreams.

import type { HistogramSnapshot } from './histogram.ts'
import type { ProxyStats, UpstreamStats } from './stats.ts'

/** One metric, before it has a prefix and a registry. */
export interface MetricDefinition {
  /** Without the prefix. */
  readonly name: string
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly help: string
  /** How prom-client's cluster aggregation combines the workers' numbers. */
  readonly aggregator: 'sum' | 'average'
  /** The samples of one proxy. */
  readonly read: (stats: ProxyStats) => readonly Sample[]
}

/** One number of a metric, with its labels. */
export interface Sample {
  readonly value: number
  readonly labels?: Readonly<Record<string, string | number>>
  /** The suffix that a part of a histogram has after the metric's name. */
  readonly suffix?: '_bucket' | '_sum' | '_count'
}

/** All metrics, in the order in which a scrape has them. */
export const DEFINITIONS: readonly MetricDefinition[] = [
  gauge('streams_active', 'Event streams that are open now.', (stats) => [{ value: stats.active }]),
  counter('streams_opened_total', 'Event streams that were opened.', (stats) => [{ value: stats.opened }]),
  counter('streams_closed_total', 'Event streams that are over, by reason.', (stats) => by('reason', stats.closed)),
  counter('refused_total', 'Requests that were refused, by reason.', (stats) => by('reason', stats.refused)),
  counter('errors_total', 'Failures, by error code.', (stats) => by('code', stats.errors)),
  counter('retries_total', 'Attempts after the first, before the client had headers.', (stats) => [
    { value: stats.retries },
  ]),
  counter('resumes_total', 'Event streams that went on with another upstream connection.', (stats) => [
    { value: stats.resumes },
  ]),
  counter('keepalives_total', 'Keepalive comments sent to clients.', (stats) => [{ value: stats.keepalives }]),
  counter('events_total', 'Events that came in from upstreams and went out to clients.', (stats) =>
    by('direction', { in: stats.eventsIn, out: stats.eventsOut }),
  ),
  counter('bytes_total', 'Bytes of event streams that came in from upstreams and went out to clients.', (stats) =>
    by('direction', { in: stats.bytesIn, out: stats.bytesOut }),
  ),
  gauge('upstream_active', 'Requests that an upstream is serving now.', (stats) =>
    byUpstream(stats, ({ active }) => active, sum),
  ),
  {
    ...gauge('upstream_healthy', 'Whether an upstream may be asked now: 1 or 0, in a cluster the mean.', (stats) =>
      byUpstream(stats, ({ healthy }) => (healthy ? 1 : 0), Math.max),
    ),
    aggregator: 'average',
  },
  counter('upstream_requests_total', 'Requests that an upstream was given.', (stats) =>
    byUpstream(stats, ({ requests }) => requests, sum),
  ),
  gauge('upstream_http2_connections', 'HTTP/2 connections to an upstream that are open now.', (stats) =>
    byUpstream(stats, ({ http2Connections = 0 }) => http2Connections, sum),
  ),
  gauge('shared_streams', 'Upstream streams open now that serve several clients.', ({ shared }) => [
    { value: shared.streams },
  ]),
  gauge('shared_clients', 'Clients that hang on shared upstream streams now.', ({ shared }) => [
    { value: shared.clients },
  ]),
  gauge('shared_unread_streams', 'Shared upstream streams open now that no client follows.', ({ shared }) => [
    { value: shared.unread },
  ]),
  gauge(
    'shared_kept_streams',
    'Shared streams that are over and are kept for clients that come late.',
    ({ shared }) => [{ value: shared.kept }],
  ),
  counter('shared_joined_total', 'Clients that followed a shared stream that another had opened.', ({ shared }) => [
    { value: shared.joined },
  ]),
  counter('shared_replayed_total', 'Clients that got a shared stream that was over.', ({ shared }) => [
    { value: shared.replayed },
  ]),
  gauge('store_up', 'Whether the store of shared streams can be used.', ({ shared: { store } }) =>
    store ? [{ value: store.isUp ? 1 : 0 }] : [],
  ),
  gauge('store_streams', 'Shared streams by what this node does: owner reads the upstream for all.', ({ shared }) =>
    shared.store ? by('role', { owner: shared.store.owned, follower: shared.store.followed }) : [],
  ),
  counter(
    'store_takeovers_total',
    'Shared streams that this node went on with for another.',
    ({ shared: { store } }) => (store ? [{ value: store.takeovers }] : []),
  ),
  counter('store_checks_found_total', 'Looks at the store that found what no message had told.', ({ shared }) =>
    shared.store ? [{ value: shared.store.checksFound }] : [],
  ),
  histogram(
    'time_to_headers_seconds',
    'From a request to the headers of its event stream.',
    (stats) => stats.timeToHeadersSeconds,
  ),
  histogram(
    'time_to_first_event_seconds',
    'From a request to the first event of its stream.',
    (stats) => stats.timeToFirstEventSeconds,
  ),
  histogram('event_gap_seconds', 'Between two events of a stream.', (stats) => stats.eventGapSeconds),
  histogram('stream_lifetime_seconds', 'How long event streams were open.', (stats) => stats.lifetimeSeconds),
]

function gauge(name: string, help: string, read: MetricDefinition['read']): MetricDefinition {
  return { name, type: 'gauge', help, aggregator: 'sum', read }
}

function counter(name: string, help: string, read: MetricDefinition['read']): MetricDefinition {
  return { name, type: 'counter', help, aggregator: 'sum', read }
}

function histogram(name: string, help: string, read: (stats: ProxyStats) => HistogramSnapshot): MetricDefinition {
  return { name, type: 'histogram', help, aggregator: 'sum', read: (stats) => parts(read(stats)) }
}

/** A histogram in the form of the exposition format: buckets, sum and count. */
function parts({ buckets, sum, count }: HistogramSnapshot): Sample[] {
  return [
    ...buckets.map((bucket): Sample => ({ value: bucket.count, labels: { le: bucket.le }, suffix: '_bucket' })),
    { value: count, labels: { le: '+Inf' }, suffix: '_bucket' },
    { value: sum, suffix: '_sum' },
    { value: count, suffix: '_count' },
  ]
}

/** A sample for each key, with the key as a label. */
function by(label: string, values: Readonly<Record<string, number>>): Sample[] {
  return Object.entries(values).map(([key, value]) => ({ value, labels: { [label]: key } }))
}

/** One sample for each URL: Prometheus rejects a whole scrape in which a series comes twice. */
function byUpstream(
  { upstreams }: ProxyStats,
  read: (upstream: UpstreamStats) => number,
  merge: (a: number, b: number) => number,
): Sample[] {
  const values: Record<string, number> = {}
  for (const upstream of upstreams) {
    const value = read(upstream)
    const other = values[upstream.url]
    values[upstream.url] = other === undefined ? value : merge(other, value)
  }
  return by('upstream', values)
}

function sum(a: number, b: number): number {
  return a + b
}
