// How a dead connection is found on which this side writes nothing: the peer's cable is pulled, and no packet says so. The
// kernel asks after this much silence, ten times, once a second, and closes the connection when nothing comes back.

import type { Socket } from 'node:net'

/** Towards upstreams: they write, so that only the kernel can ask. */
export const UPSTREAM_SILENCE_MS = 15_000

// Towards clients. Comments keep those busy, as a rule; this is for the streams that have none, or are in the middle of an
// event.
const CLIENT_SILENCE_MS = 60_000

/** Unless the app's server has times of its own. HTTP/2 and adapters of serverless platforms have no socket to set. */
export function watchClient(socket: Socket | null): void {
  const server: unknown = socket && Reflect.get(socket, 'server')
  const isSetByApp = typeof server === 'object' && server !== null && Reflect.get(server, 'keepAlive') === true
  if (!isSetByApp) socket?.setKeepAlive?.(true, CLIENT_SILENCE_MS)
}
