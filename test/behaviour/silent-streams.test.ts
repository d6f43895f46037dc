// What a stream that has passed a burst on, and is silent since, still keeps of it.
import assert from 'node:assert/strict'
import { get } from 'node:http'
import { test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { collectGarbage } from '../support/memory.ts'
import { proxied, type SseProxyOptions } from '../support/proxied.ts'
import type { EventStream } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

const streamCount = 100
const burst = Array.from(
  { length: 300 },
  (_, i) => `id: ${1_700_000_000_000 + i}\nevent: tick\ndata: ${'x'.repeat(180)}\n\n`,
).join('')

const ways: Record<string, Partial<SseProxyOptions>> = {
  'passed through': {},
  "with framing 'bytes'": { framing: 'bytes' },
  'under a hook that looks': { transform: () => {} },
  'under a hook that replaces': { transform: (event) => ({ ...event, data: `${event.data}!` }) },
  'with resume': { resume: true },
}

for (const [name, options] of Object.entries(ways)) {
  test(`a stream that has become silent keeps nothing of its events, ${name}`, async (t) => {
    const streams: EventStream[] = []
    const { front } = await proxied(
      t,
      { keepalive: false, ...options },
      { host: 'connect', upstream: { handler: (exchange) => void streams.push(exchange.stream()) } },
    )
    let received = 0
    const requests = Array.from({ length: streamCount }, (_, i) => {
      const request = get(`${front.url}?n=${i}`, { agent: false }, (answer) => {
        answer.on('data', (bytes: Buffer) => {
          received += bytes.length
        })
        answer.on('error', () => {})
      })
      request.on('error', () => {})
      return request
    })
    await until(() => streams.length === streamCount, 'all streams')
    const all = async (text: string) => {
      const due = received + text.length * streamCount
      for (const stream of streams) stream.write(text)
      await until(() => received >= due, `${due} bytes`, 20_000)
      return await keptBytes()
    }
    await all('id: 0\ndata: first\n\n')
    const before = await all('id: 1\ndata: second\n\n')

    const after = await all(burst)

    for (const request of requests) request.destroy()
    const kept = (after - before) / streamCount
    t.diagnostic(`${Math.round(kept)} bytes a stream, after ${burst.length}`)
    assert.ok(kept < burst.length / 8, `${kept} bytes a stream are kept`)
  })
}

/** What is left when everything has been collected that can be; buffers are freed in the background. */
async function keptBytes(): Promise<number> {
  let least = Number.POSITIVE_INFINITY
  for (let i = 0; i < 5; i++) {
    await setTimeout(20)
    collectGarbage()
    const { heapUsed, arrayBuffers } = process.memoryUsage()
    least = Math.min(least, heapUsed + arrayBuffers)
  }
  return least
}
