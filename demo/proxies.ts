// The routes that go through sse-proxy-middleware. Each can be replaced by a fresh one while the old one drains, which
// is what a deployment does to an instance.
import type { Request, RequestHandler, Response } from 'express'
import type { Registry } from 'prom-client'
import { type SseProxy, sseProxy } from 'sse-proxy-middleware'
import { prometheusMetrics } from 'sse-proxy-middleware/prometheus'
import { type AllOptions, type Name, names, optionsFor } from './proxy-options.ts'
import type { Upstreams } from './upstreams/upstreams.ts'

type Proxy = SseProxy<Request, Response>
type Stats = ReturnType<Proxy['stats']>

export class Proxies {
  readonly #options: AllOptions
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
