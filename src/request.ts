// One request, from the moment it comes in to the moment its response is over: it is admitted, an upstream is asked, and
// the answer is an event stream for a session, or relayed, or an error of the package's own.

import { AsyncLocalStorage } from 'node:async_hooks'
import type { IncomingMessage, ServerResponse } from 'node:http'
import createDebug from 'debug'
import { Abort } from './abort.ts'
import type { Admission, Ticket } from './admission.ts'
import { asError, tell } from './app-callback.ts'
import { endToEndHeaders } from './end-to-end.ts'
import { sendError } from './error-response.ts'
import { SseProxyError, UpstreamError } from './errors.ts'
import { Cursor } from './events/cursor.ts'
import { EndWatch } from './events/end-watch.ts'
import { clientEventId } from './events/event-id.ts'
import type { Observer } from './observe/observer.ts'
import type { ResolvedOptions } from './options/resolve-options.ts'
import type { NodePlaces } from './share/node-places.ts'
import type { SharingRequest } from './share/opening.ts'
import type { SharedStreams } from './share/shared-streams.ts'
import type { StoredStreams } from './share/stored-streams.ts'
import { onClientGone } from './stream/client-gone.ts'
import { createClientPipeline } from './stream/client-pipeline.ts'
import { ClientWriter } from './stream/client-writer.ts'
import { bodyOf } from './stream/collect.ts'
import { eventStreamOf } from './stream/event-stream.ts'
import { eventWatched } from './stream/event-watch.ts'
import type { KeepaliveClock } from './stream/keepalive.ts'
import type { Moves } from './stream/moves.ts'
import { relay } from './stream/relay.ts'
import { answerHeaders, eventStreamHeaders } from './stream/response-headers.ts'
import { resumable } from './stream/resume.ts'
import { Session } from './stream/session.ts'
import type { SessionContext } from './stream/session-context.ts'
import { createClientWriter } from './translate/to.ts'
import { createOpen, type OpenContext } from './upstream/open.ts'
import type { PathBoundary } from './upstream/path-boundary.ts'
import { isBodyRead, readEmptyBody, requestBody } from './upstream/request-body.ts'
import type { OpenUpstream, UpstreamBody, UpstreamResponse } from './upstream-response.ts'
import { Watchdog } from './watchdog.ts'

const debug = createDebug('sse-proxy:request')

const NO_CONTENT: UpstreamResponse = {
  status: 204,
  statusMessage: '',
  headers: [['Cache-Control', 'no-store']],
  upstream: '',
  body: bodyOf(Buffer.alloc(0)),
  delimited: true,
}

/** The app's next handler, or with an error its error handling. */
export type Next = (error?: unknown) => void

/** What all requests of a middleware share. */
export interface ProxyContext {
  readonly options: ResolvedOptions
  readonly admission: Admission
  readonly opening: OpenContext
  /** What can be asked for here. */
  readonly boundary: PathBoundary
  /** Absent where streams are not shared. */
  readonly shares: SharedStreams | StoredStreams | undefined
  /** Absent where clients are not limited, or not over several nodes. */
  readonly places: NodePlaces | undefined
  readonly observer: Observer
  /** Absent where streams are not resumed, or a router chooses. */
  readonly moves: Moves | undefined
  /** Absent where keepalives are off. */
  readonly keepalives: KeepaliveClock | undefined
  /** Those that have a place and whose response is not over. */
  readonly requests: Set<ProxyRequest>
}

/** One request, in the order of what happens to it. */
export class ProxyRequest implements SharingRequest, SessionContext {
  readonly id: string
  readonly req: IncomingMessage
  readonly res: ServerResponse
  /** Replaced when it comes in, by that of the format that the app chooses. */
  writer: ClientWriter
  /** Aborted when nothing more is wanted for it: whatever works for it hangs on this. */
  readonly controller: Abort = new Abort()
  readonly startedAt: number = performance.now()
  readonly #context: ProxyContext
  // The async context that it came in. Absent where no stream is shared, whose opener's context is that of all it brings about.
  readonly #inContext: ReturnType<typeof AsyncLocalStorage.snapshot> | undefined
  // Absent in a bare server, which has no other handler.
  readonly #next: Next | undefined
  // Called when the response is over or the app has the request back; more than once, maybe.
  readonly #onOver: () => void
  // From `admit` on, until the response and the stream are over.
  #ticket: Ticket | undefined
  // Made once, since a body can be read but once. Dropped with the body when no resume can ask again.
  #open: OpenUpstream | undefined
  // Runs from `admit` until the upstream has answered, where the response is to be opened before that.
  #earlyWatchdog: Watchdog | undefined
  // Undefined until the response is an event stream; then every ending is the session's.
  #session: Session | undefined

  constructor(
    context: ProxyContext,
    id: string,
    req: IncomingMessage,
    res: ServerResponse,
    next: Next | undefined,
    onOver: () => void,
  ) {
    this.#context = context
    this.id = id
    this.req = req
    this.res = res
    this.#next = next
    this.#onOver = onOver
    this.#inContext = context.shares && AsyncLocalStorage.snapshot()
    this.writer = new ClientWriter(req, res, this.options.fastLane)
  }

  /** Whether the client left, or the app has answered. */
  get isOver(): boolean {
    return this.writer.isOver
  }

  /** The id from which on the client wants its events. */
  get lastEventId(): string {
    // As it is sent: one that does not reach the upstream has no part in where the stream begins.
    if (this.options.stripHeaders.includes('last-event-id')) return ''
    const { headers, url = '' } = this.req
    return clientEventId(headers['last-event-id'] === undefined ? headers : endToEndHeaders(this.req), url)
  }

  get options(): ResolvedOptions {
    return this.#context.options
  }

  get keepalives(): KeepaliveClock | undefined {
    return this.#context.keepalives
  }

  inContext<Result>(work: () => Result): Result {
    return this.#inContext ? this.#inContext(work) : work()
  }

  get moves(): Moves | undefined {
    return this.#context.moves
  }

  get observer(): Observer {
    return this.#context.observer
  }

  // It comes in.

  /** Shares a stream, or is admitted and served by an upstream of its own; every failure is answered. */
  enter(): void {
    const { boundary, shares } = this.#context
    if (this.isOver) return this.#explainOver()
    readEmptyBody(this.req)
    onClientGone(this.req, this.res, this)
    this.observer.entered(this.req, this.res)
    try {
      if (!boundary.admits(this.req.url ?? '/')) throw new UpstreamError('ERR_SSE_PROXY_PATH')
      const { to } = this.options
      if (to) this.writer = createClientWriter(this.req, this.res, this.options, (thrown) => this.refuse(thrown))
      if (shares?.serve(this)) return
      this.admit()
      void this.alone()
    } catch (error) {
      this.refuse(error)
    }
  }

  /** A client may have left while a middleware in front was waiting for something; anything else is a mistake. */
  #explainOver(): void {
    this.#onOver()
    if (!this.res.headersSent || this.res.writableEnded || this.res.destroyed) return
    this.#next?.(new Error('sse-proxy-middleware: the response had been begun before the request reached the proxy'))
  }

  /** Leaves the request to the app's next handler. */
  passBy(): void {
    if (this.#next) this.#callNext(this.#next, [], (_path, thrown) => this.fail(thrown))
    this.#onOver()
  }

  /** What was to decide whether it comes in has failed. */
  fail(thrown: unknown): void {
    if (this.isOver) return this.#onOver()
    onClientGone(this.req, this.res, this)
    this.refuse(thrown)
  }

  /** @throws AdmissionError where there is no place for it */
  admit(heir?: Ticket): void {
    // One that was to share a stream and was set apart has its place.
    if (this.#ticket) return
    const { admission, requests } = this.#context
    this.#ticket = admission.enter(this.req, heir)
    requests.add(this)
    if (debug.enabled) debug('%s came: %s', this.id, this.req.method)
    this.#openEarlyLater()
  }

  /** Whose place it has; only known where clients are limited. */
  get client(): string | undefined {
    return this.#ticket?.client
  }

  /** See `keepalive.openAfterMs`. */
  #openEarlyLater(): void {
    const { keepalive } = this.options
    if (!keepalive || keepalive.openAfterMs === 0 || this.req.method === 'HEAD') return
    if (this.writer.format === 'json') return
    this.#earlyWatchdog = new Watchdog(keepalive.openAfterMs, () => {
      this.#earlyWatchdog?.stop()
      if (!this.isOver) this.session().openEarly()
    })
  }

  // An upstream is asked.

  /** Serves it from an upstream of its own. */
  async alone(): Promise<void> {
    const { places } = this.#context
    try {
      if (places) await places.take(this)
      if (!this.isOver) this.answer(await this.open()({ signal: this.controller }))
    } catch (error) {
      this.refuse(error)
    }
  }

  /** The function that gets this request an answer. */
  open(): OpenUpstream {
    const { opening, options } = this.#context
    if (!this.#open) {
      const maySendAgain = opening.retry !== false || options.http2 !== false
      const body = requestBody(this.req, maySendAgain ? options.limits.bodyBytes : 0)
      const { id, req, res, wantsEvents } = this
      this.#open = createOpen(opening, { id, req, res, body, wantsEvents })
    }
    return this.#open
  }

  /** Whether the client gets a format that is made of events, whatever it accepts. */
  get wantsEvents(): boolean {
    return this.writer.format !== 'event-stream'
  }

  /** See `SharingRequest`. */
  get isSent(): boolean {
    return isBodyRead(this.req)
  }

  /** See `SharingRequest`. */
  forget(): void {
    this.#open = undefined
  }

  // It is answered.

  /** There is no stream for it: 204, at which a browser's EventSource stops; one that was opened early ends. */
  nothing(): void {
    if (this.#session) this.#session.end('closed')
    else this.answer(NO_CONTENT)
  }

  /** Passes an upstream's answer on. */
  answer(response: UpstreamResponse): void {
    try {
      this.#answer(response)
    } catch (error) {
      // A head that cannot be sent leaves nothing that reads the body.
      response.body.destroy()
      throw error
    }
  }

  /** A stream, or relayed as it is; neither where the client has been promised the other. */
  #answer(response: UpstreamResponse): void {
    this.#earlyWatchdog?.stop()
    if (this.isOver) return response.body.destroy()
    const body = eventStreamOf(response, this.options.timeouts.idleMs)
    if (body && this.req.method !== 'HEAD') return this.#stream(response, body)
    if (!this.#session) return this.#relay(response, body !== undefined)
    // 200 and an event stream have been promised.
    response.body.destroy()
    this.refuse(new UpstreamError('ERR_SSE_PROXY_BAD_ANSWER', response.upstream))
  }

  /** The wrappers of its body, its pipeline and its session; each that is off is absent. */
  #stream(response: UpstreamResponse, plain: UpstreamBody): void {
    const { hooks, resume, isEnd, timeouts } = this.options
    const { upstream, delimited } = response
    const session = this.session()
    const cursor = new Cursor(this.lastEventId)
    const watched = eventWatched(plain, timeouts, cursor, response.eventWait)
    const body = resumable(this, { body: watched, upstream, cursor, stream: session.handle })
    const end = isEnd && new EndWatch(isEnd, this.req)
    session.start(response, createClientPipeline(session, { body, delimited, cursor, hooks, end, isShared: false }))
    // Only a resume asks again.
    if (!resume) this.forget()
  }

  /** @param isEventStream as for HEAD, whose answer has the headers of a stream and no body */
  #relay(response: UpstreamResponse, isEventStream: boolean): void {
    debug('%s answered: %d', this.id, response.status)
    const variedBy = this.options.to && 'Accept'
    const headers = isEventStream
      ? eventStreamHeaders(response.headers, this.writer.appHeaders, variedBy)
      : answerHeaders(response.headers, this.writer.appHeaders)
    relay({ ...response, headers }, this.writer, {
      signal: this.controller,
      isBodyless: this.req.method === 'HEAD' || response.status === 204 || response.status === 304,
      writeMs: this.options.timeouts.writeMs,
      onFailed: (error) => {
        this.controller.abort(error)
        setImmediate(() => void this.#noteRefused(error))
      },
    })
  }

  /** Its event stream; from now on the response is one. */
  session(): Session {
    this.#earlyWatchdog?.stop()
    this.#session ??= new Session(this)
    return this.#session
  }

  /** A session that was opened before the upstream has answered. */
  get earlySession(): Session | undefined {
    return this.#session?.isStarted === false ? this.#session : undefined
  }

  // It is not answered.

  /** Tells the client, or lets the app tell it, that there is no answer. */
  refuse(thrown: unknown): void {
    this.#earlyWatchdog?.stop()
    void this.inContext(() => this.#refuse(toSseProxyError(thrown)))
  }

  async #refuse(error: SseProxyError): Promise<void> {
    const session = this.#session
    // One that is over has left the answer to this where nothing has left.
    if (session && (!session.isOver || this.writer.isOpen)) return session.onFailed(error)
    if (this.isOver) return
    if (this.res.headersSent) {
      // What has left cannot be taken back.
      this.writer.break()
      return this.#noteRefused(error)
    }
    if (error.code === 'ERR_SSE_PROXY_APP' && this.#next) return this.#passOn(this.#next, error)
    await this.#noteRefused(error)
    if (!this.isOver) this.#sendError(error)
  }

  /** Hands the error to the app's error handling, whose own failure leaves only the proxy to answer. */
  #passOn(next: Next, error: SseProxyError): void {
    this.observer.noteRefusal(error, this.id, this.req)
    this.#callNext(next, [error.cause], (path, thrown) => {
      this.observer.callbackFailed(path, thrown)
      if (!this.isOver && !this.res.headersSent) this.#sendError(error)
    })
    this.#onOver()
  }

  #callNext(next: Next, args: [error?: unknown], onThrown: (path: string, thrown: unknown) => void): void {
    tell('next', () => next(...args), this.observer.callbackFailed, onThrown)
  }

  /** Resolves when the app has had the chance to answer instead. */
  #noteRefused(error: SseProxyError): Promise<void> {
    return this.observer.refused(error, this.id, this.req, this.res)
  }

  #sendError(error: SseProxyError): void {
    // Only an EventSource can be told to come back.
    const options: ResolvedOptions = this.wantsEvents ? { ...this.options, unavailable: 'status' } : this.options
    sendError(this.req, this.res, error, options)
  }

  // It ends.

  /** Breaks off what has not ended; 'unread' where it has, but the client does not take it. */
  abort(error: SseProxyError): 'unread' | undefined {
    if (this.res.writableEnded) {
      this.writer.destroy()
      return this.#session?.reason === 'drained' ? 'unread' : undefined
    }
    if (this.isOver) return undefined
    this.controller.abort(error)
    if (this.writer.isOpen) {
      this.writer.break()
    } else {
      this.#sendError(error)
      void this.#noteRefused(error)
    }
    return undefined
  }

  /** The response is over, above all because the client is gone. */
  onGone(): void {
    this.#onOver()
    this.writer.stopWaiting()
    if (!this.#context.requests.delete(this)) return
    this.#earlyWatchdog?.stop()
    this.#context.shares?.leave(this)
    if (this.#session) this.#session.clientLeft()
    else this.controller.abort('client-left')
    // A stream that goes on without its client still takes a place.
    if (this.#session?.isOver !== false) this.#giveBackTicket()
  }

  /** The stream is over; its client may have left long before. */
  onSessionOver(): void {
    // Until the response is over as well, the place is its own.
    if (!this.#context.requests.has(this)) this.#giveBackTicket()
  }

  #giveBackTicket(): void {
    this.#context.places?.free(this)
    this.#ticket?.giveBack()
    this.#ticket = undefined
  }
}

/** Anything else that is thrown is a mistake of ours or of the app's, and the app's error handling is the place for it. */
function toSseProxyError(thrown: unknown): SseProxyError {
  const error = asError('a callback', thrown)
  return error instanceof SseProxyError ? error : new UpstreamError('ERR_SSE_PROXY_APP', undefined, error)
}
