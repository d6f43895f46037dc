// As many events as go through. The upstream writes whenever it can; the clients count bytes.

import { setTimeout as sleep } from 'node:timers/promises'
import { ByteCounter } from '../load/client.ts'
import { everyTurn, type Figures, type Load, type Settings, spinUntil } from '../load/load.ts'
import { type Family, isDirect, type Run } from './measure.ts'
import { during, warmUpMs } from './window.ts'

const firstEventMs = 2_000

export async function flood(load: Load, settings: Settings): Promise<Figures> {
  const { streams = 1, batch = 1, window, ms = 700 } = settings
  const held = await load.openStreams(streams)
  if (held < streams) throw new Error(`only ${held} of ${streams} streams could be opened`)
  // Each begins with an event, which a node that follows comes too late for.
  if (load.nodes > 1) for (const stream of load.upstream.streams) stream.write(load.event.at(performance.now()))
  await spinUntil(() => [...load.clients].every(({ events }) => events.count > 0), firstEventMs)
  // How large an event is that has come through: a hook may have made it another.
  const eventBytes = Math.max(...[...load.clients].map((client) => client.events.latestBytes))
  const counters = [...load.clients].map((client) => {
    const counter = new ByteCounter()
    client.sink = counter
    return counter
  })
  const stop = window ? fillWindows(load, counters, eventBytes, window) : fillSockets(load, batch)
  await sleep(settings.warmUpMs ?? warmUpMs)
  const bytes = () => counters.reduce((sum, counter) => sum + counter.bytes, 0)
  const figures = await during(load, ms, () => bytes() / eventBytes)
  stop()
  return { held, eventBytes, ...figures }
}

/** One write for each stream that has nothing waiting, in every turn. */
function fillSockets(load: Load, batch: number): () => void {
  const events = load.event.times(batch)
  const streams = [...load.upstream.streams]
  return everyTurn(() => {
    for (const stream of streams) if (stream.isFree) stream.write(events)
  })
}

/** One event a write, as tokens are sent; no more of a stream on their way than `window`. */
function fillWindows(load: Load, counters: ByteCounter[], eventBytes: number, window: number): () => void {
  const event = load.event.times(1)
  // In the order of opening, on both sides.
  const streams = [...load.upstream.byId.entries()].sort(([a], [b]) => a - b).map(([, stream]) => stream)
  const sent = streams.map(() => 0)
  return everyTurn(() => {
    for (const [i, stream] of streams.entries()) {
      const arrived = (counters[i]?.bytes ?? 0) / eventBytes
      while (stream.isFree && (sent[i] ?? 0) - arrived < window) {
        stream.write(event)
        sent[i] = (sent[i] ?? 0) + 1
      }
    }
  })
}

/** What parsing, changing and writing an event's JSON costs by itself. */
async function json(load: Load, { count = 1 }: Settings): Promise<Figures> {
  const text = load.event.data
  let length = 0
  let startedAt = 0
  for (let i = -count; i < count; i++) {
    if (i === 0) startedAt = performance.now()
    const data: Record<string, unknown> = JSON.parse(text)
    data.seen = true
    length += JSON.stringify(data).length
  }
  return { us: ((performance.now() - startedAt) * 1e3) / count, length }
}

export const thousands = (figures: Figures) => (figures.perSecond ?? Number.NaN) / 1e3
export const megabytes = (figures: Figures) =>
  ((figures.perSecond ?? Number.NaN) * (figures.eventBytes ?? Number.NaN)) / 1e6
export const cpu = (figures: Figures) => figures.cpuUs

const runs = [
  { name: 'tokens', settings: { streams: 100, bytes: 60, window: 32 }, measure: flood, quick: true },
  { name: 'small-1', settings: { streams: 1, batch: 64 }, measure: flood },
  { name: 'small-100', settings: { streams: 100, batch: 64 }, measure: flood, quick: true },
  { name: 'large', settings: { streams: 1, bytes: 65_536 }, measure: flood },
  // Beside the cost of events that a hook parses and writes again: that of nothing but this.
  { name: 'json', settings: { count: 200_000 }, measure: json, takes: isDirect },
] as const satisfies readonly Run[]

export const throughput: Family = {
  name: 'throughput',
  title: 'Throughput',
  note:
    'Tokens: 60-byte events, one write each, at most 32 of a stream on their way, 100 streams. Small: 200-byte events, 64 a write, ' +
    'one HTTP chunk each. Every stream has a URL of its own, so that a proxy that shares has nothing to share here.',
  runs,
  columns: [
    { heading: 'tokens k/s', run: 'tokens', value: thousands, ratio: true, saturates: true },
    { heading: 'small, 1 stream k/s', run: 'small-1', value: thousands, ratio: true, saturates: true },
    { heading: 'small, 100 streams k/s', run: 'small-100', value: thousands, ratio: true, saturates: true },
    { heading: '64 KiB MB/s', run: 'large', value: megabytes, ratio: true, saturates: true },
  ],
}

export const throughputCpu: Family = {
  name: 'throughput',
  title: 'CPU per event at that throughput',
  note: 'Microseconds of the proxy. JSON alone: `JSON.parse` and `JSON.stringify` of a 200-byte event, and nothing else.',
  runs: [],
  columns: [
    { heading: 'tokens', run: 'tokens', value: cpu, ratio: true },
    { heading: 'small, 1 stream', run: 'small-1', value: cpu, ratio: true },
    { heading: 'small, 100 streams', run: 'small-100', value: cpu, ratio: true },
    { heading: '64 KiB', run: 'large', value: cpu, ratio: true },
    { heading: 'JSON alone', run: 'json', value: (f) => f.us },
  ],
}
