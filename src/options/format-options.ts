// Options of formats other than event streams, the upstream's (`from`) and the client's (`to`), as users write them.

import type { IncomingMessage } from 'node:http'
import type { HookResult, StreamEvent } from '../events/event.ts'

/**
 * Makes events of one JSON value of the upstream's: an event or several, `null` or `[]` for none, nothing for one whose data is
 * the JSON text as it came. While a promise is pending the upstream is paused. A throw, a rejection or a text that is not
 * JSON breaks the stream off, as a hook's failure. With `share` it is called once for all clients, with the request that opened
 * the stream.
 */
export type ToEvent<TReq = IncomingMessage> = (value: unknown, req: TReq) => HookResult | Promise<HookResult>

/** An upstream that answers with lines of JSON. */
export interface NdjsonSource<TReq = IncomingMessage> {
  format: 'ndjson'
  /** @see ToEvent @defaultValue a line is an event's data */
  toEvent?: ToEvent<TReq> | undefined
}

/**
 * An upstream that answers with plain JSON, and is asked again and again, each time with the headers of the request that opened the
 * feed. Where a credential in them expires, those polls fail: no new values come, and the feed stays open for as long as
 * `timeouts.eventMs` and `lifetimeMs` allow. Of several upstreams the one that answered last is asked while it does; with
 * `'failover'` or a function as `balance` each poll is a choice anew. A client that gets one JSON (`to`) waits for `isEnd`.
 */
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
