// What a measure works with: an upstream and clients in one process, so that there is one clock, and the questions
// about the proxy that the main process answers.

import { platform } from 'node:process'
import { setImmediate as turn } from 'node:timers/promises'
import type { Usage } from '../usage.ts'
import { type Client, type ClientObserver, Http1Client, Http2Client } from './client.ts'
import { EventTemplate } from './events.ts'
import { streamPath, Upstream } from './upstream.ts'

export type Figures = Record<string, number>

/** How a measure is set; what one does not know it leaves alone. */
export interface Settings {
  readonly streams?: number
  /** Of an event. */
  readonly bytes?: number
  /** Events a second of each stream. */
  readonly rate?: number
  /** Events a write. */
  readonly batch?: number
  /** The most events of a stream that may be on their way. */
  readonly window?: number
  /** How long it goes on before that counts. */
  readonly warmUpMs?: number
  /** How long the measuring takes. */
  readonly ms?: number
  /** How often something is done. */
  readonly count?: number
  /** All clients ask for the same URL. */
  readonly oneUrl?: boolean
}

export interface LoadPlace {
  readonly clientPort: number
  readonly upstreamPorts: readonly number[]
  readonly tlsPort: number
  /** Whether clients speak HTTP/2. */
  readonly http2: boolean
  /** Of a node that opens streams before the clients follow them at another one. */
  readonly ownerPort?: number
  readonly redisPort: number
}

const stuckMs = 5_000
const leavingMs = 500
const openingAtOnce = 64
// Linux answers on all of 127.0.0.0/8.
const sources = platform === 'linux' ? 40 : 0

export class Load {
  readonly event: EventTemplate
  readonly upstream: Upstream
  readonly clients: Set<Client> = new Set()
  /** Sees every event of every client. */
  onEvent: ((client: Client, sentAt: number) => void) | undefined
  /** Clients that were refused, or lost their stream. */
  lost = 0
  /** Of the server that the nodes have in common, where they have one. */
  readonly redisPort: number
  /** How many nodes there are. */
  readonly nodes: number
  readonly #clientPort: number
  readonly #Client: typeof Http1Client | typeof Http2Client
  readonly #ownerPort: number | undefined
  readonly #usage: () => Promise<Usage | undefined>
  #opened = 0
  #nextId = 0

  constructor(
    { clientPort, upstreamPorts, tlsPort, http2, ownerPort, redisPort }: LoadPlace,
    bytes: number,
    usage: () => Promise<Usage | undefined>,
  ) {
    this.event = new EventTemplate(bytes)
    this.upstream = new Upstream(upstreamPorts, tlsPort, this.event)
    this.#clientPort = clientPort
    this.#Client = http2 ? Http2Client : Http1Client
    this.#ownerPort = ownerPort
    this.redisPort = redisPort
    this.nodes = ownerPort === undefined ? 1 : 2
    this.#usage = usage
  }

  /** What the proxy has used so far; undefined where there is none. */
  usage(): Promise<Usage | undefined> {
    return this.#usage()
  }

  nextId(): number {
    return this.#nextId++
  }

  open(path: string, observer: ClientObserver, port: number = this.#clientPort): Client {
    const source = sources > 0 ? `127.0.0.${2 + (this.#opened++ % sources)}` : undefined
    const client = new this.#Client(
      { port, path, localAddress: source },
      {
        onHead: (opened) => {
          if (opened.status === 200) observer.onHead?.(opened)
          else this.#lose(opened, observer)
        },
        onEvent: (opened, sentAt) => {
          observer.onEvent?.(opened, sentAt)
          this.onEvent?.(opened, sentAt)
        },
        onLost: (opened) => this.#lose(opened, observer),
      },
    )
    this.clients.add(client)
    return client
  }

  close(client: Client): void {
    this.clients.delete(client)
    client.close()
  }

  /** Opens streams, some at a time, until all have their headers or nothing moves any more; returns how many have. */
  async openStreams(count: number, oneUrl = false): Promise<number> {
    const paths = Array.from({ length: count }, () => streamPath(oneUrl ? undefined : this.nextId()))
    if (this.#ownerPort === undefined) return await this.#openAll(paths, this.#clientPort)
    const before = new Set(this.clients)
    await this.#openAll([...new Set(paths)], this.#ownerPort)
    const owned = [...this.clients].filter((client) => !before.has(client))
    const ready = await this.#openAll(paths, this.#clientPort)
    // The node goes on with what it has opened, for the other one.
    for (const client of owned) this.close(client)
    return ready
  }

  async #openAll(paths: readonly string[], port: number): Promise<number> {
    let made = 0
    let ready = 0
    const lostBefore = this.lost
    const settled = () => ready + this.lost - lostBefore
    let seen = -1
    let seenAt = performance.now()
    while (settled() < paths.length && performance.now() - seenAt < stuckMs) {
      while (made < paths.length && made - settled() < openingAtOnce) {
        this.open(paths[made] ?? '', { onHead: () => ready++ }, port)
        made++
      }
      await turn()
      if (settled() !== seen) {
        seen = settled()
        seenAt = performance.now()
      }
    }
    return ready
  }

  /** Has everybody leave, and waits for the upstream to see it; returns the connections that stay. */
  async closeAll(): Promise<number> {
    for (const client of this.clients) this.close(client)
    // Connections of HTTP/2 wait for other streams.
    const open = () => Math.min(this.upstream.connections, this.upstream.streams.size)
    let left = open()
    while (left > 0 && (await spinUntil(() => open() < left, leavingMs))) left = open()
    return left
  }

  #lose(client: Client, observer: ClientObserver): void {
    if (!this.clients.delete(client)) return
    client.close()
    this.lost++
    observer.onLost?.(client)
  }
}

/** Turns the event loop without ever sleeping: waking up would be measured too. */
export async function spinUntil(done: () => boolean, ms: number): Promise<boolean> {
  const end = performance.now() + ms
  while (!done()) {
    if (performance.now() > end) return false
    await turn()
  }
  return true
}

/** Does something in every turn of the event loop until it is told to stop. */
export function everyTurn(work: () => void): () => void {
  let stopped = false
  const again = () => {
    if (stopped) return
    work()
    setImmediate(again)
  }
  again()
  return () => {
    stopped = true
  }
}
