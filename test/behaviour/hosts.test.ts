// The middleware in every host it is made for, with the same promises.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import express from 'express'
import { sseProxy } from 'sse-proxy-middleware'
import { open } from '../support/client.ts'
import { hosts } from '../support/front.ts'
import { watchLeftovers } from '../support/leftovers.ts'
import { interpret } from '../support/oracle.ts'
import { proxied, rawProxied } from '../support/proxied.ts'
import { chunk, streamHead } from '../support/raw-upstream.ts'
import { startUpstream } from '../support/upstream.ts'

for (const host of hosts) {
  test(`events flow to a clean end (${host})`, async (t) => {
    const leftovers = watchLeftovers(t)
    const { upstream, front } = await proxied(t, {}, { host })
    const client = front.request('?room=1')
    const stream = (await upstream.next()).stream()

    stream.send({ event: 'tick', id: '1', data: 'one' })
    await client.waitFor('data: one\n\n')
    stream.send({ id: '2', data: 'two\nlines' })
    stream.end()

    assert.equal(await client.ended(), 'clean')
    assert.deepEqual(interpret(client.bytes).events, [
      { type: 'tick', data: 'one', lastEventId: '1' },
      { type: 'message', data: 'two\nlines', lastEventId: '2' },
    ])
    assert.deepEqual(front.errors, [])
    await front.close()
    await upstream.close()
    await leftovers.assertNone()
  })

  test(`an upstream that breaks off breaks the transfer (${host})`, async (t) => {
    const { upstream, front } = await rawProxied(t, {}, { host })
    const client = front.request()
    const conversation = await upstream.next()
    conversation.send(streamHead)
    conversation.send(chunk('data: one\n\ndata: tw'))
    await client.waitFor('data: one\n\n')

    conversation.reset()

    assert.equal(await client.ended(), 'broken')
    assert.equal(client.text, 'data: one\n\n')
    assert.deepEqual(front.errors, [])
  })

  test(`a client that leaves frees the upstream (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, {}, { host })
    const waiting = front.request('?waiting')
    const waitingExchange = await upstream.next()
    const streaming = front.request('?streaming')
    const streamingExchange = await upstream.next()
    streamingExchange.stream().send({ data: 'x' })
    await streaming.waitFor('data: x')

    waiting.close()
    streaming.close()

    await waitingExchange.leftByPeer()
    await streamingExchange.leftByPeer()
  })

  test(`a client that leaves a POST frees the upstream (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, {}, { host, before: [express.json()] })
    const post = { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"a":1}' }
    const waiting = front.request('?waiting', post)
    const waitingExchange = await upstream.next()
    const streaming = front.request('?streaming', post)
    const streamingExchange = await upstream.next()
    streamingExchange.stream().send({ data: 'x' })
    await streaming.waitFor('data: x')

    waiting.close()
    streaming.close()

    await waitingExchange.leftByPeer()
    await streamingExchange.leftByPeer()
  })

  test(`a hook that replaces events works (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, { transform: ({ data }) => ({ data: data.toUpperCase() }) }, { host })
    const client = front.request()
    const exchange = await upstream.next()

    exchange.stream().end('data: quiet\n\n')

    assert.deepEqual(
      interpret(await client.whole()).events.map(({ data }) => data),
      ['QUIET'],
    )
  })

  test(`HTTP/1.1 clients are served where HTTP/2 is spoken, too (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, {}, { host })
    const client = front.request('', { protocol: 'http/1.1' })
    const exchange = await upstream.next()

    exchange.stream().end('data: x\n\n')

    assert.equal(await client.whole(), 'data: x\n\n')
  })
}

test('a program without a framework may call it with a request and a response and nothing else', async (t) => {
  const upstream = await startUpstream()
  const proxy = sseProxy({ target: upstream.url })
  const server = createServer((req, res) => void proxy(req, res))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
    await upstream.close()
  })

  const opening = open(`http://127.0.0.1:${(server.address() as AddressInfo).port}/live?x=1`)
  const exchange = await upstream.next()
  exchange.stream().end('data: x\n\n')
  const client = await opening

  assert.equal(exchange.url, '/live?x=1')
  assert.equal(await client.whole(), 'data: x\n\n')
})

test('two of them in one app do not get in each other’s way', async (t) => {
  const [first, second] = [await startUpstream(), await startUpstream()]
  const app = express()
  app.use('/first', sseProxy({ target: first.url }))
  app.use('/second', sseProxy({ target: second.url }))
  const server = app.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
    await first.close()
    await second.close()
  })
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`

  const [one, two] = [open(`${origin}/first`), open(`${origin}/second`)]
  ;(await first.next()).stream().end('data: first\n\n')
  ;(await second.next()).stream().end('data: second\n\n')

  assert.equal(await (await one).whole(), 'data: first\n\n')
  assert.equal(await (await two).whole(), 'data: second\n\n')
})

test('it serves a route with parameters and a router of its own', async (t) => {
  const upstream = await startUpstream()
  const router = express.Router()
  router.get(
    '/rooms/:room/events',
    sseProxy({ target: upstream.url, pathRewrite: (path) => path.replace('/rooms', '') }),
  )
  const app = express()
  app.use('/api', router)
  const server = app.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
    await upstream.close()
  })

  const opening = open(`http://127.0.0.1:${(server.address() as AddressInfo).port}/api/rooms/7/events`)
  const exchange = await upstream.next()
  exchange.stream().end()
  await (await opening).ended()

  assert.equal(exchange.url, '/7/events')
})
