// Several upstreams: new streams go where the fewest are, and a stream whose upstream dies goes on with another one, in
// the same response, from the event that came last.
//
//   node --import tsx demo/recipes/several-upstreams.ts
//   curl -N http://127.0.0.1:3000/events     (a backend crashes every five seconds)
import { createServer } from 'node:http'
import express from 'express'
import { sseProxy } from 'sse-proxy-middleware'
import { type Listening, listen } from './support/listen.ts'
import { runAlone } from './support/run-alone.ts'
import { startTickingBackend, type TickingBackend } from './support/ticking-backend.ts'

export interface SeveralUpstreams extends Listening {
  readonly backends: readonly TickingBackend[]
}

export async function start({ port = 0, crashEveryMs = 5000 } = {}): Promise<SeveralUpstreams> {
  const backends = await Promise.all(['a', 'b', 'c'].map((name) => startTickingBackend(name)))

  const app = express()
  app.use(
    '/events',
    sseProxy({
      target: backends.map(({ url }) => url),
      balance: 'least-streams',
      resume: { attempts: 10, delayMs: 100 },
      health: { failures: 3, ejectMs: 10_000 },
    }),
  )

  const front = await listen(createServer(app), port)
  const crashes = setInterval(() => backends.find(({ open }) => open > 0)?.crash(), crashEveryMs)
  return {
    url: front.url,
    backends,
    async close() {
      clearInterval(crashes)
      await front.close()
      await Promise.all(backends.map((backend) => backend.close()))
    },
  }
}

await runAlone(import.meta.url, start, (url) => `curl -N ${url}/events     (a backend crashes every five seconds)`)
