// A backend under the test's control: every request that arrives is an exchange that the test answers as it likes.
import assert from 'node:assert/strict'
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http'
import {
  createServer as createHttp2Server,
  createSecureServer as createHttp2TlsServer,
  type ServerHttp2Stream,
  type Settings,
} from 'node:http2'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Server, Socket } from 'node:net'
import type { TLSSocket, TlsOptions } from 'node:tls'
import { Arrivals, within } from './waiting.ts'

export interface SentEvent {
  data?: string
  event?: string
  id?: string
  retry?: number
}

/** An event as a well-behaved server writes it. */
export function eventText({ data, event, id, retry }: SentEvent): string {
  const lines: string[] = []
  if (event !== undefined) lines.push(`event: ${event}`)
  if (id !== undefined) lines.push(`id: ${id}`)
  if (retry !== undefined) lines.push(`retry: ${retry}`)
  if (data !== undefined) lines.push(...data.split('\n').map((line) => `data: ${line}`))
  return `${lines.join('\n')}\n\n`
}

/** The upstream's side of an open event stream. */
export class EventStream {
  readonly #res: ServerResponse
  readonly #socket: Socket | null

  constructor(res: ServerResponse, socket: Socket | null = res.socket) {
    this.#res = res
    this.#socket = socket
  }

  send(event: SentEvent): void {
    this.write(eventText(event))
  }

  /** Writes exactly these bytes, as one chunk; the result is what `write` says about backpressure. */
  write(bytes: string | Uint8Array): boolean {
    return this.#res.write(bytes)
  }

  end(bytes?: string | Uint8Array): void {
    this.#res.end(bytes)
  }

  /** The process behind the stream dies: a reset, as the kernel sends it. */
  reset(): void {
    this.#socket?.resetAndDestroy()
  }

  /** The connection is closed with a FIN in the middle of the body. */
  cut(): void {
    this.#socket?.destroy()
  }
}

export class Exchange {
  readonly req: IncomingMessage
  readonly res: ServerResponse
  readonly method: string
  readonly url: string
  readonly headers: IncomingHttpHeaders
  /** The connection that it came on; over HTTP/2 it is that of others too. */
  readonly socket: Socket | null
  readonly #left: Promise<void>
  isLeft = false

  constructor(req: IncomingMessage, res: ServerResponse, socket: Socket | null) {
    this.req = req
    this.res = res
    this.method = req.method ?? ''
    this.url = req.url ?? ''
    this.headers = req.headers
    this.socket = socket
    this.#left = new Promise((resolve) => {
      // Node's response to a HEAD over HTTP/2 does not tell of its end.
      const ended = streamOf(res) ?? res
      ended.once('close', () => {
        if (isComplete(res)) return
        this.isLeft = true
        resolve()
      })
    })
    res.on('error', () => {})
    req.on('error', () => {})
  }

  get rawHeaders(): string[] {
    return this.req.rawHeaders
  }

  /** The stream that it came on, over HTTP/2. */
  get http2Stream(): ServerHttp2Stream {
    return streamOf(this.res) ?? assert.fail('this request came over HTTP/1.1')
  }

  /** Resolves when the peer has gone before the answer was complete. */
  leftByPeer(ms?: number): Promise<void> {
    return within(this.#left, `the peer to leave ${this.method} ${this.url}`, ms)
  }

  async body(): Promise<Buffer> {
    const parts: Buffer[] = []
    const read = async (): Promise<Buffer> => {
      for await (const part of this.req) parts.push(part as Buffer)
      return Buffer.concat(parts)
    }
    return await within(read(), `the body of ${this.method} ${this.url}`)
  }

  /** Sends the head of an event stream at once and leaves the stream open. */
  stream(headers: Record<string, string | string[]> = {}, status: number = 200): EventStream {
    this.res.writeHead(status, { 'content-type': 'text/event-stream', ...headers })
    this.res.flushHeaders()
    return new EventStream(this.res, this.socket)
  }

  answer(status: number, headers: Record<string, string | string[]> = {}, body: string | Buffer = ''): void {
    this.res.writeHead(status, headers)
    this.res.end(body)
  }
}

/** Whether all of it has left: over HTTP/2 a response finishes however its stream ends. */
function isComplete(res: ServerResponse): boolean {
  const stream = streamOf(res)
  return stream ? res.writableEnded && stream.rstCode === 0 : res.writableFinished
}

function streamOf(res: ServerResponse): ServerHttp2Stream | undefined {
  const { stream } = res as { stream?: ServerHttp2Stream }
  return stream
}

export interface UpstreamOptions {
  /** Answers each exchange by itself; without one, the test takes them with `next()`. */
  handler?: (exchange: Exchange) => void
  tls?: TlsOptions
  socketPath?: string
  /** A free one, unless it matters. */
  port?: number
  /** Speaks HTTP/2, with these settings; behind TLS HTTP/1.1 too. */
  http2?: Settings
}

export class Upstream {
  readonly server: Server
  readonly url: string
  readonly port: number
  readonly #exchanges = new Arrivals<Exchange>()
  readonly #sockets = new Set<Socket>()
  readonly #handler: ((exchange: Exchange) => void) | undefined
  #open = 0
  #accepted = 0

  constructor(server: Server, url: string, port: number, handler?: (exchange: Exchange) => void) {
    this.server = server
    this.url = url
    this.port = port
    this.#handler = handler
    server.on('connection', (socket: Socket) => {
      this.#accepted += 1
      this.#sockets.add(socket)
      socket.on('error', () => {})
      socket.once('close', () => this.#sockets.delete(socket))
    })
    server.on('secureConnection', (socket: TLSSocket) => socket.on('error', () => {}))
    server.on('sessionError', () => {})
    server.on('request', (req: IncomingMessage, res: ServerResponse) => this.#take(req, res))
  }

  /** Live connections now. */
  get connections(): number {
    return this.#sockets.size
  }

  /** Connections ever accepted. */
  get accepted(): number {
    return this.#accepted
  }

  /** Requests whose answer is not over. */
  get open(): number {
    return this.#open
  }

  get exchanges(): readonly Exchange[] {
    return this.#exchanges.all
  }

  next(ms?: number): Promise<Exchange> {
    return this.#exchanges.next('a request to reach the upstream', ms)
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise((resolve) => this.server.close(resolve))
  }

  /** Over HTTP/2 a request has but a stand-in for its socket, which must not be used. */
  #socketOf({ httpVersionMajor, socket }: IncomingMessage): Socket | null {
    if (httpVersionMajor < 2) return socket
    return [...this.#sockets].find(({ remotePort }) => remotePort === socket.remotePort) ?? null
  }

  #take(req: IncomingMessage, res: ServerResponse): void {
    this.#open += 1
    const ended = streamOf(res) ?? res
    ended.once('close', () => {
      this.#open -= 1
    })
    const exchange = new Exchange(req, res, this.#socketOf(req))
    this.#exchanges.add(exchange)
    this.#handler?.(exchange)
  }
}

/** Whether upstreams speak HTTP/2 that do not say otherwise, and `proxied()` speaks it to them. */
export const areOverHttp2: boolean = process.env.TEST_UPSTREAMS === 'http2'

export async function startUpstream(options: UpstreamOptions = {}): Promise<Upstream> {
  const { handler, tls, socketPath, port: wanted = 0 } = options
  const server = serverOf(options)
  await new Promise<void>((resolve) => {
    if (socketPath === undefined) server.listen(wanted, '127.0.0.1', resolve)
    else server.listen(socketPath, resolve)
  })
  const port = socketPath === undefined ? (server.address() as AddressInfo).port : 0
  return new Upstream(server, `${tls ? 'https://localhost' : 'http://127.0.0.1'}:${port}`, port, handler)
}

function serverOf({ tls, http2 = areOverHttp2 ? {} : undefined }: UpstreamOptions): Server {
  if (!http2) return tls ? createTlsServer(tls) : createServer()
  return tls
    ? createHttp2TlsServer({ ...tls, allowHTTP1: true, settings: http2 })
    : createHttp2Server({ settings: http2 })
}
