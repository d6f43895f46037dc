// While an answer is held, its clients may leave and its request may still be on its way.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { constants, gzipSync } from 'node:zlib'
import type { StreamEvent } from 'sse-proxy-middleware'
import { headerOf } from '../support/client.ts'
import { hostsByProtocol } from '../support/front.ts'
import { watchLeftovers } from '../support/leftovers.ts'
import { refusingUrl, several } from '../support/several-upstreams.ts'
import { shared } from '../support/sharing.ts'
import type { Exchange } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

const preamble = 'event: start\ndata: {}\n\n'
const output = 'data: output\n\n'
const failure = 'event: error\ndata: overloaded\n\n'

function commit({ event }: StreamEvent): 'hold' | 'commit' | 'retry' {
  if (event === 'start') return 'hold'
  return event === 'error' ? 'retry' : 'commit'
}

/** Tells how often it was asked. */
function counting(): { commit: typeof commit; asked: () => number } {
  let asked = 0
  return {
    asked: () => asked,
    commit: (event) => {
      asked += 1
      return commit(event)
    },
  }
}

for (const host of hostsByProtocol) {
  test(`a client that leaves while a compressed answer is held ends its upstream at once (${host})`, async (t) => {
    const leftovers = watchLeftovers(t)
    const { commit, asked } = counting()
    const { front, upstreams } = await several(
      t,
      { balance: 'failover', retry: { commit, holdMs: 60_000 } },
      {
        host,
        count: 2,
        upstream: {
          handler: (exchange) => {
            const stream = exchange.stream({ 'content-encoding': 'gzip' })
            stream.write(gzipSync(preamble, { finishFlush: constants.Z_SYNC_FLUSH }))
          },
        },
      },
    )

    const client = front.request()
    await until(() => asked() === 1, 'the preamble to be looked at')
    client.close()
    await upstreams[0].exchanges[0]?.leftByPeer()
    await front.close()
    await Promise.all(upstreams.map((upstream) => upstream.close()))

    await leftovers.assertNone()
    assert.equal(upstreams[1].exchanges.length, 0)
  })
}

test('the leader of a shared answer may leave while it is held: those who wait get it', async (t) => {
  const { commit, asked } = counting()
  const room = await shared(t, {}, { retry: { commit, holdMs: 60_000 } })
  const leader = room.front.request()
  const exchange = await room.upstream.next()
  const waiting = room.front.request()
  await room.arrivals(2)
  const stream = exchange.stream()
  stream.write(preamble)
  await until(() => asked() === 1, 'the preamble to be looked at')

  leader.close()
  await room.departures(1)
  stream.end(output)

  assert.equal(await waiting.whole(), preamble + output)
  assert.equal(room.upstream.exchanges.length, 1)
})

test('a shared answer that is held is given up at once when all who wait for it have left', async (t) => {
  const leftovers = watchLeftovers(t)
  const { commit, asked } = counting()
  const room = await shared(t, { lingerMs: 60_000 }, { retry: { commit, holdMs: 60_000 } })
  const clients = [room.front.request(), room.front.request()]
  const exchange = await room.upstream.next()
  await room.arrivals(2)
  exchange.stream().write(preamble)
  await until(() => asked() === 1, 'the preamble to be looked at')

  for (const client of clients) client.close()
  await exchange.leftByPeer()
  await room.front.close()
  await room.upstream.close()

  await leftovers.assertNone()
  const { shared: left } = room.proxy.stats()
  assert.deepEqual([left.streams, left.clients], [0, 0])
  assert.equal(room.proxy.stats().retries, 0)
})

const half = 'x'.repeat(5000)
const whole = half + half
const upload = { method: 'POST', sendsBodyLater: true, headers: { 'content-length': String(whole.length) } }

function echoes(exchange: Exchange): void {
  void exchange.body().then((body) => exchange.stream({ 'x-from': 'second' }).end(`data: ${body}\n\n`))
}

const failsEarly: Record<string, (exchange: Exchange) => void> = {
  'answers with an error event': (exchange) => void exchange.stream().write(failure),
  'answers with a status': (exchange) => void exchange.res.writeHead(503).end(),
  'resets the connection': ({ req }) => req.socket.resetAndDestroy(),
}

for (const host of hostsByProtocol) {
  test(`an answer is committed to while its upload is still on its way (${host})`, async (t) => {
    const bodies: string[] = []
    const { front } = await several(
      t,
      { balance: 'failover', retry: { commit, methods: ['POST'] } },
      {
        host,
        count: 2,
        upstream: {
          handler: (exchange) => {
            exchange.req.once('data', () => {
              const stream = exchange.stream()
              stream.write(preamble + output)
              exchange.req.once('end', () => stream.end(`data: ${bodies.join('').length}\n\n`))
            })
            exchange.req.on('data', (part: Buffer) => bodies.push(part.toString()))
          },
        },
      },
    )
    const client = front.request('', upload)
    client.send(half)
    await client.waitFor(preamble + output)

    client.send(half)
    client.finish()

    assert.equal(await client.whole(), `${preamble}${output}data: ${whole.length}\n\n`)
    assert.equal(bodies.join(''), whole)
  })

  for (const [way, fail] of Object.entries(failsEarly)) {
    test(`an upload is sent whole to the next upstream when the first one ${way} in its middle (${host})`, async (t) => {
      const { front, upstreams } = await several(
        t,
        { balance: 'failover', retry: { commit, methods: ['POST'] }, limits: { bodyBytes: 20_000 } },
        {
          host,
          count: 2,
          upstream: (at) => ({
            handler: (exchange) => {
              if (at === 1) return echoes(exchange)
              exchange.req.once('data', () => fail(exchange))
            },
          }),
        },
      )
      const client = front.request('', upload)
      client.send(half)
      await until(() => upstreams[1].exchanges.length === 1, 'the second upstream to be asked')

      client.send(half.slice(1))
      client.send('x')
      client.finish()

      assert.equal(await client.whole(), `data: ${whole}\n\n`)
      assert.equal(headerOf(client, 'x-from'), 'second')
    })
  }
}

test('an upload that comes in slowly waits for the upstream that takes it, after one that refuses', async (t) => {
  const { front } = await several(
    t,
    (urls) => ({
      target: [refusingUrl, ...urls],
      balance: 'failover',
      retry: { commit },
      limits: { bodyBytes: whole.length },
    }),
    { count: 1, upstream: { handler: echoes } },
  )
  const client = front.request('', upload)

  for (let at = 0; at < whole.length; at += 1000) {
    client.send(whole.slice(at, at + 1000))
    await new Promise(setImmediate)
  }
  client.finish()

  assert.equal(await client.whole(), `data: ${whole}\n\n`)
})

test('an upload that goes on is none that can be sent again once it is larger than limits.bodyBytes', async (t) => {
  const { front, upstreams } = await several(
    t,
    { balance: 'failover', retry: { commit, methods: ['POST'] }, limits: { bodyBytes: half.length + 10 } },
    {
      count: 3,
      upstream: (at) => ({
        handler: (exchange) => {
          if (at === 0) exchange.req.once('data', () => exchange.stream().write(failure))
          else void exchange.body().then(() => exchange.stream({ 'x-from': String(at) }).end(failure))
        },
      }),
    },
  )
  const client = front.request('', upload)
  client.send(half)
  await until(() => upstreams[1].exchanges.length === 1, 'the second upstream to be asked')

  client.send(half)

  assert.equal(await client.whole(), failure)
  assert.equal(headerOf(client, 'x-from'), '1')
  assert.equal(upstreams[2]?.exchanges.length, 0)
})
