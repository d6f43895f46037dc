// All that is measured, in the order of the tables.

import { connecting, connections } from './connecting.ts'
import { fanOut1000, fanOut5000 } from './fan-out.ts'
import { idleClients, idleStreams } from './idle.ts'
import type { Family, Run } from './measure.ts'
import { growth, latency, paced } from './paced.ts'
import { flood, throughput, throughputCpu } from './throughput.ts'

export const families: readonly Family[] = [
  latency,
  throughput,
  throughputCpu,
  growth,
  connecting,
  idleStreams,
  fanOut1000,
  fanOut5000,
  idleClients,
]

/** What every proxy does before anything counts, so that its compilers have settled. */
export const warmUps: readonly Run[] = [
  { name: 'warm-up-paced', settings: { streams: 100, rate: 50, ms: 400 }, measure: paced },
  { name: 'warm-up-connections', settings: { ms: 600 }, measure: connections },
  { name: 'warm-up-flood', settings: { streams: 10, batch: 8, ms: 200 }, measure: flood },
]
