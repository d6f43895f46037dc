// Notifications from backends that keep a user's unread ones in their own memory: a user has to meet the same backend
// each time, whichever process of the app the request reaches. The user's name decides, so nothing has to be stored.
//
//   node --import tsx demo/recipes/sticky-notifications.ts
//   curl -N -H 'authorization: Bearer ada-token' http://127.0.0.1:3000/notifications
import { createServer } from 'node:http'
import express, { type NextFunction, type Request, type Response } from 'express'
import { sseProxy } from 'sse-proxy-middleware'
import { type Listening, listen } from './support/listen.ts'
import { runAlone } from './support/run-alone.ts'

/** Any token is good here: its first part is the user's name. */
function requireUser(req: Request, res: Response, next: NextFunction): void {
  const user = /^Bearer (\w+)-token$/.exec(req.headers.authorization ?? '')?.[1]
  if (!user) {
    res.status(401).json({ error: 'sign in first' })
    return
  }
  req.headers['x-user'] = user
  next()
}

export async function start({ port = 0 }: { port?: number } = {}): Promise<Listening> {
  const backends = await Promise.all(['a', 'b', 'c'].map(startNotifier))

  const app = express()
  app.use(
    '/notifications',
    requireUser,
    sseProxy({
      target: backends.map(({ url }) => url),
      sticky: { key: (req) => String(req.headers['x-user']) },
    }),
  )

  const front = await listen(createServer(app), port)
  return {
    url: front.url,
    async close() {
      await front.close()
      await Promise.all(backends.map((backend) => backend.close()))
    },
  }
}

function startNotifier(name: string): Promise<Listening> {
  const visits = new Map<string, number>()
  return listen(
    createServer((req, res) => {
      const user = String(req.headers['x-user'])
      visits.set(user, (visits.get(user) ?? 0) + 1)
      res.writeHead(200, { 'content-type': 'text/event-stream' })
      res.write(`event: welcome\ndata: ${JSON.stringify({ user, backend: name, visit: visits.get(user) })}\n\n`)
    }),
  )
}

await runAlone(import.meta.url, start, (url) => `curl -N -H 'authorization: Bearer ada-token' ${url}/notifications`)
