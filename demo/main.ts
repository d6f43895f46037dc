// The demo: backends, an Express app before them, and a page that shows what becomes of event streams in between.
//
//   npm run demo
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createApp } from './app.ts'
import { Nodes } from './nodes/nodes.ts'
import { Upstreams } from './upstreams/upstreams.ts'

const drainMs = 2000

const upstreams = new Upstreams()
await upstreams.start()
const nodes = new Nodes()
const { app, proxies } = createApp(upstreams, nodes)
const server = createServer(app)
// Each plain proxy wants to know when it closes.
server.setMaxListeners(0)
const port = await listen(server, Number(process.env.PORT ?? 3000))
console.log(`
  sse-proxy-middleware: the demo

    page      http://localhost:${port}/
    metrics   http://localhost:${port}/metrics
    health    http://localhost:${port}/health
    a stream  curl -N http://localhost:${port}/events/ticker

  Ctrl-C drains the open streams and ends.
`)

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, end)

let isEnding = false
async function end(): Promise<void> {
  // A second Ctrl-C is somebody in a hurry.
  if (isEnding) process.exit(0)
  isEnding = true
  console.log(`\n  Draining for up to ${drainMs / 1000} s ...`)
  const closed = new Promise((resolve) => server.close(resolve))
  await proxies.close(drainMs)
  server.closeAllConnections()
  await closed
  await Promise.all([nodes.stop(), upstreams.stop()])
  process.exit(0)
}

/** The port that was asked for, else 3000; where that is taken, the next one that is free. */
async function listen(server: Server, first: number): Promise<number> {
  for (let port = first; port < first + 100; port++) {
    const error = await tryPort(server, port)
    if (!error) return (server.address() as AddressInfo).port
    if (error.code !== 'EADDRINUSE') throw error
    console.log(`Port ${port} is taken, trying the next one.`)
  }
  throw new Error(`no port is free from ${first} on: set PORT to another one`)
}

async function tryPort(server: Server, port: number): Promise<NodeJS.ErrnoException | undefined> {
  return await new Promise((resolve) => {
    const failed = (error: NodeJS.ErrnoException) => resolve(error)
    server.once('error', failed)
    server.listen(port, '127.0.0.1', () => {
      server.off('error', failed)
      resolve(undefined)
    })
  })
}
