// When a request may be served: responses leave a connection in the order of its requests, so what is pipelined behind
// another response waits here, before it has cost an upstream or a place.

import { type IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

// No client that means well comes near this. Node itself reads and keeps requests without a limit.
const MAX_WAITING = 10_000

// How many requests wait on a connection.
const waiting = new WeakMap<Socket, number>()

/** Calls back when the response has its connection, at once where it has; never where the connection ends before. */
export function onTurn(req: IncomingMessage, res: ServerResponse, serve: () => void): void {
  if (!isBehindAnother(req, res)) return serve()
  const { socket } = req
  const before = waiting.get(socket) ?? 0
  if (before >= MAX_WAITING) return void socket.destroy()
  waiting.set(socket, before + 1)
  res.once('socket', () => {
    waiting.set(socket, (waiting.get(socket) ?? 1) - 1)
    // Node is in the middle of handing the connection over.
    process.nextTick(serve)
  })
}

/** A response without a connection waits for none where no other has it: there are hosts that never give it one. */
function isBehindAnother({ socket }: IncomingMessage, res: ServerResponse): boolean {
  if (res.socket !== null) return false
  const current: unknown = Reflect.get(socket, '_httpMessage')
  return current instanceof ServerResponse && current !== res
}
