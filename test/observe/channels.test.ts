import assert from 'node:assert/strict'
import { channel as channelOf, subscribe, unsubscribe } from 'node:diagnostics_channel'
import { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { StreamError, UpstreamError } from '../../src/errors.ts'
import type { SseStream } from '../../src/events/event.ts'
import {
  publishClose,
  publishEject,
  publishError,
  publishOpen,
  publishResume,
  publishRetry,
} from '../../src/observe/channels.ts'

const req = new IncomingMessage(new Socket())
const stream: SseStream = {
  id: 'a-1',
  req,
  upstream: 'http://one',
  lastEventId: '',
  openedAt: 0,
  resumes: 0,
  events: 0,
  bytes: 0,
  locals: {},
  signal: new AbortController().signal,
  send: () => true,
  close: () => {},
}
const unreachable = new UpstreamError('ERR_SSE_PROXY_UNREACHABLE', 'http://one')
const lost = new StreamError('ERR_SSE_PROXY_UPSTREAM_LOST')

const cases: { channel: string; publish: () => void; message: Record<string, unknown> }[] = [
  {
    channel: 'sse-proxy:open',
    publish: () => publishOpen('feed', stream),
    message: { proxy: 'feed', stream },
  },
  {
    channel: 'sse-proxy:close',
    publish: () => publishClose('feed', stream, 'client-left'),
    message: { proxy: 'feed', stream, reason: 'client-left' },
  },
  {
    channel: 'sse-proxy:retry',
    publish: () => publishRetry('feed', req, 'http://one', unreachable, 1, 250),
    message: { proxy: 'feed', req, upstream: 'http://one', error: unreachable, attempt: 1, delayMs: 250 },
  },
  {
    channel: 'sse-proxy:resume',
    publish: () => publishResume('feed', stream, 'http://two', '17', 2),
    message: { proxy: 'feed', stream, upstream: 'http://two', lastEventId: '17', attempt: 2 },
  },
  {
    channel: 'sse-proxy:error',
    publish: () => publishError('feed', lost, stream, req),
    message: { proxy: 'feed', error: lost, stream, req },
  },
  {
    channel: 'sse-proxy:eject',
    publish: () => publishEject('feed', 'http://one', 99_000, 3),
    message: { proxy: 'feed', upstream: 'http://one', untilMs: 99_000, failures: 3 },
  },
]

function listen(t: TestContext, channel: string): unknown[] {
  const heard: unknown[] = []
  const onMessage = (message: unknown) => void heard.push(message)
  subscribe(channel, onMessage)
  t.after(() => unsubscribe(channel, onMessage))
  return heard
}

for (const { channel, publish, message } of cases) {
  test(`${channel} carries ${Object.keys(message).join(', ')} to its subscribers at once`, (t) => {
    const heard = listen(t, channel)

    publish()

    assert.deepEqual(heard, [message])
  })

  test(`${channel} is not even asked where nobody listens`, (t) => {
    const channelObject = channelOf(channel)
    const heard: unknown[] = []
    Object.defineProperty(channelObject, 'publish', {
      configurable: true,
      value: (heardMessage: unknown) => heard.push(heardMessage),
    })
    t.after(() => Reflect.deleteProperty(channelObject, 'publish'))

    publish()

    assert.deepEqual(heard, [])
  })
}

test('sse-proxy:error leaves out what there is not', (t) => {
  const heard = listen(t, 'sse-proxy:error')

  publishError('feed', unreachable)
  publishError('feed', unreachable, undefined, req)

  assert.deepEqual(heard, [
    { proxy: 'feed', error: unreachable },
    { proxy: 'feed', error: unreachable, req },
  ])
})

test('who listens to one channel hears nothing of the others', (t) => {
  const heard = listen(t, 'sse-proxy:close')

  for (const { publish } of cases) publish()

  assert.equal(heard.length, 1)
})
