// The recipe of an orderly end: SIGTERM, drain, close the server, exit.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { sseProxy } from 'sse-proxy-middleware'
import { answer, setup } from './child.ts'

const { target, withinMs, retryMs } = setup<{ target: string; withinMs: number; retryMs: [number, number] }>()
const proxy = sseProxy({ target })
const server = createServer((req, res) => proxy(req, res))

process.once('SIGTERM', async () => {
  const result = await proxy.close({ withinMs, retryMs })
  server.close(() => {
    console.log(JSON.stringify(result))
    // What is left now would keep the process alive: there is nothing.
    process.disconnect?.()
  })
})

answer({
  listen: () =>
    new Promise((resolve) =>
      server.listen(0, '127.0.0.1', 1024, () => resolve((server.address() as AddressInfo).port)),
    ),
  active: () => proxy.stats().active,
})
