// A process with a proxy in it and nothing else, so that its memory and its output are the proxy's own.
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import { createSecureServer } from 'node:http2'
import type { AddressInfo, Server } from 'node:net'
import { sseProxy } from 'sse-proxy-middleware'
import { certificate } from '../certificate.ts'
import { answer, setup } from './child.ts'

export interface ProxySetup {
  options: object
  http2?: boolean
  /** A hook that looks at every event and changes none. */
  looks?: boolean
  /** A hook that throws at data that holds this. */
  throwsAt?: string
}

const { options, http2, looks, throwsAt } = setup<ProxySetup>()
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

/** The event loop does nothing for so long. */
function standStill(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}

answer({
  listen: () =>
    new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port))),
  isReady: () => proxy.ready(),
  stall: (ms: number) => void setImmediate(standStill, ms),
  memory: () => process.memoryUsage.rss(),
  stats: () => proxy.stats(),
  statsAndMemory: () => ({ ...proxy.stats(), memory: process.memoryUsage.rss() }),
  resources: () => process.getActiveResourcesInfo(),
})
