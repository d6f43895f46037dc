// The routes that go through sse-proxy-middleware. Each can be replaced by a fresh one while the old one drains, which
// is what a deployment does to an instance.
import type { Request, RequestHandler, Response } from 'express'
import type { Registry } from 'prom-client'
import { type SseProxy, type SseProxyOptions, sseProxy } from 'sse-proxy-middleware'
import { prometheusMetrics } from 'sse-proxy-middleware/prometheus'
import type { Upstreams } from './upstreams/upstreams.ts'

export const names = ['ticker', 'shared', 'notifications', 'jobs', 'chat', 'answers', 'flood'] as const
export type Name = (typeof names)[number]

type Proxy = SseProxy<Request, Response>
type Stats = ReturnType<Proxy['stats']>

export class Proxies {
  readonly #options: Readonly<Record<Name, SseProxyOptions<Request, Response>>>
  readonly #registry: Registry
  readonly #current = new Map<Name, { proxy: Proxy; unregister: () => void }>()
  // Those that were replaced: their counts stay part of the figures.
  readonly #retired: Proxy[] = []
  #isClosing = false

  constructor(upstreams: Upstreams, registry: Registry) {
    this.#options = optionsFor(upstreams)
    this.#registry = registry
    for (const name of names) this.#install(name)
  }

  /** Passes to whichever instance is in place when the request comes. */
  handler(name: Name): RequestHandler {
    return (req, res, next) => this.#current.get(name)?.proxy(req, res, next)
  }

  get isClosing(): boolean {
    return this.#isClosing
  }

  /** What all instances, old and new, have to tell. */
  stats(): Stats[] {
    return [...this.#retired, ...[...this.#current.values()].map(({ proxy }) => proxy)].map((proxy) => proxy.stats())
  }

  /** Puts fresh instances in place and ends the streams of the old ones over the given time. */
  async replace(withinMs: number): Promise<void> {
    const old = [...this.#current.values()]
    for (const { proxy, unregister } of old) {
      unregister()
      this.#retired.push(proxy)
    }
    for (const name of names) this.#install(name)
    await Promise.all(old.map(({ proxy }) => proxy.close({ withinMs })))
  }

  /** For good: new requests are refused, open streams end over the given time. */
  async close(withinMs: number): Promise<void> {
    this.#isClosing = true
    await Promise.all([...this.#current.values()].map(({ proxy }) => proxy.close({ withinMs })))
  }

  #install(name: Name): void {
    const proxy = sseProxy(this.#options[name])
    const unregister = prometheusMetrics(proxy, { registry: this.#registry })
    this.#current.set(name, { proxy, unregister })
  }
}

function optionsFor(upstreams: Upstreams): Record<Name, SseProxyOptions<Request, Response>> {
  const { ticker, notifications, jobs, chat, answers, flood } = upstreams
  const tickers = ticker.backends.map(({ url }) => url)
  // An EventSource gives up on a 503 but comes back after an empty stream: at once here, so that nobody has to wait.
  const patient = { unavailable: 'reconnect', clientRetryMs: [200, 800] } as const
  return {
    ticker: {
      ...patient,
      name: 'ticker',
      target: tickers,
      resume: { attempts: 40, delayMs: 50, maxDelayMs: 500 },
      health: { ejectMs: 500, maxEjectMs: 1000 },
      keepalive: 1000,
    },
    shared: { ...patient, name: 'shared', target: tickers, share: { lingerMs: 500 }, resume: true },
    notifications: {
      ...patient,
      name: 'notifications',
      target: notifications.backends.map(({ url }) => url),
      sticky: { header: 'x-user' },
      limits: { streamsPerClient: 6, clientKey: (req) => String(req.headers['x-user']) },
    },
    jobs: { ...patient, name: 'jobs', target: `${jobs.backend.url}/jobs`, resume: true },
    chat: { name: 'chat', target: chat.backend.url },
    answers: {
      name: 'answers',
      target: answers.backend.url,
      share: {
        // One answer a user here: the key is who the user is.
        key: (req) => String(req.headers['x-user']),
        open: ['POST'],
        join: ['GET'],
        stop: ['DELETE'],
        busy: 'replace',
        lingerMs: Number.POSITIVE_INFINITY,
        keepEndedMs: 60_000,
        replay: { ids: 'assign', initial: 'all' },
      },
    },
    flood: { name: 'flood', target: flood.backend.url, timeouts: { writeMs: 2000 } },
  }
}
