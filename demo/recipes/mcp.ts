// An MCP server (Streamable HTTP) behind the app's own sign-in, for both revisions of the protocol on one route. There is
// nothing to configure for it: calls and what listens for a long time are two proxies here for their limits and metrics only.
//
//   node --import tsx demo/recipes/mcp.ts
import { createServer, type IncomingMessage } from 'node:http'
import cors from 'cors'
import express, { type NextFunction, type Request, type Response } from 'express'
import { Registry } from 'prom-client'
import { sseProxy } from 'sse-proxy-middleware'
import { prometheusMetrics } from 'sse-proxy-middleware/prometheus'
import { type Listening, listen } from './support/listen.ts'
import { type McpBackend, startMcpServer } from './support/mcp-server.ts'
import { runAlone } from './support/run-alone.ts'

const users = new Map([['Bearer ada-token', 'ada']])

function requireUser(req: Request, res: Response, next: NextFunction): void {
  const user = users.get(req.headers.authorization ?? '')
  if (!user) {
    res.status(401).set('www-authenticate', 'Bearer').json({ error: 'unknown token' })
    return
  }
  // The server behind learns who it is; the token stays here.
  delete req.headers.authorization
  req.headers['x-user'] = user
  next()
}

/** Whether it stays open: the POST of 2026-07-28, or the GET of 2025-11-25. */
function isListening(req: IncomingMessage): boolean {
  return req.method === 'GET' || req.headers['mcp-method'] === 'subscriptions/listen'
}

export interface McpGateway extends Listening {
  readonly server: McpBackend
}

export async function start({ port = 0 }: { port?: number } = {}): Promise<McpGateway> {
  const server = await startMcpServer()
  const target = `${server.url}/mcp`
  const clientKey = (req: IncomingMessage) => String(req.headers['x-user'])

  const calls = sseProxy({ name: 'mcp', target, limits: { streamsPerClient: 32, clientKey } })
  const listeners = sseProxy({ name: 'mcp-listen', target, limits: { streamsPerClient: 4, clientKey } })
  const registry = new Registry()
  for (const proxy of [calls, listeners]) prometheusMetrics(proxy, { registry })

  const app = express()
  app.get('/metrics', async (_req, res) => void res.type(registry.contentType).send(await registry.metrics()))
  // A page may read these headers only where they are exposed.
  app.use(cors({ origin: 'https://app.example', exposedHeaders: ['mcp-session-id', 'www-authenticate'] }))
  app.use('/mcp', requireUser, (req, res, next) => (isListening(req) ? listeners : calls)(req, res, next))

  const front = await listen(createServer(app), port)
  return {
    url: front.url,
    server,
    async close() {
      // Who listens can come back at once; who waits for an answer gets it, where it comes in time.
      await listeners.close({ withinMs: 100 })
      await calls.close({ withinMs: 100 })
      await front.close()
      await server.close()
    },
  }
}

await runAlone(import.meta.url, start, (url) => `MCP endpoint: ${url}/mcp with "Authorization: Bearer ada-token"`)
