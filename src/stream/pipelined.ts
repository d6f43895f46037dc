// Requests behind others on their connection. Their responses have no socket of their own yet, and hear nothing when
// the connection goes: one listener tells all of them.

import type { Socket } from 'node:net'

type Gone = () => void

const waiting = new WeakMap<Socket, Set<Gone>>()

export function waitOn(socket: Socket, gone: Gone): void {
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

export function stopWaitingOn(socket: Socket, gone: Gone): void {
  waiting.get(socket)?.delete(gone)
}
