// tRPC's subscriptions over event streams, with its own client and server and the proxy between them.
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { createTRPCClient, httpSubscriptionLink } from '@trpc/client'
import { initTRPC, tracked } from '@trpc/server'
import { createHTTPHandler } from '@trpc/server/adapters/standalone'
import { EventSource } from 'eventsource'
import { sseProxy } from 'sse-proxy-middleware'
import { startFront } from '../support/front.ts'
import { gate, until, within } from '../support/waiting.ts'

const trpc = initTRPC.create({ sse: { ping: { enabled: true, intervalMs: 20 } } })

test('a tracked subscription goes on after its last id when the connection is lost, and its leaving is heard', async (t) => {
  const left = gate()
  const starts: (string | undefined)[] = []
  const router = trpc.router({
    ticks: trpc.procedure
      .input((input) => input as { lastEventId?: string | null } | undefined)
      .subscription(async function* ({ input, signal }) {
        const from = input?.lastEventId ?? undefined
        starts.push(from)
        for (let n = Number(from ?? 0) + 1; n <= 2 + Number(from ?? 0); n++) yield tracked(String(n), { n })
        await new Promise((resolve) => signal?.addEventListener('abort', resolve))
        if (starts.length > 1) left.open()
      }),
  })
  const server = createServer(createHTTPHandler({ router, basePath: '/trpc/' }))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const target = `http://127.0.0.1:${(server.address() as AddressInfo).port}/trpc`
  const front = await startFront('express5', sseProxy({ target }), { mount: '/api/trpc' })
  t.after(async () => {
    await front.close()
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  const client = createTRPCClient<typeof router>({
    links: [httpSubscriptionLink({ url: front.url, EventSource, eventSourceOptions: {} })],
  })
  const seen: number[] = []

  const subscription = client.ticks.subscribe({}, { onData: ({ data }) => void seen.push(data.n) })
  await until(() => seen.length === 2, 'two ticks')
  server.closeAllConnections()
  await until(() => seen.length === 4, 'two more', 15_000)
  subscription.unsubscribe()

  assert.deepEqual(seen, [1, 2, 3, 4])
  assert.deepEqual(starts, [undefined, '2'])
  await within(left.promise, 'the server to hear that the client has left')
})
