// Where a proxy stands.

export interface Place {
  readonly port: number
  /** Ports of the upstream; all of them lead to the same one. */
  readonly upstreamPorts: readonly number[]
}

/** The length of the queue of connections: a burst of them is measured, not a burst of refusals. */
export const backlog = 4096
