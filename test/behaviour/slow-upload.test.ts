// A request's body may take its time as long as it comes on; a byte now and then is no progress.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { Client } from '../support/client.ts'
import { fakeClock } from '../support/fake-clock.ts'
import { type Front, hostsByProtocol } from '../support/front.ts'
import { proxied } from '../support/proxied.ts'
import { until } from '../support/waiting.ts'

const responseMs = 400
const part = Buffer.alloc(1_024, 'x')

/** A client that goes on sending a part of its body every so often, until it has an answer. */
function dripping(t: TestContext, front: Front, bytes: Buffer, everyMs: number): Client {
  const headers = { 'content-length': '100000' }
  const client = front.request('', { method: 'POST', headers, sendsBodyLater: true })
  const timer = setInterval(() => {
    if (client.ending === undefined) client.send(bytes)
    else clearInterval(timer)
  }, everyMs)
  t.after(() => clearInterval(timer))
  return client
}

for (const host of hostsByProtocol) {
  for (const retry of [false, { attempts: 1 }] as const) {
    test(`a hundred clients that drip their bodies are gone after responseMs (${host}, ${retry ? 'kept' : 'unread'} body)`, async (t) => {
      const { upstream, front } = await proxied(t, { timeouts: { responseMs }, retry }, { host })
      const clients = Array.from({ length: 100 }, () => dripping(t, front, Buffer.from('x'), responseMs / 5))

      await Promise.all(clients.map((client) => client.ended()))

      assert.deepEqual(new Set(clients.map(({ status }) => status)), new Set([408]))
      await until(() => upstream.open === 0, 'the upstream to be free')
      // Over HTTP/2 a connection is not one request's.
      if (front.protocol === 'http/1.1') await until(() => front.connections === 0, 'the connections to be closed')
    })
  }

  test(`a slow upload that comes on takes as long as it takes (${host})`, async (t) => {
    const clock = fakeClock(t)
    const { upstream, front } = await proxied(t, { timeouts: { responseMs } }, { host })
    const headers = { 'content-length': String(40 * part.length) }
    const client = front.request('', { method: 'POST', headers, sendsBodyLater: true })
    client.send(part)
    const exchange = await upstream.next()
    let received = 0
    exchange.req.on('data', ({ length }: Buffer) => {
      received += length
    })

    for (let sent = 1; sent < 40; sent += 1) {
      await until(() => received === sent * part.length, 'what was sent')
      clock.pass(responseMs / 10)
      client.send(part)
    }
    client.finish()
    await until(() => exchange.req.readableEnded, 'the end of the body')
    exchange.answer(200, {}, 'thanks')

    assert.equal(await client.whole(), 'thanks')
    assert.equal(received, 40 * part.length)
  })
}

test('the wait for an answer begins with the end of a small body that came late', async (t) => {
  const clock = fakeClock(t)
  const { upstream, front } = await proxied(t, { timeouts: { responseMs: 1_000 } })
  const client = front.request('', { method: 'POST', headers: { 'content-length': '2' }, sendsBodyLater: true })
  client.send('a')
  const exchange = await upstream.next()

  clock.pass(600)
  client.send('b')
  await exchange.body()
  clock.pass(600)
  exchange.answer(200, {}, 'thanks')

  assert.equal(await client.whole(), 'thanks')
})

test('an upstream that does not read an upload is late itself', async (t) => {
  const { upstream, front } = await proxied(t, { timeouts: { responseMs } })
  const client = front.request('', { method: 'POST', body: Buffer.alloc(16_000_000) })
  const exchange = await upstream.next()
  exchange.req.pause()

  await client.ended()

  assert.equal(client.status, 504)
  // One that reads nothing does not see that the other side has gone.
  exchange.req.resume()
})
