// The app in front: what stands before the proxies is what stands before them in most apps.
import compression from 'compression'
import cors from 'cors'
import express, { type Express, type RequestHandler, type Response } from 'express'
import helmet from 'helmet'
import { Registry } from 'prom-client'
import { ExperimentRunner } from './experiments/experiment-runner.ts'
import { takeFigures } from './figures.ts'
import type { Nodes } from './nodes/nodes.ts'
import { pageFiles } from './page-files.ts'
import { createPlainProxies } from './plain-proxies.ts'
import { Proxies } from './proxies.ts'
import { requireUser, signIn, signOut, userOf } from './session-cookie.ts'
import type { Upstreams } from './upstreams/upstreams.ts'

export interface DemoApp {
  readonly app: Express
  readonly proxies: Proxies
}

export function createApp(upstreams: Upstreams, nodes: Nodes): DemoApp {
  const registry = new Registry()
  const proxies = new Proxies(upstreams, registry)
  const plain = createPlainProxies(upstreams)
  const plainClients = plainStreams()
  const experiments = new ExperimentRunner(upstreams, proxies, nodes, plainClients.cutAll)

  const app = express()
  app.use(helmet({ contentSecurityPolicy: { useDefaults: false, directives: policy }, hsts: false }))
  app.use(cors({ origin: /^https?:\/\/(localhost|127\.0\.0\.1)(:\d+)?$/ }))
  app.use(express.json({ limit: '32kb' }))

  // Plain http-proxy-middleware gets its best chance: behind compression() it would not show a single event.
  app.use('/plain', plainClients.note)
  app.use('/plain/ticker', plain.ticker)
  app.use('/plain/notifications', requireUser, plain.notifications)
  app.use('/plain/chat', requireUser, plain.chat)
  app.use('/plain/answers', requireUser, plain.answers)
  app.use('/plain/flood', plain.flood)
  app.use('/plain/models', plain.models)
  app.use('/plain/lines', plain.lines)
  app.use('/plain/status', plain.status)
  app.use('/plain/secure', plain.secure)

  app.use(compression())
  app.use('/plain-compressed/ticker', plain.ticker)
  app.use('/events/ticker', proxies.handler('ticker'))
  app.use('/events/shared', proxies.handler('shared'))
  app.use('/events/notifications', requireUser, proxies.handler('notifications'))
  app.use('/events/flood', proxies.handler('flood'))
  app.use('/events/lines', proxies.handler('lines'))
  app.use('/events/status', proxies.handler('status'))
  app.use('/events/secure', proxies.handler('secure'))
  app.use('/jobs', requireUser, proxies.handler('jobs'))
  app.use('/chat', requireUser, proxies.handler('chat'))
  app.use('/answers', requireUser, proxies.handler('answers'))
  app.use('/models', proxies.handler('models'))

  app.post('/sign-in', signIn)
  app.post('/sign-out', signOut)
  app.get('/me', (req, res) => void res.json({ user: userOf(req) ?? null }))
  app.post('/notifications', requireUser, (req, res) => {
    upstreams.notifications.notify(String(req.headers['x-user']), String(req.body?.text ?? '').slice(0, 200))
    res.status(202).end()
  })

  app.get('/health', (_req, res) => {
    res.status(proxies.isClosing ? 503 : 200).json({ status: proxies.isClosing ? 'draining' : 'ok' })
  })
  app.get('/metrics', async (_req, res) => {
    res.type(registry.contentType).send(await registry.metrics())
  })
  app.get('/figures', (_req, res) => void res.json(takeFigures(proxies, upstreams, plainClients.count())))
  app.post('/experiments/:name', experiments.handle)
  app.use(pageFiles())
  return { app, proxies }
}

const policy = {
  defaultSrc: ["'none'"],
  scriptSrc: ["'self'"],
  styleSrc: ["'self'"],
  connectSrc: ["'self'"],
  imgSrc: ["'self'", 'data:'],
  baseUri: ["'none'"],
  formAction: ["'self'"],
  frameAncestors: ["'none'"],
}

/** Plain http-proxy-middleware keeps no account of its own. */
function plainStreams(): { note: RequestHandler; count: () => number; cutAll: () => void } {
  const open = new Set<Response>()
  return {
    count: () => open.size,
    cutAll() {
      for (const res of open) res.destroy()
    },
    note(_req, res, next) {
      open.add(res)
      res.once('close', () => open.delete(res))
      next()
    },
  }
}
