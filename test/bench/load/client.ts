// A client: one connection, one request, and what comes back. Those of HTTP/1.1 read into one buffer.

import { connect as connectHttp2 } from 'node:http2'
import { connect, type Socket } from 'node:net'
import { type BodySink, ChunkReader } from './chunks.ts'
import { blankLine, sentAt } from './events.ts'

const readBuffer = Buffer.allocUnsafeSlow(256 * 1024)

export interface ClientPlace {
  readonly port: number
  readonly path: string
  /** The address to come from; a single one has too few ports for thousands of connections a second. */
  readonly localAddress?: string | undefined
}

/** What a client tells of its way. Times are those of `performance.now()`. */
export interface ClientObserver {
  onHead?(client: Client): void
  onEvent?(client: Client, sentAt: number): void
  /** The connection is over, and it was not the client that closed it. */
  onLost?(client: Client): void
}

export interface Client {
  readonly openedAt: number
  readonly headAt: number
  readonly status: number
  /** Replaced by measures that count in another way. */
  sink: BodySink
  readonly events: EventCounter
  close(): void
}

export class Http1Client implements Client {
  readonly openedAt: number = performance.now()
  headAt = 0
  status = 0
  sink: BodySink
  readonly events: EventCounter
  readonly #socket: Socket
  readonly #observer: ClientObserver
  #head: string | undefined = ''
  #chunks: ChunkReader | undefined
  #closed = false

  constructor({ port, path, localAddress }: ClientPlace, observer: ClientObserver) {
    this.#observer = observer
    this.events = new EventCounter((time) => observer.onEvent?.(this, time))
    this.sink = this.events
    this.#socket = connect({
      port,
      host: '127.0.0.1',
      ...(localAddress && { localAddress }),
      noDelay: true,
      onread: {
        buffer: readBuffer,
        callback: (length: number) => {
          this.#read(length)
          return true
        },
      },
    })
    this.#socket.on('error', () => {})
    this.#socket.on('close', () => {
      if (!this.#closed) observer.onLost?.(this)
    })
    this.#socket.write(
      `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nAccept: text/event-stream\r\nCache-Control: no-cache\r\n\r\n`,
    )
  }

  close(): void {
    this.#closed = true
    this.#socket.destroy()
  }

  #read(length: number): void {
    const from = this.#head === undefined ? 0 : this.#readHead(length)
    if (this.#closed || from >= length) return
    if (this.#chunks) this.#chunks.read(readBuffer, from, length, this.sink)
    else this.sink.take(readBuffer, from, length)
    if (this.#chunks?.isEnded && !this.#closed) {
      this.close()
      this.#observer.onLost?.(this)
    }
  }

  /** Returns where the body begins. */
  #readHead(length: number): number {
    const before = this.#head?.length ?? 0
    const head = this.#head + readBuffer.toString('latin1', 0, length)
    const end = head.indexOf('\r\n\r\n')
    if (end < 0) {
      this.#head = head
      return length
    }
    this.headAt = performance.now()
    this.status = Number(head.slice(9, 12))
    this.#head = undefined
    if (/\r\ntransfer-encoding: *chunked\r\n/i.test(head.slice(0, end + 2))) this.#chunks = new ChunkReader()
    this.#observer.onHead?.(this)
    return end + 4 - before
  }
}

// So large that no client holds a proxy up.
const windowBytes = 8 * 1024 * 1024

/** The same over a connection of HTTP/2, which nobody else uses. */
export class Http2Client implements Client {
  readonly openedAt: number = performance.now()
  headAt = 0
  status = 0
  sink: BodySink
  readonly events: EventCounter
  readonly close: () => void

  constructor({ port, path, localAddress }: ClientPlace, observer: ClientObserver) {
    this.events = new EventCounter((time) => observer.onEvent?.(this, time))
    this.sink = this.events
    const session = connectHttp2(`http://127.0.0.1:${port}`, {
      settings: { initialWindowSize: windowBytes },
      createConnection: () =>
        connect({ port, host: '127.0.0.1', ...(localAddress && { localAddress }), noDelay: true }),
    })
    // It may have been closed before it was there.
    session.on('connect', () => session.destroyed || session.setLocalWindowSize(windowBytes))
    session.on('error', () => {})
    const stream = session.request({ ':path': path, accept: 'text/event-stream', 'cache-control': 'no-cache' })
    stream.on('error', () => {})
    stream.on('response', (head) => {
      this.headAt = performance.now()
      this.status = Number(head[':status'])
      observer.onHead?.(this)
    })
    stream.on('data', (bytes: Buffer) => this.sink.take(bytes, 0, bytes.length))
    const lost = () => observer.onLost?.(this)
    stream.on('close', lost)
    this.close = () => {
      stream.off('close', lost)
      session.destroy()
    }
  }
}

/** Finds the ends of events, and the time each was sent at. */
export class EventCounter implements BodySink {
  count = 0
  /** The size of the latest event as it arrived: a hook may have changed it. */
  latestBytes = 0
  readonly #onEvent: (sentAt: number) => void
  #rest: Buffer | undefined

  constructor(onEvent: (sentAt: number) => void) {
    this.#onEvent = onEvent
  }

  take(buffer: Buffer, from: number, to: number): void {
    const fresh = buffer.subarray(from, to)
    const bytes = this.#rest ? Buffer.concat([this.#rest, fresh]) : fresh
    this.#rest = undefined
    let start = 0
    for (;;) {
      const end = bytes.indexOf(blankLine, start)
      if (end < 0) break
      const time = sentAt(bytes, start, end)
      if (time !== undefined) {
        this.count++
        this.latestBytes = end + blankLine.length - start
        this.#onEvent(time)
      }
      start = end + blankLine.length
    }
    if (start < bytes.length) this.#rest = Buffer.from(bytes.subarray(start))
  }
}

/** Counts bytes only, which is all that can be afforded when millions of events come in a second. */
export class ByteCounter implements BodySink {
  bytes = 0

  take(_buffer: Buffer, from: number, to: number): void {
    this.bytes += to - from
  }
}
