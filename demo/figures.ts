// What the page plots, taken once a second: sums over all proxies and what the backends see on their side.
import type { Proxies } from './proxies.ts'
import type { Upstreams } from './upstreams/upstreams.ts'

export interface Figures {
  readonly at: number
  /** Clients with an open event stream. */
  readonly clients: { readonly proxied: number; readonly plain: number }
  /** Connections to the backends that serve them. */
  readonly upstream: { readonly proxied: number; readonly plain: number }
  readonly eventsOut: number
  readonly keepalives: number
  readonly resumes: number
  readonly firstEvents: { readonly count: number; readonly seconds: number }
  readonly closed: Readonly<Record<string, number>>
  readonly chatTokens: number
  readonly backends: readonly { readonly name: string; readonly up: boolean }[]
}

export function takeFigures(proxies: Proxies, upstreams: Upstreams, plainClients: number): Figures {
  const stats = proxies.stats()
  const sum = (read: (one: (typeof stats)[number]) => number) => stats.reduce((total, one) => total + read(one), 0)
  const closed: Record<string, number> = {}
  for (const one of stats) {
    for (const [reason, count] of Object.entries(one.closed)) closed[reason] = (closed[reason] ?? 0) + count
  }
  return {
    at: Date.now(),
    clients: { proxied: sum(({ active }) => active), plain: plainClients },
    upstream: { proxied: upstreams.countConnections('proxied'), plain: upstreams.countConnections('plain') },
    eventsOut: sum(({ eventsOut }) => eventsOut),
    keepalives: sum(({ keepalives }) => keepalives),
    resumes: sum(({ resumes }) => resumes),
    firstEvents: {
      count: sum(({ timeToFirstEventSeconds }) => timeToFirstEventSeconds.count),
      seconds: sum(({ timeToFirstEventSeconds }) => timeToFirstEventSeconds.sum),
    },
    closed,
    chatTokens: upstreams.chat.tokens,
    backends: upstreams.backends.map(({ name, isUp }) => ({ name, up: isUp })),
  }
}
