// Other servers than plain ones of HTTP/1.1: what goes to their clients is written as data, and not as the chunks that came.

import type { Contender } from '../contenders/index.ts'
import type { Family } from './measure.ts'
import { paced } from './paced.ts'
import { cpu, flood, megabytes, thousands } from './throughput.ts'

const takes = ({ host }: Contender): boolean => host !== undefined

export const otherHosts: Family = {
  name: 'hosts',
  title: 'Clients of HTTP/2, and clients behind compression()',
  note:
    'Beside piping on the same bare server. Every client of HTTP/2 has a connection of its own, without TLS. Those behind compression() accept ' +
    'no coding, so that nothing is compressed: `res.write` is not Node’s own there. Small: 200-byte events, 64 a write, one HTTP chunk each, ' +
    '100 streams. CPU: of the proxy, in microseconds an event.',
  runs: [
    { name: 'hosts-small', settings: { streams: 100, batch: 64 }, measure: flood, takes },
    { name: 'hosts-large', settings: { streams: 1, bytes: 65_536 }, measure: flood, takes },
    { name: 'hosts-paced', settings: { streams: 200, rate: 10, ms: 1_000 }, measure: paced, takes },
  ],
  columns: [
    { heading: 'small k/s', run: 'hosts-small', value: thousands, ratio: true, saturates: true },
    { heading: 'CPU µs', run: 'hosts-small', value: cpu, ratio: true },
    { heading: '64 KiB MB/s', run: 'hosts-large', value: megabytes, ratio: true, saturates: true },
    { heading: 'CPU µs', run: 'hosts-large', value: cpu, ratio: true },
    { heading: '200 × 10/s CPU µs', run: 'hosts-paced', value: cpu, ratio: true },
  ],
}
