// One of Node's requests to an upstream, from the moment it has a socket to the head of its answer: how far it has come,
// which decides what a failure means. Node tells little of that, so the bytes of the connection are counted.

import type { ClientRequest } from 'node:http'
import { joined } from '../bytes.ts'
import { Http2Socket } from './http2/http2-socket.ts'

// What httpxy listens to for the head of the answer.
const HEAD_EVENTS = ['socket', 'error', 'response']
// Interim answers can come without end, and bytes one by one.
const MAX_HEAD_BYTES = 65_536
const MAX_HEAD_READS = 64
type Listeners = ReturnType<ClientRequest['rawListeners']>

/** The first request of a pass, or one that follows a redirect. */
export class SentRequest {
  readonly request: ClientRequest
  readonly #onClosed: () => void
  // httpxy's listeners to each of HEAD_EVENTS; those of a request that follows a redirect are not known.
  readonly #headListeners: readonly Listeners[]
  // Set when the connection is there, TLS included. Before that nothing can have arrived.
  #isConnected = false
  // What the socket had read when the connection was there; more than that is the beginning of an answer.
  #bytesReadBefore = 0
  // What the socket had written when it was given to the request; more than that may have arrived.
  readonly #bytesWrittenBefore: number
  // Whether the app had destroyed the request by the time its connection closed, when Node marks it as destroyed as well.
  #wasDestroyed: boolean | undefined
  // What has been read since then: the fast lane begins behind the head. Undefined where it was more than a head takes.
  #reads: Buffer[] | undefined = []
  #readBytes = 0

  /**
   * @param isRedirected whether it follows a redirect, on a connection that counts as ready
   * @param onConnected called at once where the connection is ready
   * @param onClosed called when the connection ends without an answer, which Node does not always call an error
   */
  constructor(request: ClientRequest, isRedirected: boolean, onConnected: () => void, onClosed: () => void) {
    const { socket } = request
    this.request = request
    this.#onClosed = onClosed
    // Captured before the app's handlers can add theirs.
    this.#headListeners = isRedirected ? [] : HEAD_EVENTS.map((event) => request.rawListeners(event))
    this.#bytesWrittenBefore = socket?.bytesWritten ?? 0
    request.on('close', onClosed)
    const connected = () => {
      this.#isConnected = true
      this.#bytesReadBefore = socket?.bytesRead ?? 0
      onConnected()
    }
    if (isRedirected || !socket?.connecting) connected()
    else socket.once('encrypted' in socket ? 'secureConnect' : 'connect', connected)
    socket?.prependListener('data', this.#onRead)
    // One that has ended while it was idle just closes. From a new one Node hears of an error, or of an end, before that.
    if (this.isOnReused) socket?.prependListener('close', this.#onSocketClosed)
  }

  /** Whether the app has destroyed it. */
  get isDestroyed(): boolean {
    return this.#wasDestroyed ?? this.request.destroyed
  }

  /** Whether its connection has carried other requests before. */
  get isOnReused(): boolean {
    const { reusedSocket, socket } = this.request
    return reusedSocket || (socket instanceof Http2Socket && socket.isReused)
  }

  /** Whether any of it may have reached the upstream. */
  get mayHaveArrived(): boolean {
    return this.#isConnected && (this.request.socket?.bytesWritten ?? 0) > this.#bytesWrittenBefore
  }

  /** Whether the upstream has written something. */
  get isAnswered(): boolean {
    return (this.request.socket?.bytesRead ?? 0) > this.#bytesReadBefore
  }

  /** What was read up to now, which ends with the read that has brought the end of the head; undefined where that is too much. */
  get headRead(): Buffer | undefined {
    return this.#reads?.length ? joined(this.#reads) : undefined
  }

  /** The request goes on, and its end means nothing here any more. */
  unwatch(): void {
    this.request.off('close', this.#onClosed)
    this.request.socket?.off('data', this.#onRead).off('close', this.#onSocketClosed)
  }

  /** The head is there: httpxy's listeners would hold all it knew of the request for as long as the answer lasts. */
  letGo(): void {
    this.unwatch()
    this.#headListeners.forEach((listeners, i) => {
      for (const listener of listeners) Reflect.apply(this.request.off, this.request, [HEAD_EVENTS[i], listener])
    })
  }

  readonly #onSocketClosed = (): void => {
    this.#wasDestroyed = this.request.destroyed
  }

  readonly #onRead = (read: Buffer): void => {
    this.#reads?.push(read)
    this.#readBytes += read.length
    if (this.#readBytes > MAX_HEAD_BYTES || (this.#reads?.length ?? 0) > MAX_HEAD_READS) this.#reads = undefined
  }
}

/**
 * What httpxy throws over the head of an answer, at a Location that is no address say, fails its request alone: nothing else
 * would catch it.
 * @param onHead called before httpxy sees the head
 */
export function guardHead(request: ClientRequest, onHead: () => void, onThrown: (error: unknown) => void): void {
  const { emit } = request
  const guarded = (event: string, ...args: unknown[]): boolean => {
    if (event !== 'response') return Reflect.apply(emit, request, [event, ...args])
    // The answer may last for days, and holds its request.
    if (request.emit === guarded) Object.assign(request, { emit })
    try {
      onHead()
      return Reflect.apply(emit, request, [event, ...args])
    } catch (error) {
      onThrown(error)
      return true
    }
  }
  Object.assign(request, { emit: guarded })
}
