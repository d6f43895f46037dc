// Tests that do not depend on the wire, a second time: open streams over HTTP/2 to the upstream.
import '../support/upstreams-over-http2.ts'
import '../behaviour/at-once.test.ts'
import '../behaviour/silent-streams.test.ts'
import '../behaviour/stream-object.test.ts'
import '../behaviour/streams-and-send.test.ts'
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { proxied } from '../support/proxied.ts'

test('these tests are over HTTP/2', async (t) => {
  const { upstream, front } = await proxied(t)
  const client = front.request()
  const exchange = await upstream.next()

  exchange.answer(204)

  assert.equal((await client.head()).status, 204)
  assert.equal(exchange.req.httpVersion, '2.0')
})
