// However a stream or a request ends, nothing of it stays: no socket, no timer, no listener, no open stream.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { sseProxy } from 'sse-proxy-middleware'
import { type Front, type Host, hostsByProtocol, startFront } from '../support/front.ts'
import { watchLeftovers } from '../support/leftovers.ts'
import { startNeverAccepting } from '../support/never-accepts.ts'
import type { SseProxyOptions } from '../support/proxied.ts'
import {
  type Conversation,
  chunk,
  lastChunk,
  type RawUpstream,
  startRawUpstream,
  streamHead,
} from '../support/raw-upstream.ts'
import { refusingUrl } from '../support/several-upstreams.ts'
import { until } from '../support/waiting.ts'

/** One request from its beginning to its end. */
type Course = (front: Front, upstream: RawUpstream) => Promise<void>

interface Case {
  name: string
  options?: Partial<SseProxyOptions>
  /** How the streams are closed; none when no stream is opened. */
  reason?: string
  course: Course
}

const open = async (front: Front, upstream: RawUpstream, path = '') => {
  const client = front.request(path, { headers: { accept: 'text/event-stream' } })
  const conversation = await upstream.next()
  await conversation.head()
  return { client, conversation }
}

/** Answers with the bytes and waits for the client's answer to end. */
const answering =
  (...answer: (string | Buffer | ((conversation: Conversation) => void))[]): Course =>
  async (front, upstream) => {
    const { client, conversation } = await open(front, upstream)
    for (const part of answer) {
      if (typeof part === 'function') part(conversation)
      else conversation.send(part)
    }
    await client.ended()
  }

const event = chunk('data: x\n\n')
const reset = (conversation: Conversation): void => {
  conversation.socket.write('', () => conversation.reset())
}
const finish = (conversation: Conversation): void => conversation.finish()

const cases: Case[] = [
  { name: 'a clean end', reason: 'upstream-ended', course: answering(streamHead, event, lastChunk, finish) },
  {
    name: 'a clean end of much at once',
    reason: 'upstream-ended',
    course: answering(streamHead, chunk(`data: ${'x'.repeat(2_000_000)}\n\n`), lastChunk, finish),
  },
  { name: 'a reset in a stream', reason: 'upstream-lost', course: answering(streamHead, event, reset) },
  { name: 'a FIN in a stream', reason: 'upstream-lost', course: answering(streamHead, event, finish) },
  { name: 'a bad chunk', reason: 'upstream-lost', course: answering(streamHead, event, 'zz\r\n') },
  {
    name: 'idleMs',
    options: { timeouts: { idleMs: 30 } },
    reason: 'upstream-lost',
    course: answering(streamHead, event),
  },
  {
    name: 'lifetimeMs',
    options: { timeouts: { lifetimeMs: 30 } },
    reason: 'expired',
    course: answering(streamHead, event),
  },
  {
    name: 'a hook that throws',
    options: { transform: () => assert.fail('on purpose') },
    reason: 'hook-failed',
    course: answering(streamHead, event),
  },
  {
    name: 'an async hook that rejects',
    options: { transform: async () => assert.fail('on purpose') },
    reason: 'hook-failed',
    course: answering(streamHead, event),
  },
  {
    name: 'stream.close()',
    options: { onOpen: (stream) => stream.close() },
    reason: 'closed',
    course: answering(streamHead, event),
  },
  {
    name: 'a client that does not read',
    options: { timeouts: { writeMs: 100 } },
    reason: 'slow-client',
    course: async (front, upstream) => {
      const { client, conversation } = await open(front, upstream)
      conversation.send(streamHead)
      await client.head()
      client.pause()
      const much = chunk(`data: ${'x'.repeat(1024 * 1024)}\n\n`)
      for (let count = 0; count < 40; count += 1) conversation.send(much)
      await conversation.closed()
      client.close()
    },
  },
  {
    name: 'a client that leaves',
    reason: 'client-left',
    course: async (front, upstream) => {
      const { client, conversation } = await open(front, upstream)
      conversation.send(streamHead)
      await client.head()
      client.close()
      await conversation.closed()
    },
  },
  {
    name: 'a client that leaves with a grace',
    options: { onDisconnect: { graceMs: 30 }, transform: () => {} },
    reason: 'client-left',
    course: async (front, upstream) => {
      const { client, conversation } = await open(front, upstream)
      conversation.send(streamHead)
      await client.head()
      client.close()
      await conversation.closed()
    },
  },
  {
    name: 'a client that leaves before the answer',
    course: async (front, upstream) => {
      const { client, conversation } = await open(front, upstream)
      client.close()
      await conversation.closed()
    },
  },
  {
    name: 'a response opened early that gets its answer',
    options: { keepalive: { intervalMs: 20, openAfterMs: 10 } },
    reason: 'upstream-ended',
    course: async (front, upstream) => {
      const { client, conversation } = await open(front, upstream)
      await client.waitFor('keepalive')
      conversation.send(`${streamHead}${event}${lastChunk}`)
      conversation.finish()
      await client.ended()
    },
  },
  { name: 'a reset instead of an answer', course: answering(reset) },
  { name: 'noise instead of an answer', course: answering('hello?\r\n\r\n') },
  { name: 'responseMs', options: { timeouts: { responseMs: 30 } }, course: answering() },
  {
    name: 'responseMs told to an EventSource',
    options: { timeouts: { responseMs: 30 }, unavailable: 'reconnect' },
    course: answering(),
  },
  { name: 'no content', course: answering('HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n', finish) },
  {
    name: 'an ordinary answer',
    course: answering('HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok', finish),
  },
  {
    name: 'an ordinary answer that breaks off',
    course: answering('HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok', finish),
  },
]

const rounds = 5

for (const host of hostsByProtocol) {
  for (const { name, options, reason, course } of cases) {
    test(`after ${name} (${host})`, async (t) => {
      const leftovers = watchLeftovers(t)
      const closed: string[] = []
      const upstream = await startRawUpstream()
      const front = await startFront(host, proxyTo(upstream.url, closed, options))
      t.after(() => closeAll(front, upstream))

      for (let round = 0; round < rounds; round += 1) await course(front, upstream)

      const expected = reason === undefined ? [] : Array.from({ length: rounds }, () => reason)
      await until(
        () => closed.length >= expected.length,
        () => `${expected.length} streams to be closed: ${closed}`,
      )
      await until(
        () => upstream.connections === 0,
        () => `${upstream.connections} connections to the upstream to close`,
      )
      assert.deepEqual(closed, expected)
      await closeAll(front, upstream)
      await leftovers.assertNone()
    })
  }

  test(`after connections that are refused (${host})`, async (t) => {
    await refusals(t, host, { target: refusingUrl }, 502)
  })

  test(`after connections that are not established in time (${host})`, async (t) => {
    const blocked = await startNeverAccepting()
    t.after(() => blocked.close())

    await refusals(t, host, { target: blocked.url, timeouts: { connectMs: 30 } }, 504)
  })
}

async function refusals(t: TestContext, host: Host, options: SseProxyOptions, status: number): Promise<void> {
  const leftovers = watchLeftovers(t)
  const front = await startFront(host, sseProxy(options))
  t.after(() => front.close())

  for (let round = 0; round < rounds; round += 1) {
    const client = await front.open()
    await client.ended()
    assert.equal(client.status, status)
  }

  await front.close()
  await leftovers.assertNone()
}

function proxyTo(url: string, closed: string[], options: Partial<SseProxyOptions> = {}): ReturnType<typeof sseProxy> {
  return sseProxy({
    target: url,
    ...options,
    onClose: (_stream, reason) => {
      closed.push(reason)
    },
  })
}

async function closeAll(...all: { close(): Promise<void> }[]): Promise<void> {
  for (const one of all) await one.close()
}
