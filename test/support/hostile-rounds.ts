// Rounds of hostile clients against a proxy between two hostile upstreams, in each of the ways a proxy can be set up.
import { sseProxy } from 'sse-proxy-middleware'
import { type Front, type Host, startFront } from './front.ts'
import { HostileUpstream, visit } from './hostility.ts'
import type { SseProxyOptions } from './proxied.ts'
import { startRawUpstream } from './raw-upstream.ts'
import { until } from './waiting.ts'

const quick: Partial<SseProxyOptions> = {
  health: { ejectMs: 20, maxEjectMs: 20 },
  keepalive: 20,
}
// Elsewhere nothing but the client's leaving frees what an upstream holds up.
const timeouts = { connectMs: 1_000, responseMs: 100, idleMs: 100, writeMs: 200 }
const takesItsTime = (): Promise<undefined> => new Promise((resolve) => setImmediate(resolve, undefined))
const resume = { attempts: 2, delayMs: 1, maxDelayMs: 5 }
const share = { lingerMs: 20, replay: { events: 20, initial: 5 } }

export const setups: Readonly<Record<string, Partial<SseProxyOptions>>> = {
  plain: {},
  'with a hook': { transform: ({ data }) => (data.length % 3 === 0 ? null : { data: data.slice(0, 100) }) },
  'with a hook that takes its time, and small limits': {
    transform: takesItsTime,
    limits: { eventBytes: 1_024, bufferBytes: 4_096 },
  },
  'with framing bytes': { framing: 'bytes' },
  'with timeouts': { timeouts },
  'with resume': { resume, timeouts },
  'with resume at every end, and a hook': {
    resume: { ...resume, onEnd: true, withoutIds: true },
    transform: () => {},
    timeouts,
  },
  shared: { share: { lingerMs: 20 } },
  'shared, with hooks before and after, and resume': {
    share: { ...share, transform: takesItsTime },
    transform: ({ data }) => ({ data }),
    resume,
  },
  'shared, with ids of its own': { share: { ...share, replay: { ids: 'assign' } } },
  'going on without clients': { onDisconnect: { graceMs: 30 }, resume },
  'answering early, with little room': {
    keepalive: { intervalMs: 10, openAfterMs: 1 },
    limits: { streams: 10, streamsPerClient: 8 },
    unavailable: 'reconnect',
  },
}

export interface Round {
  options: Partial<SseProxyOptions>
  host: Host
  seed: number
  visits: number
  atOnce: number
}

/** Resolves to what clients got that was not their own; rejects when something is left. */
export async function hostileRound({ options, host, seed, visits, atOnce }: Round): Promise<string[]> {
  const hostile = [new HostileUpstream(seed), new HostileUpstream(seed + 1)]
  const upstreams = await Promise.all(hostile.map(({ converse }) => startRawUpstream(converse)))
  const target = upstreams.map(({ url }) => `${url}/stream`)
  const proxy = sseProxy({ target, ...quick, ...options, logger: silent } as SseProxyOptions)
  const front = await startFront(host, proxy)
  try {
    const foreign = await visitAll(front, { seed, visits, atOnce })
    await until(() => front.connections === 0, 'the connections of clients to close', 30_000)
    const isFree = (): boolean => {
      const { active, upstreams } = proxy.stats()
      return active === 0 && [...upstreams, ...hostile].every((one) => ('active' in one ? one.active : one.unfit) === 0)
    }
    const held = (): string => `nothing to be held: ${hostile.map(({ told }) => told)} ${JSON.stringify(proxy.stats())}`
    await until(isFree, held, 5_000)
    return foreign
  } finally {
    await proxy.close({ withinMs: 0 })
    await front.close()
    await Promise.all(upstreams.map((upstream) => upstream.close()))
  }
}

async function visitAll(
  front: Front,
  { seed, visits, atOnce }: Pick<Round, 'seed' | 'visits' | 'atOnce'>,
): Promise<string[]> {
  const foreign: string[] = []
  let next = 0
  const visitor = async (): Promise<void> => {
    while (next < visits) {
      const one = next++
      // Several ask for the same, so that what can be shared is.
      foreign.push(...(await visit(front, one % 7, seed * 1_000 + one)))
    }
  }
  await Promise.all(Array.from({ length: atOnce }, () => visitor()))
  return foreign
}

const silent = { info() {}, warn() {}, error() {} }
