// What Node's HTTP/1.1 client gets as its connection where the upstream may speak HTTP/2: it takes the bytes of one request and
// gives back those of its answer. All that http-proxy-middleware and the app do with either is as it is over HTTP/1.1.

import { AsyncResource } from 'node:async_hooks'
import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { Watchdog } from '../../watchdog.ts'
import { Exchange } from './exchange.ts'
import type { Origin, Waiter } from './origin.ts'
import type { Session } from './session.ts'

/** What carries the bytes: a stream of a session, or a socket where the upstream speaks HTTP/1.1. */
interface Wire {
  write(bytes: Buffer, callback: () => void): void
  pause(): void
  resume(): void
  destroy(): void
}

export class Http2Socket extends Duplex implements Waiter {
  /** Until there is a connection; then it emits `connect`, as a socket does. */
  connecting = true
  /** How much of the answer has come. */
  bytesRead = 0
  /** How much of the request may have arrived. */
  bytesWritten = 0
  /** Whether its connection has carried other requests before. */
  isReused = false
  /** Opens a connection as the request asks for it. It holds all that the request was made of, and goes with the wait. */
  dial: Waiter['dial']
  readonly #origin: Origin
  // Set with the connection.
  #wire: Wire | undefined
  // What was written before that.
  #early: (() => void) | undefined
  // Where the request was made: listeners of the app learn there of the end, as they do of a socket's.
  readonly #context = new AsyncResource('SSE_PROXY_HTTP2_SOCKET')
  // Set by `setTimeout`.
  #silence: Watchdog | undefined

  constructor(origin: Origin, dial: Waiter['dial']) {
    super()
    this.dial = dial
    this.#origin = origin
    // From Node's client, when the answer is over: it carries no other.
    this.once('free', () => this.destroy())
    origin.ask(this)
  }

  // Waiter

  onSession(session: Session): void {
    this.isReused = session.carried > 1
    this.#wire = new Exchange(session, this)
    this.#connected()
  }

  onHttp1(socket: Socket, isOpen: boolean): void {
    this.#wire = socket
    socket.on('data', (bytes) => this.give(bytes))
    socket.on('end', () => this.push(null))
    socket.on('error', (error) => this.destroy(error))
    socket.on('close', () => this.destroy())
    if (isOpen) this.#connected()
    else socket.once('secureConnect', () => this.#connected())
  }

  /** Later: Node's client listens from the next turn on. */
  onFailed(error: Error): void {
    setImmediate(() => this.destroy(error))
  }

  /** Passes on what has come of the answer. */
  give(bytes: Buffer): void {
    this.#silence?.reset()
    this.bytesRead += bytes.length
    if (!this.push(bytes)) this.#wire?.pause()
  }

  #connected(): void {
    this.connecting = false
    this.dial = noMore
    this.emit('connect')
    this.#early?.()
    this.#early = undefined
  }

  // Duplex

  override _read(): void {
    this.#wire?.resume()
  }

  override _write(bytes: Buffer, encoding: BufferEncoding, callback: () => void): void {
    if (this.connecting || !this.#wire) {
      this.#early = () => this._write(bytes, encoding, callback)
      return
    }
    this.#silence?.reset()
    this.bytesWritten += bytes.length
    this.#wire.write(bytes, callback)
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    this.#silence?.stop()
    this.#origin.forget(this)
    this.#wire?.destroy()
    this.#context.runInAsyncScope(callback, undefined, error)
  }

  // What Node's client and apps call on a socket.

  setTimeout(ms: number, onTimeout?: () => void): this {
    if (onTimeout) this.once('timeout', onTimeout)
    this.#silence?.stop()
    this.#silence = ms > 0 ? new Watchdog(ms, () => this.emit('timeout')).unref() : undefined
    return this
  }

  setKeepAlive(): this {
    return this
  }

  setNoDelay(): this {
    return this
  }

  ref(): this {
    return this
  }

  unref(): this {
    return this
  }

  destroySoon(): void {
    this.destroy()
  }
}

const noMore: Waiter['dial'] = () => {
  throw new Error('the request has its connection')
}
