// What a route in production has around it: auth, CORS, security headers, limits, timeouts, health, metrics, and a
// shutdown that loses nobody.
//
//   node --import tsx demo/recipes/production.ts
//   curl -N -H 'authorization: Bearer ada-token' http://127.0.0.1:3000/events
import { createServer } from 'node:http'
import compression from 'compression'
import cors from 'cors'
import express, { type NextFunction, type Request, type Response } from 'express'
import helmet from 'helmet'
import { Registry } from 'prom-client'
import { type SseProxyError, sseProxy } from 'sse-proxy-middleware'
import { prometheusMetrics } from 'sse-proxy-middleware/prometheus'
import { type Listening, listen } from './support/listen.ts'
import { runAlone } from './support/run-alone.ts'
import { startTickingBackend, type TickingBackend } from './support/ticking-backend.ts'

const users = new Map([
  ['Bearer ada-token', 'ada'],
  ['Bearer grace-token', 'grace'],
])

function requireUser(req: Request, res: Response, next: NextFunction): void {
  res.locals.user = users.get(req.headers.authorization ?? '')
  if (res.locals.user) next()
  else res.status(401).json({ error: 'sign in first' })
}

export interface Production extends Listening {
  readonly backends: readonly TickingBackend[]
  readonly failures: readonly SseProxyError[]
}

export async function start({ port = 0, drainMs = 10_000 } = {}): Promise<Production> {
  const backends = await Promise.all([startTickingBackend('a'), startTickingBackend('b')])
  const failures: SseProxyError[] = []
  let isReady = true

  const events = sseProxy<Request, Response>({
    name: 'events',
    target: backends.map(({ url }) => `${url}/ticks`),
    resume: true,
    // Native EventSource gives up for good on a 503; this makes it come back.
    unavailable: 'reconnect',
    keepalive: 15_000,
    timeouts: {
      idleMs: 60_000,
      // Access is checked when a stream opens, so streams are not to outlive it.
      lifetimeMs: 3_600_000,
    },
    limits: { streams: 10_000, streamsPerClient: 3, clientKey: (req) => req.res?.locals.user },
    on: {
      // The token has done its work at the door.
      proxyReq: (proxyReq) => proxyReq.removeHeader('authorization'),
      error: (error) => void failures.push(error as SseProxyError),
    },
  })

  const registry = new Registry()
  prometheusMetrics(events, { registry })

  const app = express()
  app.set('trust proxy', 'loopback')
  app.use(helmet())
  app.use(cors({ origin: 'https://app.example', credentials: true }))
  app.use(compression())
  app.get('/health', (_req, res) => void res.status(isReady ? 200 : 503).json({ ready: isReady }))
  app.get('/metrics', async (_req, res) => void res.type(registry.contentType).send(await registry.metrics()))
  app.use('/events', requireUser, events)

  const server = createServer(app)
  const front = await listen(server, port)

  return {
    url: front.url,
    backends,
    failures,
    async close() {
      // In this order: no new traffic, then the streams, each at its own moment, then what is left.
      isReady = false
      await events.close({ withinMs: drainMs })
      await front.close()
      await Promise.all(backends.map((backend) => backend.close()))
    },
  }
}

await runAlone(import.meta.url, start, (url) => `curl -N -H 'authorization: Bearer ada-token' ${url}/events`)
