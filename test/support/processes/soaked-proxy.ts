// The proxy of the soak test, in a process of its own, that tells what it holds on to.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { sseProxy } from 'sse-proxy-middleware'
import { collectGarbage } from '../memory.ts'
import { answer, setup } from './child.ts'

/** What a process that has nothing to do holds. */
export interface Held {
  sockets: number
  timers: number
  heapBytes: number
  rssBytes: number
}

const { options } = setup<{ options: object }>()
const proxy = sseProxy(options as Parameters<typeof sseProxy>[0])
const server = createServer((req, res) => proxy(req, res))
server.keepAliveTimeout = 1000

answer({
  listen: () =>
    new Promise((resolve) =>
      server.listen(0, '127.0.0.1', 4096, () => resolve((server.address() as AddressInfo).port)),
    ),
  stats: () => proxy.stats(),
  memory: () => process.memoryUsage().rss,
  close: () => proxy.close({ withinMs: 2000 }),
  held: (): Held => {
    for (let times = 0; times < 3; times += 1) collectGarbage()
    const resources = process.getActiveResourcesInfo()
    const { heapUsed, external, rss } = process.memoryUsage()
    return {
      sockets: resources.filter((name) => name === 'TCPSocketWrap' || name === 'TCPWrap').length,
      timers: resources.filter((name) => name === 'Timeout').length,
      heapBytes: heapUsed + external,
      rssBytes: rss,
    }
  },
})
