// A backend of the demo: an HTTP server that can go down and come back on the same port, and that knows how many event
// streams it serves to whom.
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http'
import type { AddressInfo, Socket } from 'node:net'

/** Through which of the two routes of the app a request came. */
export type Via = 'proxied' | 'plain'

/** A request that is being answered with events. */
export interface OpenStream {
  readonly req: IncomingMessage
  readonly res: ServerResponse
  readonly via: Via
}

export type Serve = (req: IncomingMessage, res: ServerResponse, backend: Backend) => void | Promise<void>

export class Backend {
  readonly name: string
  readonly streams = new Set<OpenStream>()
  readonly #serve: Serve
  readonly #sockets = new Set<Socket>()
  #server: Server | undefined
  // Kept over a restart, as the address of a real backend is.
  #port = 0

  constructor(name: string, serve: Serve) {
    this.name = name
    this.#serve = serve
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`
  }

  get isUp(): boolean {
    return this.#server !== undefined
  }

  countStreams(via: Via): number {
    let count = 0
    for (const stream of this.streams) if (stream.via === via) count += 1
    return count
  }

  async start(): Promise<void> {
    if (this.#server) return
    const server = createServer(async (req, res) => {
      try {
        await this.#serve(req, res, this)
      } catch {
        // The client left before its request was complete.
        res.destroy()
      }
    })
    server.on('connection', (socket) => {
      this.#sockets.add(socket)
      socket.once('close', () => this.#sockets.delete(socket))
    })
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(this.#port, '127.0.0.1', resolve)
    })
    this.#port = (server.address() as AddressInfo).port
    this.#server = server
  }

  /** As if the process were killed: every connection is reset. */
  async stop(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    if (!server) return
    const closed = new Promise((resolve) => server.close(resolve))
    for (const socket of this.#sockets) socket.resetAndDestroy()
    await closed
  }

  /** Begins a stream on the response. */
  open(req: IncomingMessage, res: ServerResponse, type: string = 'text/event-stream'): OpenStream {
    const stream: OpenStream = { req, res, via: viaOf(req.headers) }
    this.streams.add(stream)
    res.once('close', () => this.streams.delete(stream))
    res.writeHead(200, { 'content-type': type, 'cache-control': 'no-store' })
    res.flushHeaders()
    return stream
  }
}

/** The plain proxy tells the upstream nothing of itself. */
export function viaOf({ via }: IncomingHttpHeaders): Via {
  return via ? 'proxied' : 'plain'
}
