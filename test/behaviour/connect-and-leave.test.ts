// A thousand clients that come and go leave nothing: no connection, timer, listener or ticket.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openHttp2Session } from '../support/client.ts'
import { type Front, hostsByProtocol } from '../support/front.ts'
import { watchLeftovers } from '../support/leftovers.ts'
import { proxied, type SseProxyOptions } from '../support/proxied.ts'
import type { Exchange } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

const cycles = 1_000
const atOnce = 20

/** Each request is treated by its number: left before headers, after headers, after an event, or in a POST. */
const kinds = ['silent', 'headers', 'event', 'post'] as const

function answer(exchange: Exchange, arrived: Set<string>): void {
  arrived.add(exchange.url)
  if (exchange.url.includes('silent')) return
  const stream = exchange.stream()
  if (!exchange.url.includes('headers')) stream.write('data: one\n\ndata: ha')
}

for (const host of hostsByProtocol) {
  test(`${cycles} clients that connect and leave, in every state (${host})`, async (t) => {
    const leftovers = watchLeftovers(t)
    const closed: string[] = []
    const options: Partial<SseProxyOptions> = {
      transform: () => {},
      onClose: (_stream, reason) => {
        closed.push(reason)
      },
    }
    const arrived = new Set<string>()
    const handler = (exchange: Exchange): void => answer(exchange, arrived)
    const { upstream, front } = await proxied(t, options, { host, upstream: { handler } })
    const session = host === 'express5' ? undefined : openHttp2Session(front.origin)

    let next = 0
    const worker = async (): Promise<void> => {
      while (next < cycles) await comeAndGo(front, next++, arrived, session)
    }
    await Promise.all(Array.from({ length: atOnce }, worker))

    await until(
      () => upstream.open === 0,
      () => `no open request, ${upstream.open} remain`,
    )
    await until(
      () => upstream.connections === 0,
      () => `no open connection, ${upstream.connections} remain`,
    )
    const streams = cycles * (3 / 4)
    await until(
      () => closed.length === streams,
      () => `${streams} closed streams, got ${closed.length}`,
    )
    assert.deepEqual(new Set(closed), new Set(['client-left']))
    session?.destroy()
    await front.close()
    await upstream.close()
    await leftovers.assertNone()
  })
}

async function comeAndGo(
  front: Front,
  number: number,
  arrived: Set<string>,
  session: ReturnType<typeof openHttp2Session> | undefined,
): Promise<void> {
  const kind = kinds[number % kinds.length] as (typeof kinds)[number]
  const path = `?${kind}=${number}`
  const body = kind === 'post' ? { method: 'POST', body: 'a question' } : {}
  const client = front.request(path, { ...body, ...(session ? { session } : {}) })
  if (kind === 'silent') {
    await until(() => arrived.has(`/stream${path}`), 'the request to reach the upstream')
  } else {
    await client.head()
    if (kind !== 'headers') await client.waitFor('data: one\n\n')
  }
  client.close()
  await client.ended()
}
