// HTTP pipelining: responses leave a connection in the order of its requests, so a request that is pipelined behind another
// response waits here, before it takes an upstream or counts towards a limit.

import { type IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

// Node reads and keeps pipelined requests without a limit. No honest client comes near this one.
const MAX_WAITING = 10_000

// The waiting requests of each connection. Their responses get no event when it closes, so one listener calls them all.
const waiting = new WeakMap<Socket, Set<() => void>>()

/** Calls `serve` when the response has its connection, at once where it has it, or `onNever` when that closes before. */
export function onTurn(req: IncomingMessage, res: ServerResponse, serve: () => void, onNever: () => void): void {
  if (!isBehindAnother(req, res)) return serve()
  const { socket } = req
  const all = waiting.get(socket) ?? waitOn(socket)
  all.add(onNever)
  if (all.size > MAX_WAITING) return void socket.destroy()
  res.once('socket', () => {
    all.delete(onNever)
    // Node emits this in the middle of assigning the socket.
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

/** False where no other response has the connection: some hosts never assign one. */
function isBehindAnother({ socket }: IncomingMessage, res: ServerResponse): boolean {
  if (res.socket !== null) return false
  const current: unknown = Reflect.get(socket, '_httpMessage')
  return current instanceof ServerResponse && current !== res
}
