// What every proxy written in Node shares: where it is to listen, and what it tells the benchmark.

import { ownUsage } from '../usage.ts'
import type { Place } from './place.ts'

export { backlog } from './place.ts'

interface NodePlace extends Place {
  readonly variant?: string
}

/** Sent by a proxy that cannot take part. */
export interface Refusal {
  readonly refused: string
}

export const { port, upstreamPorts, tlsPort, variant }: NodePlace = JSON.parse(process.argv[2] ?? '{}')

export const upstreams: readonly string[] = upstreamPorts.map((each) => `http://127.0.0.1:${each}`)
export const upstream: string = upstreams[0] ?? ''

/** Leaves the benchmark without this contender, and says why. */
export function refuse(reason: string): void {
  process.send?.({ refused: reason } satisfies Refusal, () => process.exit())
}

process.on('message', () => process.send?.(ownUsage()))
process.once('disconnect', () => process.exit())
