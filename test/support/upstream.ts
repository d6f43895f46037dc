// A backend under the test's control: every request that arrives is an exchange that the test answers as it likes.
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http'
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

  constructor(res: ServerResponse) {
    this.#res = res
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
    this.#res.socket?.resetAndDestroy()
  }

  /** The connection is closed with a FIN in the middle of the body. */
  cut(): void {
    this.#res.socket?.destroy()
  }
}

export class Exchange {
  readonly req: IncomingMessage
  readonly res: ServerResponse
  readonly method: string
  readonly url: string
  readonly headers: IncomingHttpHeaders
  readonly #left: Promise<void>
  isLeft = false

  constructor(req: IncomingMessage, res: ServerResponse) {
    this.req = req
    this.res = res
    this.method = req.method ?? ''
    this.url = req.url ?? ''
    this.headers = req.headers
    this.#left = new Promise((resolve) => {
      res.once('close', () => {
        if (res.writableFinished) return
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
    return new EventStream(this.res)
  }

  answer(status: number, headers: Record<string, string | string[]> = {}, body: string | Buffer = ''): void {
    this.res.writeHead(status, headers)
    this.res.end(body)
  }
}

export interface UpstreamOptions {
  /** Answers each exchange by itself; without one, the test takes them with `next()`. */
  handler?: (exchange: Exchange) => void
  tls?: TlsOptions
  socketPath?: string
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

  #take(req: IncomingMessage, res: ServerResponse): void {
    this.#open += 1
    res.once('close', () => {
      this.#open -= 1
    })
    const exchange = new Exchange(req, res)
    this.#exchanges.add(exchange)
    this.#handler?.(exchange)
  }
}

export async function startUpstream({ handler, tls, socketPath }: UpstreamOptions = {}): Promise<Upstream> {
  const server = tls ? createTlsServer(tls) : createServer()
  await new Promise<void>((resolve) => {
    if (socketPath === undefined) server.listen(0, '127.0.0.1', resolve)
    else server.listen(socketPath, resolve)
  })
  const port = socketPath === undefined ? (server.address() as AddressInfo).port : 0
  return new Upstream(server, `${tls ? 'https://localhost' : 'http://127.0.0.1'}:${port}`, port, handler)
}
