// What a store in Redis adds to sharing: latency, CPU and throughput of the node that reads the upstream and of one that
// follows it, and what both cost Redis.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Contender } from '../contenders/index.ts'
import type { Figures, Load, Settings } from '../load/load.ts'
import { countSent, executedBy, infoOf } from '../load/redis.ts'
import type { Family, Run } from './measure.ts'
import { fanOut, publish } from './sharing.ts'
import { flood } from './throughput.ts'
import { warmUpMs } from './window.ts'

// After two leases of silence nodes are at rest; in the time after that each of them has one check of all keys.
const untilRestMs = 13_000
const restMs = 30_000
const settleMs = 1_000
// What waits for Redis is as much as may wait by then.
const fullMs = { warmUpMs: 2_500, ms: 1_500 }
const keptEvents = 100

/** Redis, and the other node, are on the CPU of the proxy: it waits for them, and that is no disturbance. */
function crowded(measure: Run['measure']): Run['measure'] {
  return async (load, settings) => ({ ...(await measure(load, settings)), waitPct: 0, loadWaitPct: 0 })
}

/** Commands of one event, each of which the upstream sends in a write of its own. */
async function commands(load: Load, { streams = 1, rate = 50, ms = 2_000 }: Settings): Promise<Figures> {
  const held = await load.openStreams(streams, true)
  let arrived = 0
  load.onEvent = () => arrived++
  const stop = publish(load, rate)
  await sleep(warmUpMs)
  const sent = await countSent(load.redisPort)
  const executedFrom = await executedBy(load.redisPort)
  const [arrivedFrom, sentFrom] = [arrived, sent.count]
  await sleep(ms)
  const events = (arrived - arrivedFrom) / held
  const executed = (await executedBy(load.redisPort)) - executedFrom
  const figures = { held, sentAnEvent: (sent.count - sentFrom) / events, executedAnEvent: executed / events }
  stop()
  sent.end()
  return figures
}

/** Commands of nodes whose streams are silent. */
async function rest(load: Load, { streams = 1 }: Settings): Promise<Figures> {
  const held = await load.openStreams(streams)
  await sleep(untilRestMs)
  const sent = await countSent(load.redisPort)
  const executedFrom = await executedBy(load.redisPort)
  const from = performance.now()
  await sleep(restMs)
  const seconds = (performance.now() - from) / 1e3
  const executed = (await executedBy(load.redisPort)) - executedFrom
  const figures = {
    held,
    sentASecond: sent.count / seconds / load.nodes,
    executedASecond: executed / seconds / load.nodes,
  }
  sent.end()
  return figures
}

/** What Redis and the node hold for a stream of one client, with one event, and with a hundred. */
async function memory(load: Load, { streams = 300 }: Settings): Promise<Figures> {
  await load.openStreams(100)
  await load.closeAll()
  const start = await heldBy(load)
  const held = await load.openStreams(streams)
  const few = await heldBy(load)
  let arrived = 0
  load.onEvent = () => arrived++
  for (let count = 1; count < keptEvents; count++) {
    for (const stream of load.upstream.streams) stream.write(load.event.at(performance.now()))
    // One at a time: what comes together is one entry.
    while (arrived < count * held) await sleep(2)
  }
  const many = await heldBy(load)
  return {
    held,
    redisFew: (few.redis - start.redis) / held,
    nodeFew: (few.node - start.node) / held,
    redisMany: (many.redis - start.redis) / held,
    nodeMany: (many.node - start.node) / held,
  }
}

/** In KiB. */
async function heldBy(load: Load): Promise<{ redis: number; node: number }> {
  await sleep(settleMs)
  const memory = await infoOf(load.redisPort, 'memory').catch(() => undefined)
  return {
    redis: Number(memory?.get('used_memory') ?? Number.NaN) / 1_024,
    node: (await load.usage())?.rssKiB ?? Number.NaN,
  }
}

const hasStore = ({ companions }: Contender) => companions !== undefined
const isCompared = (contender: Contender) => hasStore(contender) || contender.name === 'sse-proxy:share'

const thousands = (figures: Figures) => (figures.perSecond ?? Number.NaN) / 1e3

export const nodes: Family = {
  name: 'nodes',
  title: 'Share with a store in Redis',
  note:
    'One feed of 50 events a second for 100 clients: from publishing to arrival, and CPU of the proxy for each delivered ' +
    'event. One key, 100 keys: 200-byte events, 64 a write, as many as go through, with one client a key. Redis, and the node ' +
    'that is followed, share the CPU with the proxy: where each has one of its own more goes through. CPU: of the proxy alone.',
  runs: [
    {
      name: 'nodes-latency',
      settings: { streams: 100, rate: 50, ms: 3_000 },
      measure: crowded(fanOut),
      takes: isCompared,
    },
    { name: 'nodes-key-1', settings: { streams: 1, batch: 64 }, measure: crowded(flood), takes: isCompared },
    {
      name: 'nodes-key-100',
      settings: { streams: 100, batch: 64, ...fullMs },
      measure: crowded(flood),
      takes: isCompared,
    },
  ],
  columns: [
    { heading: 'p50 ms', run: 'nodes-latency', value: ({ p50 = NaN }) => p50 / 1e3 },
    { heading: 'p99 ms', run: 'nodes-latency', value: ({ p99 = NaN }) => p99 / 1e3 },
    { heading: 'CPU µs a delivery', run: 'nodes-latency', value: (f) => f.cpuUs },
    { heading: '1 key k events/s', run: 'nodes-key-1', value: thousands },
    { heading: 'CPU µs', run: 'nodes-key-1', value: (f) => f.cpuUs },
    { heading: '100 keys k events/s', run: 'nodes-key-100', value: thousands },
    { heading: 'CPU µs', run: 'nodes-key-100', value: (f) => f.cpuUs },
  ],
}

export const nodesInRedis: Family = {
  name: 'nodes',
  title: 'What nodes cost Redis',
  note:
    'Commands of one event, which is one read of the upstream, with 1 and with 1,000 clients; those at rest are among them. ' +
    'Executed: with the commands inside the script, as INFO commandstats counts. At rest: a second and node, of silent ' +
    'streams. Memory: KiB for each of 300 streams, each of another key and of one client, with 1 and with 100 events of 200 bytes ' +
    'kept; node: growth of its resident size, the client’s connection and the upstream’s included.',
  runs: [
    { name: 'nodes-commands-1', settings: { streams: 1 }, measure: crowded(commands), takes: hasStore },
    {
      name: 'nodes-commands-1000',
      settings: { streams: 1_000, rate: 20 },
      measure: crowded(commands),
      takes: hasStore,
    },
    { name: 'nodes-rest-1', settings: { streams: 1 }, measure: crowded(rest), takes: hasStore },
    { name: 'nodes-rest-200', settings: { streams: 200 }, measure: crowded(rest), takes: hasStore },
    { name: 'nodes-memory', settings: { streams: 300 }, measure: crowded(memory), takes: isCompared, fresh: true },
  ],
  columns: [
    { heading: 'sent an event, 1 client', run: 'nodes-commands-1', value: (f) => f.sentAnEvent },
    { heading: '1,000 clients', run: 'nodes-commands-1000', value: (f) => f.sentAnEvent },
    { heading: 'executed', run: 'nodes-commands-1000', value: (f) => f.executedAnEvent },
    { heading: 'at rest sent/s, 1 key', run: 'nodes-rest-1', value: (f) => f.sentASecond },
    { heading: '200 keys', run: 'nodes-rest-200', value: (f) => f.sentASecond },
    { heading: 'executed/s', run: 'nodes-rest-200', value: (f) => f.executedASecond },
    { heading: 'Redis KiB a key', run: 'nodes-memory', value: (f) => f.redisFew },
    { heading: '100 events', run: 'nodes-memory', value: (f) => f.redisMany },
    { heading: 'node KiB a key', run: 'nodes-memory', value: (f) => f.nodeFew },
    { heading: '100 events', run: 'nodes-memory', value: (f) => f.nodeMany },
  ],
}
