// Connections to upstreams: kept alive for the next request, unlimited in number (at a limit, Node's own agents let a
// stream wait for a socket without a word), and watched while they are idle.

import http from 'node:http'
import https from 'node:https'
import { UPSTREAM_SILENCE_MS } from '../tcp-keepalive.ts'

type Socket = Parameters<http.Agent['keepSocketAlive']>[0]

/** The agents of one proxy, for requests that bring none of the app's own. */
export interface Agents {
  /** Kept-alive connections without a limit in number. */
  pooled(secure: boolean): http.Agent
  /** Always a new connection: for a request that cannot be sent twice, and after a pooled one turned out dead. */
  fresh(secure: boolean): http.Agent
  /** Ends all connections, those of open requests included. */
  destroy(): void
}

export function createAgents(): Agents {
  const kept = { keepAlive: true, keepAliveMsecs: UPSTREAM_SILENCE_MS, maxSockets: Number.POSITIVE_INFINITY }
  const plain = withIdleGuard(new http.Agent(kept))
  const secured = withIdleGuard(new https.Agent(kept))
  const plainOnce = usedOnce(new http.Agent(kept))
  const securedOnce = usedOnce(new https.Agent(kept))
  return {
    pooled: (secure) => (secure ? secured : plain),
    fresh: (secure) => (secure ? securedOnce : plainOnce),
    destroy() {
      for (const agent of [plain, secured, plainOnce, securedOnce]) agent.destroy()
    },
  }
}

/**
 * Closes a connection after its first answer. The request does not say so: an upstream that knows closes as soon as it
 * has answered, and where that is before it has read all of a body, the reset overtakes the answer.
 */
function usedOnce(agent: http.Agent): http.Agent {
  return Object.assign(agent, { keepSocketAlive: () => false })
}

/**
 * The same agent; an idle connection of its on which the upstream sends something ends. That upstream is out of step: what
 * follows could pass for the answer to the next request, which may be another client's. Node's own agents look out for
 * it in their latest releases only.
 */
function withIdleGuard<A extends http.Agent>(agent: A): A {
  const { keepSocketAlive, reuseSocket } = agent
  return Object.assign(agent, {
    keepSocketAlive(socket: Socket): unknown {
      socket.on('data', endIdle)
      return keepSocketAlive.call(agent, socket)
    },
    reuseSocket(socket: Socket, request: http.ClientRequest): void {
      socket.off('data', endIdle)
      reuseSocket.call(agent, socket, request)
    },
  })
}

function endIdle(this: Socket): void {
  this.destroy()
  // Until it has closed, the agent would still give it to the next request.
  this.emit('agentRemove')
}
