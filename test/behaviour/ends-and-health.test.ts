// What the end of a stream says about its upstream's health is what `isEnd` makes of it, and not what its connection does.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { constants, gzipSync } from 'node:zlib'
import type { SseProxyOptions } from '../support/proxied.ts'
import { several } from '../support/several-upstreams.ts'
import { until } from '../support/waiting.ts'

const isEnd: SseProxyOptions['isEnd'] = ({ data }) => data === '[DONE]'
const first = 'data: one\n\n'
const done = 'data: [DONE]\n\n'
const identity = (text: string): Buffer => Buffer.from(text)
// Without the trailer, behind which nothing more would be read.
const gzip = (text: string): Buffer => gzipSync(text, { finishFlush: constants.Z_SYNC_FLUSH })

interface Way {
  options?: Partial<SseProxyOptions>
  coding?: (text: string) => Buffer
}

const ways: Record<string, Way> = {
  plain: {},
  compressed: { coding: gzip },
  'hooked by an async function': { options: { transform: async () => undefined } },
  shared: { options: { share: { lingerMs: 0 } } },
  held: { options: { retry: { commit: () => 'commit' } } },
  'held and compressed': { options: { retry: { commit: () => 'commit' } }, coding: gzip },
  'watched for silence': { options: { timeouts: { idleMs: 60_000, eventMs: 60_000 } } },
  resumable: { options: { resume: { attempts: 1, delayMs: 0 } } },
}

for (const [way, { options, coding = identity }] of Object.entries(ways)) {
  const headers: Record<string, string> = coding === gzip ? { 'content-encoding': 'gzip' } : {}

  test(`an upstream that resets its connections behind the end has not failed (${way})`, async (t) => {
    const { front, proxy, upstreams } = await several(
      t,
      { isEnd, balance: 'failover', ...options },
      {
        count: 2,
        upstream: {
          handler: (exchange) => {
            const stream = exchange.stream(headers)
            exchange.res.write(coding(first + done), () => stream.reset())
          },
        },
      },
    )

    for (let i = 0; i < 4; i++) assert.equal(await front.request().whole(), first + done)

    assert.equal(proxy.stats().upstreams[0]?.failures, 0)
    assert.equal(upstreams[0].exchanges.length, 4)
  })

  test(`an upstream whose streams end before the end is left alone after the third (${way})`, async (t) => {
    const { front, upstreams } = await several(
      t,
      { isEnd, balance: 'failover', ...options },
      {
        count: 2,
        upstream: (at) => ({
          handler: (exchange) => {
            const stream = exchange.stream(headers)
            if (at === 1) return stream.end(coding(first + done))
            // A coded body that is complete.
            stream.end(coding === gzip ? gzipSync(first) : first)
          },
        }),
      },
    )

    for (let i = 0; i < 4; i++) await front.request().ended()

    await until(() => upstreams[1].exchanges.length > 0, 'the second upstream to be asked')
    assert.equal(upstreams[0].exchanges.length, 3)
  })
}

for (const status of [204, 500]) {
  test(`a stream that is lost before the end is one failure, also when its resume is answered ${status}`, async (t) => {
    const { front, proxy } = await several(
      t,
      { isEnd, balance: 'failover', resume: { attempts: 1, delayMs: 0 } },
      {
        count: 2,
        upstream: (at) => ({
          handler: (exchange) => {
            if (at === 0) exchange.stream().end(`id: 1\n${first}`)
            else exchange.res.writeHead(status).end()
          },
        }),
      },
    )

    await front.request().ended()

    assert.deepEqual(
      proxy.stats().upstreams.map(({ failures, requests }) => [failures, requests]),
      [
        [1, 1],
        [0, 1],
      ],
    )
  })
}

test('an upstream that is silent behind the end has not failed, and one that is silent before it has', async (t) => {
  const { front, proxy } = await several(
    t,
    { isEnd, balance: 'round-robin', timeouts: { idleMs: 60 } },
    { count: 2, upstream: (at) => ({ handler: (exchange) => exchange.stream().write(at === 0 ? done : first) }) },
  )

  const endings = await Promise.all([front.request().ended(), front.request().ended()])

  assert.deepEqual(endings.sort(), ['broken', 'clean'])
  assert.deepEqual(
    proxy.stats().upstreams.map(({ failures }) => failures),
    [0, 1],
  )
})

test('a stream in a coding that is not known here is judged by its connection', async (t) => {
  const { front, upstreams } = await several(
    t,
    { isEnd, balance: 'failover' },
    {
      count: 2,
      upstream: (at) => ({
        handler: (exchange) => {
          const stream = exchange.stream({ 'content-encoding': 'smoke' })
          if (at === 1) stream.end('coded')
          else exchange.res.write('coded', () => stream.reset())
        },
      }),
    },
  )

  for (let i = 0; i < 4; i++) await front.request().ended()

  assert.deepEqual(
    upstreams.map(({ exchanges }) => exchanges.length),
    [3, 1],
  )
})

test('what the app fails to translate says nothing about the upstream', async (t) => {
  let fail: (error: Error) => void = () => {}
  const translated = new Promise<undefined>((_resolve, reject) => {
    fail = reject
  })
  const { front, proxy, upstreams } = await several(
    t,
    { isEnd, balance: 'failover', from: { format: 'ndjson', toEvent: () => translated } },
    {
      count: 2,
      upstream: { handler: (exchange) => exchange.answer(200, { 'content-type': 'application/x-ndjson' }, '{}\n') },
    },
  )
  const client = front.request()
  await until(() => upstreams[0].exchanges[0]?.res.writableFinished === true, 'the answer to end')
  await until(() => proxy.stats().upstreams[0]?.active === 0, 'its end to be known')

  fail(new Error('a mistake of the app'))

  assert.equal(await client.ended(), 'broken')
  assert.equal(proxy.stats().upstreams[0]?.failures, 0)
})

test('a stream whose end is not looked at in its first second is judged by what it was when it ended', async (t) => {
  let letGo: () => void = () => {}
  const held = new Promise<void>((resolve) => {
    letGo = resolve
  })
  const { front, proxy, upstreams } = await several(
    t,
    { isEnd, balance: 'failover', transform: () => held },
    { count: 2, upstream: { handler: (exchange) => exchange.stream().end(first) } },
  )
  const client = front.request()
  await until(() => upstreams[0].exchanges[0]?.res.writableFinished === true, 'the stream to end')
  const failuresBefore = proxy.stats().upstreams[0]?.failures

  letGo()
  await client.ended()

  assert.equal(failuresBefore, 0)
  assert.equal(proxy.stats().upstreams[0]?.failures, 1)
})
