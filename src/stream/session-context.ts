// What a session gets from the request it belongs to, and whom it tells what becomes of it.

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Abort } from '../abort.ts'
import type { ReportFailure } from '../app-callback.ts'
import type { CloseReason, SseProxyError } from '../errors.ts'
import type { SseStream } from '../events/event.ts'
import type { ResolvedOptions } from '../options/resolve-options.ts'
import type { OpenUpstream } from '../upstream-response.ts'
import type { ClientWriter } from './client-writer.ts'
import type { KeepaliveClock } from './keepalive.ts'
import type { Session } from './session.ts'

/** Counts and times what passes through one stream. */
export interface StreamMeter {
  /** From an upstream, where no other stream counts it. */
  received(bytes: number, events: number): void
  /**
   * Events of one read came together; the silence was before the first of them.
   * @param now as `performance.now()`
   */
  timed(events: number, now: number): void
  /** Events that go to the client. */
  sent(events: number): void
  /** Bytes that go to the client, those of keepalives included. */
  wrote(bytes: number): void
  /** A keepalive went to the client. */
  keptAlive(): void
}

/** Counts, publishes and reports what becomes of sessions. */
export interface SessionObserver {
  readonly callbackFailed: ReportFailure
  /** @param startedAt when the request came, as `performance.now()` */
  meter(startedAt: number): StreamMeter
  opened(session: Session): void
  resuming(stream: SseStream, upstream: string, attempt: number): void
  resumed(stream: SseStream, attempt: number): void
  closed(session: Session, reason: CloseReason): void
  failed(error: SseProxyError, stream: SseStream, res: ServerResponse): void
}

/** What a session gets from its request. */
export interface SessionContext {
  readonly id: string
  readonly req: IncomingMessage
  /** Only handed on to handlers that are told of a failure; writing is the writer's. */
  readonly res: ServerResponse
  readonly writer: ClientWriter
  readonly options: ResolvedOptions
  /** Aborted when the session is over; whatever works for it looks there. */
  readonly controller: Abort
  /** Runs the app's callbacks in the async context that the request came in, whatever has brought them about. */
  inContext<Result>(work: () => Result): Result
  /** The function that opens the upstream anew when it is lost. */
  open(): OpenUpstream
  /** Absent where keepalives are off. */
  readonly keepalives: KeepaliveClock | undefined
  /** The id the client came with. */
  readonly lastEventId: string
  /** When the request came, as `performance.now()`. */
  readonly startedAt: number
  readonly observer: SessionObserver
  /** Answers with an error, where nothing has left; the session is over by then. */
  refuse(error: SseProxyError): void
  /** Told once; the client may have left long before. */
  onSessionOver(): void
}
