// Clients of one path before a sharing proxy: two that must end up apart, two that must end up together.
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import type { Client, Headers, RequestOptions } from './client.ts'
import type { Middleware } from './front.ts'
import { type Arrangement, type Proxied, proxied, rawProxied, type SseProxy, type SseProxyOptions } from './proxied.ts'
import type { RawUpstream } from './raw-upstream.ts'
import type { EventStream, Exchange, Upstream } from './upstream.ts'
import { until } from './waiting.ts'

/** How the second client comes: when the first has its stream, or while both wait for the upstream's answer. */
export const moments = ['when the stream is open', 'while it is opening'] as const
export type Moment = (typeof moments)[number]

export interface Asked {
  path?: string
  options?: RequestOptions
}

export const asked = (headers: Headers, path: string = ''): Asked => ({ path, options: { headers } })

/** The header that says how long a body is: an answer with it goes to all who waited. */
export const lengthOf = (body: string): Record<string, string> => ({
  'content-length': String(Buffer.byteLength(body)),
})

/** How many shared streams are open, and how many clients follow them. */
export function sharedBy({ stats }: Pick<SseProxy, 'stats'>): { streams: number; clients: number } {
  const { streams, clients } = stats().shared
  return { streams, clients }
}

export interface Room<U = Upstream> extends Proxied<U> {
  /** Resolves when so many requests have reached the middleware and it has dealt with them. */
  arrivals(count: number): Promise<void>
  /** Resolves when so many responses are over. */
  departures(count: number): Promise<void>
}

export async function shared(
  t: TestContext,
  share: Exclude<SseProxyOptions['share'], boolean | undefined> = {},
  options: Partial<SseProxyOptions> = {},
  { before = [], ...arrangement }: Arrangement = {},
): Promise<Room> {
  const { middleware, ...counted } = watchDoor()
  const room = await proxied(
    t,
    { share: { lingerMs: 1, ...share }, keepalive: false, ...options },
    { ...arrangement, before: [middleware, ...before] },
  )
  return { ...room, ...counted }
}

/** The same before an upstream that is scripted byte by byte. */
export async function sharedRaw(t: TestContext): Promise<Room<RawUpstream>> {
  const { middleware, ...counted } = watchDoor()
  const room = await rawProxied(t, { share: { lingerMs: 1 }, keepalive: false }, { before: [middleware] })
  return { ...room, ...counted }
}

/** Counts who comes and who goes. */
function watchDoor(): Pick<Room, 'arrivals' | 'departures'> & { middleware: Middleware } {
  let arrived = 0
  let departed = 0
  return {
    middleware: (_req, res, next) => {
      res.once('close', () => {
        departed += 1
      })
      next()
      arrived += 1
    },
    arrivals: (count) => until(() => arrived >= count, 'the requests to reach the middleware'),
    departures: (count) => until(() => departed >= count, 'the responses to be over'),
  }
}

/** Three clients of one stream. */
export async function three({ upstream, front }: Room): Promise<{
  exchange: Exchange
  stream: EventStream
  clients: Client[]
}> {
  const leader = front.request()
  const exchange = await upstream.next()
  const stream = exchange.stream()
  await leader.head()
  return { exchange, stream, clients: [leader, await front.open(), await front.open()] }
}

export function ask({ front }: Room, { path = '', options = {} }: Asked): Client {
  return front.request(path, options)
}

/** Two clients, each of which must get an upstream stream of its own. */
export async function apartFrom(
  room: Room,
  moment: Moment,
  first: Asked,
  second: Asked,
  headers: Record<string, string | string[]> = {},
): Promise<{ clients: [Client, Client]; streams: [EventStream, EventStream] }> {
  const { upstream } = room
  const one = ask(room, first)
  const exchange = await upstream.next()
  let stream: EventStream | undefined
  if (moment === 'when the stream is open') {
    stream = exchange.stream(headers)
    await one.head()
  }
  const other = ask(room, second)
  await room.arrivals(2)
  stream ??= exchange.stream(headers)
  await until(() => other.hasHead || upstream.exchanges.length === 2, 'the second client to be served')
  assert.equal(upstream.exchanges.length, 2, 'the second client was given the stream of the first')
  const own = (upstream.exchanges[1] as Exchange).stream(headers)
  await Promise.all([one.head(), other.head()])
  return { clients: [one, other], streams: [stream, own] }
}

/** Two clients on one upstream stream with these headers. */
export async function joined(
  room: Room,
  moment: Moment,
  first: Asked,
  second: Asked,
  headers: Record<string, string | string[]>,
): Promise<[Client, Client]> {
  const one = ask(room, first)
  const exchange = await room.upstream.next()
  if (moment === 'when the stream is open') {
    exchange.stream(headers)
    await one.head()
  }
  const other = ask(room, second)
  await room.arrivals(2)
  if (moment === 'while it is opening') exchange.stream(headers)
  await Promise.all([one.head(), other.head()])
  assert.equal(room.upstream.exchanges.length, 1)
  return [one, other]
}
