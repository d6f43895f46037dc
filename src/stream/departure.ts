// How it is noticed that a response is over, above all because its client is gone.

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { http2Stream } from './client-writer.ts'

/** Calls back when the response is over, in whatever state it is; a request that is pipelined may hear of it twice. */
export function onGone(req: IncomingMessage, res: ServerResponse, listener: { onGone(): void }): void {
  const socket = http2Stream(res) ? undefined : res.socket
  const gone = () => {
    // The connection's socket leads to the response until a major collection has looked at both.
    res.off('close', gone)
    // Adapters of serverless platforms bring sockets that have no `off`.
    socket?.removeListener('end', ended)
    waiting.get(req.socket)?.delete(gone)
    listener.onGone()
  }
  // A client that sends no more gets no more from Node, which has ended the connection by now, unless the server is told
  // otherwise. Where nothing waits to leave, that need not be waited for. Node would go on to make an error of the
  // request, which costs more than all of this, even where nobody listens.
  const ended = () => {
    if (!socket?.writableEnded || socket.writableLength > 0) return
    socket.destroy()
    if (req.listenerCount('error') === 0) req.destroy()
  }
  res.on('close', gone)
  if (socket) socket.on('end', ended)
  else if (socket === null) waitOn(req.socket, gone)
}

// Requests behind others on their connection. Their responses have no socket of their own yet, and hear nothing when
// the connection goes: one listener tells all of them.
const waiting = new WeakMap<Socket, Set<() => void>>()

function waitOn(socket: Socket, gone: () => void): void {
  const known = waiting.get(socket)
  if (known) {
    known.add(gone)
    return
  }
  const all = new Set([gone])
  waiting.set(socket, all)
  socket.once('close', () => {
    for (const each of all) each()
  })
}
