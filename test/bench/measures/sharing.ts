// What sharing is for, beside those who do without: one feed for many clients, which all ask for the same URL.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Contender } from '../contenders/index.ts'
import { everyTurn, type Figures, type Load, type Settings } from '../load/load.ts'
import { comeAndGo } from './connecting.ts'
import { fewColumns, fewStreams, idle, idleColumns, manyStreams } from './idle.ts'
import { type Family, isProxy } from './measure.ts'
import { during, percentiles, warmUpMs } from './window.ts'

const sentInATurn = 32
const eventsPerSecond = 20

export async function fanOut(
  load: Load,
  { streams = 1_000, rate = eventsPerSecond, ms = 2_000 }: Settings,
): Promise<Figures> {
  const held = await load.openStreams(streams, true)
  const upstreams = load.upstream.streams.size
  const latencies: number[] = []
  let recording = false
  let arrived = 0
  load.onEvent = (_client, sentAt) => {
    arrived++
    if (recording) latencies.push(performance.now() - sentAt)
  }
  const stop = publish(load, rate)
  await sleep(warmUpMs)
  recording = true
  const figures = await during(load, ms, () => arrived)
  recording = false
  stop()
  return { held, upstreams, ...figures, ...percentiles(latencies) }
}

/** Sends one event after the other to every upstream connection. */
export function publish(load: Load, rate: number): () => void {
  const streams = [...load.upstream.streams]
  let dueAt = performance.now()
  let event = load.event.at(dueAt)
  let next = streams.length
  return everyTurn(() => {
    const now = performance.now()
    if (next >= streams.length && now >= dueAt) {
      event = load.event.at(now)
      next = 0
      dueAt = Math.max(dueAt + 1e3 / rate, now)
    }
    for (let i = 0; i < sentInATurn && next < streams.length; i++) {
      const stream = streams[next++]
      if (stream?.isFree) stream.write(event)
    }
  })
}

const due = (streams: number) => streams * eventsPerSecond

const fanOutColumns = (streams: number, run: string): Family['columns'] => [
  { heading: `${streams.toLocaleString('en')} clients: upstreams`, run, value: (f) => f.upstreams },
  { heading: 'delivered/s', run, value: (f) => f.perSecond, ratio: true, due: due(streams) },
  { heading: 'CPU µs', run, value: (f) => f.cpuUs, ratio: true },
  { heading: 'p50 ms', run, value: ({ p50 = NaN }) => p50 / 1e3, ratio: true },
  { heading: 'p99 ms', run, value: ({ p99 = NaN }) => p99 / 1e3, ratio: true },
]

const isCompared = ({ shares, besideShare }: Contender) => shares === true || besideShare === true
const isComparedProxy = (contender: Contender) => isCompared(contender) && isProxy(contender)

export const sharing: Family = {
  name: 'sharing',
  title: 'Many clients of one URL',
  note:
    `${eventsPerSecond} events a second for everybody. CPU: of the proxy, per delivered event. p50 and p99: from publishing to arrival, ` +
    'the sending to all upstream connections included; who delivers less than is due (20,000 and 100,000 a second) was at its ' +
    'limit, and these are the times of a queue. Idle: growth of the proxy’s resident size for each client of one silent stream. ' +
    'Joins: connect, headers, leave, 16 at a time, at a URL at which somebody is already.',
  runs: [
    { name: 'fan-out-1000', settings: { streams: 1_000, ms: 1_200 }, measure: fanOut, quick: true },
    { name: 'fan-out-5000', settings: { streams: 5_000, ms: 1_500 }, measure: fanOut },
    { name: 'joins', settings: { ms: 1_000, oneUrl: true }, measure: comeAndGo, takes: isCompared },
    {
      name: 'idle-shared',
      settings: { streams: manyStreams, oneUrl: true },
      measure: idle,
      fresh: true,
      takes: isComparedProxy,
    },
    {
      name: 'idle-shared-2000',
      settings: { streams: fewStreams, oneUrl: true },
      measure: idle,
      fresh: true,
      takes: isComparedProxy,
      quick: 'only',
    },
  ],
  columns: [
    ...fanOutColumns(1_000, 'fan-out-1000'),
    ...fanOutColumns(5_000, 'fan-out-5000'),
    { heading: 'joins/s', run: 'joins', value: (f) => f.perSecond, ratio: true, saturates: true },
    { heading: 'CPU µs', run: 'joins', value: (f) => f.cpuUs, ratio: true },
    ...idleColumns('idle-shared'),
    ...fewColumns('idle-shared-2000'),
  ],
}
