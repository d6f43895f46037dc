// An upstream that goes on elsewhere than it was asked to: what it sends is what the client gets, byte for byte; the next
// resume starts from the last id that has passed, wherever that is; and it is asked a bounded number of times.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { proxied, type SseProxyOptions } from '../support/proxied.ts'
import type { EventStream, Exchange } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

/** One connection to the upstream: what it sends, and how it goes. */
interface Connection {
  /** The `Last-Event-ID` it must be asked with. */
  asked?: string
  whole: string
  /** Of an event that never becomes whole. */
  half?: string
  then: keyof Pick<EventStream, 'reset' | 'cut' | 'end'>
}

const numbered = (...ids: number[]): string => ids.map((id) => `id: ${id}\ndata: event ${id}\n\n`).join('')

const stories: { name: string; connections: Connection[] }[] = [
  {
    name: 'repeats events',
    connections: [
      { whole: numbered(1, 2, 3), then: 'reset' },
      { asked: '3', whole: numbered(2, 3, 4), then: 'cut' },
      { asked: '4', whole: numbered(5), then: 'end' },
    ],
  },
  {
    name: 'skips events',
    connections: [
      { whole: numbered(1), half: 'id: 2\ndata: ev', then: 'reset' },
      { asked: '1', whole: numbered(7, 8), then: 'reset' },
      { asked: '8', whole: numbered(99), then: 'end' },
    ],
  },
  {
    name: 'sends events in another order',
    connections: [
      { whole: numbered(1, 2, 3), then: 'cut' },
      { asked: '3', whole: numbered(6, 5, 4), half: 'id: 9\n', then: 'cut' },
      { asked: '4', whole: numbered(5, 6), then: 'end' },
    ],
  },
  {
    name: 'begins its ids anew',
    connections: [
      { whole: numbered(1, 2, 3), then: 'reset' },
      { asked: '3', whole: numbered(1), then: 'reset' },
      { asked: '1', whole: numbered(1, 2), then: 'reset' },
      { asked: '2', whole: numbered(1, 2, 3, 4), then: 'end' },
    ],
  },
  {
    name: 'sends another stream altogether',
    connections: [
      { whole: numbered(1), then: 'reset' },
      { asked: '1', whole: ': other\r\n\r\nevent: y\r\nid: größer\r\ndata\r\n\r\nid: b\r\n\r\n', then: 'reset' },
      { asked: 'b', whole: 'retry: 1\r\rid: c\rdata: z\r\r\n', half: 'data: z\rid: no', then: 'reset' },
      { asked: 'c', whole: '\n\n\ndata: end\n\n', then: 'end' },
    ],
  },
  {
    name: 'has no ids any more, or none that count',
    connections: [
      { whole: numbered(1), then: 'reset' },
      { asked: '1', whole: 'data: no id\n\n', then: 'reset' },
      { asked: '1', whole: 'id: 2\0\ndata: NUL\n\n ID: 3\ndata: x\n\n', then: 'reset' },
      { asked: '1', whole: numbered(2), then: 'end' },
    ],
  },
]

const ways: [name: string, options: Partial<SseProxyOptions>][] = [
  ['', {}],
  [', with a hook', { transform: () => {} }],
  [
    ', with a hook that takes its time',
    { transform: () => new Promise((resolve) => setImmediate(resolve, undefined)) },
  ],
  [', shared', { share: true }],
]

for (const [way, options] of ways) {
  for (const { name, connections } of stories) {
    test(`an upstream that ${name} is passed on as it is${way}`, async (t) => {
      const { upstream, front, proxy } = await proxied(t, { resume: { delayMs: 1 }, ...options })
      const client = front.request()

      let sent = ''
      for (const { asked, whole, half = '', then } of connections) {
        const exchange = await upstream.next()
        assert.equal(exchange.headers['last-event-id'], asked)
        const stream = exchange.stream()
        stream.write(whole + half)
        sent += whole
        await client.waitForLength(Buffer.byteLength(sent))
        stream[then]()
      }

      assert.equal(await client.ended(), 'clean')
      assert.equal(client.text, sent)
      assert.equal(upstream.exchanges.length, connections.length)
      assert.equal(proxy.stats().resumes, connections.length - 1)
    })
  }

  test(`an upstream that empties its id cannot be asked to go on${way}`, async (t) => {
    const { upstream, front } = await proxied(t, { resume: { delayMs: 1 }, ...options })
    const client = front.request()
    const stream = (await upstream.next()).stream()
    stream.write(numbered(1))
    await client.waitFor(numbered(1))
    stream.reset()
    const again = (await upstream.next()).stream()
    again.write('id\ndata: x\n\n')
    await client.waitFor('data: x\n\n')

    again.reset()

    assert.equal(await client.ended(), 'broken')
    assert.equal(client.text, `${numbered(1)}id\ndata: x\n\n`)
    assert.equal(upstream.exchanges.length, 2)
  })

  // How often it is asked at most.
  for (const [what, text, then] of [
    ['ends its answers in half an event', 'id: 2\ndata: ha', 'reset'],
    ['breaks its answers off behind their heads', '', 'cut'],
    ['sends its last event again each time', numbered(1), 'reset'],
    ['sends earlier events again each time', numbered(0, 1), 'reset'],
    ['sends a storm of retry lines each time', 'retry: 0\n\nretry: 2\n\n'.repeat(2_000), 'reset'],
    ['sends comments each time', ':\n\n'.repeat(2_000), 'cut'],
    ['sends events without ids each time', 'data: x\n\n'.repeat(100), 'reset'],
  ] as const) {
    test(`an upstream that ${what} is given up${way}`, async (t) => {
      const attempts = 3
      const whole = text.slice(0, text.lastIndexOf('\n\n') + 2 || 0)
      const { upstream, front } = await proxied(t, { resume: { attempts, delayMs: 1 }, ...options })
      const client = front.request()
      const stream = (await upstream.next()).stream()
      let sent = numbered(1)
      stream.write(sent)
      await client.waitFor(sent)

      stream.reset()
      for (let i = 0; i < attempts; i += 1) {
        const again = (await upstream.next()).stream()
        if (text !== '') again.write(text)
        sent += text.endsWith('\n\n') ? whole : ''
        await client.waitForLength(sent.length)
        again[then]()
      }

      assert.equal(await client.ended(), 'broken')
      assert.equal(client.text, sent)
      assert.equal(upstream.exchanges.length, 1 + attempts)
    })
  }

  for (const [onEnd, asked] of [
    [false, 2],
    [true, 4],
  ] as const) {
    test(`an upstream whose answers end at once has ended, after ${asked - 1} of them with onEnd ${onEnd}${way}`, async (t) => {
      const { upstream, front } = await proxied(t, { resume: { attempts: 3, delayMs: 1, onEnd }, ...options })
      const client = front.request()
      const stream = (await upstream.next()).stream()
      stream.write(numbered(1))
      await client.waitFor(numbered(1))

      stream.reset()
      for (let i = 1; i < asked; i += 1) (await upstream.next()).stream().end()

      assert.equal(await client.ended(), 'clean')
      assert.equal(client.text, numbered(1))
      assert.equal(upstream.exchanges.length, asked)
    })
  }
}

test('a storm of `retry: 0` has an upstream asked ten times a second, not more', async (t) => {
  const askedAt: number[] = []
  const handler = (exchange: Exchange): void => {
    askedAt.push(performance.now())
    const stream = exchange.stream()
    stream.write('retry: 0\n'.repeat(500) + numbered(askedAt.length))
    setImmediate(() => stream.reset())
  }
  const { front } = await proxied(t, { resume: { delayMs: 1 } }, { upstream: { handler } })

  front.request()
  await until(() => askedAt.length === 4, 'three resumes')

  const waits = askedAt.slice(1).map((at, i) => at - (askedAt[i] as number))
  // Timers of Node may be a millisecond early.
  assert.ok(
    waits.every((wait) => wait >= 98),
    waits.join(', '),
  )
})
