// Agents whose requests go over HTTP/2 where the upstream speaks it. To Node's client, http-proxy-middleware and the app they are
// agents like others; requests with an agent of the app's own, upgrades and redirects that are followed do not come here.

import http from 'node:http'
import https from 'node:https'
import { isIP, Socket } from 'node:net'
import { UPSTREAM_SILENCE_MS } from '../../tcp-keepalive.ts'
import { type Agents, type CreateAgent, createAgents } from '../agents.ts'
import type { Upstream } from '../transport.ts'
import { Http2Socket } from './http2-socket.ts'
import { type Http2Mode, Origin, type OriginPolicy } from './origin.ts'

/** See the option `http2`. */
export interface Http2Policy extends Pick<OriginPolicy, 'pingMs' | 'idleMs' | 'connectMs'> {
  readonly mode: Http2Mode
}

// A window holds a frame at least; and what is not read of a stream is held here, whatever the limits say.
const MIN_WINDOW_BYTES = 65_535
const MAX_WINDOW_BYTES = 16_777_216

// A router, or the Host of a request, may lead to any number of them. Past it, what is known of one that is not in use is
// forgotten.
const MAX_ORIGINS = 1000

/**
 * The agents of one proxy; those of an upstream share their sessions.
 * @param bufferBytes how much of an answer may come that is not read
 */
export function createHttp2Agents(
  { mode, ...policy }: Http2Policy,
  bufferBytes: number,
  createHttp1: CreateAgent,
): Agents {
  const windowBytes = Math.min(Math.max(bufferBytes, MIN_WINDOW_BYTES), MAX_WINDOW_BYTES)
  const byUpstream = new Map<Upstream | undefined, Origins>()
  // Those of upstreams that are retired. They go when their last connection has ended.
  const retired = new Set<Origins>()
  const originsOf = (upstream: Upstream | undefined): Origins => {
    const known = byUpstream.get(upstream)
    if (known) return known
    const origins = new Origins((isSecure) => new Origin(mode, isSecure, { ...policy, windowBytes }))
    byUpstream.set(upstream, origins)
    return origins
  }
  const agents = createAgents((secure, options, upstream) => {
    // What is not encrypted has no way to ask.
    if (mode === 'auto' && !secure) return createHttp1(secure, options, upstream)
    const agent = secure ? new https.Agent(options) : new http.Agent(options)
    return overHttp2(agent, (name) => originsOf(upstream).at(name, secure))
  })
  return {
    ...agents,
    http2Connections: (upstream) => byUpstream.get(upstream)?.sessions ?? 0,
    retire(upstream) {
      agents.retire(upstream)
      const origins = byUpstream.get(upstream)
      if (origins) retired.add(origins)
      byUpstream.delete(upstream)
      origins?.retire()
      for (const each of retired) if (each.isOver) retired.delete(each)
    },
    destroy() {
      agents.destroy()
      for (const origins of [...byUpstream.values(), ...retired]) origins.destroy()
    },
  }
}

/** The origins that one upstream is: one, unless its requests differ in Host or TLS options, or a router leads to many. */
class Origins {
  readonly #create: (isSecure: boolean) => Origin
  readonly #byName = new Map<string, Origin>()

  constructor(create: (isSecure: boolean) => Origin) {
    this.#create = create
  }

  /** @param name which connections are alike, as Node's agents name them */
  at(name: string, isSecure: boolean): Origin {
    const known = this.#byName.get(name)
    if (known) return known
    if (this.#byName.size >= MAX_ORIGINS) this.#forgetOne()
    const origin = this.#create(isSecure)
    this.#byName.set(name, origin)
    return origin
  }

  get sessions(): number {
    return [...this.#byName.values()].reduce((sum, origin) => sum + origin.sessions, 0)
  }

  /** Whether they have no connections, and will have none. */
  get isOver(): boolean {
    return this.sessions === 0 && [...this.#byName.values()].every(({ isIdle }) => isIdle)
  }

  retire(): void {
    for (const origin of this.#byName.values()) origin.retire()
  }

  destroy(): void {
    for (const origin of this.#byName.values()) origin.destroy()
  }

  #forgetOne(): void {
    for (const [name, origin] of this.#byName) {
      if (!origin.isIdle) continue
      origin.destroy()
      this.#byName.delete(name)
      return
    }
  }
}

/**
 * The same agent; its requests go over sessions of an origin, as long as that is not known to speak HTTP/1.1 only. They do not
 * pass through Node's pool, which has nothing to keep for them and costs 4 % of the CPU of a request; see `PlainAgent` for
 * how a request asks its agent.
 */
function overHttp2(agent: http.Agent, originOf: (name: string) => Origin): http.Agent {
  const ask: unknown = Reflect.get(agent, 'addRequest')
  if (typeof ask !== 'function') return agent
  return Object.assign(agent, {
    addRequest(request: http.ClientRequest, options: https.RequestOptions): void {
      // They are this request's own.
      options.servername ??= serverNameOf(request, options)
      const name = agent.getName(options)
      const origin = originOf(name)
      if (origin.isHttp1) return void Reflect.apply(ask, agent, [request, options])
      const socket = new Http2Socket(origin, (protocols) => open(agent, options, protocols, name))
      Reflect.apply(request.onSocket, request, [socket])
    },
  })
}

/** As Node's agents open one; by its name they know the TLS session that it may resume. */
function open(agent: http.Agent, options: https.RequestOptions, protocols: string[], name: string): Socket {
  const socket = agent.createConnection({
    ...options,
    ...{ path: options.socketPath ?? null, ALPNProtocols: protocols, _agentKey: name },
    ...{ noDelay: true, keepAlive: true, keepAliveInitialDelay: UPSTREAM_SILENCE_MS },
  })
  if (socket instanceof Socket) return socket
  throw new Error('the agent has opened no socket')
}

/** As Node's agents have it: the name in Host. An address is no name. */
function serverNameOf(request: http.ClientRequest, { host }: https.RequestOptions): string {
  const asked = String(request.getHeader('host') || host)
  const name = (asked.startsWith('[') ? asked.slice(1).split(']', 1) : asked.split(':', 1))[0] ?? ''
  return isIP(name) === 0 ? name : ''
}
