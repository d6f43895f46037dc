// A watch of Kubernetes as an event stream: the kind of change is the event's type, the object its data, and its version the
// id. The API server ends each watch after some minutes; `resume` goes on behind the last version, and nobody notices.
//
//   node --import tsx demo/recipes/kubernetes-watch.ts
//   curl -N http://127.0.0.1:3000/pods
import { createServer } from 'node:http'
import express from 'express'
import { sseProxy } from 'sse-proxy-middleware'
import { type Listening, listen } from './support/listen.ts'
import { runAlone } from './support/run-alone.ts'

interface Change {
  type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR'
  object: { metadata: { name?: string; resourceVersion?: string } }
}

export interface Watch extends Listening {
  /** The versions from which the API server was asked to go on. */
  readonly asked: readonly string[]
}

export interface WatchOptions {
  port?: number
  /** A version from which the API server cannot go on any more. */
  expired?: number
}

export async function start({ port = 0, expired }: WatchOptions = {}): Promise<Watch> {
  const apiServer = await startApiServer(expired)

  const pods = sseProxy({
    target: `${apiServer.url}/api/v1/pods?watch=true&allowWatchBookmarks=true`,
    headers: { authorization: `Bearer ${process.env.SERVICE_ACCOUNT_TOKEN ?? 'token'}` },
    on: {
      // The API wants the version in the query.
      proxyReq: (proxyReq) => {
        const version = proxyReq.getHeader('last-event-id')
        if (version) proxyReq.path += `&resourceVersion=${encodeURIComponent(String(version))}`
      },
      // It calls its lines plain JSON, as it does its lists.
      proxyRes: (proxyRes) => {
        if (proxyRes.statusCode === 200) proxyRes.headers['content-type'] = 'application/x-ndjson'
      },
    },
    from: {
      format: 'ndjson',
      toEvent: (value) => {
        const { type, object } = value as Change
        // After an error (410: the version is too old) whoever comes back begins anew, without a version.
        const id = type === 'ERROR' ? '' : object.metadata.resourceVersion
        return { event: type.toLowerCase(), id, data: JSON.stringify(object) }
      },
    },
    // A bookmark is there for its version alone: it is dropped, and its id reaches the client.
    transform: ({ event }) => (event === 'bookmark' ? null : undefined),
    resume: { onEnd: true },
    // One watch for all clients, who may see the same.
    share: { key: () => 'pods' },
  })
  const app = express()
  app.use('/pods', pods)

  const front = await listen(createServer(app), port)
  return {
    url: front.url,
    asked: apiServer.asked,
    async close() {
      await pods.close({ withinMs: 0 })
      await front.close()
      await apiServer.close()
    },
  }
}

/** An API server that ends each watch after three lines. */
async function startApiServer(expired: number | undefined): Promise<Watch> {
  const asked: string[] = []
  const listening = await listen(
    createServer((req, res) => {
      const version = new URL(req.url ?? '', 'http://x').searchParams.get('resourceVersion') ?? ''
      asked.push(version)
      res.writeHead(200, { 'content-type': 'application/json' })
      let n = Number(version)
      if (n === expired) {
        return void res.end(`${JSON.stringify({ type: 'ERROR', object: { metadata: {}, code: 410 } })}\n`)
      }
      const timer = setInterval(() => {
        n += 1
        const type = n % 3 === 0 ? 'BOOKMARK' : 'ADDED'
        res.write(
          `${JSON.stringify({ type, object: { metadata: { name: `pod-${n}`, resourceVersion: String(n) } } })}\n`,
        )
        if (n % 3 === 0) res.end()
      }, 20)
      res.once('close', () => clearInterval(timer))
    }),
  )
  return { ...listening, asked }
}

await runAlone(import.meta.url, start, (url) => `curl -N ${url}/pods`)
