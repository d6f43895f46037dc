// What a subscriber of node:diagnostics_channel hears of real streams: which channel, when, and with what.
import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { IncomingMessage } from 'node:http'
import { type TestContext, test } from 'node:test'
import {
  AdmissionError,
  type CloseMessage,
  type EjectMessage,
  type ErrorMessage,
  type OpenMessage,
  type ResumeMessage,
  type RetryMessage,
  StreamError,
  sseProxy,
  UpstreamError,
} from 'sse-proxy-middleware'
import { hostsByProtocol, startFront } from '../support/front.ts'
import { proxied } from '../support/proxied.ts'
import { startUpstream } from '../support/upstream.ts'
import { Arrivals } from '../support/waiting.ts'

for (const host of hostsByProtocol) {
  test(`a stream is told of when it opens and when it closes, as the app knows it (${host})`, async (t) => {
    const opened = listen<OpenMessage>(t, 'open')
    const closed = listen<CloseMessage>(t, 'close')
    const { upstream, front, proxy } = await proxied(t, { name: 'feed' }, { host })
    const client = front.request('?user=ada')
    const stream = (await upstream.next()).stream()

    const open = await opened.next('the open message')
    const [handle] = proxy.streams
    stream.send({ id: '7', data: 'x' })
    await client.waitFor('x')
    client.close()
    const close = await closed.next('the close message')

    assert.deepEqual(Object.keys(open).sort(), ['proxy', 'stream'])
    assert.equal(open.proxy, 'feed')
    assert.equal(open.stream, handle)
    assert.ok('method' in open.stream.req && open.stream.req.method === 'GET')
    assert.equal(open.stream.upstream, `${upstream.url}/stream`)
    assert.deepEqual(Object.keys(close).sort(), ['proxy', 'reason', 'stream'])
    assert.equal(close.stream, handle)
    assert.equal(close.reason, 'client-left')
    assert.deepEqual([close.stream.lastEventId, close.stream.events], ['7', 1])
    assert.equal(close.stream.signal.aborted, true)
  })
}

test('an attempt that failed is told of before the next one, with the upstream that failed', async (t) => {
  const retried = listen<RetryMessage>(t, 'retry')
  const gone = await startUpstream()
  await gone.close()
  const upstream = await startUpstream()
  const target = [`${gone.url.replace('//', '//user:secret@')}/a`, upstream.url]
  const proxy = sseProxy({ target, balance: (candidates) => candidates[0]!, name: 'feed' })
  const front = await startFront('express5', proxy)
  t.after(async () => {
    await front.close()
    await upstream.close()
  })
  front.request('?q=1')
  await upstream.next()

  const message = await retried.next('the retry message')

  assert.deepEqual(Object.keys(message).sort(), ['attempt', 'delayMs', 'error', 'proxy', 'req', 'upstream'])
  assert.equal(message.proxy, 'feed')
  assert.equal(message.upstream, `${gone.url}/a`)
  assert.deepEqual([message.attempt, message.delayMs], [1, 0])
  assert.ok(message.error instanceof UpstreamError && message.error.code === 'ERR_SSE_PROXY_UNREACHABLE')
  assert.ok(message.req instanceof IncomingMessage)
})

test('a stream that goes on is told of with the id it went on from', async (t) => {
  const resumed = listen<ResumeMessage>(t, 'resume')
  const closed = listen<CloseMessage>(t, 'close')
  const failed = listen<ErrorMessage>(t, 'error')
  const { upstream, front, proxy } = await proxied(t, { resume: { delayMs: 1, maxDelayMs: 2 } })
  const client = front.request()
  const first = (await upstream.next()).stream()
  first.send({ id: '41', data: 'x' })
  await client.waitFor('x')
  const [handle] = proxy.streams
  first.reset()
  ;(await upstream.next()).req.socket.destroy()
  const exchange = await upstream.next()
  exchange.stream().send({ id: '42', data: 'y' })

  const message = await resumed.next('the resume message')
  await client.waitFor('y')

  assert.deepEqual(Object.keys(message).sort(), ['attempt', 'lastEventId', 'proxy', 'stream', 'upstream'])
  assert.equal(message.stream, handle)
  assert.deepEqual([message.lastEventId, message.attempt], ['41', 2])
  assert.equal(message.upstream, `${upstream.url}/stream`)
  assert.equal(handle?.resumes, 1)
  assert.deepEqual([closed.all.length, failed.all.length], [0, 0])
})

test('a stream that was broken off is an error with its stream, and then there is nothing more of it', async (t) => {
  const failed = listen<ErrorMessage>(t, 'error')
  const closed = listen<CloseMessage>(t, 'close')
  const { upstream, front, proxy } = await proxied(t)
  const client = front.request()
  const stream = (await upstream.next()).stream()
  await client.head()
  const [handle] = proxy.streams
  stream.reset()

  const message = await failed.next('the error message')

  assert.deepEqual(Object.keys(message).sort(), ['error', 'proxy', 'req', 'stream'])
  assert.equal(message.stream, handle)
  assert.equal(message.req, handle?.req)
  assert.ok(message.error instanceof StreamError && message.error.code === 'ERR_SSE_PROXY_UPSTREAM_LOST')
  assert.ok(message.error.cause instanceof Error)
  assert.deepEqual(
    closed.all.map(({ reason }) => reason),
    ['upstream-lost'],
  )
})

test('a request that got no answer is an error without a stream', async (t) => {
  const failed = listen<ErrorMessage>(t, 'error')
  const { upstream, front } = await proxied(t, { limits: { streams: 1 } })
  const waiting = front.request('?one')
  const exchange = await upstream.next()
  await (await front.open('?two')).ended()
  exchange.req.socket.destroy()
  await waiting.ended()

  const messages = [await failed.next('the refusal'), await failed.next('the failure')]

  for (const message of messages) assert.deepEqual(Object.keys(message).sort(), ['error', 'proxy', 'req'])
  assert.ok(messages[0]?.error instanceof AdmissionError && messages[0].error.code === 'ERR_SSE_PROXY_FULL')
  assert.ok(messages[1]?.error instanceof UpstreamError)
  assert.equal(messages[1].error.upstream, `${upstream.url}/stream`)
  assert.match(String(messages[1].req && 'url' in messages[1].req && messages[1].req.url), /one/)
})

test('an upstream that is left alone is told of, with how long and why', async (t) => {
  const ejected = listen<EjectMessage>(t, 'eject')
  const { upstream, front } = await proxied(t, { health: { failures: 2, ejectMs: 60_000 } })
  await upstream.close()
  await (await front.open()).ended()
  assert.equal(ejected.all.length, 0)
  await (await front.open()).ended()

  const { untilMs, ...message } = await ejected.next('the eject message')

  assert.deepEqual(message, { proxy: 'sse-proxy', upstream: `${upstream.url}/stream`, failures: 2 })
  assert.ok(untilMs > Date.now() + 50_000 && untilMs <= Date.now() + 60_000)
})

test('a client that leaves is no error, in whatever state its request is', async (t) => {
  const failed = listen<ErrorMessage>(t, 'error')
  const { upstream, front } = await proxied(t)
  const waiting = front.request()
  const exchange = await upstream.next()
  waiting.close()
  await exchange.leftByPeer()
  const streaming = front.request()
  const second = await upstream.next()
  second.stream()
  await streaming.head()
  streaming.close()
  await second.leftByPeer()

  assert.deepEqual(failed.all, [])
})

function listen<T>(t: TestContext, name: string): Arrivals<T> {
  const arrivals = new Arrivals<T>()
  const onMessage = (message: unknown): void => arrivals.add(message as T)
  subscribe(`sse-proxy:${name}`, onMessage)
  t.after(() => unsubscribe(`sse-proxy:${name}`, onMessage))
  return arrivals
}
