// Many clients of an endpoint that tells a state and no changes of it: on the one route they follow events, on the other each
// asks again and again, as pages without events do. The state changes once, and both sides note who saw it when.
import { setMaxListeners } from 'node:events'
import { Agent, get } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import type { Status } from '../upstreams/status.ts'
import type { Both } from './both.ts'
import { readBlocks } from './event-blocks.ts'
import { pollMs } from './patience.ts'
import { patiently } from './waiting.ts'

export interface PollingResult {
  readonly clients: number
  /** Clients that saw the change. */
  readonly told: number
  /** When the last of them saw it, after the change. */
  readonly lastMs: number
  /** Requests that the upstream got in the time of the watch. */
  readonly requests: number
  readonly watchedMs: number
}

/** Called with each build that a client sees. */
type OnBuild = (build: number) => void

const clients = 100
// So many looks before the change and after it, and much more time where the machine is slow.
const looks = 2
const patienceMs = 10_000

export async function watchChange(url: string, status: Status): Promise<Both<PollingResult>> {
  const end = new AbortController()
  // All clients listen to it.
  setMaxListeners(0, end.signal)
  const proxied = new Sightings()
  const plain = new Sightings()
  const seenByAll = (build: number) => () => proxied.count(build) === clients && plain.count(build) === clients
  for (let i = 0; i < clients; i++) {
    follow(`${url}/events/status`, end.signal, (build) => proxied.add(i, build))
    poll(`${url}/plain/status`, end.signal, (build) => plain.add(i, build))
  }
  await patiently(seenByAll(status.build), patienceMs)

  const since = performance.now()
  const before = requests(status)
  await delay(looks * pollMs)
  const build = status.change()
  const changedAt = performance.now()
  await delay(looks * pollMs)
  await patiently(seenByAll(build), patienceMs)
  const after = requests(status)
  const watchedMs = Math.round(performance.now() - since)
  end.abort()
  const tell = (sightings: Sightings, asked: number): PollingResult => ({
    clients,
    told: sightings.count(build),
    lastMs: Math.round(sightings.last(build, changedAt) - changedAt),
    requests: asked,
    watchedMs,
  })
  return {
    proxied: tell(proxied, after.proxied - before.proxied),
    plain: tell(plain, after.plain - before.plain),
  }
}

/** When each client saw a build first. */
class Sightings {
  readonly #builds = new Map<number, Map<number, number>>()

  add(client: number, build: number): void {
    const seen = this.#builds.get(build) ?? new Map()
    this.#builds.set(build, seen)
    if (!seen.has(client)) seen.set(client, performance.now())
  }

  count(build: number): number {
    return this.#builds.get(build)?.size ?? 0
  }

  last(build: number, since: number): number {
    return Math.max(since, ...(this.#builds.get(build)?.values() ?? []))
  }
}

function requests(status: Status): Both<number> {
  return { proxied: status.requests('proxied'), plain: status.requests('plain') }
}

function follow(url: string, signal: AbortSignal, onBuild: OnBuild): void {
  const request = get(url, { agent: false, signal }, (res) =>
    readBlocks(res, (block) => {
      const data = /^data: (.*)$/m.exec(block)?.[1]
      if (data) onBuild(JSON.parse(data).build)
    }),
  )
  request.on('error', () => {})
}

function poll(url: string, signal: AbortSignal, onBuild: OnBuild): void {
  const agent = new Agent({ keepAlive: true })
  signal.addEventListener('abort', () => agent.destroy())
  const look = () => {
    if (signal.aborted) return
    const request = get(url, { agent, signal }, (res) => {
      let body = ''
      res.on('error', () => {})
      res.setEncoding('utf8').on('data', (text: string) => {
        body += text
      })
      res.once('end', () => {
        if (res.statusCode === 200) onBuild(JSON.parse(body).build)
      })
    })
    request.on('error', () => {})
    request.once('close', () => setTimeout(look, pollMs))
  }
  look()
}
