// A backend scripted byte by byte over a plain socket, for answers that no HTTP library would send.
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { Arrivals, gate, until, within } from './waiting.ts'

/** The head of a chunked event stream. */
export const streamHead = 'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n'

/** One chunk of a chunked body. */
export function chunk(bytes: string | Buffer): Buffer {
  const body = Buffer.from(bytes as string)
  return Buffer.concat([Buffer.from(`${body.length.toString(16)}\r\n`), body, Buffer.from('\r\n')])
}

export const lastChunk = '0\r\n\r\n'

export class Conversation {
  readonly socket: Socket
  received = ''
  isClosed = false
  readonly #closed = gate()

  constructor(socket: Socket) {
    this.socket = socket
    socket.setNoDelay(true)
    socket.on('error', () => {})
    socket.on('data', (bytes: Buffer) => {
      this.received += bytes.toString('latin1')
    })
    const isOver = (): void => {
      this.isClosed = true
      this.#closed.open()
    }
    socket.once('end', isOver)
    socket.once('close', isOver)
  }

  /** The request's head, once it is whole. */
  async head(): Promise<string> {
    await until(() => this.received.includes('\r\n\r\n'), 'a request head')
    return this.received.slice(0, this.received.indexOf('\r\n\r\n') + 4)
  }

  send(bytes: string | Buffer): void {
    this.socket.write(bytes)
  }

  /** TCP RST. */
  reset(): void {
    this.socket.resetAndDestroy()
  }

  /** TCP FIN after what was sent. */
  finish(): void {
    this.socket.end()
  }

  /** Resolves when the peer has closed its side. */
  closed(ms?: number): Promise<void> {
    return within(this.#closed.promise, 'the connection to the raw upstream to close', ms)
  }
}

export class RawUpstream {
  readonly server: Server
  readonly url: string
  readonly port: number
  readonly #conversations = new Arrivals<Conversation>()
  readonly #script: ((conversation: Conversation) => void) | undefined

  constructor(server: Server, script?: (conversation: Conversation) => void) {
    this.server = server
    this.port = (server.address() as AddressInfo).port
    this.url = `http://127.0.0.1:${this.port}`
    this.#script = script
    server.on('connection', (socket: Socket) => {
      const conversation = new Conversation(socket)
      this.#conversations.add(conversation)
      this.#script?.(conversation)
    })
  }

  get connections(): number {
    return this.#conversations.all.filter((conversation) => !conversation.isClosed).length
  }

  next(ms?: number): Promise<Conversation> {
    return this.#conversations.next('a connection to the raw upstream', ms)
  }

  async close(): Promise<void> {
    for (const conversation of this.#conversations.all) conversation.socket.destroy()
    await new Promise((resolve) => this.server.close(resolve))
  }
}

/** With a script, each connection runs it; without one, the test takes connections with `next()`. */
export async function startRawUpstream(script?: (conversation: Conversation) => void): Promise<RawUpstream> {
  const server = createServer({ allowHalfOpen: true, noDelay: true })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return new RawUpstream(server, script)
}
