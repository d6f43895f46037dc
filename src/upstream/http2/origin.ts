// The HTTP/2 connections to one upstream: which of them takes the next request, when there has to be another one, and
// whether the upstream speaks HTTP/2 at all.

import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import { asError } from '../../app-callback.ts'
import { UPSTREAM_SILENCE_MS } from '../../tcp-keepalive.ts'
import { Session, type SessionPolicy } from './session.ts'

/** A request that waits for a connection. Of its last three methods exactly one is called, unless it is forgotten before. */
export interface Waiter {
  /** Opens a connection as its request asks for it, over TLS with the protocols that it may speak. */
  dial(protocols: string[]): Socket
  /** A place on a session is kept for it. */
  onSession(session: Session): void
  /** The upstream speaks HTTP/1.1, on a connection for this request alone, which may have to be opened yet. */
  onHttp1(socket: Socket, isOpen: boolean): void
  onFailed(error: Error): void
}

/** See the option `http2`. */
export type Http2Mode = 'auto' | 'prior-knowledge'

/** How connections are made and looked after. */
export interface OriginPolicy extends SessionPolicy {
  /** How long a connection may take until the upstream has said how many streams it takes; 0 means for ever. */
  readonly connectMs: number
}

export class Origin {
  /** Whether it has turned out to speak HTTP/1.1, or to want it, so that it need not be asked again. */
  isHttp1 = false
  readonly #mode: Http2Mode
  readonly #isSecure: boolean
  readonly #policy: OriginPolicy
  readonly #sessions = new Set<Session>()
  // Connections on which the upstream has not said yet how many streams it takes.
  readonly #dialing = new Set<Socket>()
  // Connections of HTTP/1.1, to requests that have waited while the upstream was asked.
  readonly #http1 = new Set<Socket>()
  // In the order in which they came.
  readonly #waiting = new Set<Waiter>()
  // Whether no request follows but those that wait.
  #isRetired = false
  // How many streams a connection takes, as far as is known.
  #perSession = Number.POSITIVE_INFINITY

  constructor(mode: Http2Mode, isSecure: boolean, policy: OriginPolicy) {
    this.#mode = mode
    this.#isSecure = isSecure
    this.#policy = policy
  }

  get sessions(): number {
    return this.#sessions.size
  }

  /** Requests on its sessions. */
  get streams(): number {
    return [...this.#sessions].reduce((sum, { active }) => sum + active, 0)
  }

  get isIdle(): boolean {
    return this.#waiting.size === 0 && this.#http1.size === 0 && this.streams === 0
  }

  /** A place is given at once, where there is one. */
  ask(waiter: Waiter): void {
    this.#waiting.add(waiter)
    this.#serve()
  }

  /** The request waits no longer. Connections that are being opened end when no other request waits for them. */
  forget(waiter: Waiter): void {
    if (!this.#waiting.delete(waiter) || this.#waiting.size > 0) return
    for (const socket of this.#dialing) socket.destroy()
    // The sockets still emit events when they are destroyed; those are ignored.
    this.#dialing.clear()
  }

  /** No request follows: its connections end with their streams. */
  retire(): void {
    this.#isRetired = true
    for (const session of this.#sessions) session.end()
  }

  /** Ends all connections. */
  destroy(): void {
    for (const session of this.#sessions) session.destroy()
    for (const socket of [...this.#dialing, ...this.#http1]) socket.destroy()
  }

  /** Gives those that wait their places, and dials for the others: once only until it is known how many a connection takes. */
  #serve(): void {
    for (const session of this.#sessions) {
      for (const waiter of this.#waiting) {
        if (!session.isFree) break
        this.#waiting.delete(waiter)
        session.take()
        waiter.onSession(session)
      }
    }
    for (const waiter of this.#waiting) {
      if (this.#dialing.size >= Math.max(1, Math.ceil(this.#waiting.size / this.#perSession))) break
      this.#dial(waiter)
    }
  }

  #dial(waiter: Waiter): void {
    const socket = this.#socketFor(waiter, this.#mode === 'auto' ? ['h2', 'http/1.1'] : ['h2'])
    if (!socket) return
    this.#dialing.add(socket)
    this.#boundDial(socket)
    const failed = (error: Error) => this.#onLost(socket, error)
    const closed = () => failed(new Error('closed before it was open'))
    socket.on('error', failed)
    socket.on('close', closed)
    socket.once(this.#isSecure ? 'secureConnect' : 'connect', () => {
      socket.off('error', failed).off('close', closed)
      this.#onConnected(socket)
    })
  }

  /** Undefined where the options of the waiter's request are none that Node takes, of which it is told. */
  #socketFor(waiter: Waiter, protocols: string[]): Socket | undefined {
    try {
      return waiter.dial(protocols)
    } catch (error) {
      this.#waiting.delete(waiter)
      waiter.onFailed(asError('agent', error))
      return undefined
    }
  }

  /** Another connection takes the place of one that does not come: where new requests wait all the time, it is never given up. */
  #boundDial(socket: Socket): void {
    const { connectMs } = this.#policy
    if (connectMs === 0) return
    const late = setTimeout(() => {
      if (!this.#dialing.delete(socket)) return
      socket.destroy()
      this.#serve()
    }, connectMs).unref()
    socket.once('close', () => clearTimeout(late))
  }

  #onConnected(socket: Socket): void {
    socket.setKeepAlive(true, UPSTREAM_SILENCE_MS)
    if (!(socket instanceof TLSSocket) || socket.alpnProtocol === 'h2') return this.#begin(socket)
    if (this.#mode === 'auto') return this.#fallBack(socket)
    this.#onLost(socket, new Error('the upstream does not speak HTTP/2'))
    socket.destroy()
  }

  #begin(socket: Socket): void {
    const session = new Session(socket, this.#isSecure ? 'https' : 'http', this.#policy, {
      onFree: () => {
        if (this.#dialing.delete(socket)) this.#sessions.add(session)
        this.#perSession = session.limit
        this.#serve()
        // It was not there yet when the others were ended.
        if (this.#isRetired && session.active === 0) session.end()
      },
      onHttp1Required: () => {
        this.isHttp1 = this.#isSecure && this.#mode === 'auto'
      },
      onOver: (cause) => {
        this.#sessions.delete(session)
        this.#onLost(socket, cause)
      },
    })
  }

  /** The connection that was asked on is the first one's; the others that have waited for the answer open their own. */
  #fallBack(socket: Socket): void {
    this.isHttp1 = true
    this.#dialing.delete(socket)
    const [first, ...others] = this.#waiting
    this.#waiting.clear()
    if (first) this.#giveHttp1(first, socket, true)
    else socket.destroy()
    for (const waiter of others) {
      const own = this.#socketFor(waiter, ['http/1.1'])
      if (own) this.#giveHttp1(waiter, own, false)
    }
  }

  #giveHttp1(waiter: Waiter, socket: Socket, isOpen: boolean): void {
    this.#http1.add(socket)
    socket.once('close', () => this.#http1.delete(socket))
    waiter.onHttp1(socket, isOpen)
  }

  /** What was dialed is no session, and will be none. The failure is shared by all who wait, and not remembered. */
  #onLost(socket: Socket, error: Error): void {
    if (!this.#dialing.delete(socket) || this.#dialing.size > 0) return
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const waiter of waiting) waiter.onFailed(error)
  }
}
