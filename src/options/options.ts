// The options as users write them. `resolve-options.ts` turns them once, at creation, into a complete, checked, frozen form.

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { CloseReason, SseProxyError } from '../errors.ts'
import type { HookResult, SseStream, StreamEvent, TransformHook } from '../events/event.ts'
import type { HpmOptions } from '../hpm.ts'
import type { ShareStore } from '../share-store.ts'

/** Comments that are sent while a stream is silent, so that no proxy or load balancer on the way closes it. */
export interface KeepaliveOptions {
  /** Silence before a comment is sent, in ms, 10 or more. @defaultValue 15000 */
  intervalMs?: number | undefined
  /** The comment's text, without line breaks. @defaultValue 'keepalive' */
  comment?: string | undefined
  /**
   * Sends status 200 and starts keepalives when the upstream has not answered within this many ms. From then on any answer
   * but an event stream reaches the client as a broken transfer, since the status cannot be changed. @defaultValue off
   */
  openAfterMs?: number | undefined
  /**
   * Whether a blank line follows the comment. Some client libraries take every blank line for an event and need `false`. With
   * `false`, a reader that splits the stream at blank lines and skips comments loses the event behind one. @defaultValue true
   */
  blankLine?: boolean | undefined
}

/**
 * Timeouts in ms; 0 turns one off. A timeout may fire up to an eighth late. When the event loop was blocked or the machine
 * slept, the timeout starts again, three times at most, because the peer was not silent then.
 */
export interface TimeoutOptions<TReq = IncomingMessage> {
  /** Until a connection to the upstream is open: DNS, TLS and waiting for a free socket of the option `agent` included. @defaultValue 10000 */
  connectMs?: number | undefined
  /**
   * From the open connection, or the last byte of the request body, to the upstream's response headers. A client that sends
   * less than 4 KiB of its body in that time gets status 408. @defaultValue 120000
   */
  responseMs?: number | undefined
  /**
   * How long the upstream of an open stream may send nothing before it counts as lost; its own comments count as activity.
   * When off, TCP keepalive still detects an unreachable machine (after 25 s), but not a process that hangs. @defaultValue 0
   */
  idleMs?: number | undefined
  /**
   * From the response headers of an upstream's connection to its first event; comments do not count. Past it the upstream
   * counts as lost. @defaultValue 0
   */
  firstEventMs?: number | undefined
  /**
   * How long the upstream may send no event after another one; comments do not count. Past it the upstream counts as lost. Time
   * in which a hook is pending or the client does not read does not count. @defaultValue 0
   */
  eventMs?: number | undefined
  /**
   * Maximum age of a stream. It then ends cleanly, with a `retry:` so that the client reconnects. A function may choose for
   * each request: a negative number ends the stream at once, a throw breaks it off, an async function is refused at creation.
   * @defaultValue 0
   */
  lifetimeMs?: number | ((req: TReq) => number) | undefined
  /** How long a client may read nothing of what is buffered for it before it is disconnected. @defaultValue 60000 */
  writeMs?: number | undefined
}

/** Limits in number and size. */
export interface LimitOptions<TReq = IncomingMessage> {
  /**
   * Streams at a time, with those that outlive their client and requests that have no answer yet; any more get status 503.
   * @defaultValue none
   */
  streams?: number | undefined
  /** The same for each client; any more get status 429. @defaultValue none */
  streamsPerClient?: number | undefined
  /**
   * Returns the key that identifies a client, synchronously: an async function is refused at creation. A request for which it
   * throws or returns something other than a string gets the app's error handling.
   * @defaultValue the client's IP address (`req.ip` where Express sets it), for IPv6 its network
   */
  clientKey?: ((req: TReq) => string) | undefined
  /**
   * Length in bits of the IPv6 prefix that counts as one client, since a single host can use any address of its network. IPv4
   * addresses, IPv4-mapped ones too, count whole. Cannot be used with `clientKey`. @defaultValue 64
   */
  ipv6Subnet?: number | undefined
  /**
   * How much of an incomplete event is buffered. A larger event is forwarded as it arrives; where a hook needs it whole, the
   * stream is broken off. @defaultValue 1 MiB
   */
  eventBytes?: number | undefined
  /**
   * How much is buffered for one client that does not read. Past it `stream.send()` returns false, and a client of a shared
   * stream is disconnected; unshared streams apply backpressure to their upstream before that. @defaultValue 1 MiB
   */
  bufferBytes?: number | undefined
  /**
   * How much of a request body is buffered so that a retry can send it again. With `share` also the largest non-SSE response,
   * by its Content-Length, that is sent to all clients that waited for it. @defaultValue 1 MiB
   */
  bodyBytes?: number | undefined
}

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
   * says `'commit'`; until then nothing leaves, headers included. `'retry'`, a stream that ends or breaks before it was committed
   * to, and a throw are failed attempts, which count against the health of the upstream (a throw does not). When no attempt
   * is left, the last answer is passed on as it came, and is a 502 where it was reset. Only a method in `methods` is sent again.
   *
   * Synchronous: an async function is refused at creation. What it throws is reported to `logger` and told to no client. Streams that
   * `resume` goes on with are not asked about. Cannot be used with `keepalive.openAfterMs`. @defaultValue none
   */
  commit?: CommitFunction<TReq> | undefined
  /**
   * How long an answer is held at most, from its head; then it is committed to, as it is at `limits.bufferBytes` of held bytes.
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
   * least. It starts anew after a connection that brought a new id (without ids: an event), lasted a second, and lasted at least
   * as long as it had taken to get. @defaultValue 100
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
 * upstream takes. All options and handlers of http-proxy-middleware keep their meaning. Over HTTP/1.1 go, as without it,
 * requests with an `agent` of the app's own, WebSockets, and redirects that `followRedirects` follows.
 *
 * What the upstream has refused to work on (REFUSED_STREAM, GOAWAY) is sent again, whatever its method, as often as
 * `retry.attempts` says, without `retry` three times, and is a 503 then; for that a body is kept up to `limits.bodyBytes`.
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

/**
 * Fan-out: one upstream stream for all clients that request the same, and on request one that outlives them. Events are
 * forwarded whole. HEAD, and methods that are not named here, are not shared.
 */
export interface ShareOptions<TReq = IncomingMessage> {
  /**
   * Requests with the same key share a stream; undefined keeps a request unshared. Synchronous: an async function is refused
   * at creation. The key must cover everything that the answer depends on, the user too: when it is the URL alone for a
   * request with credentials, `logger` warns once. Every client of a key gets the answer, whatever its headers say.
   *
   * By default a request that identifies a caller or a session (X-Api-Key, Mcp-Session-Id, a client certificate and the like)
   * is never shared, and an answer with Set-Cookie, `Cache-Control: private` or `Vary: *` goes to its leader alone, and for a
   * minute requests like it do not wait for each other. `no-store` has no such effect.
   * @defaultValue URL, host, what the upstream's Vary names, and every header that is not known to be harmless
   */
  key?: ((req: TReq) => string | undefined) | undefined
  /**
   * Methods that may open a stream. One with a body (POST) needs a `key`, which must contain who the user is: whoever comes with
   * the same key gets the answer, and an empty one is an error. Its body is sent once. A GET that may open joins a stream that is open.
   * @defaultValue ['GET']
   */
  open?: readonly string[] | undefined
  /**
   * Methods that join a stream, which the upstream never sees: they get 204 when none of their key is open, on which a
   * browser's EventSource stops. While one is being opened they wait. @defaultValue those of `open`
   */
  join?: readonly string[] | undefined
  /**
   * Methods that stop the stream of their key, which the upstream never sees: 204, or 404 when none is open. All of its
   * clients get a clean end, between events. @defaultValue none
   */
  stop?: readonly string[] | undefined
  /**
   * What a request that may open, other than GET, gets while a stream of its key is open or being opened: 409
   * (`ERR_SSE_PROXY_BUSY`); the stream that is open, its own body unread; or a stream of its own, before whose first event the
   * open one ends cleanly for all its clients. @defaultValue 'refuse'
   */
  busy?: 'refuse' | 'join' | 'replace' | undefined
  /**
   * How long the upstream stream stays open after its last client has left; Infinity until the upstream ends it. It counts
   * towards `limits.streams` and its leader's `limits.streamsPerClient` meanwhile; at a limit, the one that has been without
   * clients for longest is closed before a request is refused. A stream without clients is read at the upstream's speed, passes
   * the hooks, and a drain waits for its end where it is Infinity or the stream was not opened by a GET; such a stream may lose
   * its leader before the upstream has answered, too. @defaultValue 10000
   */
  lingerMs?: number | undefined
  /**
   * How long a stream that has ended stays joinable: a client that comes late gets all that is kept of it, then the same ending,
   * clean or broken; 204 where it has all of it by its `Last-Event-ID`. A request with a body that may open takes its place, and so
   * does a GET that may open where it was broken. A stream that was stopped or closed is not kept, at most 10,000 are, and
   * `replay.ageMs` counts up to the end. @defaultValue 0
   */
  keepEndedMs?: number | undefined
  /**
   * Size of all replay buffers of the proxy together. Past it, ended streams are dropped, then those without clients are closed, the one that was left first
   * to begin with; then the largest buffers drop their oldest events. @defaultValue 64 MiB
   */
  maxBytes?: number | undefined
  /** Hooks that run for each client, with its own request, after the option `transform`, which runs once for all. @defaultValue none */
  transform?: TransformHook<TReq> | readonly TransformHook<TReq>[] | undefined
  /** The replay buffer for clients that reconnect; the bound that is reached first counts. */
  replay?: ReplayOptions | undefined
  /**
   * Called when a client reconnects with an id that is not in the replay buffer. The whole buffer is sent then; the response
   * header `Last-Event-ID` says where it starts. With `store` also when events are lost in the middle of a stream. An event
   * that it returns is sent to that client. A promise is not awaited; a throw or a rejection breaks that client's stream off.
   */
  onGap?: ((stream: SseStream<TReq>, gap: StreamGap) => StreamEvent | void | PromiseLike<void>) | undefined
  /**
   * What this process has in common with others: one upstream stream for all of them, ids that any of them understands, and
   * another that goes on when one dies. `redisStore({ client })` of `sse-proxy-middleware/redis`; `memoryStore()` for the proxies
   * of one process. The store holds the events, for as long as `replay` and `keepEndedMs` say, and hashes of keys. An answer
   * whose Vary names a header is not shared. `limits.streamsPerClient`, `stop` and `proxy.stop()` hold over all nodes.
   * @defaultValue none: this process shares alone
   */
  store?: ShareStore | undefined
}

/** The replay buffer of a shared stream: its latest events. */
export interface ReplayOptions {
  /** @defaultValue 1000 */
  events?: number | undefined
  /** @defaultValue 1 MiB */
  bytes?: number | undefined
  /** @defaultValue 300000 */
  ageMs?: number | undefined
  /** `'assign'` gives each event an id of the proxy's own, for upstreams that send none. @defaultValue 'upstream' */
  ids?: 'upstream' | 'assign' | undefined
  /**
   * How many of them a client without a Last-Event-ID gets. `'all'` is a promise of the whole stream: where events are gone,
   * the client is told as of any gap. Who opens a stream gets all of it. @defaultValue 0
   */
  initial?: number | 'all' | undefined
}

/** What a client has missed for good: the events between these two. */
export interface StreamGap {
  readonly requestedId: string
  /** The id before the first event it gets, also in the response header `Last-Event-ID`. */
  readonly resumedAfterId: string
}

/**
 * Makes events of one JSON value of the upstream's: an event or several, `null` or `[]` for none, nothing for one whose data is
 * the JSON text as it came. While a promise is pending the upstream is paused. A throw, a rejection or a text that is not
 * JSON breaks the stream off, as a hook's failure.
 */
export type ToEvent<TReq = IncomingMessage> = (value: unknown, req: TReq) => HookResult | Promise<HookResult>

/** An upstream that answers with lines of JSON. */
export interface NdjsonSource<TReq = IncomingMessage> {
  format: 'ndjson'
  /** @see ToEvent @defaultValue a line is an event's data */
  toEvent?: ToEvent<TReq> | undefined
}

/** An upstream that answers with plain JSON, and is asked again and again. */
export interface JsonSource<TReq = IncomingMessage> {
  format: 'json'
  /** From the end of one answer to the next request, in ms; up to a tenth is added. */
  everyMs: number
  /** @see ToEvent @defaultValue an answer is an event's data */
  toEvent?: ToEvent<TReq> | undefined
}

/** The formats that a client may get. */
export type StreamFormat = 'event-stream' | 'ndjson' | 'json'

/** Makes one value of all events of a stream, synchronously: an async function is refused at creation. */
export type Collect<TReq = IncomingMessage> = (events: readonly StreamEvent[], req: TReq) => unknown

/** The client's format. What is no event stream, errors and the answer to HEAD included, passes as it is. */
export interface TargetFormat<TReq = IncomingMessage> {
  /**
   * Chooses for each request, synchronously: an async function is refused at creation. A request for which it throws or returns
   * something else gets the app's error handling (500).
   */
  format: (req: TReq) => StreamFormat
  /** For `'json'`: what the answer is. A throw, or what is not JSON, is 500. @defaultValue the list of events */
  collect?: Collect<TReq> | undefined
}

type HpmOwned = 'target' | 'http2' | 'selfHandleResponse' | 'proxyTimeout' | 'timeout' | 'buffer'

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

/** All options of `sseProxy()`: the package's own beside those of http-proxy-middleware. */
export interface SseProxyOptions<
  TReq extends IncomingMessage = IncomingMessage,
  TRes extends ServerResponse = ServerResponse,
> extends Omit<HpmOptions<TReq, TRes>, HpmOwned> {
  /** The upstream, or several. Required unless `router` is given. */
  target?: Targets | undefined
  /** How one of several upstreams is chosen; `'failover'`: the first healthy one, in the order of `target`. @defaultValue 'least-streams' */
  balance?: 'least-streams' | 'round-robin' | 'random' | 'failover' | BalanceFunction<TReq> | undefined
  /** `true` is `'ip'`. @see StickyOptions @defaultValue off */
  sticky?: true | StickyOptions<TReq> | undefined
  /** `true` is the default. @see HealthOptions */
  health?: boolean | HealthOptions | undefined
  /** `true` is `{}`: one target is asked a second time. @see RetryOptions @defaultValue off for one target */
  retry?: boolean | RetryOptions<TReq> | undefined
  /** @see ResumeOptions @defaultValue off */
  resume?: boolean | ResumeOptions | undefined
  /** Keepalive comments: the interval in ms, `false` for none, or an object. @defaultValue 15000 */
  keepalive?: number | false | KeepaliveOptions | undefined
  /**
   * Names of request headers that do not reach the upstream: for streams, ordinary answers and WebSockets alike. What the
   * app adds with `headers`, `auth` or a target's own `headers` still does. With `share`, clients that differ in these alone
   * share a stream. @defaultValue none
   */
  stripHeaders?: readonly string[] | undefined
  /** `'event'` forwards whole events only; `'bytes'` forwards each read as it is. @defaultValue 'event' */
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
   * Whether this event is the last one of a complete stream, as `data: [DONE]` is in some formats. A stream that ends cleanly
   * without it, an empty one too, is lost (`ERR_SSE_PROXY_INCOMPLETE`): `resume` goes on, or the transfer breaks. A connection
   * that breaks or falls silent behind it is a clean end, which `resume.onEnd` does not follow. It decides for `health` too: a
   * stream that ends without it in its first second counts as a failure, a connection that breaks behind it does not.
   *
   * It sees the upstream's events, before the hooks, until it has returned true; with `share` once for all, with the leader's
   * request. What comes behind the end still passes. Synchronous: an async function is refused at creation, and a throw or
   * anything but true or false breaks the stream off, as a hook's. As for a hook, no event may be larger than
   * `limits.eventBytes`. Cannot be used with `framing: 'bytes'`. @defaultValue every clean end is complete
   */
  isEnd?: ((event: StreamEvent, req: TReq) => boolean) | undefined
  /**
   * Called when the upstream is lost for good (close reason `upstream-lost`, `error.code` says how), before the transfer breaks.
   * Returns an event of the app's own that is sent first, or nothing. It is not sent inside an event, nor past
   * `limits.bufferBytes`; the transfer breaks when the client has taken it, or `timeouts.writeMs` has passed. The function is
   * not called when the client has left. With `share` it is called once, with the shared stream, and its event goes to all
   * clients.
   *
   * Synchronous: an async function is refused at creation. A throw, a promise or what is no event is reported as a hook's
   * failure (`ERR_SSE_PROXY_HOOK`), and the transfer breaks without it. Cannot be used with `framing: 'bytes'`.
   * @defaultValue none
   */
  onLost?: ((error: SseProxyError, stream: SseStream<TReq>) => StreamEvent | null | undefined | void) | undefined
  /** How requests go to upstreams: over HTTP/1.1, or over HTTP/2 where they speak it. @see Http2Options @defaultValue false */
  http2?: false | 'auto' | 'prior-knowledge' | Http2Options | undefined
  /**
   * The upstream's format, where that is no event stream. `'ndjson'`: a 200 of type `application/x-ndjson`, `application/jsonl`,
   * `application/json-seq` or `application/stream+json` becomes an event stream, one event for each line that is not empty; any
   * other answer passes as it is. A line longer than `limits.eventBytes` breaks the stream off, and so does an end inside a line
   * that may not be the last. Where the client takes anything, the upstream is asked for `application/x-ndjson`.
   *
   * `{ format: 'json', everyMs }`: a GET that is answered with 200 and JSON becomes a live feed. The upstream is polled, with the
   * ETag and date of its last answer, one poll after the other; an answer whose body has changed is an event. Any other first
   * answer passes as it is. A later one that fails (another status, no JSON, more than `limits.eventBytes`) is counted in
   * `stats().errors` and told once (`logger`, `sse-proxy:error`), and the wait doubles with each failure, up to
   * `retry.maxBackoffMs`, or 30 s without `retry`. `timeouts.idleMs` bounds each answer, and not the time between two. With `share`
   * one poller serves all, and who comes later begins with the latest value; an answer for one client alone, after one that was
   * for all, loses the stream.
   * @see NdjsonSource @see JsonSource @defaultValue event streams
   */
  from?: 'ndjson' | NdjsonSource<TReq> | JsonSource<TReq> | undefined
  /**
   * The format that a client gets, where that is not always an event stream. `'ndjson'`: a line for each event, at once, of type
   * `application/x-ndjson`: its data where that is JSON, its data as a JSON string otherwise; keepalives are empty lines. `'json'`:
   * the whole stream as one answer when it has ended, with its length. One that is lost or incomplete is answered 502, and
   * `ERR_SSE_PROXY_TOO_LARGE` (502) where its events are larger than `limits.bufferBytes`.
   *
   * Neither can tell a client to come back for more: a drain or `lifetimeMs` breaks lines off, and is 503 or 502 for `'json'`. The
   * upstream is asked for events, and `Vary: Accept` is added. Hooks, limits, `resume`, `share` and metrics see events, none of
   * which may be larger than `limits.eventBytes`. Cannot be used with `framing: 'bytes'`.
   * @see TargetFormat @defaultValue event streams
   */
  to?: TargetFormat<TReq> | undefined
  /**
   * `false` sends every byte through Node's own HTTP parser and writer. Otherwise the plain chunks of an HTTP/1.1 upstream
   * bypass the parser, and an HTTP/1.1 client's are written to its connection. No byte of an event and no ending differs.
   * @defaultValue true
   */
  fastLane?: boolean | undefined
  /**
   * What happens to the upstream request when its client disconnects: `'abort'` ends it, `graceMs` gives it that long, and
   * `'drain'` lets it finish. It counts towards `limits` until it is over. `'drain'` cannot be used with `from: { format: 'json' }`,
   * whose polls have no end. @defaultValue 'abort'
   */
  onDisconnect?: 'abort' | 'drain' | { graceMs: number } | undefined
  /**
   * The reply when no upstream is available or a limit is hit. `'reconnect'` sends status 200, a `retry:` and the end to a GET
   * that accepts event streams, because an EventSource never reconnects after an error status. @defaultValue 'status'
   */
  unavailable?: 'status' | 'reconnect' | undefined
  /** The `retry:` value in ms, or the range it is drawn from, wherever the proxy itself makes a client reconnect. @defaultValue [1000, 5000] */
  clientRetryMs?: number | readonly [min: number, max: number] | undefined
  /** The pseudonym in the `Via` request header; `false` sends none. @defaultValue 'sse-proxy-middleware' */
  via?: string | false | undefined
  /** A label for metrics and debug output. @defaultValue 'sse-proxy' */
  name?: string | undefined
  /**
   * Called when the stream is open. A promise holds the events back until it settles, or until the client has left or
   * `lifetimeMs` is over. A throw or a rejection breaks the stream off.
   */
  onOpen?: ((stream: SseStream<TReq>) => void | PromiseLike<void>) | undefined
  /**
   * Called when the upstream has ended cleanly, before the client's response ends. A promise holds that end back, as in
   * `onOpen`. A throw or a rejection breaks the stream off.
   */
  onEnd?: ((stream: SseStream<TReq>) => void | PromiseLike<void>) | undefined
  /** Called once when the stream is over. A promise is not awaited; a throw or a rejection is reported through `logger`. */
  onClose?: ((stream: SseStream<TReq>, reason: CloseReason) => void | PromiseLike<void>) | undefined
}
