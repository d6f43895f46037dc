// What Node does not offer, or offers for one protocol only, of the connection under a client's response.

import { OutgoingMessage, ServerResponse } from 'node:http'
import type { ServerHttp2Stream } from 'node:http2'
import { Socket } from 'node:net'

// Middleware that replaces `write`, for one response or for all, wants to see the body. Node's own is inherited.
const untouchedWrite = Object.hasOwn(ServerResponse.prototype, 'write') ? undefined : OutgoingMessage.prototype.write

/** The stream of a response over HTTP/2; undefined for HTTP/1. */
export function http2Stream(res: ServerResponse): ServerHttp2Stream | undefined {
  return isHttp2(res) ? res.stream : undefined
}

/** Responses of HTTP/2 pass for those of HTTP/1, and have this beside. */
function isHttp2(res: ServerResponse): res is ServerResponse & { readonly stream: ServerHttp2Stream } {
  return 'stream' in res
}

/** The connection, where no middleware has a part in the response's bytes, and they are chunks. */
export function connectionForChunks(res: ServerResponse): Socket | undefined {
  if (http2Stream(res) || !res.chunkedEncoding) return undefined
  return res.write === untouchedWrite ? (res.socket ?? undefined) : undefined
}

/** Whether it is Node's own, whose writes end in the kernel: TLS, a stand-in or a tool of the app's may keep what it is given. */
export function isPlainTcp(socket: Socket): boolean {
  return socket instanceof Socket && !('encrypted' in socket) && socket.write === Socket.prototype.write
}

/**
 * Node throws for any connection but one of plain TCP. Over TLS a client can tell an end that was not announced from one
 * that was; on a Unix socket HTTP/1.0 has no sign for it.
 */
export function reset(socket: Socket): void {
  try {
    socket.resetAndDestroy()
  } catch {
    socket.destroy()
  }
}

/**
 * What the kernel has not been able to take yet of the write under way, which Node counts as waiting until all of it has
 * left. It is not documented, but what Node's own timeouts of sockets go by; where it is missing, a write counts as a whole.
 */
export function sendingBytesOf(res: ServerResponse): number {
  const handle: unknown = http2Stream(res) || !res.socket ? undefined : Reflect.get(res.socket, '_handle')
  const bytes: unknown = typeof handle === 'object' && handle !== null && Reflect.get(handle, 'writeQueueSize')
  return typeof bytes === 'number' ? bytes : 0
}
