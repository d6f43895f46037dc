// HTTP/2 with TLS in front, HTTP/1.1 behind. A browser opens six connections to a host over HTTP/1.1, so six streams
// are its limit there; over HTTP/2 they all share one connection. Express runs on node:http2 through http2-express.
//
//   node --import tsx demo/recipes/http2.ts
//   curl -kN https://localhost:3000/events
import { createSecureServer } from 'node:http2'
import type { AddressInfo } from 'node:net'
import type { TLSSocket } from 'node:tls'
import express from 'express'
import http2Express from 'http2-express'
import { sseProxy } from 'sse-proxy-middleware'
import { certificate } from '../../test/support/certificate.ts'
import type { Listening } from './support/listen.ts'
import { runAlone } from './support/run-alone.ts'
import { startTickingBackend } from './support/ticking-backend.ts'

export async function start({ port = 0 }: { port?: number } = {}): Promise<Listening> {
  const backend = await startTickingBackend()

  const app = http2Express(express)
  app.use('/events', sseProxy({ target: `${backend.url}/ticks` }))

  // allowHTTP1: clients without HTTP/2 are served all the same.
  const server = createSecureServer({ ...certificate, allowHTTP1: true })
  server.on('request', app)
  const sockets = new Set<TLSSocket>()
  server.on('secureConnection', (socket: TLSSocket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  await new Promise<void>((resolve) => server.listen(port, resolve))

  return {
    url: `https://localhost:${(server.address() as AddressInfo).port}`,
    async close() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
      await backend.close()
    },
  }
}

await runAlone(import.meta.url, start, (url) => `curl -kN ${url}/events`)
