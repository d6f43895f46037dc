// What the buttons of the page set off on the server's side. Whatever can be seen in the page's own two streams is
// judged there; what needs other clients than a browser has is done and measured here.
import type { Request, Response } from 'express'
import type { Nodes } from '../nodes/nodes.ts'
import type { Proxies } from '../proxies.ts'
import { userOf } from '../session-cookie.ts'
import type { Via } from '../upstreams/backend.ts'
import type { Upstreams } from '../upstreams/upstreams.ts'
import type { Both } from './both.ts'
import { type CrowdResult, gatherCrowd } from './crowd.ts'
import { timeToFirstEvent } from './first-event.ts'
import { type IdleResult, throughLoadBalancer } from './load-balancer.ts'
import { killOwner, type NodesResult, startAgain } from './nodes.ts'
import { firstEventMs } from './patience.ts'
import { type PollingResult, watchChange } from './polling.ts'
import { type StallResult, stallClient } from './stalled-client.ts'
import { type Visit, visit } from './visits.ts'

export interface ExperimentResults {
  kill: Record<never, never>
  restart: { readonly downMs: number }
  silence: Both<IdleResult>
  crowd: Both<CrowdResult>
  http2: Both<CrowdResult>
  'stop-reading': Both<StallResult>
  sticky: Both<Visit[]>
  compression: Both<number | null>
  drain: { readonly withinMs: number }
  poll: Both<PollingResult>
  'kill-node': NodesResult
  'start-node': NodesResult
}

type Name = keyof ExperimentResults

// Longer than the 3 s after which a browser comes back.
const downMs = 4000
const drainMs = 1500
const crowdSize = 500
// Plain http-proxy-middleware has 256 connections to a host at most.
const http2CrowdSize = 200

export class ExperimentRunner {
  readonly #upstreams: Upstreams
  readonly #proxies: Proxies
  readonly #nodes: Nodes
  readonly #cutPlain: () => void
  #running: string | undefined

  constructor(upstreams: Upstreams, proxies: Proxies, nodes: Nodes, cutPlain: () => void) {
    this.#upstreams = upstreams
    this.#proxies = proxies
    this.#nodes = nodes
    this.#cutPlain = cutPlain
  }

  readonly handle = async (req: Request, res: Response): Promise<void> => {
    const name = String(req.params.name)
    if (!Object.hasOwn(this.#experiments, name)) return void res.status(404).json({ error: 'no such experiment' })
    if (this.#running) return void res.status(409).json({ error: `${this.#running} is still running` })
    this.#running = name
    try {
      res.json(await this.#experiments[name as Name](req))
    } catch (error) {
      res.status(500).json({ error: String(error) })
    } finally {
      this.#running = undefined
    }
  }

  readonly #experiments: { [N in Name]: (req: Request) => Promise<ExperimentResults[N]> } = {
    kill: async () => {
      this.#upstreams.ticker.breakMidEvent()
      return {}
    },

    restart: async () => {
      await this.#upstreams.restart(downMs)
      return { downMs }
    },

    silence: async (req) => {
      const ms = Math.min(Math.max(Number(req.body?.seconds) || 10, 2), 120) * 1000
      this.#upstreams.ticker.goSilent(ms)
      return await both((via) => throughLoadBalancer(portOf(req), path(via, 'ticker'), ms))
    },

    crowd: async (req) => {
      const gather = (via: Via, route: string) =>
        gatherCrowd(urlOf(req) + route, crowdSize, () => this.#upstreams.countConnections(via))
      return { proxied: await gather('proxied', '/events/shared'), plain: await gather('plain', '/plain/ticker') }
    },

    http2: async (req) => {
      const gather = (via: Via) =>
        gatherCrowd(urlOf(req) + path(via, 'secure'), http2CrowdSize, () =>
          this.#upstreams.secure.countConnections(via),
        )
      return { proxied: await gather('proxied'), plain: await gather('plain') }
    },

    'stop-reading': (req) => both((via) => stallClient(portOf(req), path(via, 'flood'), via, this.#upstreams.flood)),

    sticky: async (req) => {
      if (userOf(req) === undefined) throw new Error('sign in first')
      const come = (via: Via) => visit(urlOf(req) + path(via, 'notifications'), String(req.headers.cookie), 6)
      // One after the other: the backends count visits of both routes.
      return { proxied: await come('proxied'), plain: await come('plain') }
    },

    compression: async (req) => ({
      proxied: await timeToFirstEvent(`${urlOf(req)}/events/ticker`, firstEventMs),
      plain: await timeToFirstEvent(`${urlOf(req)}/plain-compressed/ticker`, firstEventMs),
    }),

    drain: async () => {
      // What a process that ends does to streams that nobody has drained.
      this.#cutPlain()
      await this.#proxies.replace(drainMs)
      return { withinMs: drainMs }
    },

    poll: (req) => watchChange(urlOf(req), this.#upstreams.status),

    'kill-node': () => killOwner(this.#nodes),
    'start-node': () => startAgain(this.#nodes),
  }
}

async function both<T>(run: (via: Via) => Promise<T>): Promise<Both<T>> {
  const [proxied, plain] = await Promise.all([run('proxied'), run('plain')])
  return { proxied, plain }
}

function path(via: Via, route: string): string {
  return `${via === 'proxied' ? '/events' : '/plain'}/${route}`
}

function portOf(req: Request): number {
  return req.socket.localPort ?? 0
}

function urlOf(req: Request): string {
  return `http://127.0.0.1:${portOf(req)}`
}
