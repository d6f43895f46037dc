// Connections that wait to be used again. An upstream that sends something on one of them, unasked, is out of step: what
// follows of that could pass for the answer to the next request, which may be another client's. Node's own agents look
// out for it in their latest releases only.

import type { Agent } from 'node:http'

type Socket = Parameters<Agent['keepSocketAlive']>[0]

/** The same agent; a connection of its that speaks out of turn ends. */
export function withIdleGuard<A extends Agent>(agent: A): A {
  const { keepSocketAlive, reuseSocket } = agent
  return Object.assign(agent, {
    keepSocketAlive(socket: Socket): unknown {
      socket.on('data', end)
      return keepSocketAlive.call(agent, socket)
    },
    reuseSocket(socket: Socket, request: Parameters<Agent['reuseSocket']>[1]): void {
      socket.off('data', end)
      reuseSocket.call(agent, socket, request)
    },
  })
}

function end(this: Socket): void {
  this.destroy()
  // It would be in the pool until it has closed, and be given to whoever asks before that.
  this.emit('agentRemove')
}
