// Connections to upstreams. Node's own limits would let a stream wait for a socket without a word, so there are none.

import http from 'node:http'
import https from 'node:https'
import { UPSTREAM_SILENCE_MS } from '../tcp-keepalive.ts'
import { withIdleGuard } from './idle-guard.ts'
import { LeanAgent, ofConnection } from './lean-agent.ts'

export interface Agents {
  /** Kept-alive connections without a limit in number. */
  pooled(secure: boolean): http.Agent
  /** The same where something is mirrored: nobody waits for that, so its agent has to know the connection to end it. */
  mirroring(secure: boolean): http.Agent
  /** Always a new connection: for a request that cannot be sent twice, and after a pooled one turned out dead. */
  fresh(secure: boolean): http.Agent
  destroy(): void
}

export function createAgents(): Agents {
  const kept = { keepAlive: true, keepAliveMsecs: UPSTREAM_SILENCE_MS, maxSockets: Number.POSITIVE_INFINITY }
  const plain = withIdleGuard(new LeanAgent())
  const plainMirroring = withIdleGuard(lean(new http.Agent(kept)))
  const secured = withIdleGuard(lean(new https.Agent(kept)))
  const plainOnce = usedOnce(new http.Agent(kept))
  const securedOnce = usedOnce(new https.Agent(kept))
  return {
    pooled: (secure) => (secure ? secured : plain),
    mirroring: (secure) => (secure ? secured : plainMirroring),
    fresh: (secure) => (secure ? securedOnce : plainOnce),
    destroy() {
      for (const agent of [plain, plainMirroring, secured, plainOnce, securedOnce]) agent.destroy()
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

/** Where all of a connection is Node's affair, it keeps less of the request's options at least. */
function lean(agent: http.Agent): http.Agent {
  const addRequest: unknown = Reflect.get(agent, 'addRequest')
  if (typeof addRequest !== 'function') return agent
  return Object.assign(agent, {
    addRequest(request: unknown, options: Record<string, unknown>, ...rest: unknown[]): void {
      Reflect.apply(addRequest, agent, [request, ofConnection(options), ...rest])
    },
  })
}
