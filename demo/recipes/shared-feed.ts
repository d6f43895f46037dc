// One upstream stream for all clients: prices that are the same for everybody, of which each user sees what the plan
// allows. A client that comes back gets what it missed from the proxy's own memory.
//
//   node --import tsx demo/recipes/shared-feed.ts
//   curl -N -H 'authorization: Bearer free' http://127.0.0.1:3000/prices
import { createServer } from 'node:http'
import express, { type NextFunction, type Request, type Response } from 'express'
import { sseProxy } from 'sse-proxy-middleware'
import { type Listening, listen } from './support/listen.ts'
import { runAlone } from './support/run-alone.ts'

const plans = new Map([
  ['Bearer free', new Set(['ACME'])],
  ['Bearer full', new Set(['ACME', 'INIT', 'HOLI'])],
])

function requirePlan(req: Request, res: Response, next: NextFunction): void {
  res.locals.symbols = plans.get(req.headers.authorization ?? '')
  if (res.locals.symbols) next()
  else res.status(401).json({ error: 'which plan?' })
}

export interface SharedFeed extends Listening {
  /** Streams that the one upstream serves, and has served. */
  readonly upstream: { readonly open: number; readonly opened: number }
}

export async function start({ port = 0 }: { port?: number } = {}): Promise<SharedFeed> {
  const backend = await startPrices()

  const app = express()
  app.use(
    '/prices',
    requirePlan,
    sseProxy<Request, Response>({
      target: backend.url,
      share: {
        // By default clients share only what they ask for with the same credentials. Prices depend on none.
        key: () => 'prices',
        lingerMs: 5000,
        replay: { events: 1000, ageMs: 60_000 },
        // Runs for each client, after the sharing.
        transform: (event, { req }) => (req.res?.locals.symbols.has(JSON.parse(event.data).symbol) ? undefined : null),
      },
      on: { proxyReq: (proxyReq) => proxyReq.removeHeader('authorization') },
    }),
  )

  const front = await listen(createServer(app), port)
  return {
    url: front.url,
    upstream: backend,
    async close() {
      await front.close()
      await backend.close()
    },
  }
}

async function startPrices(): Promise<SharedFeed['upstream'] & Listening> {
  const symbols = ['ACME', 'INIT', 'HOLI']
  let [n, open, opened] = [0, 0, 0]
  const listening = await listen(
    createServer((_req, res) => {
      open += 1
      opened += 1
      res.writeHead(200, { 'content-type': 'text/event-stream' })
      const timer = setInterval(() => {
        n += 1
        const price = { symbol: symbols[n % symbols.length], price: Math.round(10_000 + Math.sin(n / 20) * 900) / 100 }
        res.write(`id: ${n}\ndata: ${JSON.stringify({ n, ...price })}\n\n`)
      }, 20)
      res.once('close', () => {
        clearInterval(timer)
        open -= 1
      })
    }),
  )
  return {
    ...listening,
    get open() {
      return open
    },
    get opened() {
      return opened
    },
  }
}

await runAlone(import.meta.url, start, (url) => `curl -N -H 'authorization: Bearer free' ${url}/prices`)
