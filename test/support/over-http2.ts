// The usual arrangement with HTTP/2 to the upstream, without TLS so that frames can be written by hand.
import type { TestContext } from 'node:test'
import { rstFrame } from './http2-frames.ts'
import { type Arrangement, type OptionsFor, type Proxied, proxied } from './proxied.ts'
import type { Exchange, Upstream } from './upstream.ts'

export async function overHttp2(
  t: TestContext,
  options: OptionsFor<Upstream> = {},
  arrangement: Arrangement = {},
): Promise<Proxied<Upstream>> {
  const given = (upstream: Upstream) => ({
    http2: 'prior-knowledge' as const,
    ...(typeof options === 'function' ? options(upstream) : options),
  })
  return await proxied(t, given, { ...arrangement, upstream: { http2: {}, ...arrangement.upstream } })
}

/** Resets the stream with any code, at once, as no library would. */
export function reset({ socket, http2Stream }: Exchange, code: number): void {
  // Node's server does not know of it.
  socket?.write(rstFrame(http2Stream.id ?? 0, code), () => http2Stream.destroy())
}

/** Says that no stream above `last` has been or will be worked on. */
export function goAway({ http2Stream }: Exchange, last: number, code = 0): void {
  http2Stream.session?.goaway(code, last)
}
