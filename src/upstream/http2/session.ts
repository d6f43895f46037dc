// One HTTP/2 connection to an upstream: how many streams it may carry, whether the other side still answers, and when it is
// not needed any more. Which request it carries is decided by its origin.

import http from 'node:http'
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from 'node:http2'
import type { Duplex } from 'node:stream'
import createDebug from 'debug'
import { Watchdog } from '../../watchdog.ts'
import type { RequestHead } from './request-reader.ts'

const debug = createDebug('sse-proxy:upstream')

/** How sessions are looked after. */
export interface SessionPolicy {
  /** How long the other side may be silent while streams are open; 0 means for ever. */
  readonly pingMs: number
  /** How long a session stays without streams; 0 means for ever. */
  readonly idleMs: number
  /** How much the other side may send on a stream before it is read. */
  readonly windowBytes: number
}

/** Told what becomes of a session. */
export interface SessionOwner {
  /** It can take a stream; the first time, when the other side has said how many. */
  onFree(): void
  /** The other side wants a request over HTTP/1.1. */
  onHttp1Required(): void
  /** The connection has ended. */
  onOver(cause: Error): void
}

/** The other side has not worked on a request, and says so: it may be sent again, whatever it is. */
export class Refusal extends Error {}

/** The other side has reset a request and goes on with the others. What it finds fault with may be the client's. */
export class Rejection extends Error {}

// The largest that HTTP/2 knows: streams that are not read must not stop the others of their connection.
const CONNECTION_WINDOW_BYTES = 2_147_483_647
// In MB. What a session holds is bounded by its streams and their windows; at Node's own bound of 10 MB it would refuse answers.
const MAX_MEMORY = 1_048_576
// As many as Node takes over HTTP/1.1.
const MAX_HEADERS = 2000
// Of RFC 9113, section 5.1.1. Behind it Node lets every request fail, and keeps the connection.
const LAST_STREAM_ID = 2_147_483_647
// Of all names of origins that the other side has sent. Node keeps them as long as the connection, and bounds them in its latest
// releases only.
const MAX_ORIGINS_LENGTH = 1_048_576
// Upstreams end a connection, with all its streams, on which many requests are given up: nghttp2 at 1000 of them beyond 33 a
// second, Envoy at 500 in their first second. A single client can give up as many.
const MAX_GIVEN_UP = 250
const FORGIVEN_PER_MS = 0.01
const EARLY_MS = 1000
// In a row: the first is answered with a PING, which has two more to come back.
const MAX_SILENCES = 3

export class Session {
  /** How many streams it carries. */
  active = 0
  /** How many it has carried in all. */
  carried = 0
  /** Of its requests. */
  readonly scheme: string
  readonly #session: ClientHttp2Session
  readonly #idleMs: number
  readonly #owner: SessionOwner
  // How many streams the other side takes at a time; undefined until it has said so.
  #limit: number | undefined
  // The last stream that the other side has begun to work on, where it has said so.
  #lastStreamId = Number.POSITIVE_INFINITY
  // Why the connection ends, where that is known.
  #cause: Error | undefined
  // Looks for silence, where that is asked for. Stopped with the connection.
  readonly #watchdog: Watchdog | undefined
  // Whether something has come since the watchdog has looked.
  #hasHeard = false
  // How often in a row it has found nothing.
  #silences = 0
  // Set where it is to carry no more streams than it does.
  #isUsedUp = false
  // Requests that were given up: of late, as of the last of them, and in their first second.
  #givenUp = 0
  #givenUpAt = 0
  #givenUpEarly = 0
  // See MAX_ORIGINS_LENGTH.
  #originsLength = 0
  // Runs while there are no streams.
  #idle: NodeJS.Timeout | undefined

  /** @param socket a connection that is there, TLS included */
  constructor(socket: Duplex, scheme: string, { pingMs, idleMs, windowBytes }: SessionPolicy, owner: SessionOwner) {
    this.scheme = scheme
    this.#owner = owner
    this.#idleMs = idleMs
    const session = connect(`${scheme}://localhost`, {
      createConnection: () => socket,
      maxSessionMemory: MAX_MEMORY,
      maxHeaderListPairs: MAX_HEADERS,
      // Node's HTTP/1.1 parser takes no more.
      settings: { enablePush: false, initialWindowSize: windowBytes, maxHeaderListSize: http.maxHeaderSize },
    })
    this.#session = session
    session.once('connect', () => {
      if (!session.destroyed) session.setLocalWindowSize(CONNECTION_WINDOW_BYTES)
    })
    session.on('remoteSettings', ({ maxConcurrentStreams }) => this.#onSettings(maxConcurrentStreams))
    session.on('ping', () => this.heard())
    session.on('origin', (origins) => this.#onOrigins(origins))
    session.on('goaway', (code, lastStreamId) => {
      debug('an upstream takes no more streams on a connection: GOAWAY, code %d, last stream %d', code, lastStreamId)
      this.#lastStreamId = lastStreamId
      this.#cause ??= new Refusal(`GOAWAY with code ${code}`)
    })
    // Its streams fail by themselves. Without a listener the error would end the process.
    session.on('error', (error) => {
      this.#cause ??= error
    })
    session.on('close', () => this.#onOver())
    if (pingMs > 0)
      this.#watchdog = new Watchdog(
        pingMs,
        () => this.#onSilence(),
        () => this.#wasAlive(),
      ).unref()
  }

  /** Whether it takes another stream. */
  get isFree(): boolean {
    return this.#limit !== undefined && this.active < this.#limit && !this.#isUsedUp && !this.#session.closed
  }

  /** How many streams the other side takes at a time. */
  get limit(): number {
    return this.#limit ?? 0
  }

  /** Why the connection has ended, or will. */
  get cause(): Error | undefined {
    return this.#cause
  }

  /** Keeps a place for a stream, which `release` gives back. */
  take(): void {
    this.active++
    this.carried++
    clearTimeout(this.#idle)
    if (this.active === 1) this.#session.ref()
  }

  release(): void {
    this.active--
    if (this.active === 0 && this.#isUsedUp) this.#session.close()
    else if (this.active === 0) this.#rest()
    if (this.isFree) this.#owner.onFree()
  }

  /** A request is given up that has begun `ageMs` ago. */
  giveUp(ageMs: number): void {
    const now = performance.now()
    this.#givenUp = Math.max(0, this.#givenUp - (now - this.#givenUpAt) * FORGIVEN_PER_MS) + 1
    this.#givenUpAt = now
    if (ageMs < EARLY_MS) this.#givenUpEarly++
    if (Math.max(this.#givenUp, this.#givenUpEarly) >= MAX_GIVEN_UP) this.#isUsedUp = true
  }

  /** Begins a stream on a place that was kept; undefined where the session has ended meanwhile. */
  request({ headers, isWhole }: RequestHead, signal: AbortSignal | undefined): ClientHttp2Stream | undefined {
    if (this.#session.closed || this.#session.destroyed) return undefined
    const stream = this.#session.request(headers, { endStream: isWhole, ...(signal && { signal }) })
    if (stream.id === LAST_STREAM_ID) this.#isUsedUp = true
    return stream
  }

  /** Something has come. */
  heard(): void {
    this.#hasHeard = true
  }

  /** Whether the other side has surely not worked on a stream that has ended without an answer. */
  hasRefused({ id, rstCode }: ClientHttp2Stream): boolean {
    const isUnfit = rstCode === constants.NGHTTP2_HTTP_1_1_REQUIRED
    if (isUnfit) this.#owner.onHttp1Required()
    return isUnfit || rstCode === constants.NGHTTP2_REFUSED_STREAM || id === undefined || id > this.#lastStreamId
  }

  /** Takes no more streams, and ends the connection with the last one. */
  end(): void {
    this.#session.close()
  }

  /** Ends the connection, and all its streams. */
  destroy(cause?: Error): void {
    this.#cause ??= cause
    this.#session.destroy(cause)
  }

  #onSettings(limit = 0): void {
    this.heard()
    const isNew = this.#limit === undefined
    this.#limit = limit
    if (limit === 0) this.#cause ??= new Refusal('the upstream takes no streams')
    if (this.active === 0 && limit === 0) this.#session.close()
    else if (this.active === 0 && isNew) this.#rest()
    if (this.isFree) this.#owner.onFree()
  }

  #onOrigins(origins: string[]): void {
    for (const { length } of origins) this.#originsLength += length
    if (this.#originsLength > MAX_ORIGINS_LENGTH) this.destroy(new Error('the upstream has sent too many origins'))
  }

  /** Without streams it lets the process exit, and ends after a while. */
  #rest(): void {
    this.#session.unref()
    if (this.#idleMs > 0) this.#idle = setTimeout(() => this.#session.close(), this.#idleMs).unref()
  }

  #onSilence(): void {
    this.#silences++
    if (this.#session.destroyed) return
    if (this.#silences < MAX_SILENCES) this.#session.ping((error) => error || this.heard())
    else this.destroy(Object.assign(new Error('no answer to PING'), { code: 'ETIMEDOUT' }))
  }

  /** Without streams nothing has to come. */
  #wasAlive(): boolean {
    const wasAlive = this.#hasHeard || this.active === 0
    this.#hasHeard = false
    if (wasAlive) this.#silences = 0
    return wasAlive
  }

  #onOver(): void {
    this.#watchdog?.stop()
    clearTimeout(this.#idle)
    this.#cause ??= Object.assign(new Error('the upstream has closed the connection'), { code: 'ECONNRESET' })
    this.#owner.onOver(this.#cause)
  }
}
