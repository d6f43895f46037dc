// Several upstreams behind one middleware, and a view of how the middleware sees them.
import type { TestContext } from 'node:test'
import { sseProxy } from 'sse-proxy-middleware'
import { type Front, type FrontOptions, type Host, startFront } from './front.ts'
import type { SseProxy, SseProxyOptions } from './proxied.ts'
import { areOverHttp2, startUpstream, type Upstream, type UpstreamOptions } from './upstream.ts'
import { until } from './waiting.ts'

export interface SeveralArrangement extends FrontOptions {
  host?: Host
  /** For all of them, or for each by its place in the list. */
  upstream?: UpstreamOptions | ((at: number) => UpstreamOptions)
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
  const places = Array.from({ length: count }, (_, at) => at)
  const upstreams = await Promise.all(
    places.map((at) => startUpstream(typeof upstream === 'function' ? upstream(at) : upstream)),
  )
  const urls = upstreams.map(({ url }) => `${url}/stream`)
  const given = typeof options === 'function' ? options(urls) : options
  const http2 = areOverHttp2 && { http2: 'prior-knowledge' }
  const proxy = sseProxy({ target: urls, ...http2, ...given } as SseProxyOptions)
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

/**
 * A URL at which every connection is refused. Nobody is given a port as low as that, whereas one that has just been free
 * may be another test's by now.
 */
export const refusingUrl = 'http://127.0.0.1:1/stream'
