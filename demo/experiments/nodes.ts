// A node that reads the feed for all is killed, and started again, while clients of every node look on.
import type { Node, Nodes } from '../nodes/nodes.ts'
import { RedisServer } from '../nodes/redis-server.ts'
import type { Via } from '../upstreams/backend.ts'
import type { Both } from './both.ts'
import { FeedClient } from './feed-client.ts'
import { patiently } from './waiting.ts'

export interface FeedResult {
  readonly clients: number
  /** Those of a node that was killed. */
  readonly orphans: number
  /** Those whose connection was never lost. */
  readonly stayed: number
  /** The longest time that one of these was without an event. */
  readonly silenceMs: number
  /** Events that clients did not get, or got twice. */
  readonly missed: number
  readonly repeated: number
  /** Connections to the upstream, when all nodes ran. */
  readonly upstream: number
}

export type NodesResult =
  | { readonly impossible: string }
  | (Both<FeedResult> & {
      /** What was killed or started, and who reads the feed for all afterwards. */
      readonly node: string
      readonly owner: string
      readonly startMs: number
    })

const clientsOfNode = 10
// So many events after the other nodes were left alone, all is over: two seconds of them.
const eventsAfter = 20
const patienceMs = 15_000

const notInstalled = 'redis-server is not installed here: apt-get install redis-server, or brew install redis.'

export async function killOwner(nodes: Nodes): Promise<NodesResult> {
  if (!(await RedisServer.isInstalled())) return { impossible: notInstalled }
  await nodes.startOnce()
  if (nodes.running.length < 2) return { impossible: 'One node is left: start another one again first.' }
  const crowds = new Crowds(nodes)
  try {
    await crowds.join(nodes.running)
    const upstream = crowds.countUpstream()
    const node = await nodes.owner()
    await nodes.kill(node)
    const last = nodes.feed.n + eventsAfter
    await crowds.see(last)
    const owner = await nodes.owner()
    return { ...crowds.tell(last, upstream, clientsOfNode), node: node.name, owner: owner.name, startMs: 0 }
  } finally {
    crowds.leave()
  }
}

export async function startAgain(nodes: Nodes): Promise<NodesResult> {
  const [name] = nodes.dead
  if (name === undefined) return { impossible: 'No node is dead: kill one first.' }
  const crowds = new Crowds(nodes)
  try {
    await crowds.join(nodes.running)
    const since = performance.now()
    const node = await nodes.start(name)
    const startMs = performance.now() - since
    await crowds.join([node])
    const last = nodes.feed.n + eventsAfter
    await crowds.see(last)
    const owner = await nodes.owner()
    return { ...crowds.tell(last, crowds.countUpstream(), 0), node: name, owner: owner.name, startMs }
  } finally {
    crowds.leave()
  }
}

/** Clients on both routes of each node. */
class Crowds {
  readonly #nodes: Nodes
  readonly #clients: Record<Via, FeedClient[]> = { proxied: [], plain: [] }

  constructor(nodes: Nodes) {
    this.#nodes = nodes
  }

  /** Resolves when each client of the nodes has got something. */
  async join(nodes: readonly Node[]): Promise<void> {
    for (const { url } of nodes) {
      for (let i = 0; i < clientsOfNode; i++) {
        this.#clients.proxied.push(new FeedClient(`${url}/events`, () => `${this.#another()}/events`))
        this.#clients.plain.push(new FeedClient(`${url}/plain`, () => `${this.#another()}/plain`))
      }
    }
    await this.see(1)
  }

  /** Resolves when each client has got this event, or has had its time. */
  async see(n: number): Promise<void> {
    const all = [...this.#clients.proxied, ...this.#clients.plain]
    await patiently(() => all.every((client) => client.n >= n), patienceMs)
  }

  countUpstream(): Both<number> {
    const count = (via: Via) => this.#nodes.feed.backends.reduce((sum, backend) => sum + backend.countStreams(via), 0)
    return { proxied: count('proxied'), plain: count('plain') }
  }

  /** Of all that happened up to this event. */
  tell(last: number, upstream: Both<number>, orphans: number): Both<FeedResult> {
    const tell = (via: Via): FeedResult => {
      const clients = this.#clients[via]
      const stayed = clients.filter(({ losses }) => losses === 0)
      return {
        clients: clients.length,
        orphans,
        stayed: stayed.length,
        silenceMs: Math.max(...stayed.map(({ silenceMs }) => silenceMs)),
        missed: clients.reduce((sum, { missed, n }) => sum + missed + Math.max(0, last - n), 0),
        repeated: clients.reduce((sum, { repeated }) => sum + repeated, 0),
        upstream: upstream[via],
      }
    }
    return { proxied: tell('proxied'), plain: tell('plain') }
  }

  leave(): void {
    for (const client of [...this.#clients.proxied, ...this.#clients.plain]) client.close()
  }

  /** Where a load balancer sends those whose node is gone. */
  #another(): string {
    const { running } = this.#nodes
    return running[Math.floor(Math.random() * running.length)]?.url ?? ''
  }
}
