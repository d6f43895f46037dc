// What every proxy written in Node shares: where it is to listen, in which server, and what it tells the benchmark.

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { ownUsage } from '../usage.ts'
import { backlog, type Host, type Place } from './place.ts'

export { backlog } from './place.ts'

interface Listening {
  listen(port: number, address: string, backlog: number): unknown
}

type Handler = (req: IncomingMessage, res: ServerResponse) => void

interface NodePlace extends Place {
  readonly variant?: string
  readonly host?: Host
}

/** Sent by a proxy that cannot take part. */
export interface Refusal {
  readonly refused: string
}

export const { port, upstreamPorts, tlsPort, redisPort, variant, host }: NodePlace = JSON.parse(process.argv[2] ?? '{}')

export const upstreams: readonly string[] = upstreamPorts.map((each) => `http://127.0.0.1:${each}`)
export const upstream: string = upstreams[0] ?? ''

/** Serves in the server that was asked for. */
export async function serve(handler: Handler): Promise<void> {
  const server = await createHost(handler)
  server.listen(port, '127.0.0.1', backlog)
}

/** What others do without is not loaded for them. */
async function createHost(handler: Handler): Promise<Listening> {
  if (host === 'http2-server') {
    const { createServer: createHttp2Server } = await import('node:http2')
    // Requests and responses of HTTP/2 pass for those of HTTP/1.
    return createHttp2Server(handler as never)
  }
  if (host === 'compression') {
    const { default: compression } = await import('compression')
    const compress = compression()
    return createServer((req, res) => compress(req as never, res as never, () => handler(req, res)))
  }
  return createServer(handler)
}

/** Leaves the benchmark without this contender, and says why. */
export function refuse(reason: string): void {
  process.send?.({ refused: reason } satisfies Refusal, () => process.exit())
}

process.on('message', () => process.send?.(ownUsage()))
process.once('disconnect', () => process.exit())
