// Far more streams at once than the 256 that the agent of http-proxy-middleware would let through.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openHttp2Session } from '../support/client.ts'
import { proxied } from '../support/proxied.ts'
import type { EventStream } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

const many = 2_000

test(`${many} streams are open at once, and each gets its own events`, { timeout: 110_000 }, async (t) => {
  const streams = new Map<string, EventStream>()
  const { upstream, front } = await proxied(
    t,
    { keepalive: false },
    { upstream: { handler: (exchange) => void streams.set(exchange.url.split('=')[1] ?? '', exchange.stream()) } },
  )

  const clients = await inTurns(many, (number) => front.open(`?n=${number}`))
  await until(
    () => streams.size === many,
    () => `${many} streams, got ${streams.size}`,
  )
  for (const [number, stream] of streams) stream.send({ data: `for ${number}` })
  for (const [number, client] of clients.entries()) await client.waitFor(`data: for ${number}\n\n`, 60_000)

  assert.equal(upstream.open, many)
  for (const [number, client] of clients.entries()) assert.equal(client.text, `data: for ${number}\n\n`)

  front.closeClients()
  await until(
    () => upstream.open === 0,
    () => `no open request, ${upstream.open} remain`,
  )
  await front.close()
  await upstream.close()
})

test('500 streams share five HTTP/2 connections', async (t) => {
  const { upstream, front } = await proxied(
    t,
    { keepalive: false },
    {
      host: 'connect over http2',
      upstream: { handler: (exchange) => exchange.stream().send({ data: exchange.url }) },
    },
  )
  const sessions = Array.from({ length: 5 }, () => openHttp2Session(front.origin))
  t.after(() => {
    for (const session of sessions) session.destroy()
  })

  const clients = await inTurns(500, (number) => front.open(`?n=${number}`, { session: sessions[number % 5] as never }))
  for (const [number, client] of clients.entries()) await client.waitFor(`data: /stream?n=${number}\n\n`)

  assert.equal(upstream.open, 500)
})

/** So many at a time that the queue of the listener does not run over. */
async function inTurns<T>(count: number, make: (number: number) => Promise<T>): Promise<T[]> {
  const made: T[] = []
  for (let at = 0; at < count; at += 100) {
    const turn = Array.from({ length: Math.min(100, count - at) }, (_, next) => make(at + next))
    made.push(...(await Promise.all(turn)))
  }
  return made
}
