// Where a proxy stands.

/** Servers beside plain ones of HTTP/1.1. */
export type Host = 'http2-server' | 'compression'

export interface Place {
  readonly port: number
  /** Ports of the upstream; all of them lead to the same one. */
  readonly upstreamPorts: readonly number[]
  /** Where the same one speaks HTTP/2, or HTTP/1.1, over TLS. */
  readonly tlsPort: number
  /** Where the node is that has opened what this one follows. */
  readonly ownerPort: number
  readonly redisPort: number
}

/** The length of the queue of connections: a burst of them is measured, not a burst of refusals. */
export const backlog = 4096
