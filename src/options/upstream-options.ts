// Options of the way to the upstreams, as users write them: which ones there are, how one is chosen, and what becomes of
// those that fail.

import type { IncomingMessage } from 'node:http'
import type { StreamEvent } from '../events/event.ts'
import type { HpmOptions } from '../hpm.ts'

/** An upstream: a URL, or http-proxy-middleware's object form (for unix sockets and TLS files). */
export type Target = NonNullable<HpmOptions['target']>

/** One of several upstreams, with its weight. */
export interface WeightedTarget {
  url: Target
  /** Its share of the requests, relative to the others. @defaultValue 1 */
  weight?: number | undefined
  /**
   * Headers that its requests, its probes and WebSockets to it carry in place of the client's and of `headers`: another
   * provider's key, say. `host` goes over `changeOrigin` too. `stripHeaders` does not concern them, and no other target gets
   * them, nor a redirect to another origin. Refused beside `router` and `forward`. @defaultValue none
   */
  headers?: Readonly<Record<string, string>> | undefined
}

/** The upstream, or several. */
export type Targets = Target | WeightedTarget | readonly (Target | WeightedTarget)[]

/** An upstream that `balance` may choose. */
export interface BalanceCandidate {
  /** The upstream's URL without credentials. */
  readonly url: string
  readonly weight: number
  /** Requests it is serving now. */
  readonly active: number
  readonly healthy: boolean
}

/** Returns one of the candidates, of which there is at least one, synchronously: an async function is refused at creation. */
export type BalanceFunction<TReq = IncomingMessage> = (
  candidates: readonly BalanceCandidate[],
  req: TReq,
) => BalanceCandidate

/**
 * Session affinity: sends a client to the same upstream each time, by a key of its request or by a signed cookie that the
 * proxy sets. `'ip'` uses the whole address, for IPv6 too.
 */
export type StickyOptions<TReq = IncomingMessage> =
  | 'ip'
  | ((
      | { by?: 'ip' | undefined }
      | { header: string }
      | { cookie: string }
      | { query: string }
      /** Synchronous: an async function is refused at creation. */
      | { key: (req: TReq) => string | undefined }
    ) & {
      /**
       * How long after its last use a key keeps its upstream although the list of upstreams, or their health, has changed; 0
       * follows such changes at once. @defaultValue 0
       */
      ttlMs?: number | undefined
    })
  | {
      /** The name of the cookie. */
      issueCookie: string
      /** The key of its signature: 16 characters or more, the same in all processes. */
      secret: string
      /** How long the cookie is valid. @defaultValue 1 day */
      ttlMs?: number | undefined
    }

/** When the proxy stops using a failing upstream, and for how long. */
export interface HealthOptions {
  /** Failures in a row that eject it. @defaultValue 3 */
  failures?: number | undefined
  /** How long the first ejection lasts; doubles with each further one in a row. @defaultValue 10000 */
  ejectMs?: number | undefined
  /** The longest ejection. @defaultValue 300000 */
  maxEjectMs?: number | undefined
  /** Active health checks, beside the passive ones. @defaultValue none */
  probe?:
    | {
        /** The path that is requested; a status below 400 passes. */
        path: string
        /** @defaultValue 10000 */
        intervalMs?: number | undefined
        /** @defaultValue 2000 */
        timeoutMs?: number | undefined
        /** Passed probes in a row that bring an upstream back. @defaultValue 2 */
        rise?: number | undefined
        /** Failed probes in a row that eject it. @defaultValue 3 */
        fall?: number | undefined
      }
    | undefined
}

/** Retries until headers are sent to the client; by default only of requests that are safe to send twice. */
export interface RetryOptions<TReq = IncomingMessage> {
  /** Attempts after the first. @defaultValue the other targets once each, without `commit` at most 3 */
  attempts?: number | undefined
  /** Delay before the same upstream is tried again; doubles each time, with jitter. Another upstream is tried at once. @defaultValue 100 */
  backoffMs?: number | undefined
  /** The longest wait, also where a Retry-After asks for more. @defaultValue 2000 */
  maxBackoffMs?: number | undefined
  /** Answers that are worth another attempt. @defaultValue [502, 503, 504] */
  statuses?: readonly number[] | undefined
  /**
   * Methods that are retried although an upstream may have received the request: after one of `statuses`, or when no answer
   * came. Any other request is retried only when it certainly reached no upstream, and never uses a kept-alive connection,
   * since that may turn out to be closed. A body is sent again up to `limits.bodyBytes`.
   * @defaultValue ['GET', 'HEAD']
   */
  methods?: readonly string[] | undefined
  /**
   * Whether an event stream has begun well. It is asked about each event (comments and blocks without data are none) until it
   * says `'commit'`; until then nothing leaves, headers included. `'retry'`, a throw, and a stream that ends or breaks before it
   * was committed to are failed attempts. All but a throw count against the health of the upstream. When no attempt is left, the
   * last answer is passed on as it came, or is a 502 where it was reset. Only a method in `methods` is sent again.
   *
   * Synchronous: an async function is refused at creation. What it throws is reported to `logger` and told to no client. Streams that
   * `resume` goes on with are not asked about. Cannot be used with `keepalive.openAfterMs`. @defaultValue none
   */
  commit?: CommitFunction<TReq> | undefined
  /**
   * How long an answer may be held, counted from its head. Then, and at `limits.bufferBytes` of held bytes, it is committed to.
   * @defaultValue 5000
   */
  holdMs?: number | undefined
}

/** Says of an event what it means for the answer that it came with, see `RetryOptions`. */
export type CommitFunction<TReq = IncomingMessage> = (
  event: StreamEvent,
  answer: CommitAnswer<TReq>,
) => 'hold' | 'commit' | 'retry'

/** The head of an answer that is held. */
export interface CommitAnswer<TReq = IncomingMessage> {
  readonly status: number
  /** By name in lower case. */
  readonly headers: Readonly<Record<string, string | readonly string[]>>
  /** The upstream's URL without credentials. */
  readonly upstream: string
  /** The client's request. */
  readonly req: TReq
}

/** Reconnects to an upstream mid-stream, within the same client response. GET only; events need ids, see `withoutIds`. */
export interface ResumeOptions {
  /** Tries in a row without a new id, or, in a stream without ids, a new event. @defaultValue 10 */
  attempts?: number | undefined
  /**
   * Delay before the first try; doubles each time, with jitter. A `retry:` of the upstream's takes its place, as 100 ms at
   * least. The doubling starts anew after a connection that brought a new id (without ids: an event) and lasted a second, or as
   * long as it had taken to get where that was longer. @defaultValue 100
   */
  delayMs?: number | undefined
  /** The longest delay. @defaultValue 5000 */
  maxDelayMs?: number | undefined
  /** Whether to reconnect after a clean end too. @defaultValue false */
  onEnd?: boolean | undefined
  /**
   * Whether to resume streams without ids, where events may be missed. A stream that is lost before its first event is opened
   * again in any case, as its client would do itself. @defaultValue false
   */
  withoutIds?: boolean | undefined
}

/**
 * HTTP/2 to upstreams: many requests on one connection, and another connection only past the number of streams that the
 * upstream takes. All options and handlers of http-proxy-middleware keep their meaning. Requests with an `agent` of the app's own,
 * WebSockets, and redirects that `followRedirects` follows still go over HTTP/1.1.
 *
 * A request that the upstream refuses to work on (REFUSED_STREAM, GOAWAY) is sent again, whatever its method: `retry.attempts`
 * times, or three times without `retry`. Then it is a 503. Its body is kept for that up to `limits.bodyBytes`.
 */
export interface Http2Options {
  /**
   * `'auto'` asks an upstream with TLS once which protocol it speaks (ALPN), and remembers; one without TLS gets HTTP/1.1.
   * `'prior-knowledge'` speaks HTTP/2 to all, without TLS too: to an upstream that does not, a request is a 502.
   */
  mode: 'auto' | 'prior-knowledge'
  /**
   * How long an upstream may send nothing on a connection with open streams until it gets a PING. After two more such times
   * without an answer all its streams are lost. 0 sends none. @defaultValue 15000
   */
  pingMs?: number | undefined
  /** How long a connection without streams stays open; 0 is for ever. @defaultValue 60000 */
  idleMs?: number | undefined
}
