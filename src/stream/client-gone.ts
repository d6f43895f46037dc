// How it is noticed that a response is over, above all because its client is gone.

import { AsyncResource } from 'node:async_hooks'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { http2Stream } from './client-connection.ts'

// Far more than a store takes to bring an ending to the clients, which are broken off then.
const SOON_MS = 2000

/** Calls `onGone` when the response is over, in whatever state it is; twice at most. */
export function onClientGone(req: IncomingMessage, res: ServerResponse, listener: { onGone(): void }): void {
  // Node does not emit `close` on an HTTP/2 response to a HEAD whose client leaves before the answer. Its stream always closes.
  const stream = http2Stream(res)
  const closing = stream ?? res
  const socket = stream ? undefined : res.socket
  const gone = () => {
    // The connection's socket leads to the response until a major collection has looked at both.
    closing.off('close', gone)
    // Adapters of serverless platforms bring sockets that have no `off`.
    socket?.removeListener('end', ended)
    if (socket === null) req.socket.removeListener('close', gone)
    listener.onGone()
  }
  // A client that sends no more gets no more from Node, which has ended the connection by now, unless the server is told
  // otherwise. Where nothing waits to leave, that need not be waited for. Node would go on to make an error of the
  // request, which costs more than all of this, even where no listener hears it: without this a stream that is opened and
  // left costs 5 % more of the CPU.
  const ended = () => {
    if (!socket?.writableEnded || socket.writableLength > 0) return
    socket.destroy()
    if (req.listenerCount('error') === 0) req.destroy()
  }
  closing.on('close', gone)
  if (socket) socket.on('end', ended)
  // A host that gives the response no socket tells it nothing when the connection goes.
  else if (socket === null) req.socket.once('close', gone)
}

/** Calls back when a response is over, or soon where its client takes long to read the rest; a turn later where it is over. */
export function whenOver(res: ServerResponse, callback: () => void): void {
  const closing = http2Stream(res) ?? res
  if (closing.closed || closing.destroyed) return void setImmediate(callback)
  const over = AsyncResource.bind(() => {
    clearTimeout(timer)
    closing.off('close', over)
    callback()
  })
  const timer = setTimeout(over, SOON_MS)
  closing.once('close', over)
}
