// Memory: how much the proxy's resident size grows for each stream on which nothing happens.

import { setTimeout as sleep } from 'node:timers/promises'
import { streamsAtMost } from '../descriptors.ts'
import type { Figures, Load, Settings } from '../load/load.ts'
import { type Family, isPlain, isProxy } from './measure.ts'

export const fewStreams = 2_000
const settleMs = 600

export async function idle(load: Load, { streams = fewStreams, oneUrl = false }: Settings): Promise<Figures> {
  // The first streams pay for what is made once.
  await load.openStreams(100)
  await load.closeAll()
  const start = await settled(load)
  const few = await load.openStreams(Math.min(fewStreams, streams), oneUrl)
  const atFew = await settled(load)
  const more = streams - fewStreams
  const many = more > 0 && few === fewStreams ? few + (await load.openStreams(more, oneUrl)) : few
  const atMany = many > few ? await settled(load) : atFew
  return {
    startMiB: start / 1_024,
    few,
    kibFew: (atFew - start) / few,
    ...(streams > fewStreams && { many, kibMany: (atMany - start) / many }),
  }
}

async function settled(load: Load): Promise<number> {
  await sleep(settleMs)
  return (await load.usage())?.rssKiB ?? Number.NaN
}

export const manyStreams: number = streamsAtMost(10_000)
const manyText = manyStreams.toLocaleString('en')

export const fewColumns = (run: string): Family['columns'] => [
  { heading: 'idle of 2,000', run, value: (f) => f.few },
  { heading: 'KiB each', run, value: (f) => f.kibFew, ratio: true },
]

export const idleColumns = (run: string): Family['columns'] => [
  ...fewColumns(run),
  { heading: `idle of ${manyText}`, run, value: (f) => f.many },
  { heading: 'KiB each', run, value: (f) => f.kibMany, ratio: true },
]

const limit = manyStreams < 10_000 ? ` This machine’s limit of descriptors allows ${manyText} streams, not 10,000.` : ''

export const idleStreams: Family = {
  name: 'idle',
  title: 'Memory per idle stream',
  note:
    `Growth of the proxy’s resident size, for 2,000 and ${manyText} streams in a fresh process.${limit} ` +
    'Every stream has a URL of its own; for clients that share one see the last table.',
  runs: [
    {
      name: 'idle',
      settings: { streams: manyStreams },
      measure: idle,
      fresh: true,
      takes: (contender) => isProxy(contender) && isPlain(contender) && !contender.shares,
    },
  ],
  columns: [{ heading: 'start MiB', run: 'idle', value: (f) => f.startMiB }, ...idleColumns('idle')],
}
