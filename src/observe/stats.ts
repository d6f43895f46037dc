// The counters of one proxy since its creation. Only the observer and its meters raise them; `proxy.stats()` and the
// Prometheus metrics read snapshots. What is open now is not counted here, since its owners know it.

import type { CloseReason, SseProxyErrorCode } from '../errors.ts'
import { Histogram, type HistogramSnapshot } from './histogram.ts'

/** Why a request was refused. */
export type RefusalReason = 'full' | 'client-limit' | 'draining' | 'no-upstream'

/** The state of one upstream, as this process sees it. */
export interface UpstreamStats {
  /** Without credentials. */
  readonly url: string
  /** Requests it is serving now. */
  readonly active: number
  /** Whether requests may be sent to it now. */
  readonly healthy: boolean
  /** Its share of the requests, relative to the others. */
  readonly weight?: number
  /** Failures in a row, up to now. */
  readonly failures: number
  /** Ejections in a row, up to now; each lasts twice as long as the one before. */
  readonly ejections: number
  /** When its ejection ends, as `Date.now()`; absent where it is not ejected, or has to pass its probes first. */
  readonly ejectedUntil?: number
  /** Requests that were sent to it. */
  readonly requests: number
  /** HTTP/2 connections to it that are open now; absent without the option `http2`. */
  readonly http2Connections?: number
  /** True where `setTargets` took it away and some of its requests are not over; absent otherwise. */
  readonly leaving?: true
}

/** Upstream streams that serve several clients. */
export interface SharedStats {
  /** Shared streams that are open now. */
  readonly streams: number
  /** Clients that follow them now. */
  readonly clients: number
  /** Those of the streams that no client follows now. */
  readonly unread: number
  /** Streams that are over and are kept now for clients that come late. */
  readonly kept: number
  /** Clients that followed a stream that another had opened. */
  readonly joined: number
  /** Clients that got a stream that was over. */
  readonly replayed: number
  /** Absent without `share.store`. */
  readonly store?: StoreStats
}

/** What this node has to do with the store of shared streams. */
export interface StoreStats {
  readonly isUp: boolean
  /** Streams whose upstream this node reads for all, and those that it gets from other nodes. */
  readonly owned: number
  readonly followed: number
  /** Streams that this node went on with for another one. */
  readonly takeovers: number
  /** How often a look at the store has found what no message had told. */
  readonly checksFound: number
}

/** What `proxy.stats()` returns: a plain JSON-able snapshot, with counts since the proxy's creation. */
export interface ProxyStats {
  /** The option `name`. */
  readonly name: string
  /** Streams that are open now. */
  readonly active: number
  /** Streams that were opened. */
  readonly opened: number
  /** Requests that were refused, by reason; every reason is there. */
  readonly refused: Readonly<Record<RefusalReason, number>>
  /** Streams that are over, by reason; every reason is there. */
  readonly closed: Readonly<Record<CloseReason, number>>
  /** Failures, by code; only codes that occurred are there. */
  readonly errors: Readonly<Partial<Record<SseProxyErrorCode, number>>>
  /** Retries: attempts after the first, before headers were sent to the client. */
  readonly retries: number
  /** Reconnects to an upstream mid-stream. */
  readonly resumes: number
  /** Keepalive comments sent. */
  readonly keepalives: number
  /** Events that came from upstreams. */
  readonly eventsIn: number
  /** Events sent to clients. */
  readonly eventsOut: number
  /** Bytes of event streams that came from upstreams. */
  readonly bytesIn: number
  /** Bytes of event streams sent to clients. */
  readonly bytesOut: number
  /** In the order of the option `target`, or of the latest `setTargets`; those that are leaving come last. */
  readonly upstreams: readonly UpstreamStats[]
  readonly shared: SharedStats
  /** From a client's request to the headers of its event stream. */
  readonly timeToHeadersSeconds: HistogramSnapshot
  /** From a client's request to the first event of its stream. */
  readonly timeToFirstEventSeconds: HistogramSnapshot
  /** Between two events of a stream. */
  readonly eventGapSeconds: HistogramSnapshot
  /** How long streams were open. */
  readonly lifetimeSeconds: HistogramSnapshot
}

/** The part of a proxy that metrics and traces need: everything that `sseProxy()` returns has it. */
export interface StatsSource {
  stats(): ProxyStats
}

/** What is open now, as its owners know it. */
export type OpenNow = Pick<ProxyStats, 'active' | 'upstreams'> & {
  readonly shared: Omit<SharedStats, 'joined' | 'replayed'>
}

// Up to the default of `timeouts.responseMs`.
const ANSWER_SECONDS = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120]
// From a model's tokens to a silent feed; 15 s is the default keepalive, 60 s a common timeout of load balancers.
const GAP_SECONDS = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 30, 60, 120, 300]
// Up to a page that stays open for a day.
const LIFETIME_SECONDS = [1, 5, 15, 30, 60, 300, 900, 1800, 3600, 14_400, 43_200, 86_400]

/** The counters themselves. Numbers are raised in place, so that counting an event allocates nothing. */
export class Stats {
  readonly name: string
  opened = 0
  joined = 0
  replayed = 0
  retries = 0
  resumes = 0
  keepalives = 0
  eventsIn = 0
  eventsOut = 0
  bytesIn = 0
  bytesOut = 0
  readonly refused: Record<RefusalReason, number> = { full: 0, 'client-limit': 0, draining: 0, 'no-upstream': 0 }
  readonly closed: Record<CloseReason, number> = {
    'client-left': 0,
    'upstream-ended': 0,
    'upstream-lost': 0,
    'slow-client': 0,
    drained: 0,
    expired: 0,
    'hook-failed': 0,
    closed: 0,
  }
  readonly errors: Partial<Record<SseProxyErrorCode, number>> = {}
  readonly timeToHeaders: Histogram = new Histogram(ANSWER_SECONDS)
  readonly timeToFirstEvent: Histogram = new Histogram(ANSWER_SECONDS)
  readonly eventGap: Histogram = new Histogram(GAP_SECONDS)
  readonly lifetime: Histogram = new Histogram(LIFETIME_SECONDS)

  constructor(name: string) {
    this.name = name
  }

  countError(code: SseProxyErrorCode): void {
    this.errors[code] = (this.errors[code] ?? 0) + 1
  }

  snapshot({ active, upstreams, shared }: OpenNow): ProxyStats {
    return {
      name: this.name,
      active,
      opened: this.opened,
      refused: { ...this.refused },
      closed: { ...this.closed },
      errors: { ...this.errors },
      retries: this.retries,
      resumes: this.resumes,
      keepalives: this.keepalives,
      eventsIn: this.eventsIn,
      eventsOut: this.eventsOut,
      bytesIn: this.bytesIn,
      bytesOut: this.bytesOut,
      upstreams,
      shared: { ...shared, joined: this.joined, replayed: this.replayed },
      timeToHeadersSeconds: this.timeToHeaders.snapshot(),
      timeToFirstEventSeconds: this.timeToFirstEvent.snapshot(),
      eventGapSeconds: this.eventGap.snapshot(),
      lifetimeSeconds: this.lifetime.snapshot(),
    }
  }
}
