// An upstream that keeps its connection busy with comments and sends no event is lost, where that is bounded.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { Client } from '../support/client.ts'
import { hostsByProtocol } from '../support/front.ts'
import { proxied, rawProxied, type SseProxyOptions } from '../support/proxied.ts'
import { type Conversation, chunk, lastChunk, streamHead } from '../support/raw-upstream.ts'
import type { EventStream } from '../support/upstream.ts'
import { gate, until } from '../support/waiting.ts'

const first = 'id: 1\ndata: one\n\n'

const ways: Record<string, Partial<SseProxyOptions>> = {
  plain: {},
  hooked: { transform: () => undefined },
  shared: { share: { lingerMs: 0 } },
}

for (const host of hostsByProtocol) {
  for (const [way, options] of Object.entries(ways)) {
    test(`an upstream that sends comments alone for firstEventMs is lost (${way}, ${host})`, async (t) => {
      const { upstream, proxy, front } = await proxied(t, { timeouts: { firstEventMs: 80 }, ...options }, { host })
      const client = front.request()
      const exchange = await upstream.next()
      const stop = pinging(t, exchange.stream())

      const ending = await client.ended()

      stop()
      assert.equal(ending, 'broken')
      assert.match(client.text, /^(: ping\n\n)+$/)
      await exchange.leftByPeer()
      await until(() => proxy.stats().errors.ERR_SSE_PROXY_IDLE === 1, 'the silence to be told')
      assert.equal(proxy.stats().closed['upstream-lost'], 1)
    })

    test(`an upstream that sends comments alone for eventMs after an event is lost (${way}, ${host})`, async (t) => {
      const { upstream, proxy, front } = await proxied(t, { timeouts: { eventMs: 80 }, ...options }, { host })
      const client = front.request()
      const stream = (await upstream.next()).stream()
      stream.write(first)
      const stop = pinging(t, stream)

      const ending = await client.ended()

      stop()
      assert.equal(ending, 'broken')
      assert.match(client.text, /^id: 1\ndata: one\n\n(: ping\n\n)+$/)
      await until(() => proxy.stats().errors.ERR_SSE_PROXY_IDLE === 1, 'the silence to be told')
    })
  }
}

for (const fastLane of [true, false]) {
  test(`the event of a chunk is in time for firstEventMs, and comments in chunks are not (fastLane: ${fastLane})`, async (t) => {
    const options = { timeouts: { firstEventMs: 100 }, fastLane }
    const inTime = await rawProxied(t, options)
    const tooLate = await rawProxied(t, options)
    const streams = []
    for (const { front, upstream } of [inTime, tooLate]) {
      const client = front.request()
      const conversation = await upstream.next()
      await conversation.head()
      conversation.send(streamHead + chunk(': ping\n\n'))
      await client.waitFor(': ping\n\n')
      streams.push({ client, conversation })
    }
    const [first, second] = streams as [Stream, Stream]

    first.conversation.send(chunk('data: one\n\n'))
    second.conversation.send(chunk(': ping\n\n'))
    const ending = await second.client.ended()
    first.conversation.send(chunk('data: two\n\n') + lastChunk)

    assert.equal(ending, 'broken')
    assert.equal(await first.client.whole(), ': ping\n\ndata: one\n\ndata: two\n\n')
  })
}

test('a stream whose upstream sends no event goes on with resume, on which the same bound is', async (t) => {
  const { upstream, front } = await proxied(t, {
    timeouts: { eventMs: 80 },
    resume: { attempts: 1, delayMs: 0 },
  })
  const client = front.request()
  const stopFirst = pinging(t, (await upstream.next()).stream(), first)
  const again = await upstream.next()
  stopFirst()
  const stopSecond = pinging(t, again.stream())

  const ending = await client.ended()
  stopSecond()
  assert.equal(ending, 'broken')
  assert.equal(upstream.exchanges.length, 2)
})

test('silence behind the end of a stream is a good end', async (t) => {
  const { upstream, proxy, front } = await proxied(t, {
    timeouts: { eventMs: 50 },
    isEnd: ({ data }) => data === '[DONE]',
  })
  const client = front.request()

  const stop = pinging(t, (await upstream.next()).stream(), 'data: [DONE]\n\n')

  const ending = await client.ended()
  stop()
  assert.equal(ending, 'clean')
  assert.equal(proxy.stats().closed['upstream-ended'], 1)
})

test('an app that takes its time is no silence of the upstream', async (t) => {
  const { promise, open } = gate()
  const { upstream, front } = await proxied(t, {
    timeouts: { firstEventMs: 40, eventMs: 40 },
    transform: () => promise,
  })
  const clock = await proxied(t, { timeouts: { eventMs: 120 } })
  const client = front.request()
  const stream = (await upstream.next()).stream()
  stream.write(first)
  const waiting = clock.front.request()
  ;(await clock.upstream.next()).stream().write(first)
  await waiting.ended()

  open()
  await client.waitFor(first)
  stream.end()

  assert.equal(await client.ended(), 'clean')
})

interface Stream {
  client: Client
  conversation: Conversation
}

/** Sends comments until it is stopped. */
function pinging(t: TestContext, stream: EventStream, start = ''): () => void {
  stream.write(`${start}: ping\n\n`)
  const timer = setInterval(() => stream.write(': ping\n\n'), 10)
  const stop = () => clearInterval(timer)
  t.after(stop)
  return stop
}
