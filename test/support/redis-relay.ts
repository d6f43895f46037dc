// Between the nodes of a test and their server: connections that are there and through which nothing comes any more, as
// after a failed switch or firewall; a reset would be noticed.
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import type { TestContext } from 'node:test'

/** Which connections: those that have subscribed, or all. */
type Which = 'subscribers' | 'all'

export interface RedisRelay {
  readonly port: number
  /** How many connections have been made, and how many of those have subscribed. */
  readonly made: number
  readonly subscribers: number
  /** From now on nothing comes through these; a connection that is made later works. */
  freeze(which: Which): void
  /** From now on nothing comes through any connection. */
  part(): void
  /** Ends all connections; those that are made later work. */
  reset(): void
  /** What was held comes through. */
  join(): void
}

export async function startRedisRelay(t: TestContext, serverPort: number): Promise<RedisRelay> {
  const lines = new Set<Line>()
  let made = 0
  let isParted = false
  const server = createServer((client) => {
    made++
    lines.add(new Line(client, connect(serverPort, '127.0.0.1'), isParted))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (typeof address !== 'object' || address === null) throw new Error('a port was to be had')
  t.after(async () => {
    for (const line of lines) line.end()
    server.close()
    await once(server, 'close')
  })
  return {
    port: address.port,
    get made() {
      return made
    },
    get subscribers() {
      return [...lines].filter(({ hasSubscribed }) => hasSubscribed).length
    },
    freeze(which) {
      for (const line of lines) if (which === 'all' || line.hasSubscribed) line.freeze()
    },
    part() {
      isParted = true
      for (const line of lines) line.freeze()
    },
    reset() {
      for (const line of lines) line.end()
    },
    join() {
      isParted = false
      for (const line of lines) line.thaw()
    },
  }
}

class Line {
  hasSubscribed = false
  readonly #sockets: readonly Socket[]

  constructor(client: Socket, server: Socket, isFrozen: boolean) {
    this.#sockets = [client, server]
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      from.on('data', (bytes: Buffer) => {
        if (from === client && /SUBSCRIBE/i.test(bytes.toString('latin1'))) this.hasSubscribed = true
        to.write(bytes)
      })
      from.on('error', () => {})
      from.on('close', () => to.destroy())
    }
    if (isFrozen) this.freeze()
  }

  freeze(): void {
    for (const socket of this.#sockets) socket.pause()
  }

  thaw(): void {
    for (const socket of this.#sockets) socket.resume()
  }

  end(): void {
    for (const socket of this.#sockets) socket.destroy()
  }
}
