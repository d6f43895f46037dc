// Several upstreams behind one middleware, and a view of how the middleware sees them.
import type { TestContext } from 'node:test'
import { sseProxy } from 'sse-proxy-middleware'
import { type Front, type FrontOptions, type Host, startFront } from './front.ts'
import type { SseProxy, SseProxyOptions } from './proxied.ts'
import { startUpstream, type Upstream, type UpstreamOptions } from './upstream.ts'
import { until } from './waiting.ts'

export interface SeveralArrangement extends FrontOptions {
  host?: Host
  upstream?: UpstreamOptions
  count?: number
}

export interface Several {
  upstreams: [Upstream, Upstream, ...Upstream[]]
  /** The targets that the middleware was given, in the order of the upstreams. */
  urls: [string, string, ...string[]]
  proxy: SseProxy
  front: Front
}

/** Mounts the middleware at `/events` before upstreams whose events are at `/stream`: three unless told otherwise. */
export async function several(
  t: TestContext,
  options: Partial<SseProxyOptions> | ((urls: string[]) => Partial<SseProxyOptions>) = {},
  { host = 'express5', upstream, count = 3, ...mounting }: SeveralArrangement = {},
): Promise<Several> {
  const upstreams = await Promise.all(Array.from({ length: count }, () => startUpstream(upstream)))
  const urls = upstreams.map(({ url }) => `${url}/stream`)
  const given = typeof options === 'function' ? options(urls) : options
  const proxy = sseProxy({ target: urls, ...given } as SseProxyOptions)
  const front = await startFront(host, proxy, mounting)
  t.after(async () => {
    front.closeClients()
    try {
      const isFree = (): boolean => upstreams.every(({ open }) => open === 0)
      await until(isFree, 'the upstreams to be free of requests once all clients have gone', 5_000)
    } finally {
      await front.close()
      await Promise.all(upstreams.map((one) => one.close()))
    }
  })
  return { upstreams: upstreams as Several['upstreams'], urls: urls as Several['urls'], proxy, front }
}

/** A URL at which every connection is refused. */
export async function refusingUrl(): Promise<string> {
  const upstream = await startUpstream()
  await upstream.close()
  return `${upstream.url}/stream`
}

/** The upstream that gets the next request, with the exchange. */
export async function nextOf(upstreams: readonly Upstream[]): Promise<{ upstream: Upstream; at: number }> {
  const before = upstreams.map(({ exchanges }) => exchanges.length)
  let at = -1
  await until(() => {
    at = upstreams.findIndex(({ exchanges }, i) => exchanges.length > (before[i] ?? 0))
    return at !== -1
  }, 'a request to reach one of the upstreams')
  return { upstream: upstreams[at] as Upstream, at }
}
