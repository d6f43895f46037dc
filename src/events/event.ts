// Events and the streams that carry them, as the app's hooks and observers see them. Types only.

import type { IncomingMessage } from 'node:http'

/** An event of the stream, as a hook sees it and as `stream.send()` takes it. */
export interface StreamEvent {
  /** The payload: the `data` lines joined with `\n`. */
  readonly data: string
  /** The event's type; absent means `message`. */
  readonly event?: string | undefined
  /** The id this very event carries; absent where it carries none. */
  readonly id?: string | undefined
}

/** What a hook may return: nothing keeps the event, `null` or `[]` drops it, events replace it. */
export type HookResult = StreamEvent | readonly StreamEvent[] | null | undefined | void

/**
 * Sees every event of a stream, in order. Returning nothing forwards the event's own bytes. While a promise is
 * pending the upstream is paused. A hook that throws breaks the stream off.
 */
export type TransformHook<TReq = IncomingMessage> = (
  event: StreamEvent,
  stream: SseStream<TReq>,
) => HookResult | Promise<HookResult>

/** One open stream: what hooks, observers and `proxy.streams` see of it. */
export interface SseStream<TReq = IncomingMessage> {
  /** Unique in this process, and unlikely to meet another process's. */
  readonly id: string
  readonly req: TReq
  /** The URL of the upstream that serves it, without credentials. */
  readonly upstream: string
  /** The id a client would resume from: the last one whose event is complete, else the client's own. */
  readonly lastEventId: string
  /** `Date.now()` when the upstream's answer was there. */
  readonly openedAt: number
  /** How often the upstream was lost and the stream went on all the same. */
  readonly resumes: number
  /** Events that came from the upstream so far. */
  readonly events: number
  /** Bytes sent to the client so far, headers not counted. */
  readonly bytes: number
  /** A place for the app's own notes on this stream. */
  readonly locals: Record<string, unknown>
  /** Aborted when the stream is over, with the close reason as its reason. */
  readonly signal: AbortSignal
  /**
   * Sends an event of the app's own, between two events of the upstream.
   * @returns false when it was not taken: the stream is over or its client is too far behind.
   * @throws TypeError when the event has CR, LF or NUL in `event` or `id`, or data that is not a string.
   */
  send(event: StreamEvent): boolean
  /** Ends the stream cleanly after the current event; the client sees a complete response. */
  close(): void
}
