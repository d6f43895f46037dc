// The way to a stream and out of it: headers, connections a second, and the client's leaving seen by the upstream.

import { setTimeout as sleep } from 'node:timers/promises'
import { type Figures, type Load, type Settings, spinUntil } from '../load/load.ts'
import { streamPath } from '../load/upstream.ts'
import type { Family } from './measure.ts'
import { during, percentiles, warmUpMs, watch } from './window.ts'

const firstEventMs = 5
const patienceMs = 1_000
const atOnce = 16
// Who leaves so many without an answer is not asked again.
const enough = 3

/** One connection after the other; the upstream sends its headers at once and the first event later. */
export async function headers(load: Load, { count = 100 }: Settings): Promise<Figures> {
  const heads: number[] = []
  const events: number[] = []
  const use = await watch(load)
  let due: (() => void) | undefined
  let dueAt = 0
  load.upstream.onOpened = (stream) => {
    dueAt = performance.now() + firstEventMs
    due = () => stream.write(load.event.at(performance.now()))
  }
  for (let i = 0; i < count && i - events.length < enough; i++) {
    let eventAt = 0
    const client = load.open(streamPath(load.nextId(), 'late'), {
      onEvent: () => {
        eventAt ||= performance.now()
      },
    })
    await spinUntil(() => {
      if (due && performance.now() >= dueAt) {
        due()
        due = undefined
      }
      return eventAt > 0
    }, patienceMs)
    if (eventAt > 0) {
      heads.push(client.headAt - client.openedAt)
      events.push(eventAt - client.openedAt)
    }
    load.close(client)
    await sleep(1)
  }
  return { answered: heads.length, ...(await use()), ...percentiles(heads, 'head_'), ...percentiles(events, 'event_') }
}

/** Connect, first event, leave; some at a time. Who comes to a URL that others are at leaves once it is in. */
export async function comeAndGo(load: Load, settings: Settings): Promise<Figures> {
  const { ms = 700, oneUrl = false } = settings
  // With one who stays, so that there always is something to join.
  if (oneUrl) await load.openStreams(1, true)
  const times: number[] = []
  let stopped = false
  const next = () => {
    if (stopped) return
    const leave = () => {
      times.push(performance.now() - client.openedAt)
      load.close(client)
      next()
    }
    const client = load.open(streamPath(oneUrl ? undefined : load.nextId()), {
      [oneUrl ? 'onHead' : 'onEvent']: leave,
      onLost: next,
    })
  }
  for (let i = 0; i < atOnce; i++) next()
  await sleep(settings.warmUpMs ?? warmUpMs)
  times.length = 0
  const figures = await during(load, ms, () => times.length)
  stopped = true
  return { upstreams: load.upstream.connections, ...figures, ...percentiles(times) }
}

/** Silent streams, one after the other: from the client's leaving to the upstream's seeing it. */
async function leaving(load: Load, { count = 100 }: Settings): Promise<Figures> {
  const times: number[] = []
  let never = 0
  let unanswered = 0
  const use = await watch(load)
  for (let i = 0; i < count && never < enough; i++) {
    let opened = false
    let seenAt = 0
    load.upstream.onClosed = () => {
      seenAt ||= performance.now()
    }
    const client = load.open(streamPath(load.nextId()), {
      onEvent: () => {
        opened = true
      },
    })
    if (!(await spinUntil(() => opened, patienceMs))) {
      if (++unanswered === enough) break
      continue
    }
    await sleep(2)
    const leftAt = performance.now()
    load.close(client)
    if (await spinUntil(() => seenAt > 0, patienceMs)) times.push(seenAt - leftAt)
    else never++
  }
  return { seen: times.length, never, ...(await use()), ...percentiles(times) }
}

export const connecting: Family = {
  name: 'connecting',
  title: 'Connecting and leaving',
  note:
    'Headers and first event: the upstream sends its headers at once and the first event 5 ms later; milliseconds from connecting. ' +
    'Connections: connect, first event, leave, 16 at a time. Leaving: microseconds from the client’s close to the upstream’s end of ' +
    'connection; never: not within a second. Every stream has a URL of its own; a shared upstream goes by a timer.',
  runs: [
    { name: 'headers', settings: { count: 50 }, measure: headers, quick: true },
    { name: 'connections', settings: { ms: 1_000 }, measure: comeAndGo, quick: true },
    { name: 'leaving', settings: { count: 60 }, measure: leaving },
  ],
  columns: [
    { heading: 'headers p50 ms', run: 'headers', value: ({ head_p50 = NaN }) => head_p50 / 1e3, ratio: true },
    { heading: 'first event p50 ms', run: 'headers', value: ({ event_p50 = NaN }) => event_p50 / 1e3, ratio: true },
    { heading: 'connections/s', run: 'connections', value: (f) => f.perSecond, ratio: true, saturates: true },
    { heading: 'p99 ms', run: 'connections', value: ({ p99 = NaN }) => p99 / 1e3, ratio: true },
    { heading: 'CPU µs', run: 'connections', value: (f) => f.cpuUs, ratio: true },
    { heading: 'leaving p50', run: 'leaving', value: (f) => f.p50, ratio: true },
    { heading: 'p99', run: 'leaving', value: (f) => f.p99, ratio: true },
    { heading: 'never', run: 'leaving', value: (f) => f.never },
  ],
}
