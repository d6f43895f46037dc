// A backend behind TLS that speaks HTTP/2 to whoever asks for it and HTTP/1.1 to the others, and knows over how many connections
// its streams go. Over HTTP/2 it takes a hundred at a time on each, as servers do.
import { once } from 'node:events'
import { createSecureServer, type Http2SecureServer, type Http2ServerRequest } from 'node:http2'
import type { AddressInfo } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { certificate } from '../../test/support/certificate.ts'
import { type Via, viaOf } from './backend.ts'

const streamsOfConnection = 100

export class SecureFeed {
  readonly name = 'secure'
  /** The requests that are being answered. */
  readonly #open = new Set<Http2ServerRequest>()
  readonly #sockets = new Set<TLSSocket>()
  #server: Http2SecureServer | undefined
  #port = 0

  get url(): string {
    return `https://127.0.0.1:${this.#port}`
  }

  get isUp(): boolean {
    return this.#server !== undefined
  }

  /** Connections that carry streams. */
  countConnections(via: Via): number {
    const connections = new Set<object | undefined>()
    for (const { httpVersionMajor, headers, stream, socket } of this.#open) {
      if (viaOf(headers) === via) connections.add(httpVersionMajor === 2 ? stream.session : socket)
    }
    return connections.size
  }

  async start(): Promise<void> {
    if (this.#server) return
    const settings = { maxConcurrentStreams: streamsOfConnection }
    const server = createSecureServer({ ...certificate, allowHTTP1: true, settings }, (req, res) => {
      this.#open.add(req)
      res.once('close', () => this.#open.delete(req))
      res.writeHead(200, { 'content-type': 'text/event-stream' })
      res.write('data: welcome\n\n')
    })
    server.on('secureConnection', (socket: TLSSocket) => {
      this.#sockets.add(socket)
      socket.on('error', () => {})
      socket.once('close', () => this.#sockets.delete(socket))
    })
    server.listen(this.#port, '127.0.0.1')
    await once(server, 'listening')
    this.#port = (server.address() as AddressInfo).port
    this.#server = server
  }

  async stop(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    if (!server) return
    const closed = new Promise((resolve) => server.close(resolve))
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }
}
