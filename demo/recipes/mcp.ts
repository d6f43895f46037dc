// An MCP server (Streamable HTTP) behind the app's own sign-in. Its session header, the events that answer a POST, the
// long-lived stream of a GET and the DELETE that ends a session all pass through one route.
//
//   node --import tsx demo/recipes/mcp.ts
import { createServer } from 'node:http'
import cors from 'cors'
import express, { type NextFunction, type Request, type Response } from 'express'
import { sseProxy } from 'sse-proxy-middleware'
import { type Listening, listen } from './support/listen.ts'
import { startMcpServer } from './support/mcp-server.ts'
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

export interface McpGateway extends Listening {
  readonly server: { readonly sessions: number; readonly users: ReadonlySet<string> }
}

export async function start({ port = 0 }: { port?: number } = {}): Promise<McpGateway> {
  const server = await startMcpServer()

  const app = express()
  // A page may read the session header only where it is exposed.
  app.use(cors({ origin: 'https://app.example', exposedHeaders: ['mcp-session-id'] }))
  app.use('/mcp', requireUser, sseProxy({ name: 'mcp', target: `${server.url}/mcp` }))

  const front = await listen(createServer(app), port)
  return {
    url: front.url,
    server,
    async close() {
      await front.close()
      await server.close()
    },
  }
}

await runAlone(import.meta.url, start, (url) => `MCP endpoint: ${url}/mcp with "Authorization: Bearer ada-token"`)
