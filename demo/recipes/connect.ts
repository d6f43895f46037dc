// A plain Connect app. The middleware asks for nothing of Express.
//
//   node --import tsx demo/recipes/connect.ts
//   curl -N http://127.0.0.1:3000/events
import { createServer } from 'node:http'
import connect from 'connect'
import { sseProxy } from 'sse-proxy-middleware'
import { type Listening, listen } from './support/listen.ts'
import { runAlone } from './support/run-alone.ts'
import { startTickingBackend } from './support/ticking-backend.ts'

export async function start({ port = 0 }: { port?: number } = {}): Promise<Listening> {
  const backend = await startTickingBackend()

  const app = connect()
  app.use('/events', sseProxy({ target: `${backend.url}/ticks` }))

  const front = await listen(createServer(app), port)
  return {
    url: front.url,
    async close() {
      await front.close()
      await backend.close()
    },
  }
}

await runAlone(import.meta.url, start, (url) => `curl -N ${url}/events`)
