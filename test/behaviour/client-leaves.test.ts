// A client that leaves frees its upstream at once, whatever the two were doing.
import assert from 'node:assert/strict'
import { AsyncLocalStorage } from 'node:async_hooks'
import { once } from 'node:events'
import { Agent, get, type IncomingMessage } from 'node:http'
import { connect, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { sseProxy } from 'sse-proxy-middleware'
import { openHttp2Session } from '../support/client.ts'
import { type Host, hostsByProtocol, type Middleware, startFront } from '../support/front.ts'
import { watchLeftovers } from '../support/leftovers.ts'
import { startNeverAccepting } from '../support/never-accepts.ts'
import { type Proxied, proxied, rawProxied, type SseProxyOptions } from '../support/proxied.ts'
import type { Upstream } from '../support/upstream.ts'
import { gate, until, within } from '../support/waiting.ts'

for (const host of hostsByProtocol) {
  test(`while the connection to the upstream is not established (${host})`, async (t) => {
    const leftovers = watchLeftovers(t)
    const blocked = await startNeverAccepting()
    const front = await startFront(host, sseProxy({ target: blocked.url }))
    const sockets = connecting()
    const client = front.request()
    await until(() => connecting() > sockets, 'the proxy to connect')

    client.close()

    await until(() => connecting() <= sockets, 'the connection attempt to be given up')
    await front.close()
    await blocked.close()
    await leftovers.assertNone()
  })

  test(`while the upstream is silent in the TLS handshake (${host})`, async (t) => {
    const { upstream, front } = await rawProxied(t, {}, { host })
    const tlsFront = await startFront(
      host,
      sseProxy({ target: upstream.url.replace('http:', 'https:'), secure: false }),
    )
    t.after(() => tlsFront.close())
    const client = tlsFront.request()
    const conversation = await upstream.next()
    await until(() => conversation.received.length > 0, 'the handshake to begin')

    client.close()

    await conversation.closed()
    assert.equal(front.connections, 0)
  })

  test(`before the upstream has answered (${host})`, async (t) => {
    const { upstream, front } = await watched(t, host)
    const client = front.request()
    const exchange = await upstream.next()

    client.close()

    await exchange.leftByPeer()
  })

  test(`before the answer to a HEAD, which gives its place back (${host})`, async (t) => {
    const { upstream, front } = await watched(t, host, { limits: { streams: 1 } })
    const client = front.request('', { method: 'HEAD' })
    const exchange = await upstream.next()

    client.close()

    await exchange.leftByPeer()
    const next = front.request()
    const served = await upstream.next()
    served.answer(204)
    assert.equal((await next.head()).status, 204)
  })

  test(`in the middle of a request body (${host})`, async (t) => {
    const { upstream, front } = await watched(t, host)
    const client = front.request('', { method: 'POST', headers: { 'content-length': '1000' }, sendsBodyLater: true })
    client.send('the first part')
    const exchange = await upstream.next()

    client.close()

    await exchange.leftByPeer()
  })

  test(`after a whole request body, before the answer (${host})`, async (t) => {
    const { upstream, front } = await watched(t, host)
    const client = front.request('', { method: 'POST', body: 'everything' })
    const exchange = await upstream.next()
    await exchange.body()

    client.close()

    await exchange.leftByPeer()
  })

  test(`between the response headers and the first event (${host})`, async (t) => {
    const { upstream, front } = await watched(t, host)
    const client = front.request()
    const exchange = await upstream.next()
    exchange.stream()
    await client.head()

    client.close()

    await exchange.leftByPeer()
  })

  test(`at the very moment the upstream answers (${host})`, async (t) => {
    const { upstream, front } = await watched(t, host)
    const client = front.request('', { method: 'POST', body: 'x' })
    const exchange = await upstream.next()

    exchange.stream()
    client.close()

    await exchange.leftByPeer()
  })

  test(`while events come without a pause (${host})`, async (t) => {
    const { upstream, front } = await watched(t, host)
    const client = front.request()
    const exchange = await upstream.next()
    const stream = exchange.stream()
    const pump = setInterval(() => stream.send({ data: 'x'.repeat(1_000) }), 1)
    t.after(() => clearInterval(pump))
    await client.waitFor((text) => text.length > 5_000)

    client.close()

    await exchange.leftByPeer()
    clearInterval(pump)
  })

  test(`while the stream is silent, half an event held (${host})`, async (t) => {
    const { upstream, front } = await watched(t, host)
    const client = front.request()
    const exchange = await upstream.next()
    exchange.stream().write('data: one\n\ndata: ha')
    await client.waitFor('data: one\n\n')

    client.close()

    await exchange.leftByPeer()
  })

  test(`while a hook is at work; its signal says so (${host})`, async (t) => {
    const hook = gate()
    const aborted = gate()
    const transform: SseProxyOptions['transform'] = (_event, stream) => {
      stream.signal.addEventListener('abort', () => aborted.open())
      return hook.promise
    }
    const { upstream, front } = await watched(t, host, { transform })
    const client = front.request()
    const exchange = await upstream.next()
    exchange.stream().send({ data: 'one' })
    await client.head()

    client.close()

    await exchange.leftByPeer()
    await within(aborted.promise, 'the signal of the stream')
    hook.open()
  })

  test(`while it is too slow and the upstream is held back (${host})`, async (t) => {
    const { upstream, front } = await watched(t, host)
    const client = front.request()
    const exchange = await upstream.next()
    const stream = exchange.stream()
    await client.head()
    client.pause()
    const event = `data: ${'x'.repeat(64 * 1024)}\n\n`
    for (let count = 0; count < 1_000; count += 1) if (!stream.write(event) && count > 500) break

    client.close()

    await exchange.leftByPeer()
  })

  test(`in the middle of an ordinary response (${host})`, async (t) => {
    const { upstream, front } = await watched(t, host)
    const client = front.request()
    const exchange = await upstream.next()
    exchange.res.writeHead(200, { 'content-type': 'text/plain' }).write('the beginning')
    await client.waitFor('the beginning')

    client.close()

    await exchange.leftByPeer()
  })

  test(`before the middleware runs at all: the upstream is never asked (${host})`, async (t) => {
    const arrived = gate()
    const goOn = gate()
    const passed = gate()
    const slow: Middleware = async (_req, res, next) => {
      arrived.open()
      res.on('close', () => goOn.open())
      await goOn.promise
      next()
      passed.open()
    }
    const { upstream, front } = await proxied(t, {}, { host, before: [slow] })
    const client = front.request()
    await within(arrived.promise, 'the request to arrive')

    client.close()
    await within(passed.promise, 'the middleware to be called')
    const second = front.request('?second')
    goOn.open()
    const exchange = await upstream.next()
    exchange.stream().end()

    assert.equal(exchange.url, '/stream?second')
    await second.ended()
    assert.equal(upstream.exchanges.length, 1)
    assert.equal(upstream.accepted, 1)
  })

  test(`when onDisconnect is not set, the upstream goes even if hooks listen (${host})`, async (t) => {
    const reasons: string[] = []
    const { upstream, front } = await watched(t, host, {
      transform: () => {},
      onClose: (_stream, reason) => {
        reasons.push(reason)
      },
    })
    const client = front.request()
    const exchange = await upstream.next()
    exchange.stream().send({ data: 'one' })
    await client.waitFor('one')

    client.close()

    await exchange.leftByPeer()
    await until(() => reasons.length > 0, 'onClose')
    assert.deepEqual(reasons, ['client-left'])
  })
}

test('all streams of an HTTP/2 connection that is cut', async (t) => {
  const { upstream, front } = await watched(t, 'connect over http2')
  const session = openHttp2Session(front.origin)
  const clients = Array.from({ length: 20 }, (_, at) => front.request(`?n=${at}`, { session }))
  const exchanges = await Promise.all(clients.map(() => upstream.next()))
  for (const exchange of exchanges.slice(0, 10)) exchange.stream().send({ data: 'x' })
  await Promise.all(clients.slice(0, 1).map((client) => client.head().catch(() => {})))

  session.destroy()

  await Promise.all(exchanges.map((exchange) => exchange.leftByPeer()))
})

test('an HTTP/2 stream that is reset leaves its siblings alone', async (t) => {
  const { upstream, front } = await watched(t, 'connect over http2')
  const session = openHttp2Session(front.origin)
  t.after(() => session.destroy())
  const leaving = front.request('?leaving', { session })
  const leavingExchange = await upstream.next()
  leavingExchange.stream()
  const staying = front.request('?staying', { session })
  const stayingStream = (await upstream.next()).stream()
  await Promise.all([leaving.head(), staying.head()])

  leaving.close()
  await leavingExchange.leftByPeer()
  stayingStream.send({ data: 'still here' })
  await staying.waitFor('still here')
  stayingStream.end()

  assert.equal(await staying.ended(), 'clean')
})

for (const event of ['error', 'aborted', 'close']) {
  test(`an app that listens to '${event}' of the request and of the answer is told as Node tells it`, async (t) => {
    const told: string[] = []
    const tell = (who: string) => (error?: NodeJS.ErrnoException) => void told.push(`${who} ${error?.code ?? ''}`)
    const users = new AsyncLocalStorage<string>()
    const { upstream, front } = await proxied(
      t,
      { on: { proxyRes: (answer) => void answer.on(event, () => tell(`answer of ${users.getStore()}'s`)()) } },
      {
        before: [
          (req, _res, next) => {
            req.on(event, tell('request'))
            users.run('ada', next)
          },
        ],
      },
    )
    const client = front.request()
    const exchange = await upstream.next()
    exchange.stream()
    await client.head()

    client.close()

    await exchange.leftByPeer()
    await until(() => told.length >= 2, 'all of it')
    assert.deepEqual(told.sort(), ["answer of ada's ", event === 'error' ? 'request ECONNRESET' : 'request '])
  })
}

test('where the server keeps its half of the connection open, a client that closes its own is served on', async (t) => {
  const { upstream, front } = await proxied(t)
  Object.assign(front.server, { httpAllowHalfOpen: true })
  const socket = connect({ port: front.port, host: '127.0.0.1', allowHalfOpen: true })
  t.after(() => socket.destroy())
  let answer = ''
  socket.on('data', (bytes) => {
    answer += bytes
  })
  const halfClosed = once(socket, 'finish')
  socket.end('GET /events HTTP/1.1\r\nHost: x\r\n\r\n')
  const stream = (await upstream.next()).stream()
  await halfClosed
  stream.send({ data: 'still here' })
  await until(() => answer.includes('still here'), 'the event')

  stream.end()

  await until(() => answer.endsWith('\r\n0\r\n\r\n'), 'the end')
})

test('a connection that carries one stream after the other collects no listeners', async (t) => {
  const sockets = new Set<Socket>()
  const remember: Middleware = (req: IncomingMessage, _res, next) => {
    sockets.add(req.socket)
    next()
  }
  const { upstream, front } = await proxied(t, {}, { before: [remember] })
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.after(() => agent.destroy())
  const counts: number[] = []

  for (let i = 0; i < 5; i++) {
    const asked = get(front.url, { agent })
    ;(await upstream.next()).stream().end('data: x\n\n')
    const [answer] = (await once(asked, 'response')) as [IncomingMessage]
    await once(answer.resume(), 'end')
    for (const socket of sockets) counts.push(socket.listenerCount('end') + socket.listenerCount('close'))
  }

  assert.equal(sockets.size, 1)
  assert.ok((counts.at(-1) ?? 0) <= (counts[0] ?? 0), `${counts}`)
})

test('a connection that carried a complete request is used for the next one', async (t) => {
  const { upstream, front } = await watched(t, 'express5')

  for (let count = 0; count < 5; count += 1) {
    const client = front.request()
    const exchange = await upstream.next()
    exchange.stream().end('data: x\n\n')
    await client.ended()
  }

  assert.equal(upstream.accepted, 1)
})

/** The usual arrangement, which at its end asks for leftovers in the process. */
async function watched(t: TestContext, host: Host, options: Partial<SseProxyOptions> = {}): Promise<Proxied<Upstream>> {
  const leftovers = watchLeftovers(t)
  const arrangement = await proxied(t, options, { host })
  t.after(async () => {
    await arrangement.front.close()
    await arrangement.upstream.close()
    await leftovers.assertNone()
  })
  return arrangement
}

function connecting(): number {
  return process.getActiveResourcesInfo().filter((name) => name.endsWith('ConnectWrap')).length
}
