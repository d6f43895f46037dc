// Several nodes of an app with one feed: by way of Redis they have one upstream connection together, an id of one is good on
// all of them, and when the node that reads the upstream is killed, another one goes on in the open responses of the others.
//
//   node --import tsx demo/recipes/many-nodes.ts                # with a redis-server of its own, or REDIS_URL
//   curl -N http://127.0.0.1:3000/prices                        # and :3001, :3002
//   curl http://127.0.0.1:3000/node                             # its pid, for kill -9, and whether it reads the upstream
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { fileURLToPath } from 'node:url'
import express from 'express'
import { createClient } from 'redis-6'
import { sseProxy } from 'sse-proxy-middleware'
import { redisStore } from 'sse-proxy-middleware/redis'
import { RedisServer } from '../nodes/redis-server.ts'
import { type Listening, listen } from './support/listen.ts'
import { runAlone } from './support/run-alone.ts'
import { startTickingBackend, type TickingBackend } from './support/ticking-backend.ts'

export interface ManyNodes extends Listening {
  readonly nodes: readonly { readonly url: string; readonly process: ChildProcess }[]
  readonly backend: TickingBackend
}

interface Options {
  port?: number
  size?: number
  /** Of a server that is there already. */
  redisUrl?: string | undefined
}

export async function start({
  port = 0,
  size = 3,
  redisUrl = process.env.REDIS_URL,
}: Options = {}): Promise<ManyNodes> {
  const redis = redisUrl === undefined ? await startRedis() : undefined
  const backend = await startTickingBackend()
  const env = { ...process.env, NODE_REDIS: redisUrl ?? `redis://127.0.0.1:${redis?.port}`, NODE_TARGET: backend.url }

  const processes = Array.from({ length: size }, (_, i) =>
    fork(fileURLToPath(import.meta.url), {
      execArgv: ['--import', 'tsx'],
      env: { ...env, NODE_PORT: `${port && port + i}` },
    }),
  )
  const close = async () => {
    const running = processes.filter(({ exitCode, signalCode }) => exitCode === null && signalCode === null)
    const ends = running.map((child) => once(child, 'exit'))
    for (const child of running) child.kill('SIGTERM')
    await Promise.all(ends)
    await backend.close()
    await redis?.stop()
  }
  try {
    const urls = await Promise.all(processes.map(urlOf))
    const nodes = processes.map((child, i) => ({ url: urls[i] ?? '', process: child }))
    return { url: urls[0] ?? '', nodes, backend, close }
  } catch (error) {
    await close()
    throw error
  }
}

async function startRedis(): Promise<RedisServer> {
  if (await RedisServer.isInstalled()) return await RedisServer.start()
  throw new Error(
    'There is no redis-server on this machine: install it (apt-get install redis-server), or set REDIS_URL.',
  )
}

async function urlOf(child: ChildProcess): Promise<string> {
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`a node has not started: exit code ${code}`)
  })
  const [url] = await Promise.race([once(child, 'message'), ended])
  return String(url)
}

/** One node: what an app of several has in each of its processes. */
async function work(): Promise<void> {
  const client = createClient({ url: process.env.NODE_REDIS ?? '' })
  client.on('error', (error) => console.error(`Redis: ${error.message}`))
  await client.connect()

  const prices = sseProxy({
    target: process.env.NODE_TARGET ?? '',
    share: { key: () => 'prices', replay: { events: 1000 }, store: redisStore({ client }) },
  })

  const app = express()
  app.use('/prices', prices)
  app.get('/node', (_req, res) => void res.json({ pid: process.pid, ...prices.stats().shared.store }))

  const front = await listen(createServer(app), Number(process.env.NODE_PORT))
  process.send?.(front.url)
  // The terminal's Ctrl-C reaches every process; the first one decides when the nodes end.
  process.on('SIGINT', () => {})
  const stop = async () => {
    await prices.close({ withinMs: 1000 })
    await front.close()
    process.exit(0)
  }
  process.once('SIGTERM', stop)
  process.once('disconnect', stop)
}

if (process.env.NODE_REDIS !== undefined) await work()
else
  await runAlone(
    import.meta.url,
    start,
    (url) => `curl -N ${url}/prices`,
    (url) => `curl ${url}/node`,
  )
