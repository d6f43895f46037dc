// `http2`: a client's leaving reaches the upstream as RST_STREAM CANCEL at every stage, and its siblings do not notice.
import assert from 'node:assert/strict'
import { constants } from 'node:http2'
import { test } from 'node:test'
import { certificate } from '../../support/certificate.ts'
import { hostsByProtocol } from '../../support/front.ts'
import { overHttp2 } from '../../support/over-http2.ts'
import { proxied, rawProxied } from '../../support/proxied.ts'
import { until } from '../../support/waiting.ts'

const { NGHTTP2_CANCEL } = constants

for (const host of hostsByProtocol) {
  for (const http2 of ['auto', 'prior-knowledge'] as const) {
    test(`while its connection is not there yet: that is given up (${http2}, ${host})`, async (t) => {
      const { upstream, front } = await rawProxied(
        t,
        ({ url }) => ({ http2, target: http2 === 'auto' ? url.replace('http:', 'https:') : url, secure: false }),
        { host },
      )
      const client = front.request()
      const conversation = await upstream.next()
      await until(() => conversation.received !== '', 'the beginning of a handshake')

      client.close()

      await conversation.closed()
    })
  }

  test(`while another still waits for the connection: that is not given up (${host})`, async (t) => {
    const { upstream, front } = await rawProxied(t, { http2: 'prior-knowledge' }, { host })
    const client = front.request('?1')
    const sibling = front.request('?2')
    const conversation = await upstream.next()
    await until(() => conversation.received !== '', 'the beginning of a handshake')

    client.close()
    await client.ended()
    await new Promise((resolve) => setImmediate(resolve))

    assert.equal(conversation.isClosed, false)
    sibling.close()
    await conversation.closed()
  })

  test(`before the head of its answer (${host})`, async (t) => {
    const { upstream, front } = await overHttp2(t, {}, { host })
    const client = front.request()
    const exchange = await upstream.next()

    client.close()
    await exchange.leftByPeer()

    assert.equal(exchange.http2Stream.rstCode, NGHTTP2_CANCEL)
    assert.equal(upstream.connections, 1)
  })

  test(`while it streams, and a sibling goes on (${host})`, async (t) => {
    const { upstream, front } = await overHttp2(t, {}, { host })
    const client = front.request('?1')
    const exchange = await upstream.next()
    exchange.stream().send({ data: 'x' })
    await client.waitFor('x')
    const sibling = front.request('?2')
    const other = (await upstream.next()).stream()

    client.close()
    await exchange.leftByPeer()
    other.end('data: y\n\n')

    assert.equal(exchange.http2Stream.rstCode, NGHTTP2_CANCEL)
    assert.equal(await sibling.whole(), 'data: y\n\n')
    assert.equal(upstream.accepted, 1)
  })
}

test('while its upstream falls behind: what is buffered goes with it', async (t) => {
  const { upstream, front } = await overHttp2(t)
  const client = front.request()
  const exchange = await upstream.next()
  const stream = exchange.stream()
  await client.head()
  client.pause()
  while (stream.write(`data: ${'x'.repeat(10_000)}\n\n`)) await new Promise((resolve) => setImmediate(resolve))

  client.close()

  await exchange.leftByPeer()
})

test('in an HTTP/1.1 answer on the connection that was asked on', async (t) => {
  const { upstream, front } = await proxied(t, { http2: 'auto', secure: false }, { upstream: { tls: certificate } })
  const client = front.request()
  const exchange = await upstream.next()
  exchange.stream().send({ data: 'x' })
  await client.waitFor('x')

  client.close()

  await exchange.leftByPeer()
})
