// The options as users write them. `resolve-options.ts` turns them into a complete, checked, frozen form, once.

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { CloseReason } from '../errors.ts'
import type { SseStream, TransformHook } from '../events/event.ts'
import type { HpmOptions } from '../hpm.ts'

/** Comments that keep a silent connection open. */
export interface KeepaliveOptions {
  /** Silence before a comment is sent, in ms, 10 or more. @defaultValue 15000 */
  intervalMs?: number | undefined
  /** The comment's text, without line breaks. @defaultValue 'keepalive' */
  comment?: string | undefined
  /**
   * Answer 200 and start keepalives when the upstream has not answered within this many ms. Whatever it answers
   * after that, other than an event stream, can only be told as a broken transfer. @defaultValue off
   */
  openAfterMs?: number | undefined
}

/**
 * Limits in time; 0 means none. A wait may last an eighth longer. Time in which this process itself was not there (its event
 * loop stood still, the machine slept) is no silence of the other side: the wait begins anew, three times at most.
 */
export interface TimeoutOptions<TReq = IncomingMessage> {
  /** To a connection with the upstream, TLS and any wait for a socket of a limited agent included. @defaultValue 10000 */
  connectMs?: number | undefined
  /**
   * From the connection, or the last byte of the request's body, to the response headers. A client that sends less than
   * 4 KiB of its body in that time is answered 408. @defaultValue 120000
   */
  responseMs?: number | undefined
  /**
   * Silence of an open stream's upstream before it counts as lost. Without it, TCP keepalive finds a machine that is gone
   * (after 25 s), and nothing finds a process that hangs. @defaultValue 0
   */
  idleMs?: number | undefined
  /**
   * Age at which a stream is ended, with a `retry:` so that the client comes back. A negative number from the function
   * means at once; an async function is refused, and one that throws breaks the stream off. @defaultValue 0
   */
  lifetimeMs?: number | ((req: TReq) => number) | undefined
  /** How long a client may take nothing of what waits for it before it is let go. @defaultValue 60000 */
  writeMs?: number | undefined
}

/** Bounds in size and number. */
export interface LimitOptions<TReq = IncomingMessage> {
  /** Streams, those that go on without their client too, and requests on their way to one, at a time; 503 past it. @defaultValue none */
  streams?: number | undefined
  /** The same for each client; 429 past it. @defaultValue none */
  streamsPerClient?: number | undefined
  /**
   * What tells clients apart: a string, at once. An async function is refused, and whatever else comes is an error of
   * the app's for that request.
   * @defaultValue the client's IP address, as Express knows it where it trusts a proxy; of an IPv6 address its network
   */
  clientKey?: ((req: TReq) => string) | undefined
  /**
   * How many bits of an IPv6 address stand for one client: a household or a machine has the rest to choose from. IPv4
   * addresses count whole, also where they are written as IPv6. Refused beside `clientKey`. @defaultValue 64
   */
  ipv6Subnet?: number | undefined
  /** Size up to which an unfinished event is held back. A larger one is streamed as it comes, or, when a hook needs it whole, an error. @defaultValue 1 MiB */
  eventBytes?: number | undefined
  /** What may wait for one client before `stream.send()` refuses. @defaultValue 1 MiB */
  bufferBytes?: number | undefined
  /**
   * How much of a request's body is kept for another attempt; with `share` also the largest ordinary answer, by its
   * Content-Length, that goes to all who waited for it. @defaultValue 1 MiB
   */
  bodyBytes?: number | undefined
}

/** An upstream among which `balance` chooses. */
export interface BalanceCandidate {
  /** The upstream's URL without credentials. */
  readonly url: string
  readonly weight: number
  /** Requests that it is serving. */
  readonly active: number
  readonly healthy: boolean
}

/** Chooses one of the candidates: those that may be asked, never none. At once: an async function is refused. */
export type BalanceFunction<TReq = IncomingMessage> = (
  candidates: readonly BalanceCandidate[],
  req: TReq,
) => BalanceCandidate

/**
 * Ties clients to upstreams: by something they bring, or by a signed cookie for those who bring nothing. `'ip'` is the
 * whole address, IPv6 too: it says where a client goes, not how much it may have.
 */
export type StickyOptions<TReq = IncomingMessage> =
  | 'ip'
  | ((
      | { by?: 'ip' | undefined }
      | { header: string }
      | { cookie: string }
      | { query: string }
      /** At once: an async function is refused. */
      | { key: (req: TReq) => string | undefined }
    ) & {
      /** How long a key stays where it was after its last use, although the targets have changed. @defaultValue 0 */
      ttlMs?: number | undefined
    })
  | {
      /** The name of the cookie. */
      issueCookie: string
      /** Signs it: 16 characters or more, the same in all processes. */
      secret: string
      /** How long it holds. @defaultValue 1 day */
      ttlMs?: number | undefined
    }

/** When an upstream is left alone for a while. */
export interface HealthOptions {
  /** Failures in a row that eject it. @defaultValue 3 */
  failures?: number | undefined
  /** How long the first time; each time after that twice as long. @defaultValue 10000 */
  ejectMs?: number | undefined
  /** The longest. @defaultValue 300000 */
  maxEjectMs?: number | undefined
  /** Requests of the package's own that find out. @defaultValue none */
  probe?:
    | {
        /** What is asked for; an answer below 400 passes. */
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

/** Further attempts before the client has headers, by default of what can be sent twice without doing anything twice. */
export interface RetryOptions {
  /** Attempts after the first. @defaultValue the other targets once each, at most 3 */
  attempts?: number | undefined
  /** Wait before an upstream is asked again; doubles each time, with jitter. Another upstream is asked at once. @defaultValue 100 */
  backoffMs?: number | undefined
  /** The longest wait, also where a Retry-After asks for more. @defaultValue 2000 */
  maxBackoffMs?: number | undefined
  /** Answers that are worth another attempt. @defaultValue [502, 503, 504] */
  statuses?: readonly number[] | undefined
  /**
   * Methods of requests that may be sent again although an upstream may have got them: after one of `statuses`, or when
   * no answer came. Any other request is sent again only when it has certainly reached no upstream, and has a connection
   * of its own, since one that was kept alive may turn out dead. A body is sent again up to `limits.bodyBytes`.
   * @defaultValue ['GET', 'HEAD']
   */
  methods?: readonly string[] | undefined
}

/** Going on with another upstream connection in the same client response. */
export interface ResumeOptions {
  /** Tries in a row without a new id, or, in a stream without ids, a new event. @defaultValue 10 */
  attempts?: number | undefined
  /** Wait before the first try, unless the upstream set a `retry:`, which counts as 100 ms at least; doubles each time, with jitter. @defaultValue 100 */
  delayMs?: number | undefined
  /** The longest wait. @defaultValue 5000 */
  maxDelayMs?: number | undefined
  /** Whether a clean end is followed by a resume too. @defaultValue false */
  onEnd?: boolean | undefined
  /**
   * Whether streams without ids are resumed, although events may be missed. One that is lost before its first event begins
   * anew in any case, as its client would ask for it. @defaultValue false
   */
  withoutIds?: boolean | undefined
}

/** One upstream stream for all clients that ask for the same. Only for GET; events are forwarded whole. */
export interface ShareOptions<TReq = IncomingMessage> {
  /**
   * What tells streams apart; undefined keeps a request unshared. Needed at once: an async function is refused. It must
   * hold all that an answer depends on, the user too: one that returns the URL alone for a request with credentials is
   * warned of once, through `logger`. An answer is for all of its key, whatever the upstream says of it.
   *
   * By default a request that names a caller or a session (X-Api-Key, Mcp-Session-Id, a client certificate and the like)
   * is never joined, and an answer with Set-Cookie, `Cache-Control: private` or `Vary: *` is its opener's alone: for a
   * minute nobody waits for the next one. `no-store` does not say so.
   * @defaultValue URL, host, what the upstream's Vary names, and every header that is not known to be harmless
   */
  key?: ((req: TReq) => string | undefined) | undefined
  /**
   * How long the upstream is kept when the last client has left. Until then it holds a place of `limits.streams`, and one
   * of its opener's `limits.streamsPerClient`; when a place is needed, the one that nobody has followed for longest is
   * closed, before anybody is refused. @defaultValue 10000
   */
  lingerMs?: number | undefined
  /**
   * What all streams of the proxy keep for clients that come back, together. Past it, streams that nobody follows are
   * closed, the one left longest ago first; then those that keep most lose their oldest events. @defaultValue 64 MiB
   */
  maxBytes?: number | undefined
  /** Hooks that run for each client, with its own request, after those of `transform`, which run once. @defaultValue none */
  transform?: TransformHook<TReq> | readonly TransformHook<TReq>[] | undefined
  /** What is kept for clients that come back; whatever comes first bounds it. */
  replay?: ReplayOptions | undefined
  /**
   * Told when a client asks to go on from an id that is not kept any more. Nobody waits for a promise; a throw or a
   * rejection breaks that client's stream off.
   */
  onGap?: ((stream: SseStream<TReq>, gap: StreamGap) => void | PromiseLike<void>) | undefined
}

/** The last events of a shared stream. */
export interface ReplayOptions {
  /** @defaultValue 1000 */
  events?: number | undefined
  /** @defaultValue 1 MiB */
  bytes?: number | undefined
  /** @defaultValue 300000 */
  ageMs?: number | undefined
  /** `'assign'` gives every event an id of the package's own, for upstreams that have none. @defaultValue 'upstream' */
  ids?: 'upstream' | 'assign' | undefined
  /** How many of them a client gets that names no id. @defaultValue 0 */
  initial?: number | undefined
}

/** What a client has missed for good: everything between these two. */
export interface StreamGap {
  readonly requestedId: string
  /** The id before the first event it gets, also in the response header `Last-Event-ID`. */
  readonly resumedAfterId: string
}

type HpmOwned = 'target' | 'selfHandleResponse' | 'proxyTimeout' | 'timeout' | 'buffer'

/** An upstream: a URL, or http-proxy-middleware's object form (for unix sockets and TLS files). */
export type Target = NonNullable<HpmOptions['target']>

/** One of several upstreams. */
export interface WeightedTarget {
  url: Target
  /** Its share, relative to the others'. @defaultValue 1 */
  weight?: number | undefined
}

/** All options of `sseProxy()`: those of http-proxy-middleware beside the package's own. */
export interface SseProxyOptions<
  TReq extends IncomingMessage = IncomingMessage,
  TRes extends ServerResponse = ServerResponse,
> extends Omit<HpmOptions<TReq, TRes>, HpmOwned> {
  /** The upstream, or several. Required unless `router` is given. */
  target?: Target | WeightedTarget | readonly (Target | WeightedTarget)[] | undefined
  /** Which of several upstreams takes a request. @defaultValue 'least-streams' */
  balance?: 'least-streams' | 'round-robin' | 'random' | BalanceFunction<TReq> | undefined
  /** @see StickyOptions @defaultValue off */
  sticky?: StickyOptions<TReq> | undefined
  /** @see HealthOptions */
  health?: HealthOptions | false | undefined
  /** @see RetryOptions @defaultValue off for one target */
  retry?: RetryOptions | false | undefined
  /** @see ResumeOptions @defaultValue off */
  resume?: boolean | ResumeOptions | undefined
  /** Keepalive comments: the interval in ms, `false` for none, or an object. @defaultValue 15000 */
  keepalive?: number | false | KeepaliveOptions | undefined
  /** `'event'` forwards whole events only; `'bytes'` whatever has come. @defaultValue 'event' */
  framing?: 'event' | 'bytes' | undefined
  /** Hooks that see, change, drop or add events. @defaultValue none */
  transform?: TransformHook<TReq> | readonly TransformHook<TReq>[] | undefined
  /** @see TimeoutOptions */
  timeouts?: TimeoutOptions<TReq> | undefined
  /** @see LimitOptions */
  limits?: LimitOptions<TReq> | undefined
  /** @see ShareOptions @defaultValue off */
  share?: boolean | ShareOptions<TReq> | undefined
  /**
   * What a client's leaving does to its upstream: end it, let it go on for a while, or let it finish. What goes on holds
   * its client's place of `limits` until it is over, and may finish while the proxy closes. @defaultValue 'abort'
   */
  onDisconnect?: 'abort' | 'drain' | { graceMs: number } | undefined
  /** `'reconnect'` answers an EventSource that cannot be served with 200, `retry:` and the end, instead of a status it gives up on. @defaultValue 'status' */
  unavailable?: 'status' | 'reconnect' | undefined
  /** The `retry:` value in ms, or the range it is drawn from, sent where a client must be made to come back. @defaultValue [1000, 5000] */
  clientRetryMs?: number | readonly [min: number, max: number] | undefined
  /** The pseudonym in the `Via` request header; `false` sends none. @defaultValue 'sse-proxy-middleware' */
  via?: string | false | undefined
  /** A label for metrics and debug output. @defaultValue 'sse-proxy' */
  name?: string | undefined
  /**
   * Called when the stream is open; a promise holds the events back until it settles, its client leaves or its time is
   * over. A throw or a rejection breaks the stream off.
   */
  onOpen?: ((stream: SseStream<TReq>) => void | PromiseLike<void>) | undefined
  /**
   * Called when the upstream has ended cleanly, before the client's response ends; a promise holds that back, as with
   * `onOpen`. A throw or a rejection breaks the stream off.
   */
  onEnd?: ((stream: SseStream<TReq>) => void | PromiseLike<void>) | undefined
  /** Called once when the stream is over. Nobody waits for a promise; what it fails with is reported through `logger`. */
  onClose?: ((stream: SseStream<TReq>, reason: CloseReason) => void | PromiseLike<void>) | undefined
}
