// A status endpoint that pages used to poll, as a live feed: the proxy asks it once a second for all of them, and a change is an
// event for each component. Who comes later begins with the latest state.
//
//   node --import tsx demo/recipes/polled-status.ts
//   curl -N http://127.0.0.1:3000/status
import { createServer } from 'node:http'
import express from 'express'
import { sseProxy } from 'sse-proxy-middleware'
import { type Listening, listen } from './support/listen.ts'
import { runAlone } from './support/run-alone.ts'

export interface StatusFeed extends Listening {
  /** How often the endpoint was asked. */
  readonly asked: number
  /** What it says from now on. */
  set(component: string, status: string): void
}

export async function start({
  port = 0,
  everyMs = 1000,
}: {
  port?: number
  everyMs?: number
} = {}): Promise<StatusFeed> {
  const endpoint = await startEndpoint()

  const status = sseProxy({
    target: `${endpoint.url}/status.json`,
    from: {
      format: 'json',
      everyMs,
      toEvent: (value) =>
        Object.entries(value as Record<string, string>).map(([component, status]) => ({
          event: component,
          data: status,
        })),
    },
    // The endpoint says the same to everybody.
    share: { key: () => 'status' },
  })
  const app = express()
  app.use('/status', status)

  const front = await listen(createServer(app), port)
  return {
    url: front.url,
    set: endpoint.set,
    get asked() {
      return endpoint.asked
    },
    async close() {
      await status.close({ withinMs: 0 })
      await front.close()
      await endpoint.close()
    },
  }
}

async function startEndpoint(): Promise<StatusFeed> {
  const components: Record<string, string> = { api: 'up', mail: 'up' }
  let asked = 0
  const listening = await listen(
    createServer((req, res) => {
      asked += 1
      const body = JSON.stringify(components)
      const etag = `"${Buffer.from(body).toString('base64url')}"`
      if (req.headers['if-none-match'] === etag) return void res.writeHead(304, { etag }).end()
      res.writeHead(200, { 'content-type': 'application/json', etag }).end(body)
    }),
  )
  return {
    ...listening,
    get asked() {
      return asked
    },
    set(component, status) {
      components[component] = status
    },
  }
}

await runAlone(import.meta.url, start, (url) => `curl -N ${url}/status`)
