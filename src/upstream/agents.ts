// Connections to upstreams. Node's own limits would let a stream wait for a socket without a word, so there are none.

import http from 'node:http'
import https from 'node:https'

export interface Agents {
  /** Kept-alive connections without a limit in number. */
  pooled(secure: boolean): http.Agent
  /** Always a new connection: for a request that cannot be sent twice, and after a pooled one turned out dead. */
  fresh(secure: boolean): http.Agent
  destroy(): void
}

export function createAgents(): Agents {
  const plain = new http.Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY })
  const secured = new https.Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY })
  const plainOnce = new http.Agent({ keepAlive: false })
  const securedOnce = new https.Agent({ keepAlive: false })
  return {
    pooled: (secure) => (secure ? secured : plain),
    fresh: (secure) => (secure ? securedOnce : plainOnce),
    destroy() {
      for (const agent of [plain, secured, plainOnce, securedOnce]) agent.destroy()
    },
  }
}
