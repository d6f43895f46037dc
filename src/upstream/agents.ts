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
  const plain = lean(new http.Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY }))
  const secured = lean(new https.Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY }))
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

/**
 * Node's agents copy all options of a request for a new connection, headers included, and keep a copy for as long as
 * it is open. Here they get those only that may mean something to a connection.
 */
function lean<A extends http.Agent>(agent: A): A {
  const addRequest: unknown = Reflect.get(agent, 'addRequest')
  // Not documented, though other agents have always been made by it: where it is missing, all stays as Node has it.
  if (typeof addRequest !== 'function') return agent
  return Object.assign(agent, {
    addRequest(request: unknown, options: Options, ...rest: unknown[]): void {
      Reflect.apply(addRequest, agent, [request, ofConnection(options), ...rest])
    },
  })
}

type Options = Record<string, unknown>

const OF_THE_REQUEST = new Set(['agent', 'auth', 'headers', 'hostname', 'method', 'path'])

function ofConnection(options: Options): Options {
  const kept: Options = {}
  for (const name of Object.keys(options)) {
    if (options[name] !== undefined && !OF_THE_REQUEST.has(name)) kept[name] = options[name]
  }
  return kept
}
