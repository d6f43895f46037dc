// The upstream: answers every request with an event stream, and leaves it to the measure what is sent on it.

import { once } from 'node:events'
import { createServer as createHttp2Server, type ServerHttp2Stream } from 'node:http2'
import { createServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer, type TLSSocket } from 'node:tls'
import { certificate } from '../../support/certificate.ts'
import type { EventTemplate } from './events.ts'

const head = headOf('text/event-stream')
const linesHead = headOf('application/x-ndjson')

function headOf(type: string): string {
  return (
    `HTTP/1.1 200 OK\r\nContent-Type: ${type}\r\nCache-Control: no-cache\r\n` +
    'Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n'
  )
}

/** One response that is being streamed. */
export class UpstreamStream {
  readonly id: number
  readonly #out: Socket | ServerHttp2Stream
  readonly #isHttp2: boolean

  constructor(id: number, out: Socket | ServerHttp2Stream, isHttp2 = false) {
    this.id = id
    this.#out = out
    this.#isHttp2 = isHttp2
  }

  /** Whether everything written so far is on its way. */
  get isFree(): boolean {
    return this.#out.writableLength === 0
  }

  /** Writes one HTTP chunk, or what is in it. */
  write(chunk: Buffer): void {
    this.#out.write(this.#isHttp2 ? chunk.subarray(chunk.indexOf(lineEnd) + lineEnd.length, -lineEnd.length) : chunk)
  }
}

const lineEnd = Buffer.from('\r\n')

// A proxy that shares may still hold a stream of the load generator before: no URL comes twice.
const generation = Math.trunc(performance.timeOrigin)

/**
 * The URL of a stream; `late` has its first event sent by the measure, as `lines` their first line, others come with one. What
 * is asked for with `poll` is a JSON text.
 */
export function streamPath(id: number | undefined, first: 'now' | 'late' | 'lines' | 'poll' = 'now'): string {
  return `/stream?first=${first}${id === undefined ? '' : `&id=${id}`}&of=${generation}`
}

export class Upstream {
  /** The streams that are open, in the order of their requests. */
  readonly streams: Set<UpstreamStream> = new Set()
  /** Those with an id, the latest of each. */
  readonly byId: Map<number, UpstreamStream> = new Map()
  onOpened: ((stream: UpstreamStream, late: boolean) => void) | undefined
  onClosed: ((stream: UpstreamStream) => void) | undefined
  connections = 0
  /** What a poll is answered with, and how many have been. */
  state = 1
  polls = 0
  readonly #servers: readonly Server[]
  readonly #event: EventTemplate

  /** @param tlsPort where it speaks HTTP/2, or HTTP/1.1, over TLS */
  constructor(ports: readonly number[], tlsPort: number, event: EventTemplate) {
    this.#event = event
    const http2 = createHttp2Server({ settings: { maxConcurrentStreams: 100 } })
    http2.on('stream', (stream, headers) => this.#serveStream(stream, String(headers[':path'])))
    http2.on('sessionError', () => {})
    const takeTls = (socket: TLSSocket) => {
      socket.on('error', () => {})
      if (socket.alpnProtocol !== 'h2') return this.#serve(socket)
      this.connections++
      socket.on('close', () => this.connections--)
      http2.emit('connection', socket)
    }
    const tls = { ...certificate, ALPNProtocols: ['h2', 'http/1.1'], noDelay: true }
    this.#servers = [
      ...ports.map((port) =>
        createServer({ noDelay: true }, (socket) => this.#serve(socket)).listen(port, '127.0.0.1', 4096),
      ),
      createTlsServer(tls, takeTls).listen(tlsPort, '127.0.0.1', 4096),
    ]
  }

  async listening(): Promise<void> {
    await Promise.all(this.#servers.map((server) => once(server, 'listening')))
  }

  #serve(socket: Socket): void {
    let request = ''
    let stream: UpstreamStream | undefined
    const over = () => {
      if (!stream) return
      const closed = stream
      stream = undefined
      this.#closed(closed)
    }
    this.connections++
    socket.on('data', (bytes) => {
      if (stream) return
      request += bytes.toString('latin1')
      if (!request.includes('\r\n\r\n')) return
      if (/^GET \S*first=poll/.test(request)) this.#answerPoll(socket, request)
      else stream = this.#answer(socket, request)
      request = ''
    })
    socket.on('end', over)
    socket.on('error', over)
    socket.on('close', () => {
      this.connections--
      over()
    })
  }

  /** With 304 where the client has it. */
  #answerPoll(socket: Socket, request: string): void {
    this.polls++
    const body = `{"state":${this.state}}`
    const etag = `"${this.state}"`
    const isKnown = request.toLowerCase().includes(`\r\nif-none-match: ${etag}\r\n`)
    if (isKnown) socket.write(`HTTP/1.1 304 Not Modified\r\nETag: ${etag}\r\n\r\n`)
    else {
      const length = `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n`
      socket.write(`HTTP/1.1 200 OK\r\n${length}ETag: ${etag}\r\n\r\n${body}`)
    }
  }

  #answer(socket: Socket, request: string): UpstreamStream {
    const { id, late, lines } = asked(request)
    const stream = new UpstreamStream(id, socket)
    // One write, as a server does it that has its first event at hand.
    if (late) socket.write(lines ? linesHead : head)
    else socket.write(Buffer.concat([Buffer.from(head), this.#event.at(performance.now())]))
    this.#opened(stream, late)
    return stream
  }

  #serveStream(http2Stream: ServerHttp2Stream, path: string): void {
    const { id, late } = asked(`GET ${path}`)
    const stream = new UpstreamStream(id, http2Stream, true)
    http2Stream.on('error', () => {})
    http2Stream.on('close', () => this.#closed(stream))
    http2Stream.respond({ ':status': 200, 'content-type': 'text/event-stream', 'cache-control': 'no-cache' })
    if (!late) stream.write(this.#event.at(performance.now()))
    this.#opened(stream, late)
  }

  #opened(stream: UpstreamStream, late: boolean): void {
    this.streams.add(stream)
    this.byId.set(stream.id, stream)
    this.onOpened?.(stream, late)
  }

  #closed(stream: UpstreamStream): void {
    this.streams.delete(stream)
    if (this.byId.get(stream.id) === stream) this.byId.delete(stream.id)
    this.onClosed?.(stream)
  }
}

function asked(request: string): { id: number; late: boolean; lines: boolean } {
  const [, first, id] = /^GET \S*[?&]first=(\w+)(?:&id=(\d+))?/.exec(request) ?? []
  return { id: Number(id ?? -1), late: first !== 'now', lines: first === 'lines' }
}
