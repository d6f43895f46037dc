// A stream that has lived its time ends between two events, told to come back: a token that expires, a rebalancing.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { hostsByProtocol } from '../support/front.ts'
import { interpret } from '../support/oracle.ts'
import { proxied } from '../support/proxied.ts'
import { gate, within } from '../support/waiting.ts'

for (const host of hostsByProtocol) {
  test(`a stream ends between two events, with a time to come back (${host})`, async (t) => {
    const reason = gate<string>()
    const { upstream, front } = await proxied(
      t,
      { timeouts: { lifetimeMs: 150 }, clientRetryMs: 777, onClose: (_stream, why) => reason.open(why) },
      { host },
    )
    const client = front.request()
    const exchange = await upstream.next()
    exchange.stream().write('id: 1\ndata: one\n\nid: 2\ndata: tw')

    const ending = await client.ended()

    const { events, retry, lastEventId } = interpret(client.bytes)
    assert.equal(ending, 'clean')
    assert.deepEqual(
      events.map(({ data }) => data),
      ['one'],
    )
    assert.equal(lastEventId, '1')
    assert.equal(typeof retry, 'number')
    assert.doesNotMatch(client.text, /tw/)
    assert.equal(await within(reason.promise, 'onClose'), 'expired')
    await exchange.leftByPeer()
  })

  test(`the time may depend on the request (${host})`, async (t) => {
    const lifetimeMs = (req: { url?: string | undefined }): number => (req.url?.includes('short') ? 50 : 0)
    const { upstream, front } = await proxied(t, { timeouts: { lifetimeMs } }, { host })
    const long = front.request('?long')
    const longStream = (await upstream.next()).stream()
    const short = front.request('?short')
    const shortExchange = await upstream.next()
    shortExchange.stream()

    const ending = await short.ended()
    longStream.send({ data: 'still here' })
    await long.waitFor('still here')

    assert.equal(ending, 'clean')
    await shortExchange.leftByPeer()
  })

  test(`a stream with framing 'bytes' does not end inside an event as if that were its end (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, { framing: 'bytes', timeouts: { lifetimeMs: 150 } }, { host })
    const client = front.request()
    const exchange = await upstream.next()
    const stream = exchange.stream()
    stream.write('data: ha')
    await client.waitFor('data: ha')

    // No read of such a stream ends where an event ends.
    const goOn = setInterval(() => stream.write('lf\n\ndata: ha'), 100)
    t.after(() => clearInterval(goOn))
    const ending = await client.ended()
    clearInterval(goOn)

    assert.equal(ending, 'clean')
    for (const { data } of interpret(client.bytes).events) assert.equal(data, 'half')
    assert.doesNotMatch(client.text, /data: ha(retry|$)/)
    await exchange.leftByPeer()
  })
}
