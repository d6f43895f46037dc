// Upstreams that serve the same numbered events, each to every client from wherever it left off, and that can be killed
// in several ways and started again at the same address.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createHttp2Server } from 'node:http2'
import type { AddressInfo, Socket } from 'node:net'
import { atPortOfItsOwn } from './ports.ts'
import { areOverHttp2 } from './upstream.ts'
import { until } from './waiting.ts'

/** How an upstream goes down; `half` closes in the middle of an event, `stall` keeps everything open and silent. */
export type Death = 'reset' | 'fin' | 'half' | 'stall'

export const deaths: readonly Death[] = ['reset', 'fin', 'half', 'stall']

/** The event of a number, as every upstream sends it. */
export function numberedEvent(number: number): string {
  return `id: ${number}\nevent: tick\ndata: {"number":${number}}\n\n`
}

/** Events that happen whether anybody listens or not. */
export class NumberedFeed {
  last = 0
  isOver = false
  readonly #listeners = new Set<() => void>()
  #timer: NodeJS.Timeout | undefined

  start(intervalMs: number): void {
    this.#timer = setInterval(() => {
      this.last += 1
      this.#tell()
    }, intervalMs)
  }

  /** No more events: whoever has all of them is told that this is the end. */
  finish(): void {
    clearInterval(this.#timer)
    this.isOver = true
    this.#tell()
  }

  listen(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  reached(number: number): Promise<void> {
    return until(() => this.last >= number, `event ${number}`)
  }

  #tell(): void {
    for (const listener of [...this.#listeners]) listener()
  }
}

export class NumberedUpstream {
  readonly url: string
  readonly #feed: NumberedFeed
  readonly #port: number
  readonly #sockets = new Set<Socket>()
  readonly #streams = new Set<ServerResponse>()
  #server: Server
  #isStalled = false
  /** Streams that were open when it was killed, over all times. */
  struck = 0

  constructor(server: Server, feed: NumberedFeed) {
    this.#server = server
    this.#feed = feed
    this.#port = (server.address() as AddressInfo).port
    this.url = `http://127.0.0.1:${this.#port}/stream`
    this.#attach(server)
  }

  /** Open streams. */
  get open(): number {
    return this.#streams.size
  }

  /** Goes down at once, with everything that is open. */
  async kill(death: Death): Promise<void> {
    this.struck += this.#streams.size
    if (death === 'stall') {
      this.#isStalled = true
      return
    }
    const closed = new Promise((resolve) => this.#server.close(resolve))
    for (const stream of death === 'half' ? this.#streams : []) {
      const next = numberedEvent(this.#feed.last + 1)
      stream.write(next.slice(0, Math.floor(Math.random() * (next.length - 1))))
    }
    for (const socket of this.#sockets) {
      if (death === 'reset') socket.resetAndDestroy()
      else socket.destroySoon()
    }
    await closed
  }

  /** Comes up again, with none of its connections. */
  async restart(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    if (this.#isStalled) await new Promise((resolve) => this.#server.close(resolve))
    this.#isStalled = false
    this.#server = await listening(this.#port)
    this.#attach(this.#server)
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    if (this.#server.listening) await new Promise((resolve) => this.#server.close(resolve))
  }

  #attach(server: Server): void {
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket)
      socket.on('error', () => {})
      socket.once('close', () => this.#sockets.delete(socket))
    })
    server.on('request', (req, res) => this.#serve(req, res))
  }

  #serve(req: IncomingMessage, res: ServerResponse): void {
    if (this.#isStalled) return
    let sent = Number(req.headers['last-event-id'] ?? 0)
    const send = (): void => {
      if (this.#isStalled) return
      let text = ''
      for (; sent < this.#feed.last; sent += 1) text += numberedEvent(sent + 1)
      if (text !== '') res.write(text)
      if (this.#feed.isOver) res.end()
    }
    this.#streams.add(res)
    const stopListening = this.#feed.listen(send)
    res.on('error', () => {})
    res.once('close', () => {
      stopListening()
      this.#streams.delete(res)
    })
    res.writeHead(200, { 'content-type': 'text/event-stream' })
    res.flushHeaders()
    send()
  }
}

export async function startNumberedUpstream(feed: NumberedFeed): Promise<NumberedUpstream> {
  return new NumberedUpstream(await atPortOfItsOwn(listening), feed)
}

function listening(port: number): Promise<Server> {
  const server = areOverHttp2 ? (createHttp2Server() as unknown as Server) : createServer()
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', () => resolve(server))
  })
}
