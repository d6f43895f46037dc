// The usual arrangement: an upstream, the middleware before it, and a host that carries the middleware.
import type { TestContext } from 'node:test'
import { sseProxy } from 'sse-proxy-middleware'
import { type Front, type FrontOptions, type Host, startFront } from './front.ts'
import { type RawUpstream, startRawUpstream } from './raw-upstream.ts'
import { areOverHttp2, startUpstream, Upstream, type UpstreamOptions } from './upstream.ts'
import { until } from './waiting.ts'

export type SseProxyOptions = Parameters<typeof sseProxy>[0]
export type SseProxy = ReturnType<typeof sseProxy>

/** Options, or what makes them when they depend on the upstream's port. */
export type OptionsFor<U> = Partial<SseProxyOptions> | ((upstream: U) => Partial<SseProxyOptions>)

export interface Arrangement extends FrontOptions {
  host?: Host
  upstream?: UpstreamOptions
}

export interface Proxied<U> {
  upstream: U
  proxy: SseProxy
  front: Front
}

/** Mounts the middleware at `/events` before an upstream whose events are at `/stream`. */
export async function proxied(
  t: TestContext,
  options: OptionsFor<Upstream> = {},
  { host = 'express5', upstream: upstreamOptions, ...mounting }: Arrangement = {},
): Promise<Proxied<Upstream>> {
  const upstream = await startUpstream(upstreamOptions)
  return await arrange(t, upstream, options, host, mounting)
}

/** The same before an upstream that is scripted byte by byte. */
export async function rawProxied(
  t: TestContext,
  options: OptionsFor<RawUpstream> = {},
  { host = 'express5', ...mounting }: Omit<Arrangement, 'upstream'> = {},
): Promise<Proxied<RawUpstream>> {
  const upstream = await startRawUpstream()
  return await arrange(t, upstream, options, host, mounting)
}

async function arrange<U extends Upstream | RawUpstream>(
  t: TestContext,
  upstream: U,
  options: OptionsFor<U>,
  host: Host,
  mounting: FrontOptions,
): Promise<Proxied<U>> {
  const given = typeof options === 'function' ? options(upstream) : options
  const http2 = areOverHttp2 && upstream instanceof Upstream ? 'prior-knowledge' : false
  const proxy = sseProxy({ target: `${upstream.url}/stream`, http2, ...given } as SseProxyOptions)
  const front = await startFront(host, proxy, mounting)
  t.after(async () => {
    // Every client leaves first: whatever the test was about, this must free the upstream.
    front.closeClients()
    try {
      await until(
        () => !('open' in upstream) || upstream.open === 0,
        'the upstream to be free of requests once all clients have gone',
      )
    } finally {
      await front.close()
      await upstream.close()
    }
  })
  return { upstream, proxy, front }
}
