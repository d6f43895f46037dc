// When a request may be served: responses leave a connection in the order of its requests, so what is pipelined behind
// another response waits here, before it has cost an upstream or a place.

import { type IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

// No client that means well comes near this. Node itself reads and keeps requests without a limit.
const MAX_WAITING = 10_000

// Who waits on a connection. Their responses hear nothing when it goes: one listener tells all of them.
const waiting = new WeakMap<Socket, Set<() => void>>()

/** Serves when the response has its connection, at once where it has; where that ends before, it calls `onNever`. */
export function onTurn(req: IncomingMessage, res: ServerResponse, serve: () => void, onNever: () => void): void {
  if (!isBehindAnother(req, res)) return serve()
  const { socket } = req
  const all = waiting.get(socket) ?? waitOn(socket)
  all.add(onNever)
  if (all.size > MAX_WAITING) return void socket.destroy()
  res.once('socket', () => {
    all.delete(onNever)
    // Node is in the middle of handing the connection over.
    process.nextTick(serve)
  })
}

function waitOn(socket: Socket): Set<() => void> {
  const all = new Set<() => void>()
  waiting.set(socket, all)
  socket.once('close', () => {
    for (const onNever of all) onNever()
  })
  return all
}

/** A response without a connection waits for none where no other has it: there are hosts that never give it one. */
function isBehindAnother({ socket }: IncomingMessage, res: ServerResponse): boolean {
  if (res.socket !== null) return false
  const current: unknown = Reflect.get(socket, '_httpMessage')
  return current instanceof ServerResponse && current !== res
}
