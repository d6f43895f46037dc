// `await proxy(req, res)` goes on when the exchange is over, as with http-proxy-middleware, whatever way it ends.
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { type TestContext, test } from 'node:test'
import { sseProxy } from 'sse-proxy-middleware'
import { type Front, startFront } from '../support/front.ts'
import type { SseProxyOptions } from '../support/proxied.ts'
import { startUpstream, type Upstream } from '../support/upstream.ts'
import { gate, until, within } from '../support/waiting.ts'

interface Awaited {
  upstream: Upstream
  front: Front
  /** One for each request: whether `next` had been called, when the promise resolved. */
  over: { passedOn: boolean; error?: unknown }[]
}

/** A host that awaits the middleware. */
async function awaited(t: TestContext, options: Partial<SseProxyOptions> = {}): Promise<Awaited> {
  const upstream = await startUpstream()
  const proxy = sseProxy({ target: `${upstream.url}/stream`, ...options } as SseProxyOptions)
  const over: Awaited['over'] = []
  const front = await startFront('http', async (req, res, next) => {
    const state: Awaited['over'][number] = { passedOn: false }
    await proxy(req, res, (error?: unknown) => {
      state.passedOn = true
      state.error = error
      next(error)
    })
    over.push(state)
  })
  t.after(async () => {
    await front.close()
    await upstream.close()
  })
  return { upstream, front, over }
}

test('a stream: when it has ended, and not before', async (t) => {
  const { upstream, front, over } = await awaited(t)
  const client = front.request()
  const stream = (await upstream.next()).stream()
  stream.send({ data: 'x' })
  await client.waitFor('data: x')
  assert.deepEqual(over, [])

  stream.end()
  await client.whole()

  await until(() => over.length === 1, 'the promise')
  assert.deepEqual(over, [{ passedOn: false }])
})

test('a client that leaves: when it has left', async (t) => {
  const { upstream, front, over } = await awaited(t)
  const client = await front.request()
  const exchange = await upstream.next()
  assert.deepEqual(over, [])

  client.close()
  await exchange.leftByPeer()

  await until(() => over.length === 1, 'the promise')
})

test('an ordinary answer: when it is through', async (t) => {
  const { upstream, front, over } = await awaited(t)
  const client = front.request()
  const { res } = await upstream.next()
  res.writeHead(200, { 'content-length': '4' }).write('ab')
  await client.waitFor('ab')
  assert.deepEqual(over, [])

  res.end('cd')
  await client.whole()

  await until(() => over.length === 1, 'the promise')
})

for (const [name, options, path] of [
  ['an upstream that is not there', { target: 'http://127.0.0.1:1' }, ''],
  ['a path that is refused', {}, '/..%2f..'],
  ['a balance that fails', { balance: () => Promise.reject(new Error('no')) as never }, ''],
] as const) {
  test(`${name}: when the refusal is out`, async (t) => {
    const { front, over } = await awaited(t, options as Partial<SseProxyOptions>)

    const client = await front.open(path)
    await client.whole()

    assert.ok(client.status >= 400)
    await until(() => over.length === 1, 'the promise')
  })
}

test('a full house: when the refusal is out', async (t) => {
  const { upstream, front, over } = await awaited(t, { limits: { streams: 1 } })
  front.request()
  await upstream.next()

  assert.equal((await front.open()).status, 503)

  await until(() => over.length === 1, 'the promise of the one that was refused')
})

test('what the filter leaves out: when next has been called', async (t) => {
  const { front, over } = await awaited(t, { pathFilter: '/other' })

  assert.equal((await front.open()).status, 404)

  await until(() => over.length === 1, 'the promise')
  assert.deepEqual(over, [{ passedOn: true, error: undefined }])
})

test("an app's function that throws: its error goes to next, and the promise does not reject", async (t) => {
  const mistake = new Error('no tenant')
  const { front, over } = await awaited(t, {
    router: () => {
      throw mistake
    },
  })

  assert.equal((await front.open()).status, 500)

  await until(() => over.length === 1, 'the promise')
  assert.deepEqual(over, [{ passedOn: true, error: mistake }])
})

test('a pipelined request whose connection goes before its turn: when it has gone', async (t) => {
  const { upstream, front, over } = await awaited(t)
  const socket = connect(front.port, '127.0.0.1')
  const request = 'GET /events HTTP/1.1\r\nHost: x\r\n\r\n'
  socket.write(request + request + request)
  const first = await upstream.next()

  socket.destroy()
  await first.leftByPeer()

  await until(() => over.length === 3, 'all three promises')
  assert.equal(upstream.exchanges.length, 1)
})

test('a client that is gone before the proxy has its request: at once', async (t) => {
  const upstream = await startUpstream()
  const proxy = sseProxy({ target: upstream.url })
  const resolved = gate()
  const arrived = gate()
  const front = await startFront('http', async (req, res) => {
    arrived.open()
    await new Promise((resolve) => res.once('close', resolve))
    await proxy(req, res)
    resolved.open()
  })
  t.after(async () => {
    await front.close()
    await upstream.close()
  })
  const client = front.request()
  await within(arrived.promise, 'the request')

  client.close()

  await within(resolved.promise, 'the promise')
})
