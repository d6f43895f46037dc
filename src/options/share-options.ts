// Options of streams that several clients share, as users write them.

import type { IncomingMessage } from 'node:http'
import type { SseStream, StreamEvent, TransformHook } from '../events/event.ts'
import type { ShareStore } from '../share-store.ts'

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
   * What a request other than GET that may open gets while a stream of its key is open or being opened. `'refuse'`: 409
   * (`ERR_SSE_PROXY_BUSY`). `'join'`: the open stream; its own body is not read. `'replace'`: a stream of its own; the open one
   * ends cleanly for all its clients before the first event of the new one. @defaultValue 'refuse'
   */
  busy?: 'refuse' | 'join' | 'replace' | undefined
  /**
   * How long the upstream stream stays open after its last client has left; Infinity until the upstream ends it. It counts
   * towards `limits.streams` and its leader's `limits.streamsPerClient` meanwhile; at a limit, the one that has been without
   * clients for longest is closed before a request is refused. A stream without clients is read at the upstream's speed, and
   * passes the hooks. With Infinity, and where another method than GET opened the stream, a drain waits for its end, and its
   * leader may leave before the upstream has answered. @defaultValue 10000
   */
  lingerMs?: number | undefined
  /**
   * How long a stream that has ended stays joinable: a client that comes late gets all that is kept of it, then the same ending,
   * clean or broken; 204 where it has all of it by its `Last-Event-ID`. A request with a body that may open takes its place; a GET
   * that may open takes the place of one that was broken. A stream that was stopped or closed is not kept. At most 10,000 are, and
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
