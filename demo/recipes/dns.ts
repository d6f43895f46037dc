// Upstreams that a name stands for, as with a headless service of Kubernetes or Consul: the name is asked on a timer, and when
// the answer has changed, streams of the upstreams that are not in it any more go over to the others.
//
//   node --import tsx demo/recipes/dns.ts
//   curl -N http://127.0.0.1:3000/events     (a backend goes every fifteen seconds, and a new one comes)
import type { SrvRecord } from 'node:dns'
import { createServer } from 'node:http'
import express from 'express'
import { type SseProxy, sseProxy, type WeightedTarget } from 'sse-proxy-middleware'
import { type Listening, listen } from './support/listen.ts'
import { runAlone } from './support/run-alone.ts'
import { startTickingBackend, type TickingBackend } from './support/ticking-backend.ts'

// The parts of `node:dns/promises` that are needed, so that `dns` itself or a `Resolver` with servers of its own will do.
interface SrvResolver {
  resolveSrv(name: string): Promise<SrvRecord[]>
}
interface AddressResolver {
  resolve4(name: string): Promise<string[]>
}

/** SRV records know ports and weights. The lowest priority is asked; one with no weight gets a little. */
export async function srvTargets(dns: SrvResolver, name: string): Promise<WeightedTarget[]> {
  const records = await dns.resolveSrv(name)
  const first = Math.min(...records.map(({ priority }) => priority))
  return records
    .filter(({ priority }) => priority === first)
    .map(({ name: host, port, weight }) => ({ url: `http://${host}:${port}/events`, weight: Math.max(weight, 0.1) }))
}

/** Address records know neither. */
export async function addressTargets(dns: AddressResolver, name: string, port: number): Promise<WeightedTarget[]> {
  const addresses = await dns.resolve4(name)
  return addresses.map((address) => ({ url: `http://${address}:${port}/events` }))
}

/** Asks every so often, until the returned function is called. An answer that fails, or is empty, changes nothing. */
export function followDns(proxy: SseProxy, everyMs: number, ask: () => Promise<WeightedTarget[]>): () => void {
  let timer: NodeJS.Timeout | undefined
  const look = async () => {
    try {
      // An empty answer is refused.
      proxy.setTargets(await ask())
    } catch (error) {
      console.warn('The upstreams stay as they are:', error)
    }
    // One after the other: an old answer never takes the place of a newer one.
    if (timer) timer = setTimeout(look, everyMs)
  }
  timer = setTimeout(look, everyMs)
  return () => {
    clearTimeout(timer)
    timer = undefined
  }
}

export interface Dns extends Listening {
  readonly backends: readonly TickingBackend[]
  /** What the name stands for now; undefined where nobody answers. */
  answer: readonly TickingBackend[] | undefined
}

export async function start({ port = 0, everyMs = 1000, changeEveryMs = 15_000 } = {}): Promise<Dns> {
  const backends = await Promise.all(['a', 'b', 'c'].map((name) => startTickingBackend(name)))
  let answer: Dns['answer'] = backends.slice(0, 2)
  // In place of `node:dns/promises`.
  const dns: SrvResolver = {
    async resolveSrv() {
      if (!answer) throw new Error('queryA ETIMEOUT')
      return answer.map(({ url }) => ({ name: '127.0.0.1', port: Number(new URL(url).port), priority: 1, weight: 1 }))
    },
  }
  const ask = () => srvTargets(dns, '_events._tcp.backend.internal')

  const app = express()
  const events = sseProxy({ target: await ask(), resume: true })
  const stop = followDns(events, everyMs, ask)
  app.use('/events', events)

  const front = await listen(createServer(app), port)
  let changes = 0
  const change = setInterval(() => {
    answer = backends.filter((_, i) => i !== changes % 3)
    changes++
  }, changeEveryMs)
  return {
    url: front.url,
    backends,
    get answer() {
      return answer
    },
    set answer(backendsNow) {
      answer = backendsNow
    },
    async close() {
      clearInterval(change)
      stop()
      await front.close()
      await Promise.all(backends.map((backend) => backend.close()))
    },
  }
}

await runAlone(import.meta.url, start, (url) => `curl -N ${url}/events     (a backend goes every fifteen seconds)`)
