// A chat route whose answers outlive their readers: POST asks, GET reads along, DELETE stops. A chat is its user's.
import type { IncomingMessage } from 'node:http'
import type { TestContext } from 'node:test'
import type { Client, Headers, RequestOptions } from './client.ts'
import { interpret } from './oracle.ts'
import type { Arrangement, SseProxyOptions } from './proxied.ts'
import { type Room, shared } from './sharing.ts'
import type { EventStream, Exchange } from './upstream.ts'
import { until } from './waiting.ts'

export type Share = Exclude<NonNullable<SseProxyOptions['share']>, boolean>

/** What `share.key` returns for a request; `path` follows the mount path. */
export const keyOf = (path: string, user: string = 'ada'): string => `${user} ${path || '/'}`

const keyOfRequest = ({ headers, url = '' }: IncomingMessage): string => keyOf(url, String(headers['x-user'] ?? 'ada'))

/** The usual arrangement; what goes on without readers is closed when the test is over. */
export async function chats(
  t: TestContext,
  share: Share = {},
  options: Partial<SseProxyOptions> = {},
  arrangement: Arrangement = {},
): Promise<Room> {
  let room: Room | undefined
  t.after(() => room?.proxy.close({ withinMs: 0 }))
  room = await shared(
    t,
    {
      key: keyOfRequest,
      open: ['POST'],
      join: ['GET'],
      stop: ['DELETE'],
      lingerMs: Number.POSITIVE_INFINITY,
      replay: { ids: 'assign', initial: 'all' },
      ...share,
    },
    options,
    arrangement,
  )
  return room
}

/** Asks a question. */
export const post = (headers: Headers = {}, body: string = '{"text":"hello"}'): RequestOptions => ({
  method: 'POST',
  headers: { 'content-type': 'application/json', ...headers },
  body,
})

export const stop: RequestOptions = { method: 'DELETE' }

export interface Answering {
  asker: Client
  exchange: Exchange
  stream: EventStream
}

/** A question whose answer has begun: its asker has the word "one". */
export async function answering({ front, upstream }: Room, path: string = ''): Promise<Answering> {
  const asker = front.request(path, post())
  const exchange = await upstream.next()
  await exchange.body()
  const stream = exchange.stream()
  stream.send({ data: 'one' })
  await asker.waitFor('data: one\n')
  return { asker, exchange, stream }
}

/** The client leaves, and the proxy has noticed. */
export async function leave(client: Client, { proxy }: Room): Promise<void> {
  const before = proxy.stats().active
  client.close()
  await until(() => proxy.stats().active < before, 'the client to have left')
}

export const wordsOf = (client: Client): string[] => interpret(client.bytes).events.map(({ data }) => data)
