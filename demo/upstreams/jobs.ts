// A backend that works on jobs: POST /jobs starts one, GET /jobs/ID/events tells how far it is and ends when it is done.
import { randomUUID } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import { Backend } from './backend.ts'

const steps = ['reading', 'sorting', 'compressing', 'writing']
const stepMs = 60

interface Job {
  percent: number
  readonly watchers: Set<ServerResponse>
}

export class Jobs {
  readonly backend: Backend
  readonly #jobs = new Map<string, Job>()
  readonly #timers = new Set<NodeJS.Timeout>()

  constructor() {
    this.backend = new Backend('jobs', (req, res, backend) => {
      if (req.method === 'POST') {
        res.writeHead(201, { 'content-type': 'application/json' }).end(JSON.stringify({ id: this.#begin() }))
        return
      }
      const job = this.#jobs.get(req.url?.split('/')[2] ?? '')
      // A client that comes back after the end is told to stay away: that is what 204 means to an EventSource.
      if (!job || (job.percent === 100 && req.headers['last-event-id']))
        return void res.writeHead(job ? 204 : 404).end()
      backend.open(req, res)
      tell(res, job)
      job.watchers.add(res)
      res.once('close', () => job.watchers.delete(res))
    })
  }

  start(): Promise<void> {
    return this.backend.start()
  }

  stop(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer)
    return this.backend.stop()
  }

  #begin(): string {
    const id = randomUUID()
    const job: Job = { percent: 0, watchers: new Set() }
    this.#jobs.set(id, job)
    const timer = setInterval(() => {
      job.percent += 1
      for (const res of job.watchers) tell(res, job)
      if (job.percent < 100) return
      clearInterval(timer)
      this.#timers.delete(timer)
    }, stepMs)
    this.#timers.add(timer)
    return id
  }
}

function tell(res: ServerResponse, { percent }: Job): void {
  const step = steps[Math.min(Math.floor((percent / 100) * steps.length), steps.length - 1)]
  res.write(`id: ${percent}\nevent: progress\ndata: ${JSON.stringify({ percent, step })}\n\n`)
  if (percent === 100) res.end('event: done\ndata: {}\n\n')
}
