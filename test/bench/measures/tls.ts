// An upstream behind TLS: what a connection to it costs, and what many streams do, over HTTP/1.1 and over HTTP/2.

import type { Contender } from '../contenders/index.ts'
import { comeAndGo, headers } from './connecting.ts'
import { idle } from './idle.ts'
import type { Family } from './measure.ts'
import { paced } from './paced.ts'

const streams = 1_000
const takes = ({ tls }: Contender): boolean => tls === true

export const overTls: Family = {
  name: 'tls',
  title: 'An upstream behind TLS',
  note:
    'Headers: from connecting to the proxy, one after the other. Connections: connect, first event, leave, 16 at a time. 1,000 streams: ' +
    'each with 4 events a second; connections to the upstream, which takes 100 streams on one; CPU of the proxy per event. Memory: of 1,000 ' +
    'streams on which nothing happens.',
  runs: [
    { name: 'tls-headers', settings: { count: 50 }, measure: headers, takes },
    { name: 'tls-connections', settings: { ms: 1_500 }, measure: comeAndGo, takes },
    { name: 'tls-held', settings: { streams, rate: 4, ms: 2_000 }, measure: paced, takes },
    { name: 'tls-idle', settings: { streams }, measure: idle, fresh: true, takes },
  ],
  columns: [
    { heading: 'headers p50 ms', run: 'tls-headers', value: ({ head_p50 = NaN }) => head_p50 / 1e3 },
    { heading: 'connections/s', run: 'tls-connections', value: (f) => f.perSecond, saturates: true },
    { heading: 'CPU µs', run: 'tls-connections', value: (f) => f.cpuUs },
    { heading: '1,000 streams: connections', run: 'tls-held', value: (f) => f.upstreams },
    { heading: 'CPU µs an event', run: 'tls-held', value: (f) => f.cpuUs },
    { heading: 'idle: KiB each', run: 'tls-idle', value: (f) => f.kibFew },
  ],
}
