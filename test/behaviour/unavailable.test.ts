// A native EventSource gives up for good on any status but 200. With unavailable: 'reconnect' it comes back instead.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sseProxy } from 'sse-proxy-middleware'
import type { RequestOptions } from '../support/client.ts'
import { hostsByProtocol, startFront } from '../support/front.ts'
import { interpret } from '../support/oracle.ts'
import { proxied } from '../support/proxied.ts'

const eventSource = { headers: { accept: 'text/event-stream' } }

for (const host of hostsByProtocol) {
  test(`an EventSource is told when to come back, and nothing else (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, { unavailable: 'reconnect' }, { host })
    await upstream.close()

    const client = await front.open('', eventSource)
    await client.ended()

    const { events, retry = 0 } = interpret(client.bytes)
    assert.equal(client.status, 200)
    assert.match(String(client.headers['content-type']), /^text\/event-stream/)
    assert.match(String(client.headers['cache-control']), /no-store|no-cache/)
    assert.equal(client.ending, 'clean')
    assert.deepEqual(events, [])
    assert.ok(retry >= 1_000 && retry <= 5_000, `retry: ${retry}`)
  })

  test(`the time to wait is spread over clientRetryMs (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, { unavailable: 'reconnect', clientRetryMs: [200, 90_000] }, { host })
    await upstream.close()

    const times: number[] = []
    for (let count = 0; count < 10; count += 1) {
      const client = await front.open('', eventSource)
      await client.ended()
      times.push(interpret(client.bytes).retry ?? 0)
    }

    assert.ok(
      times.every((time) => time >= 200 && time <= 90_000),
      `${times}`,
    )
    assert.ok(new Set(times).size > 1, `${times}`)
  })

  test(`a timeout is told the same way (${host})`, async (t) => {
    const timeouts = { responseMs: 50 }
    const { upstream, front } = await proxied(
      t,
      { unavailable: 'reconnect', clientRetryMs: [10, 20], timeouts },
      { host },
    )

    const client = await front.open('', eventSource)
    await client.ended()

    assert.equal(client.status, 200)
    assert.notEqual(interpret(client.bytes).retry, undefined)
    await (await upstream.next()).leftByPeer()
  })

  const others: { name: string; options: RequestOptions }[] = [
    { name: 'a POST', options: { method: 'POST', body: '{}', ...eventSource } },
    { name: 'a GET that wants JSON', options: { headers: { accept: 'application/json' } } },
    { name: 'a HEAD', options: { method: 'HEAD', ...eventSource } },
  ]
  for (const { name, options } of others) {
    test(`${name} is told with a status all the same (${host})`, async (t) => {
      const { upstream, front } = await proxied(t, { unavailable: 'reconnect' }, { host })
      await upstream.close()

      const client = await front.open('', options)

      assert.equal(client.status, 502)
    })
  }

  test(`what the upstream itself answers is not replaced (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, { unavailable: 'reconnect' }, { host })
    const client = front.request('', eventSource)

    const exchange = await upstream.next()
    exchange.answer(204)

    assert.equal((await client.head()).status, 204)
  })
}

test('without the option an EventSource gets the status', async (t) => {
  const front = await startFront('express5', sseProxy({ target: 'http://127.0.0.1:1' }))
  t.after(() => front.close())

  const client = await front.open('', eventSource)

  assert.equal(client.status, 502)
})
