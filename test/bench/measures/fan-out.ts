// One feed for many subscribers: the same event to all of them, 20 times a second.

import { setTimeout as sleep } from 'node:timers/promises'
import { everyTurn, type Figures, type Load, type Settings } from '../load/load.ts'
import type { Family } from './measure.ts'
import { during, percentiles, warmUpMs } from './window.ts'

const sentInATurn = 32

async function fanOut(load: Load, { streams = 1_000, rate = 20, ms = 2_000 }: Settings): Promise<Figures> {
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
function publish(load: Load, rate: number): () => void {
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

const columnsOf = (run: string): Family['columns'] => [
  { heading: 'upstreams', run, value: (f) => f.upstreams },
  { heading: 'delivered/s', run, value: (f) => f.perSecond, saturates: run === 'fan-out-5000' },
  { heading: 'CPU µs', run, value: (f) => f.cpuUs, ratio: true },
  { heading: 'p50 ms', run, value: ({ p50 = NaN }) => p50 / 1e3 },
  { heading: 'p99 ms', run, value: ({ p99 = NaN }) => p99 / 1e3, ratio: true },
]

export const fanOut1000: Family = {
  name: 'fan-out',
  title: 'Fan-out to 1,000 subscribers of one URL',
  note: '20 events a second. CPU: of the proxy, per delivery. Latency: from publishing to arrival, the sending to all upstream connections included.',
  runs: [{ name: 'fan-out-1000', settings: { streams: 1_000, ms: 1_500 }, measure: fanOut, quick: true }],
  columns: columnsOf('fan-out-1000'),
}

export const fanOut5000: Family = {
  name: 'fan-out',
  title: 'Fan-out to 5,000 subscribers of one URL',
  note:
    'The same. 100,000 deliveries a second are due: who delivers fewer was at its limit (of a core, or the load generator’s ' +
    'where the direct row falls short as well), and its latencies are those of a queue.',
  runs: [{ name: 'fan-out-5000', settings: { streams: 5_000, ms: 1_500 }, measure: fanOut }],
  columns: columnsOf('fan-out-5000'),
}
