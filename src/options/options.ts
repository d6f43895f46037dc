// The options as users write them. `resolve-options.ts` turns them once, at creation, into a complete, checked, frozen form.

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { CloseReason, SseProxyError } from '../errors.ts'
import type { SseStream, StreamEvent, TransformHook } from '../events/event.ts'
import type { HpmOptions } from '../hpm.ts'
import type { JsonSource, NdjsonSource, TargetFormat } from './format-options.ts'
import type { ShareOptions } from './share-options.ts'
import type {
  BalanceFunction,
  HealthOptions,
  Http2Options,
  ResumeOptions,
  RetryOptions,
  StickyOptions,
  Targets,
} from './upstream-options.ts'

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
  /** The same for each client, on all nodes where `share.store` is given; any more get status 429. @defaultValue none */
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

type HpmOwned = 'target' | 'http2' | 'selfHandleResponse' | 'proxyTimeout' | 'timeout' | 'buffer'

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
   * `limits.bufferBytes`; the transfer breaks half a second later, since a browser drops what its page has not read by then,
   * and when the client has taken it, or `timeouts.writeMs` has passed. Nothing can be written meanwhile. The function is not
   * called when the client has left. With `share` it is called once, with the shared stream, and its event goes to all
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
   * `retry.maxBackoffMs`, or 30 s without `retry`. `timeouts.idleMs` bounds each answer, and not the time between two. With `isEnd`
   * the feed ends behind the event that completes it. With `share` one poller serves all, and who comes later begins with the latest
   * value; an answer for one client alone, after one that was for all, loses the stream.
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
   * bypass the parser, and an HTTP/1.1 client's are written to its connection; the upstream's is read into memory that is used again.
   * No byte of an event and no ending differs.
   * @defaultValue true
   */
  fastLane?: boolean | undefined
  /**
   * What happens to the upstream request when its client disconnects: `'abort'` ends it, `graceMs` gives it that long, and
   * `'drain'` lets it finish. It counts towards `limits` until it is over. `'drain'` cannot be used with
   * `from: { format: 'json' }`, whose polls have no end. @defaultValue 'abort'
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
