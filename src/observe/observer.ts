// The lifecycle of requests and streams passes here once, to be counted, published on channels, written to the debug log and
// reported to the app. A subscriber or callback that throws cannot change or break what it observes.

import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import createDebug from 'debug'
import { type ReportFailure, tell } from '../app-callback.ts'
import {
  type CloseReason,
  isUpstreamsFault,
  type SseProxyError,
  type SseProxyErrorCode,
  UpstreamError,
} from '../errors.ts'
import type { SseStream } from '../events/event.ts'
import type { ResolvedOptions } from '../options/resolve-options.ts'
import type { Session } from '../stream/session.ts'
import type { SessionObserver } from '../stream/session-context.ts'
import { systemError } from '../system-error.ts'
import type { OpenObserver } from '../upstream/open.ts'
import type { Member } from '../upstream/pool/pool.ts'
import type { ProxiedRequest } from '../upstream/transport.ts'
import { attempts, closes, ejections, failures, opens, requests, resumes, retries, stores } from './channels.ts'
import { Meter } from './meter.ts'
import { type OpenNow, type ProxyStats, type RefusalReason, Stats } from './stats.ts'
import { UpstreamLog } from './upstream-log.ts'

const debugStream = createDebug('sse-proxy:stream')
const debugUpstream = createDebug('sse-proxy:upstream')
const debugError = createDebug('sse-proxy:error')

// Other errors are counted by code alone.
const REFUSAL_REASONS: Readonly<Partial<Record<SseProxyErrorCode, RefusalReason>>> = {
  ERR_SSE_PROXY_NO_UPSTREAM: 'no-upstream',
  ERR_SSE_PROXY_FULL: 'full',
  ERR_SSE_PROXY_CLIENT_LIMIT: 'client-limit',
  ERR_SSE_PROXY_DRAINING: 'draining',
}

/** Calls the app's `on.error` handlers; never rejects. */
export type Report = (error: Error, req: IncomingMessage, res: ServerResponse, target?: string) => Promise<void>

/** The one observer of a proxy: each room knows it by an interface of its own. */
export class Observer implements SessionObserver, OpenObserver {
  /** Open streams, from the head of their response to their end. */
  readonly sessions: Set<Session> = new Set()
  /** Called when a stream is over, before it leaves `sessions`. Set while the proxy drains. */
  onEnd: (session: Session, reason: CloseReason) => void = () => {}
  /** Called when a stream has opened. Set while the proxy drains. */
  onStart: (session: Session) => void = () => {}
  /** Reports the failure of a callback whose result is not awaited. */
  readonly callbackFailed: ReportFailure
  readonly #stats: Stats
  readonly #options: ResolvedOptions
  readonly #report: Report
  // Absent where the app gives no logger.
  readonly #log: UpstreamLog | undefined

  constructor(options: ResolvedOptions, report: Report, callbackFailed: ReportFailure) {
    this.#options = options
    this.#report = report
    this.callbackFailed = callbackFailed
    this.#stats = new Stats(options.name)
    this.#log = options.hpm.logger && new UpstreamLog(options.hpm.logger, options.name)
  }

  /** @param now what is open, as its owners know it */
  snapshot(now: OpenNow): ProxyStats {
    return this.#stats.snapshot(now)
  }

  meter(startedAt: number): Meter {
    return new Meter(this.#stats, startedAt)
  }

  /** The head of a stream's response is on its way. */
  opened(session: Session): void {
    const { handle, context } = session
    this.sessions.add(session)
    this.#stats.opened++
    this.#stats.timeToHeaders.observe((performance.now() - context.startedAt) / 1000)
    opens.publish(() => ({ proxy: this.#options.name, stream: handle }))
    // Checked first, because the arguments alone would cost each stream some work.
    if (debugStream.enabled) {
      debugStream('%s opened: %s %s from %s', handle.id, context.req.method, pathOf(context.req), handle.upstream)
    }
    this.onStart(session)
  }

  /** A stream is over, with its one close reason. It may never have opened. */
  closed(session: Session, reason: CloseReason): void {
    const { handle, context } = session
    this.onEnd(session, reason)
    if (!this.sessions.delete(session)) return
    this.#stats.closed[reason]++
    this.#stats.lifetime.observe((performance.now() - context.startedAt) / 1000)
    if (debugStream.enabled) {
      debugStream('%s closed: %s after %d events, %d bytes', handle.id, reason, handle.events, handle.bytes)
    }
    closes.publish(() => ({ proxy: this.#options.name, stream: handle, reason }))
    tell('onClose', () => context.inContext(() => this.#options.onClose?.(handle, reason)), this.callbackFailed)
  }

  /** An open stream was broken off: its client sees a broken transfer. */
  failed(error: SseProxyError, stream: SseStream, res: ServerResponse): void {
    this.#stats.countError(error.code)
    debugError('%s %s: %s %s', stream.id, error.code, error.message, causeOf(error))
    failures.publish(() => ({ proxy: this.#options.name, error, stream, req: stream.req }))
    if (isUpstreamsFault(error)) this.#log?.failed(stream.upstream, error)
    void this.#report(error, stream.req, res, stream.upstream)
  }

  /** A request gets no upstream response. Resolves when the app's handlers, which may respond themselves, are done. */
  async refused(error: SseProxyError, id: string, req: IncomingMessage, res: ServerResponse): Promise<void> {
    this.noteRefusal(error, id, req)
    await this.#report(error, req, res, error instanceof UpstreamError ? error.upstream : undefined)
  }

  /** The same where the app's error handling responds: `on.error` is not called. */
  noteRefusal(error: SseProxyError, id: string, req: IncomingMessage): void {
    const reason = REFUSAL_REASONS[error.code]
    if (reason) this.#stats.refused[reason]++
    this.#stats.countError(error.code)
    // Not the client's mistake nor the upstream's, so the one who can mend it looks at the log.
    if (error.code === 'ERR_SSE_PROXY_BODY_CONSUMED') this.#log?.failed(`${req.method} request`, error)
    debugError('%s %s %s: %s: %s %s', id, req.method, pathOf(req), error.code, error.message, causeOf(error))
    failures.publish(() => ({ proxy: this.#options.name, error, req }))
  }

  /** A request has come in. */
  entered(req: IncomingMessage, res: ServerResponse): void {
    requests.publish(() => ({ proxy: this.#options.name, req, res }))
  }

  /** An attempt is about to be made. */
  attempting({ req, res }: ProxiedRequest, upstream: string, headers: OutgoingHttpHeaders): void {
    attempts.publish(() => ({ proxy: this.#options.name, req, res, upstream, headers }))
  }

  /** An attempt failed, with or without a retry to come. */
  unanswered(error: UpstreamError): void {
    this.#log?.failed(error.upstream ?? '', error)
  }

  /** A poll has failed; its stream goes on. Of several in a row all are counted, and the first is told. */
  pollFailed(error: SseProxyError, req: IncomingMessage, isNews: boolean): void {
    const { name, hpm } = this.#options
    this.#stats.countError(error.code)
    debugUpstream('a poll of %s failed: %s %s', pathOf(req), error.code, causeOf(error))
    if (!isNews) return
    failures.publish(() => ({ proxy: name, error, req }))
    hpm.logger?.warn(`[${name}] a poll has failed, and its stream goes on: ${error.message} ${causeOf(error)}`)
  }

  /** An upstream has responded, with whatever status. */
  answered(upstream: string): void {
    this.#log?.answered(upstream)
  }

  /** Another attempt will follow, `delayMs` from now. */
  retried({ id, req }: ProxiedRequest, error: UpstreamError, attempt: number, delayMs: number): void {
    this.#stats.retries++
    const { upstream = '', code } = error
    const request = `${id} ${req.method} ${pathOf(req)}`
    debugUpstream('%s failed at %s (%s), attempt %d in %d ms', request, upstream, code, attempt, delayMs)
    retries.publish(() => ({ proxy: this.#options.name, req, upstream, error, attempt, delayMs }))
  }

  /** An upstream is not used for a while. */
  ejected({ url, health, ejectedUntil }: Member): void {
    debugUpstream('%s is left alone after %d failures', url, health.failures)
    const { failures } = health
    ejections.publish(() => ({ proxy: this.#options.name, upstream: url, untilMs: ejectedUntil, failures }))
  }

  /** The store of shared streams can be used again, or cannot. */
  storeChanged(isUp: boolean, error: unknown): void {
    stores.publish(() => ({ proxy: this.#options.name, isUp, ...(error !== undefined && { error }) }))
  }

  /** A client follows a shared stream that another has opened. */
  joined(): void {
    this.#stats.joined++
  }

  /** A client gets a shared stream that is over. */
  replayed(): void {
    this.#stats.replayed++
  }

  /** A lost stream is about to try another connection. */
  resuming(stream: SseStream, upstream: string, attempt: number): void {
    debugStream('%s lost %s, try %d to go on', stream.id, upstream, attempt)
  }

  /** A stream has another connection; its events follow. */
  resumed(stream: SseStream, attempt: number): void {
    this.#stats.resumes++
    debugStream('%s goes on with %s', stream.id, stream.upstream)
    const { upstream, lastEventId } = stream
    resumes.publish(() => ({ proxy: this.#options.name, stream, upstream, lastEventId, attempt }))
  }
}

function causeOf({ cause }: SseProxyError): string {
  const text = systemError(cause)
  return text === '' ? '' : `(${text})`
}

/** The path for logs: no query, which may contain secrets. */
function pathOf(req: IncomingMessage): string {
  const url = String(Reflect.get(req, 'originalUrl') ?? req.url)
  return url.replace(/\?.*/s, '')
}
