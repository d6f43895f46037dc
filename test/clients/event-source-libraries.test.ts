// The libraries with which programs in Node read event streams, behind the proxy: events, ids, reconnects, leaving.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { test } from 'node:test'
import { createEventSource, type EventSourceMessage } from 'eventsource-client'
import { proxied } from '../support/proxied.ts'
import { gate, until, within } from '../support/waiting.ts'

/** The part of launchdarkly-eventsource that the tests use: it has no types. */
interface LaunchDarklySource {
  onmessage: (event: { data: string; lastEventId: string }) => void
  close(): void
}
type LaunchDarklyEventSource = new (url: string, options: object) => LaunchDarklySource
const LaunchDarkly: LaunchDarklyEventSource = createRequire(import.meta.url)('launchdarkly-eventsource').EventSource

test('eventsource-client takes comments for comments, and comes back with its last id', async (t) => {
  const { upstream, front } = await proxied(t, { keepalive: 20 })
  const source = createEventSource({ url: front.url })
  t.after(() => source.close())
  const events: AsyncIterator<EventSourceMessage> = source[Symbol.asyncIterator]()

  const first = (await upstream.next()).stream()
  first.write('retry: 1\n\n')
  first.send({ id: '1', data: 'one' })
  const one = await within(events.next(), 'the first event')
  first.reset()
  const again = await upstream.next()
  again.stream().send({ id: '2', event: 'tick', data: 'two' })
  const two = await within(events.next(), 'the second event')
  source.close()

  assert.deepEqual([one.value.id, one.value.data], ['1', 'one'])
  assert.deepEqual([two.value.id, two.value.event, two.value.data], ['2', 'tick', 'two'])
  assert.equal(again.headers['last-event-id'], '1')
  await again.leftByPeer()
})

test('launchdarkly-eventsource sends its own headers, and comes back with its last id', async (t) => {
  const { upstream, front } = await proxied(t, { keepalive: 20 })
  const source = new LaunchDarkly(front.url, {
    headers: { authorization: 'sdk-key' },
    initialRetryDelayMillis: 1,
    maxBackoffMillis: 0,
  })
  t.after(() => source.close())
  const events: [id: string, data: string][] = []
  source.onmessage = ({ lastEventId, data }) => void events.push([lastEventId, data])

  const first = await upstream.next()
  const stream = first.stream()
  stream.send({ id: '1', data: 'one' })
  await until(() => events.length === 1, 'the first event')
  stream.end()
  const again = await upstream.next()
  again.stream().send({ id: '2', data: 'two' })
  await until(() => events.length === 2, 'the second event')
  source.close()

  assert.deepEqual(events, [
    ['1', 'one'],
    ['2', 'two'],
  ])
  assert.equal(first.headers.authorization, 'sdk-key')
  assert.equal(again.headers['last-event-id'], '1')
})

test('fetch-event-source takes a comment for an event, and does not where `keepalive.blankLine` is false', async (t) => {
  // What the library uses of a page.
  Object.assign(globalThis, {
    window: globalThis,
    document: { hidden: false, addEventListener() {}, removeEventListener() {} },
  })
  t.after(() => {
    Reflect.deleteProperty(globalThis, 'window')
    Reflect.deleteProperty(globalThis, 'document')
  })
  const { fetchEventSource } = await import('@microsoft/fetch-event-source')

  for (const [blankLine, empty] of [
    [true, true],
    [false, false],
  ] as const) {
    const { upstream, front } = await proxied(t, { keepalive: { intervalMs: 10, blankLine } })
    const events: string[] = []
    const opened = gate()
    const closed = new AbortController()
    const reading = fetchEventSource(front.url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"q":1}',
      signal: closed.signal,
      onopen: async () => opened.open(),
      onmessage: ({ data }) => void events.push(data),
    })
    const exchange = await upstream.next()
    const stream = exchange.stream()
    await within(opened.promise, 'the head')
    // Told apart by the client alone, so a few keepalives have to pass.
    const watching = front.request()
    ;(await upstream.next()).stream()
    await watching.waitFor((text) => text.split(': keepalive').length > 4)
    stream.send({ data: 'one' })
    await until(() => events.includes('one'), 'the event')
    closed.abort()
    await reading

    assert.equal(events.includes(''), empty)
    assert.equal(String(await exchange.body()), '{"q":1}')
    await exchange.leftByPeer()
  }
})
