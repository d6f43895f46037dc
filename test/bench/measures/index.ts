// All that is measured, in the order of the tables.

import { comeAndGo, connecting } from './connecting.ts'
import { formats } from './formats.ts'
import { otherHosts } from './hosts.ts'
import { idleStreams } from './idle.ts'
import { type Family, isProxy, type Run } from './measure.ts'
import { nodes, nodesInRedis } from './nodes.ts'
import { growth, latency, paced } from './paced.ts'
import { sharing } from './sharing.ts'
import { flood, throughput, throughputCpu } from './throughput.ts'
import { overTls } from './tls.ts'

export const families: readonly Family[] = [
  latency,
  throughput,
  throughputCpu,
  growth,
  connecting,
  idleStreams,
  sharing,
  overTls,
  otherHosts,
  formats,
  nodesInRedis,
  nodes,
]

/** What every proxy does before anything counts, so that its compilers have settled. */
export const warmUp: Run = {
  name: 'warm-up',
  settings: {},
  takes: isProxy,
  measure: async (load) => {
    await paced(load, { streams: 100, rate: 50, warmUpMs: 0, ms: 300 })
    await load.closeAll()
    await comeAndGo(load, { warmUpMs: 0, ms: 400 })
    await load.closeAll()
    return flood(load, { streams: 10, batch: 8, warmUpMs: 0, ms: 200 })
  },
}
