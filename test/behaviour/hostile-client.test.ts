// No byte and no timing of a client ends the process, leads the proxy elsewhere, or disturbs another client.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { connect as connectHttp2, constants } from 'node:http2'
import { connect, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import express from 'express'
import type { Front, Middleware } from '../support/front.ts'
import { proxied, type SseProxyOptions } from '../support/proxied.ts'
import { startUpstream, type Upstream } from '../support/upstream.ts'
import { gate, until, within } from '../support/waiting.ts'

test('half a request asks the upstream nothing', async (t) => {
  const { upstream, front } = await proxied(t)
  const socket = await rawSocket(t, front)

  socket.write('GET /events HTTP/1.1\r\nHost: x\r\nAccept: text/ev')
  socket.destroy()
  await until(() => front.connections === 0, 'the connection to be closed')

  await assertServes(front, upstream)
  assert.equal(upstream.exchanges.length, 1)
})

test('a URL in absolute form does not lead the proxy to another host', async (t) => {
  const elsewhere = await startUpstream()
  t.after(() => elsewhere.close())
  const { upstream, front } = await proxied(t)
  const urls = [
    `${elsewhere.url}/events`,
    `${elsewhere.url}/`,
    `//127.0.0.1:${elsewhere.port}/events`,
    `/events//127.0.0.1:${elsewhere.port}/`,
    `/events/${elsewhere.url}/`,
    `/events@127.0.0.1:${elsewhere.port}/`,
    `/events?${elsewhere.url}`,
  ]

  for (const url of urls) {
    const socket = await rawSocket(t, front)
    const before = upstream.exchanges.length
    socket.write(`GET ${url} HTTP/1.1\r\nHost: 127.0.0.1:${elsewhere.port}\r\nConnection: close\r\n\r\n`)
    const answer = reading(socket)
    await until(() => upstream.exchanges.length > before || answer().includes('\r\n\r\n'), 'an answer or a request')
    for (const exchange of upstream.exchanges.slice(before)) exchange.answer(200, {}, 'ours')
    await until(() => socket.destroyed, `the end of ${url}`)

    assert.match(answer(), /^HTTP\/1\.1 [2-5]\d\d /, url)
  }

  assert.equal(elsewhere.accepted, 0)
})

test('a target without a path keeps to its own host, too', async (t) => {
  const elsewhere = await startUpstream()
  t.after(() => elsewhere.close())
  const { upstream, front } = await proxied(t, (own) => ({ target: own.url }), { host: 'http', mount: '' })

  for (const path of [
    `//127.0.0.1:${elsewhere.port}/x`,
    `/\\\\127.0.0.1:${elsewhere.port}/x`,
    `/@127.0.0.1:${elsewhere.port}/x`,
  ]) {
    const socket = await rawSocket(t, front)
    const before = upstream.exchanges.length
    socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
    const answer = reading(socket)
    await until(() => upstream.exchanges.length > before || answer().includes('\r\n\r\n'), 'an answer or a request')
    for (const exchange of upstream.exchanges.slice(before)) exchange.answer(200, {}, 'ours')
    await until(() => socket.destroyed, `the end of ${path}`)
  }

  assert.equal(elsewhere.accepted, 0)
})

test('a flood of headers is refused or passed, and the next client is served', async (t) => {
  const { upstream, front } = await proxied(t)

  for (const [count, size] of [
    [1_500, 4],
    [10, 900],
    [2_000, 1_000],
    [1, 100_000],
  ] as const) {
    const socket = await rawSocket(t, front)
    const answer = reading(socket)
    const before = upstream.exchanges.length
    const headers = Array.from({ length: count }, (_, at) => `X-${at}: ${'x'.repeat(size)}\r\n`).join('')
    socket.write(`GET /events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${headers}\r\n`)
    await until(
      () => upstream.exchanges.length > before || answer().includes('\r\n\r\n') || socket.destroyed,
      'an answer or a request',
    )
    for (const exchange of upstream.exchanges.slice(before)) exchange.answer(200, {}, 'ok')
    await until(() => socket.destroyed, 'the end of the connection')
  }

  await assertServes(front, upstream)
})

const wholeHead = /HTTP\/1\.1 [2-5]\d\d .*\r\n\r\n/s

const oddHeads: string[] = [
  'Last-Event-ID: \xff\xfe\x80',
  `Last-Event-ID: ${'x'.repeat(8_000)}`,
  'Last-Event-ID:',
  'Connection: , ,, close,',
  'Connection: upgrade, x-y\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA',
  'Connection: transfer-encoding, content-length, host',
  'Connection: "quoted", a b c, \xe9',
  'Expect: 100-continue',
  'Expect: something-else',
  'TE: trailers, deflate;q=0.5',
  'Accept: \xff/\xff, ;;;,',
  'Accept-Encoding: *;q=0, identity;q=0',
  'Cookie: \xf0\x9f\x8d\xaa=1; ;;=;',
  'Via: 1.1 a, 1.1 b, (((',
  'X-Forwarded-For: ,,, \xff',
  'Range: bytes=0-0',
  'If-None-Match: *',
  'Forwarded: for="_x\\"',
  'Content-Length: 0',
  'Max-Forwards: 0',
]

for (const options of [{}, { xfwd: true }, { transform: () => {}, clientRetryMs: 10 }] as Partial<SseProxyOptions>[]) {
  test(`odd headers pass or are refused, with options ${Object.keys(options).join(', ') || 'none'}`, async (t) => {
    const { upstream, front } = await proxied(t, options)

    for (const head of oddHeads) {
      const socket = await rawSocket(t, front)
      const answer = reading(socket)
      const before = upstream.exchanges.length
      socket.write(Buffer.from(`GET /events HTTP/1.1\r\nHost: x\r\n${head}\r\n\r\n`, 'latin1'))
      await until(() => upstream.exchanges.length > before || wholeHead.test(answer()), head)
      for (const exchange of upstream.exchanges.slice(before)) exchange.stream().end('data: x\n\n')
      await until(() => wholeHead.test(answer()), `an answer to ${JSON.stringify(head)}`)

      assert.doesNotMatch(answer(), /HTTP\/1\.1 500/, head)
      socket.destroy()
    }

    await assertServes(front, upstream)
  })
}

test('naming Authorization in Connection does not let a request through without it', async (t) => {
  const requireUser = (req: { headers: Record<string, unknown> }, res: { end(): void }, next: () => void): void => {
    if (req.headers.authorization === 'Bearer good') next()
    else res.end()
  }
  const options: Partial<SseProxyOptions> = { headers: { authorization: 'Bearer inside' }, xfwd: true }
  const { upstream, front } = await proxied(t, options, { before: [requireUser as never] })
  const client = front.request('', {
    headers: { connection: 'authorization, x-forwarded-for, via, accept', authorization: 'Bearer good' },
  })

  const exchange = await upstream.next()
  exchange.stream().end()
  await client.ended()

  assert.equal(exchange.headers.authorization, 'Bearer inside')
  assert.ok(exchange.headers['x-forwarded-for'])
  assert.ok(exchange.headers.via)
})

test('two lengths in one request do not smuggle a second one', async (t) => {
  const { upstream, front } = await proxied(t)
  const smuggled = 'GET /events?smuggled HTTP/1.1\r\nHost: x\r\n\r\n'
  const bodies = [
    `Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`,
    `Transfer-Encoding: chunked\r\nContent-Length: ${5 + smuggled.length}\r\n\r\n0\r\n\r\n${smuggled}`,
    `Transfer-Encoding: xchunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n${smuggled}`,
    `Content-Length: 0\r\nContent-Length: ${smuggled.length}\r\n\r\n${smuggled}`,
  ]

  for (const body of bodies) {
    const socket = await rawSocket(t, front)
    const answer = reading(socket)
    socket.write(`POST /events HTTP/1.1\r\nHost: x\r\n${body}`)
    await until(() => socket.destroyed || answer().length > 0, 'a refusal')

    assert.match(answer(), /^HTTP\/1\.1 400 /)
  }

  await assertServes(front, upstream)
  assert.ok(upstream.exchanges.every(({ url }) => !url.includes('smuggled')))
})

test('requests sent in one go are answered one after the other, each with its own answer', async (t) => {
  const { upstream, front } = await proxied(t)
  const socket = await rawSocket(t, front)
  const answer = reading(socket)
  socket.write(['a', 'b', 'c'].map((name) => `GET /events?${name} HTTP/1.1\r\nHost: x\r\n\r\n`).join(''))

  for (let count = 0; count < 3; count += 1) {
    const exchange = await upstream.next()
    exchange.stream().end(`data: for ${exchange.url.slice(-1)}\n\n`)
  }
  await until(() => answer().includes('for c'), 'all answers')

  assert.deepEqual(
    [...answer().matchAll(/data: for (.)/g)].map(([, name]) => name),
    ['a', 'b', 'c'],
  )
})

test('requests sent in one go go away with their client', async (t) => {
  const { upstream, front } = await proxied(t)
  const socket = await rawSocket(t, front)
  socket.write(['a', 'b', 'c'].map((name) => `GET /events?${name} HTTP/1.1\r\nHost: x\r\n\r\n`).join(''))
  const first = await upstream.next()
  first.stream().send({ data: 'x' })

  socket.destroy()

  await first.leftByPeer()
  await until(() => upstream.open === 0, 'all requests to be let go')
})

test('requests sent in one go leave nothing on their connection', async (t) => {
  const sockets = new Set<Socket>()
  const remember: Middleware = (req, _res, next) => {
    sockets.add(req.socket)
    next()
  }
  const { upstream, front } = await proxied(t, {}, { before: [remember] })
  const socket = await rawSocket(t, front)
  const answer = reading(socket)
  socket.write('GET /events HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(20))
  const first = await upstream.next()
  const count = (socket: Socket) => socket.listenerCount('close') + socket.listenerCount('end')
  const listeners = () => [...sockets].map(count)
  const [whileWaiting = 0] = listeners()

  first.stream().end('data: x\n\n')
  for (let i = 1; i < 20; i++) (await upstream.next()).stream().end('data: x\n\n')
  await until(() => answer().split('data: x').length === 21, 'all answers')

  assert.ok(whileWaiting < 10, `${whileWaiting} listeners`)
  assert.ok(listeners().every((count) => count <= whileWaiting))
})

test('a body that never comes is let go with its client', async (t) => {
  const { upstream, front } = await proxied(t)
  const socket = await rawSocket(t, front)
  socket.write('POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc')
  const exchange = await upstream.next()

  socket.resetAndDestroy()

  await exchange.leftByPeer()
})

test('a body with a bad chunk is refused or let go', async (t) => {
  const { upstream, front } = await proxied(t)
  const socket = await rawSocket(t, front)
  reading(socket)
  socket.write('POST /events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n')
  await until(() => socket.destroyed, 'the client to be refused')

  await until(() => upstream.open === 0, 'the upstream to be free')
  await assertServes(front, upstream)
})

test('a client that talks after its request does no harm to its stream', async (t) => {
  const { upstream, front } = await proxied(t)
  const socket = await rawSocket(t, front)
  const answer = reading(socket)
  socket.write('GET /events HTTP/1.1\r\nHost: x\r\n\r\n')
  const exchange = await upstream.next()
  const stream = exchange.stream()
  socket.write('\r\n\r\n')
  stream.send({ data: 'still here' })

  await until(() => answer().includes('still here'), 'the event')
  socket.destroy()
  await exchange.leftByPeer()
})

test('a client that closes its side only, and reads late, gets all that was on its way', async (t) => {
  const halfClosed = gate()
  const notice: Middleware = (req: IncomingMessage, _res, next) => {
    req.socket.once('end', () => halfClosed.open())
    next()
  }
  const { upstream, front, proxy } = await proxied(t, {}, { before: [notice] })
  const socket = connect({ port: front.port, host: '127.0.0.1', allowHalfOpen: true })
  t.after(() => socket.destroy())
  socket.write('GET /events HTTP/1.1\r\nHost: x\r\n\r\n')
  const exchange = await upstream.next()
  const stream = exchange.stream()
  // More than the kernel takes on the whole way.
  while (exchange.res.writableLength < 4_000_000) {
    stream.send({ data: 'x'.repeat(60_000) })
    await new Promise((resolve) => setImmediate(resolve))
  }
  const bytes = proxy.stats().bytesOut

  socket.end()
  await within(halfClosed.promise, 'the proxy to see that')
  let received = 0
  socket.on('data', (chunk) => {
    received += chunk.length
  })
  await once(socket, 'close')

  assert.ok(received > bytes, `${received} of ${bytes}`)
  await exchange.leftByPeer()
})

test('a client that closes its side only is served or let go, not kept for ever', async (t) => {
  const { upstream, front } = await proxied(t)
  const socket = connect({ port: front.port, host: '127.0.0.1', allowHalfOpen: true })
  t.after(() => socket.destroy())
  reading(socket)
  socket.write('GET /events HTTP/1.1\r\nHost: x\r\n\r\n')
  const exchange = await upstream.next()
  const stream = exchange.stream()
  stream.send({ data: 'x' })

  socket.end()
  stream.send({ data: 'y' })
  stream.end()

  await until(() => upstream.open === 0, 'the upstream to be free')
})

for (const method of ['TRACE', 'PROPFIND', 'M-SEARCH', 'QUERY', 'LINK']) {
  test(`${method} is passed on or refused`, async (t) => {
    const { upstream, front } = await proxied(t)
    const socket = await rawSocket(t, front)
    const answer = reading(socket)
    socket.write(`${method} /events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
    await until(() => upstream.exchanges.length > 0 || socket.destroyed, 'an answer or a request')
    for (const exchange of upstream.exchanges) exchange.answer(200, {}, 'ok')
    await until(() => socket.destroyed, 'the end')

    assert.match(answer(), /^HTTP\/1\.1 [2-5]\d\d /)
    await assertServes(front, upstream)
  })
}

test('a parser in front that fails leaves the upstream alone', async (t) => {
  const { upstream, front } = await proxied(t, {}, { before: [express.json({ limit: 10 })] })
  const headers = { 'content-type': 'application/json' }

  const broken = await front.open('', { method: 'POST', headers, body: '{"a' })
  const large = await front.open('', { method: 'POST', headers, body: '{"a":"much too long"}' })

  assert.deepEqual([broken.status, large.status], [500, 500])
  assert.equal(upstream.exchanges.length, 0)
})

test('HTTP/2 streams that are opened and reset at once leave nothing', async (t) => {
  const { upstream, front } = await proxied(t, {}, { host: 'connect over http2' })
  const session = connectHttp2(front.origin, { rejectUnauthorized: false })
  session.on('error', () => {})
  t.after(() => session.destroy())

  for (let count = 0; count < 300; count += 1) {
    const stream = session.request({ ':path': '/events' })
    stream.on('error', () => {})
    stream.close(constants.NGHTTP2_CANCEL)
    if (count % 50 === 0) await new Promise((resolve) => setImmediate(resolve))
  }
  session.destroy()

  await until(() => upstream.open === 0 && upstream.connections === 0, 'the upstream to be free')
  await assertServes(front, upstream)
})

test('an HTTP/2 connection that ends with GOAWAY in the middle of streams frees them', async (t) => {
  const { upstream, front } = await proxied(t, {}, { host: 'connect over http2' })
  const session = connectHttp2(front.origin, { rejectUnauthorized: false })
  session.on('error', () => {})
  const streams = Array.from({ length: 5 }, () => session.request({ ':path': '/events' }))
  for (const stream of streams) stream.on('error', () => {})
  const exchanges = await Promise.all(streams.map(() => upstream.next()))
  for (const exchange of exchanges) exchange.stream().send({ data: 'x' })

  session.goaway(constants.NGHTTP2_PROTOCOL_ERROR)
  session.destroy()

  await Promise.all(exchanges.map((exchange) => exchange.leftByPeer()))
})

async function rawSocket(t: TestContext, front: Front): Promise<Socket> {
  const socket = connect(front.port, '127.0.0.1')
  socket.on('error', () => {})
  t.after(() => socket.destroy())
  await within(once(socket, 'connect'), 'a connection')
  return socket
}

/** Reads on, and tells what has come so far. */
function reading(socket: Socket): () => string {
  let received = ''
  socket.on('data', (bytes: Buffer) => {
    received += bytes.toString('latin1')
  })
  return () => received
}

async function assertServes(front: Front, upstream: Upstream): Promise<void> {
  const client = front.request('?next')
  await until(() => upstream.exchanges.some(({ url }) => url.endsWith('?next')), 'the next request')
  upstream.exchanges
    .find(({ url }) => url.endsWith('?next'))
    ?.stream()
    .end('data: next\n\n')

  assert.equal(await client.whole(), 'data: next\n\n')
}
