// Connections to upstreams: kept alive for the next request, unlimited in number (at a limit, Node's own agents let a
// stream wait for a socket without a word), and watched while they are idle.

import type http from 'node:http'
import https from 'node:https'
import { UPSTREAM_SILENCE_MS } from '../tcp-keepalive.ts'
import { PlainAgent } from './plain-agent.ts'
import type { Upstream } from './transport.ts'

type Socket = Parameters<http.Agent['keepSocketAlive']>[0]

/** The agents of one proxy, for requests that bring none of the app's own. */
export interface Agents {
  /** Kept-alive connections without a limit in number: an upstream's own, or, without one, those to where a router leads. */
  pooled(secure: boolean, upstream: Upstream | undefined): http.Agent
  /** Always a new connection: for a request that cannot be sent twice, and after a pooled one turned out dead. */
  fresh(secure: boolean, upstream: Upstream | undefined): http.Agent
  /** How many connections of HTTP/2 there are to it; absent where none is spoken. */
  http2Connections?(upstream: Upstream): number
  /** No request follows: connections to it that are idle end, and those in use behind their answer. */
  retire(upstream: Upstream): void
  /** Ends all connections, those of open requests included. */
  destroy(): void
}

/** Makes an agent for the connections of one upstream, with TLS or without. */
export type CreateAgent = (secure: boolean, options: http.AgentOptions, upstream: Upstream | undefined) => http.Agent

interface UpstreamAgents {
  readonly pooled: AgentPair
  readonly fresh: AgentPair
}

interface AgentPair {
  readonly plain: http.Agent
  readonly secured: http.Agent
}

export function createAgents(create: CreateAgent): Agents {
  const byUpstream = new Map<Upstream | undefined, UpstreamAgents>()
  // Those of upstreams that are retired. They go when their last connection has ended.
  const retired = new Set<http.Agent>()
  const createPair = (upstream: Upstream | undefined, prepared: <A extends http.Agent>(agent: A) => A): AgentPair => {
    const kept = { keepAlive: true, keepAliveMsecs: UPSTREAM_SILENCE_MS, maxSockets: Number.POSITIVE_INFINITY }
    return { plain: prepared(create(false, kept, upstream)), secured: prepared(create(true, kept, upstream)) }
  }
  const agentsFor = (upstream: Upstream | undefined): UpstreamAgents => {
    const known = byUpstream.get(upstream)
    if (known) return known
    const agents = { pooled: createPair(upstream, withIdleGuard), fresh: createPair(upstream, usedOnce) }
    byUpstream.set(upstream, agents)
    return agents
  }
  return {
    pooled(secure, upstream) {
      const { pooled } = agentsFor(upstream)
      return secure ? pooled.secured : pooled.plain
    },
    fresh(secure, upstream) {
      const { fresh } = agentsFor(upstream)
      return secure ? fresh.secured : fresh.plain
    },
    retire(upstream) {
      for (const agent of agentsOf(byUpstream.get(upstream))) {
        usedOnce(agent)
        for (const socket of Object.values(agent.freeSockets).flatMap((idle) => idle ?? [])) endIdle.call(socket)
        retired.add(agent)
      }
      byUpstream.delete(upstream)
      for (const agent of retired) if (!isInUse(agent)) retired.delete(agent)
    },
    destroy() {
      for (const agent of [...[...byUpstream.values()].flatMap(agentsOf), ...retired]) agent.destroy()
    },
  }
}

/**
 * Makes agents whose connections speak HTTP/1.1.
 * @param fastLane whether what their connections read may be borrowed
 */
export function http1Agents(fastLane: boolean): CreateAgent {
  return (secure, options) => (secure ? new https.Agent(options) : new PlainAgent(options, fastLane))
}

function agentsOf(agents: UpstreamAgents | undefined): http.Agent[] {
  return agents ? [agents.pooled, agents.fresh].flatMap(({ plain, secured }) => [plain, secured]) : []
}

function isInUse(agent: http.Agent): boolean {
  return Object.keys(agent.sockets).length > 0 || (agent instanceof PlainAgent && agent.hasFirstRequests)
}

/**
 * Closes a connection after its first answer. The request does not say so: an upstream that knows closes as soon as it
 * has answered, and where that is before it has read all of a body, the reset overtakes the answer.
 */
function usedOnce<A extends http.Agent>(agent: A): A {
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
