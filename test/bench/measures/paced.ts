// Events that come one at a time, each on time: the latency that a proxy adds, and what an event costs it when
// nothing can be done for several at once.

import { setTimeout as sleep } from 'node:timers/promises'
import { everyTurn, type Figures, type Load, type Settings } from '../load/load.ts'
import type { UpstreamStream } from '../load/upstream.ts'
import { manyStreams } from './idle.ts'
import { type Family, isPlain, isProxy } from './measure.ts'
import { during, percentiles, warmUpMs } from './window.ts'

// So that what arrives is read between what is sent.
const sentInATurn = 32
const lateMs = 100

export async function paced(load: Load, settings: Settings): Promise<Figures> {
  const { streams = 1, rate = 100, ms = 1_000 } = settings
  const held = await load.openStreams(streams)
  const latencies: number[] = []
  let recording = false
  let arrived = 0
  load.onEvent = (_client, sentAt) => {
    arrived++
    if (recording) latencies.push(performance.now() - sentAt)
  }
  const stop = pace(load, rate * held)
  await sleep(settings.warmUpMs ?? warmUpMs)
  recording = true
  const figures = await during(load, ms, () => arrived)
  recording = false
  stop()
  load.onEvent = undefined
  return { held, upstreams: load.upstream.connections, ...figures, ...percentiles(latencies) }
}

/** Sends `perSecond` events a second, evenly spread over time and over the streams. */
function pace(load: Load, perSecond: number): () => void {
  const streams = [...load.upstream.streams]
  const stepMs = 1e3 / perSecond
  let dueAt = performance.now()
  let turn = 0
  return everyTurn(() => {
    for (let i = 0; i < sentInATurn; i++) {
      const now = performance.now()
      if (now < dueAt) return
      send(streams[turn++ % streams.length], load.event.at(now))
      // What could not be sent in time is left out rather than sent in a heap.
      dueAt = now > dueAt + lateMs ? now : dueAt + stepMs
    }
  })
}

/** A stream that is still busy with the event before is left out. */
function send(stream: UpstreamStream | undefined, event: Buffer): void {
  if (stream?.isFree) stream.write(event)
}

const added = (share: 'p50' | 'p90' | 'p99') => (figures: Figures, direct: Figures | undefined) =>
  direct && (figures[share] ?? Number.NaN) - (direct[share] ?? 0)
const cpu = (figures: Figures) => figures.cpuUs

export const latency: Family = {
  name: 'latency',
  title: 'Added latency per event',
  note: 'Microseconds, less those of the direct connection in the same round (that row shows its own); 200-byte events. CPU: of the proxy, per event.',
  runs: [
    { name: 'latency-1', settings: { streams: 1, rate: 200, ms: 1_000 }, measure: paced, quick: true },
    { name: 'latency-200', settings: { streams: 200, rate: 10, ms: 1_000 }, measure: paced },
    { name: 'tokens-paced', settings: { streams: 200, rate: 50, bytes: 60, ms: 700 }, measure: paced },
  ],
  columns: [
    { heading: '1 stream × 200/s p50', run: 'latency-1', value: added('p50'), ratio: true },
    { heading: 'p90', run: 'latency-1', value: added('p90'), ratio: true },
    { heading: 'p99', run: 'latency-1', value: added('p99'), ratio: true },
    { heading: 'CPU µs', run: 'latency-1', value: cpu, ratio: true },
    { heading: '200 × 10/s p50', run: 'latency-200', value: added('p50'), ratio: true },
    { heading: 'p90', run: 'latency-200', value: added('p90'), ratio: true },
    { heading: 'p99', run: 'latency-200', value: added('p99'), ratio: true },
    { heading: 'CPU µs', run: 'latency-200', value: cpu, ratio: true },
    { heading: '60 bytes, 200 × 50/s CPU µs', run: 'tokens-paced', value: cpu, ratio: true },
  ],
}

const growing = [1, 10, 100, 1_000, manyStreams]

/** More and more streams of one process, and always as many events a second in all. */
async function grow(load: Load, { rate = 4_000, ms = 700 }: Settings): Promise<Figures> {
  let figures: Figures = {}
  // The first of them lets compilers settle.
  for (const streams of [100, ...growing]) {
    const { cpuUs = NaN, waitPct = 0, loadWaitPct = 0 } = await paced(load, { streams, rate: rate / streams, ms })
    const { rssKiB = NaN } = (await load.usage()) ?? {}
    await load.closeAll()
    figures = {
      ...figures,
      [`cpuUs${streams}`]: cpuUs,
      [`mib${streams}`]: rssKiB / 1_024,
      waitPct: Math.max(waitPct, figures.waitPct ?? 0),
      loadWaitPct: Math.max(loadWaitPct, figures.loadWaitPct ?? 0),
    }
  }
  return figures
}

export const growth: Family = {
  name: 'growth',
  title: 'What an event costs, and all of the process takes, as streams grow',
  note:
    'Always 4,000 events a second in all, 200 bytes each; one process, which has nothing else behind it. CPU in microseconds an event; ' +
    'the resident size while those streams are open, in MiB.',
  runs: [
    {
      name: 'growth',
      settings: {},
      measure: grow,
      fresh: true,
      takes: (contender) => isProxy(contender) && isPlain(contender) && !contender.shares,
    },
  ],
  columns: growing.flatMap((streams) => [
    {
      heading: `${streams.toLocaleString('en')} ${streams === 1 ? 'stream' : 'streams'}: CPU`,
      run: 'growth',
      value: (figures: Figures) => figures[`cpuUs${streams}`],
      ratio: true as const,
    },
    { heading: 'MiB', run: 'growth', value: (figures: Figures) => figures[`mib${streams}`], ratio: true as const },
  ]),
}
