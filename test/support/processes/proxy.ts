// A process with a proxy in it and nothing else, so that its memory and its output are the proxy's own; or with one proxy
// after the other.
import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import { createSecureServer } from 'node:http2'
import type { AddressInfo, Server, Socket } from 'node:net'
import { type SseProxy, sseProxy } from 'sse-proxy-middleware'
import { certificate } from '../certificate.ts'
import { answer } from './child.ts'

export interface ProxySetup {
  options: object
  http2?: boolean
  /** A hook that looks at every event and changes none. */
  looks?: boolean
  /** A hook that throws at data that holds this. */
  throwsAt?: string
  /** Written to stderr between the last words of the proxy before and the first of this one. */
  heading?: string
}

interface Running {
  proxy: SseProxy
  port: number
  end(): Promise<unknown>
}

let running: Running | undefined

async function startProxy({ options, http2, looks, throwsAt }: ProxySetup): Promise<Running> {
  const look = ({ data }: { data: string }): void => {
    if (throwsAt !== undefined && data.includes(throwsAt)) throw new Error('the hook has seen enough')
  }
  const proxy = sseProxy({ ...options, ...((looks || throwsAt) && { transform: look }) } as Parameters<
    typeof sseProxy
  >[0])
  const listener: RequestListener = (req: IncomingMessage, res: ServerResponse) => proxy(req, res)
  const server: Server = http2
    ? (createSecureServer({ ...certificate, allowHTTP1: true }, listener as never) as unknown as Server)
    : createServer(listener)
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => sockets.add(socket.once('close', () => sockets.delete(socket))))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')

  return {
    proxy,
    port: (server.address() as AddressInfo).port,
    async end() {
      const closed = once(server.close(), 'close')
      await proxy.close({ withinMs: 0 })
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}

/** The event loop does nothing for so long. */
function standStill(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}

answer({
  /** In place of the proxy that runs so far; where it listens. */
  async start({ heading = '', ...setup }: ProxySetup) {
    await running?.end()
    process.stderr.write(heading)
    running = await startProxy(setup)
    return running.port
  },
  isReady: () => running?.proxy.ready(),
  stall: (ms: number) => void setImmediate(standStill, ms),
  memory: () => process.memoryUsage.rss(),
  stats: () => running?.proxy.stats(),
  statsAndMemory: () => ({ ...running?.proxy.stats(), memory: process.memoryUsage.rss() }),
})
