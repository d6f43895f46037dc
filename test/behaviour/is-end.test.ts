// The end of a stream is what the app says it is: a clean end before it is a loss, a broken connection after it is none.
import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { test } from 'node:test'
import { Registry } from 'prom-client'
import { prometheusMetrics } from 'sse-proxy-middleware/prometheus'
import { hostsByProtocol } from '../support/front.ts'
import { proxied, rawProxied, type SseProxy, type SseProxyOptions } from '../support/proxied.ts'
import { type Conversation, chunk, lastChunk, streamHead } from '../support/raw-upstream.ts'
import { until } from '../support/waiting.ts'

const isEnd: SseProxyOptions['isEnd'] = ({ data }) => data === '[DONE]'
const first = 'data: one\n\n'
const done = 'data: [DONE]\n\n'

const ways: Record<string, Partial<SseProxyOptions>> = {
  plain: {},
  hooked: { transform: () => undefined },
  'hooked by an async function': { transform: async () => undefined },
  shared: { share: { lingerMs: 0 } },
  'shared, with hooks for each client': { share: { lingerMs: 0, transform: () => undefined } },
  resumable: { resume: { attempts: 1, delayMs: 0 } },
}

for (const host of hostsByProtocol) {
  for (const [way, options] of Object.entries(ways)) {
    test(`a clean end before the end is a loss (${way}, ${host})`, async (t) => {
      const { upstream, proxy, front } = await proxied(t, { isEnd, ...options }, { host })
      const client = front.request()

      const stream = (await upstream.next()).stream()
      stream.end(first)

      const ending = await client.ended()
      assert.equal(ending, 'broken')
      assert.equal(client.text, first)
      await assertLost(proxy)
    })

    test(`a connection that is reset together with the end is a good end (${way}, ${host})`, async (t) => {
      const { upstream, proxy, front } = await rawProxied(t, { isEnd, ...options }, { host })
      const client = front.request()
      const conversation = await upstream.next()
      await conversation.head()

      sendAndReset(conversation, `${streamHead}${chunk(first)}${chunk(done)}${chunk('data: half')}`)

      const ending = await client.ended()
      assert.equal(ending, 'clean')
      assert.equal(client.text, first + done)
      assertWhole(proxy)
    })
  }

  test(`a stream without an event is incomplete (${host})`, async (t) => {
    const { upstream, proxy, front } = await proxied(t, { isEnd }, { host })
    const client = front.request()

    ;(await upstream.next()).stream().end(': only a comment\n\n')

    assert.equal(await client.ended(), 'broken')
    await assertLost(proxy)
  })

  test(`what comes behind the end still passes (${host})`, async (t) => {
    const { upstream, proxy, front } = await proxied(t, { isEnd }, { host })
    const client = front.request()
    const stream = (await upstream.next()).stream()
    stream.write(first + done)
    await client.waitFor(done)

    stream.end('data: the usage\n\n')

    assert.equal(await client.whole(), `${first}${done}data: the usage\n\n`)
    assertWhole(proxy)
  })
}

// One that resumes begins anew where there has been no event.
const { resumable: _, ...unresumed } = ways
const heldBack: Partial<SseProxyOptions> = { retry: { commit: () => 'hold', attempts: 0 } }

for (const host of hostsByProtocol) {
  for (const [way, options] of Object.entries({ ...unresumed, held: heldBack })) {
    test(`a stream that is incomplete before anything of it has left has its head, and breaks (${way}, ${host})`, async (t) => {
      const { upstream, proxy, front } = await rawProxied(t, { isEnd, ...options }, { host })
      const client = front.request()
      const conversation = await upstream.next()
      await conversation.head()

      conversation.send(`${streamHead}${chunk('data: half')}${lastChunk}`)

      assert.equal(await client.ended(), 'broken')
      assert.equal(client.hasHead, true)
      assert.equal(client.status, 200)
      assert.equal(client.text, '')
      await assertLost(proxy)
    })
  }
}

test('the end counts although its blank line is missing, where the body is complete', async (t) => {
  const { upstream, proxy, front } = await rawProxied(t, { isEnd })
  const client = front.request()
  const conversation = await upstream.next()
  await conversation.head()

  conversation.send(`${streamHead}${chunk(first)}${chunk('data: [DONE]\n')}${lastChunk}`)

  assert.equal(await client.whole(), `${first}data: [DONE]\n`)
  assertWhole(proxy)
})

test('an end whose body was cut before its blank line is a loss', async (t) => {
  const { upstream, proxy, front } = await rawProxied(t, { isEnd })
  const client = front.request()
  const conversation = await upstream.next()
  await conversation.head()

  sendAndReset(conversation, `${streamHead}${chunk(first)}${chunk('data: [DONE]\n')}`)

  assert.equal(await client.ended(), 'broken')
  await until(() => proxy.stats().errors.ERR_SSE_PROXY_UPSTREAM_LOST === 1, 'the loss to be told')
})

test('silence behind the end is a good end', async (t) => {
  const { upstream, proxy, front } = await proxied(t, { isEnd, timeouts: { idleMs: 50 } })
  const client = front.request()

  ;(await upstream.next()).stream().write(done)

  assert.equal(await client.whole(), done)
  assertWhole(proxy)
})

test('isEnd sees the events of the upstream, each once until the end, and the request', async (t) => {
  const seen: string[] = []
  const { upstream, front } = await proxied(t, {
    transform: (event) => ({ ...event, data: 'replaced' }),
    isEnd: ({ event, id, data }, req) => {
      seen.push(`${event} ${id} ${data} ${req.method}`)
      return data === '[DONE]'
    },
  })
  const client = front.request()

  const stream = (await upstream.next()).stream()
  stream.write(': comment\n\nid: 7\n\nid: 8\nevent: tick\ndata: one\n\n')
  await client.waitFor('replaced')
  stream.end(`${done}data: after\n\n`)

  await client.whole()
  assert.deepEqual(seen, ['tick 8 one GET', 'undefined undefined [DONE] GET'])
})

test('an incomplete stream goes on with resume, and its end is final for resume.onEnd', async (t) => {
  const { upstream, proxy, front } = await proxied(t, { isEnd, resume: { delayMs: 0, onEnd: true } })
  const client = front.request()
  ;(await upstream.next()).stream().end('id: 1\ndata: one\n\n')

  const second = await upstream.next()
  second.stream().end(`id: 2\n${done}`)

  assert.equal(await client.whole(), `id: 1\ndata: one\n\nid: 2\n${done}`)
  assert.equal(second.headers['last-event-id'], '1')
  assert.equal(upstream.exchanges.length, 2)
  assertWhole(proxy)
})

test('an incomplete stream whose resume is answered 204 stays incomplete', async (t) => {
  const { upstream, proxy, front } = await proxied(t, { isEnd, resume: { delayMs: 0 } })
  const client = front.request()
  ;(await upstream.next()).stream().end('id: 1\ndata: one\n\n')

  ;(await upstream.next()).answer(204)

  assert.equal(await client.ended(), 'broken')
  await assertLost(proxy)
})

for (const [what, rest, incomplete] of [
  ['incomplete', first, 1],
  ['complete', done, undefined],
] as const) {
  test(`a stream that goes on without its client is told to be ${what}`, async (t) => {
    const { upstream, proxy, front } = await proxied(t, { isEnd, onDisconnect: 'drain' })
    const client = front.request()
    const stream = (await upstream.next()).stream()
    stream.write(first)
    await client.waitFor(first)
    client.close()
    await until(() => front.connections === 0, 'the client to be gone')

    stream.end(rest)

    await until(() => proxy.stats().active === 0, 'the stream to be over')
    await turn()
    assert.equal(proxy.stats().errors.ERR_SSE_PROXY_INCOMPLETE, incomplete)
    assert.equal(proxy.stats().closed['client-left'], 1)
  })
}

test('a drain ends a stream before its end cleanly, since its client comes back', async (t) => {
  const { upstream, proxy, front } = await proxied(t, { isEnd })
  const client = front.request()
  ;(await upstream.next()).stream().write(first)
  await client.waitFor(first)

  await proxy.close({ withinMs: 100 })

  assert.equal(await client.ended(), 'clean')
  assert.equal(proxy.stats().closed.drained, 1)
  assert.deepEqual(proxy.stats().errors, {})
})

for (const [what, fails] of [
  [
    'throws',
    () => {
      throw new Error('a mistake of the app')
    },
  ],
  ['returns something else than true or false', () => 'yes'],
] as const) {
  test(`an isEnd that ${what} breaks the stream off as a hook does, without a resume`, async (t) => {
    const options = { isEnd: fails as () => boolean, resume: { delayMs: 0 } }
    const { upstream, proxy, front } = await proxied(t, options)
    const client = front.request()

    ;(await upstream.next()).stream().end('id: 1\ndata: one')

    assert.equal(await client.ended(), 'broken')
    assert.equal(client.text, '')
    await until(() => proxy.stats().errors.ERR_SSE_PROXY_HOOK === 1, 'the failure to be told')
    assert.equal(proxy.stats().closed['hook-failed'], 1)
    assert.equal(upstream.exchanges.length, 1)
  })
}

test('an event that is too large for isEnd breaks the stream off, also behind the end', async (t) => {
  const { upstream, proxy, front } = await proxied(t, { isEnd, limits: { eventBytes: 100 } })
  const client = front.request()

  ;(await upstream.next()).stream().end(`${done}data: ${'x'.repeat(200)}\n\n`)

  assert.equal(await client.ended(), 'broken')
  await until(() => proxy.stats().errors.ERR_SSE_PROXY_EVENT_TOO_LARGE === 1, 'the event to be told')
})

test('an incomplete stream is published with its code and its stream, and blamed on the upstream', async (t) => {
  const messages: unknown[] = []
  const lines: string[] = []
  const note = (message: unknown) => void messages.push(message)
  subscribe('sse-proxy:error', note)
  t.after(() => unsubscribe('sse-proxy:error', note))
  const logger = {
    info() {},
    warn: (line: string) => void lines.push(line),
    error: (line: string) => void lines.push(line),
  }
  const { upstream, front } = await proxied(t, { isEnd, logger, name: 'incomplete' })
  const client = front.request()

  ;(await upstream.next()).stream().end(first)

  await client.ended()
  await until(() => messages.length > 0, 'the message')
  const [{ proxy: name, error, stream }] = messages as [
    { proxy: string; error: { code: string; message: string }; stream: { events: number } },
  ]
  assert.equal(name, 'incomplete')
  assert.equal(error.code, 'ERR_SSE_PROXY_INCOMPLETE')
  assert.equal(error.message, 'The upstream ended before the stream was complete.')
  assert.equal(stream.events, 1)
  assert.match(lines.join('\n'), /isEnd/)
})

test('a scrape tells of incomplete streams', async (t) => {
  const { upstream, proxy, front } = await proxied(t, { isEnd, name: 'chat' })
  const registry = new Registry()
  prometheusMetrics(proxy, { registry })
  const client = front.request()

  ;(await upstream.next()).stream().end(first)
  await client.ended()
  await assertLost(proxy)

  const text = await registry.metrics()
  assert.match(text, /^sse_proxy_errors_total\{proxy="chat",code="ERR_SSE_PROXY_INCOMPLETE"\} 1$/m)
  assert.match(text, /^sse_proxy_streams_closed_total\{proxy="chat",reason="upstream-lost"\} 1$/m)
})

function turn(): Promise<unknown> {
  return new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
}

function assertWhole(proxy: SseProxy): void {
  const { closed, errors } = proxy.stats()
  assert.deepEqual({ ended: closed['upstream-ended'], errors }, { ended: 1, errors: {} })
}

function assertLost(proxy: SseProxy): Promise<void> {
  assert.equal(proxy.stats().closed['upstream-lost'], 1)
  return until(() => proxy.stats().errors.ERR_SSE_PROXY_INCOMPLETE === 1, 'the loss to be told')
}

function sendAndReset(conversation: Conversation, bytes: string): void {
  conversation.socket.write(bytes, () => conversation.reset())
}
