// A node of several: a proxy that shares its streams by way of Redis, or one after the other.
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createClient } from 'redis-6'
import { type SseProxy, sseProxy } from 'sse-proxy-middleware'
import { redisStore } from 'sse-proxy-middleware/redis'
import { answer } from './child.ts'

export interface NodeSetup {
  target: string
  redisPort: number
  leaseMs: number
  keptEvents: number
}

interface Node {
  proxy: SseProxy
  server: Server
  /** Closes all that it has open. */
  end(): Promise<void>
}

let node: Node | undefined

async function startNode({ target, redisPort, leaseMs, keptEvents }: NodeSetup): Promise<Node> {
  const url = `redis://127.0.0.1:${redisPort}`
  // The connection for messages has the same name.
  const client = createClient({ url, name: `node-${process.pid}`, socket: { reconnectStrategy: 50 } })
  client.on('error', () => {})
  await client.connect()
  const proxy = sseProxy({
    target,
    keepalive: false,
    share: {
      key: () => 'feed',
      lingerMs: 200,
      replay: { events: keptEvents },
      onGap: () => ({ event: 'gap', data: 'events are missing here' }),
      store: redisStore({ client, leaseMs, checkMs: 2000 }),
    },
  })
  const server = createServer((req, res) => proxy(req, res))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', 1024, resolve))
  return {
    proxy,
    server,
    async end() {
      await proxy.close({ withinMs: 0 })
      client.destroy()
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

answer({
  async start(setup: NodeSetup) {
    node = await startNode(setup)
    return (node.server.address() as AddressInfo).port
  },
  end: () => node?.end(),
  store: () => node?.proxy.stats().shared.store,
  close: () => node?.proxy.close({ withinMs: 50 }),
})
