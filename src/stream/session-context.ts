// What a session gets from the visit it belongs to, and whom it tells what becomes of it.

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Abort } from '../abort.ts'
import type { ReportFailure } from '../app-callback.ts'
import type { CloseReason, SseProxyError } from '../errors.ts'
import type { SseStream } from '../events/event.ts'
import type { Stats } from '../observe/stats.ts'
import type { ResolvedOptions } from '../options/resolve-options.ts'
import type { OpenUpstream } from '../upstream-response.ts'
import type { ClientWriter } from './client-writer.ts'
import type { KeepaliveClock } from './keepalive.ts'
import type { Session } from './session.ts'

/** Who counts, publishes and reports what becomes of sessions. */
export interface SessionObserver {
  readonly stats: Stats
  readonly callbackFailed: ReportFailure
  opened(session: Session): void
  resuming(stream: SseStream, upstream: string, attempt: number): void
  resumed(stream: SseStream, attempt: number): void
  closed(session: Session, reason: CloseReason): void
  failed(error: SseProxyError, stream: SseStream, res: ServerResponse): void
}

export interface SessionContext {
  readonly id: string
  readonly req: IncomingMessage
  /** Only handed on to those who are told of a failure; writing is the writer's. */
  readonly res: ServerResponse
  readonly writer: ClientWriter
  readonly options: ResolvedOptions
  /** Aborted when the session is over; whatever works for it looks there. */
  readonly controller: Abort
  /** The function that opens the upstream anew when it is lost. */
  open(): OpenUpstream
  /** Absent where keepalives are off. */
  readonly keepalives: KeepaliveClock | undefined
  /** The id the client came with. */
  readonly lastEventId: string
  /** When the request came, as `performance.now()`. */
  readonly startedAt: number
  readonly observer: SessionObserver
  /** Told once; the client may have left long before. */
  onSessionOver(): void
}
