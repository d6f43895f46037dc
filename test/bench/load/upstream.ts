// The upstream: answers every request with an event stream, and leaves it to the measure what is sent on it.

import { once } from 'node:events'
import { createServer, type Server, type Socket } from 'node:net'
import type { EventTemplate } from './events.ts'

const head =
  'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n' +
  'Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n'

/** One response that is being streamed. */
export class UpstreamStream {
  readonly id: number
  readonly #socket: Socket

  constructor(id: number, socket: Socket) {
    this.id = id
    this.#socket = socket
  }

  /** Whether everything written so far is on its way. */
  get isFree(): boolean {
    return this.#socket.writableLength === 0
  }

  write(bytes: Buffer | string): void {
    this.#socket.write(bytes)
  }
}

// A proxy that shares may still hold a stream of the load generator before: no URL comes twice.
const generation = Math.trunc(performance.timeOrigin)

/** The URL of a stream; `late` has its first event sent by the measure, others come with one. */
export function streamPath(id: number | undefined, late = false): string {
  return `/stream?first=${late ? 'late' : 'now'}${id === undefined ? '' : `&id=${id}`}&of=${generation}`
}

export class Upstream {
  /** The streams that are open, in the order of their requests. */
  readonly streams: Set<UpstreamStream> = new Set()
  /** Those with an id, the latest of each. */
  readonly byId: Map<number, UpstreamStream> = new Map()
  onOpened: ((stream: UpstreamStream, late: boolean) => void) | undefined
  onClosed: ((stream: UpstreamStream) => void) | undefined
  connections = 0
  readonly #servers: readonly Server[]
  readonly #event: EventTemplate

  constructor(ports: readonly number[], event: EventTemplate) {
    this.#event = event
    this.#servers = ports.map((port) =>
      createServer({ noDelay: true }, (socket) => this.#serve(socket)).listen(port, '127.0.0.1', 4096),
    )
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
      this.streams.delete(closed)
      if (this.byId.get(closed.id) === closed) this.byId.delete(closed.id)
      this.onClosed?.(closed)
    }
    this.connections++
    socket.on('data', (bytes) => {
      if (stream) return
      request += bytes.toString('latin1')
      if (!request.includes('\r\n\r\n')) return
      stream = this.#answer(socket, request)
      request = ''
    })
    socket.on('end', over)
    socket.on('error', over)
    socket.on('close', () => {
      this.connections--
      over()
    })
  }

  #answer(socket: Socket, request: string): UpstreamStream {
    const [, first, id] = /^GET \S*[?&]first=(\w+)(?:&id=(\d+))?/.exec(request) ?? []
    const stream = new UpstreamStream(Number(id ?? -1), socket)
    const late = first === 'late'
    this.streams.add(stream)
    this.byId.set(stream.id, stream)
    // One write, as a server does it that has its first event at hand.
    socket.write(late ? head : Buffer.concat([Buffer.from(head), this.#event.at(performance.now())]))
    this.onOpened?.(stream, late)
    return stream
  }
}
