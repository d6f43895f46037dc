import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { StreamError, UpstreamError } from '../../src/errors.ts'
import type { SseStream } from '../../src/events/event.ts'
import {
  attempts,
  closes,
  ejections,
  failures,
  opens,
  requests,
  resumes,
  retries,
  type Topic,
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

const cases = [
  caseOf('sse-proxy:request', requests, { proxy: 'feed', req, res: new ServerResponse(req) }),
  caseOf('sse-proxy:attempt', attempts, {
    proxy: 'feed',
    req,
    res: new ServerResponse(req),
    upstream: 'http://one',
    headers: {},
  }),
  caseOf('sse-proxy:open', opens, { proxy: 'feed', stream }),
  caseOf('sse-proxy:close', closes, { proxy: 'feed', stream, reason: 'client-left' }),
  caseOf('sse-proxy:retry', retries, {
    proxy: 'feed',
    req,
    upstream: 'http://one',
    error: unreachable,
    attempt: 1,
    delayMs: 250,
  }),
  caseOf('sse-proxy:resume', resumes, {
    proxy: 'feed',
    stream,
    upstream: 'http://two',
    lastEventId: '17',
    attempt: 2,
  }),
  caseOf('sse-proxy:error', failures, { proxy: 'feed', error: lost, stream, req }),
  caseOf('sse-proxy:eject', ejections, { proxy: 'feed', upstream: 'http://one', untilMs: 99_000, failures: 3 }),
]

function caseOf<T extends object>(channel: string, topic: Topic<T>, message: T) {
  return {
    channel,
    message,
    publish: (onMade?: () => void) =>
      topic.publish(() => {
        onMade?.()
        return message
      }),
  }
}

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

  test(`a message of ${channel} is not even made where the channel has no subscribers`, () => {
    publish(() => assert.fail('made'))
  })
}

test('who listens to one channel hears nothing of the others', (t) => {
  const heard = listen(t, 'sse-proxy:close')

  for (const { publish } of cases) publish()

  assert.equal(heard.length, 1)
})

test('a listener gets the messages until it is taken back, and what it throws ends there', () => {
  const heard: string[] = []
  const unsubscribe = opens.subscribe(({ proxy }) => {
    heard.push(proxy)
    throw new Error('of the listener')
  })

  opens.publish(() => ({ proxy: 'one', stream }))
  unsubscribe()
  opens.publish(() => ({ proxy: 'two', stream }))

  assert.deepEqual(heard, ['one'])
})
