// Other formats than event streams: lines of JSON made events beside the same lines piped, and endpoints that are polled.

import { setTimeout as sleep } from 'node:timers/promises'
import { chunkOf } from '../load/events.ts'
import { everyTurn, type Figures, type Load, type Settings, spinUntil } from '../load/load.ts'
import { streamPath } from '../load/upstream.ts'
import type { Family } from './measure.ts'
import { during, percentiles, warmUpMs } from './window.ts'

const openedMs = 5_000
const pollsEveryMs = 1_000

/** As many lines as go through, written whenever there is room. */
async function lines(load: Load, { streams = 100, bytes = 200, batch = 64, ms = 700 }: Settings): Promise<Figures> {
  const line = `{"c":"${'x'.repeat(bytes - '{"c":""}\n'.length)}"}\n`
  const written = Buffer.concat(Array.from({ length: batch }, () => chunkOf(line)))
  let [held, arrived, isTranslated] = [0, 0, false]
  for (let i = 0; i < streams; i++) {
    const client = load.open(streamPath(load.nextId(), 'lines'), { onHead: () => held++ })
    client.sink = {
      take(buffer, from, to) {
        if (arrived === 0) isTranslated = buffer.toString('latin1', from, from + 5) === 'data:'
        arrived += to - from
      },
    }
  }
  await spinUntil(() => held === streams, openedMs)
  const open = [...load.upstream.streams]
  const stop = everyTurn(() => {
    for (const stream of open) if (stream.isFree) stream.write(written)
  })
  await sleep(warmUpMs)
  const eventBytes = line.length + (isTranslated ? 'data: \n'.length : 0)
  const figures = await during(load, ms, () => arrived / eventBytes)
  stop()
  return { held, eventBytes, ...figures }
}

/** Clients of an endpoint each of which the proxy polls for; the endpoint's state changes now and then. */
async function polls(load: Load, { streams = 1_000, ms = 3_000 }: Settings): Promise<Figures> {
  let [held, changedAt] = [0, 0]
  const delays: number[] = []
  for (let i = 0; i < streams; i++) {
    const client = load.open(streamPath(load.nextId(), 'poll'), { onHead: () => held++ })
    client.sink = { take: () => void (changedAt > 0 && delays.push(performance.now() - changedAt)) }
    // Their polls are spread over the interval, as those of clients are that come one by one.
    if (i % 32 === 31) await sleep((pollsEveryMs * 32) / streams)
  }
  await spinUntil(() => held === streams, openedMs)
  const changing = setInterval(() => {
    load.upstream.state++
    changedAt = performance.now()
  }, 1.5 * pollsEveryMs)
  await sleep(warmUpMs)
  const figures = await during(load, ms, () => load.upstream.polls)
  clearInterval(changing)
  return { held, ...figures, ...percentiles(delays) }
}

export const formats: Family = {
  name: 'formats',
  title: 'Other formats',
  note:
    'Lines: 200-byte lines of JSON, 64 a write, one HTTP chunk each, 100 streams; piped, or made events. Polls: 1,000 clients, for each ' +
    `of which an endpoint is polled each ${pollsEveryMs} ms; CPU of the proxy per poll, and the time from a change to its event.`,
  runs: [
    { name: 'lines', settings: {}, measure: lines },
    { name: 'polls', settings: {}, measure: polls, takes: ({ polls }) => polls === true },
  ],
  columns: [
    {
      heading: 'lines k/s',
      run: 'lines',
      value: (f) => (f.perSecond ?? Number.NaN) / 1e3,
      ratio: true,
      saturates: true,
    },
    { heading: 'CPU µs a line', run: 'lines', value: (f) => f.cpuUs, ratio: true },
    { heading: 'polls/s', run: 'polls', value: (f) => f.perSecond },
    { heading: 'CPU µs a poll', run: 'polls', value: (f) => f.cpuUs },
    { heading: 'p50 ms', run: 'polls', value: ({ p50 = Number.NaN }) => p50 / 1e3 },
    { heading: 'p99 ms', run: 'polls', value: ({ p99 = Number.NaN }) => p99 / 1e3 },
  ],
}
