// Several processes of the app on one port. They need to know nothing of each other: a signed cookie tells any of them
// which upstream a client belongs to, and each drains its own streams before it ends.
//
//   node --import tsx demo/recipes/cluster.ts
//   curl -N -c jar -b jar http://127.0.0.1:3000/events
import cluster, { type Worker } from 'node:cluster'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { fileURLToPath } from 'node:url'
import express from 'express'
import { sseProxy } from 'sse-proxy-middleware'
import { type Listening, listen } from './support/listen.ts'
import { runAlone } from './support/run-alone.ts'
import { startTickingBackend } from './support/ticking-backend.ts'

export interface Cluster extends Listening {
  readonly workers: readonly Worker[]
}

export async function start({ port = 0, size = 2 } = {}): Promise<Cluster> {
  const backends = await Promise.all(['a', 'b', 'c'].map((name) => startTickingBackend(name)))
  const targets = backends.map(({ url }) => url).join(' ')

  cluster.setupPrimary({ exec: fileURLToPath(import.meta.url), execArgv: ['--import', 'tsx'] })
  const workers = Array.from({ length: size }, () => cluster.fork({ TARGETS: targets, PORT: port }))
  // Port 0 is the same one for all of them.
  const urls = await Promise.all(workers.map(async (worker) => String((await once(worker, 'message'))[0])))

  return {
    url: urls[0] ?? '',
    workers,
    async close() {
      const ends = workers.filter((worker) => !worker.isDead()).map((worker) => once(worker, 'exit'))
      for (const worker of workers) worker.process.kill('SIGTERM')
      await Promise.all(ends)
      await Promise.all(backends.map((backend) => backend.close()))
    },
  }
}

async function work(): Promise<void> {
  const events = sseProxy({
    target: process.env.TARGETS?.split(' '),
    resume: true,
    sticky: { issueCookie: 'upstream', secret: 'the same in all processes' },
  })

  const app = express()
  app.use((_req, res, next) => {
    res.set('x-worker', String(process.pid))
    next()
  })
  app.use('/events', events)

  const front = await listen(createServer(app), Number(process.env.PORT))
  process.send?.(front.url)
  // The terminal's Ctrl-C reaches every process; the first one decides when the others end.
  process.on('SIGINT', () => {})
  process.once('SIGTERM', async () => {
    await events.close({ withinMs: 1000 })
    await front.close()
    process.exit(0)
  })
}

if (cluster.isWorker) await work()
else await runAlone(import.meta.url, start, (url) => `curl -N -c jar -b jar ${url}/events`)
