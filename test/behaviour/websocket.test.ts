// A WebSocket goes through `upgrade`, as with http-proxy-middleware.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { IncomingMessage, request, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { type TestContext, test } from 'node:test'
import type { Front } from '../support/front.ts'
import { type Proxied, proxied, type SseProxy, type SseProxyOptions } from '../support/proxied.ts'
import type { Upstream } from '../support/upstream.ts'
import { gate, until, within } from '../support/waiting.ts'

const accepted = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n'

test('bytes go both ways once both sides have switched', async (t) => {
  const { front, upgraded } = await withUpgrade(t)

  const socket = await upgrade(t, front, '/events/chat?x=1')
  socket.write('ping')
  const [answer] = (await within(once(socket, 'data'), 'the echo')) as [Buffer]

  assert.equal(answer.toString(), 'echo ping')
  assert.equal(upgraded[0]?.url, '/stream/events/chat?x=1')
})

test('when one side goes, so does the other', async (t) => {
  const { front, upgraded } = await withUpgrade(t)
  const leaving = await upgrade(t, front, '/events')
  const staying = await upgrade(t, front, '/events')

  leaving.destroy()
  await until(() => upgraded[0]?.socket.destroyed === true, 'the upstream to see the client go')
  upgraded[1]?.socket.destroy()

  await within(once(staying, 'close'), 'the client to see the upstream go')
})

test('an upstream that is gone closes the connection and nothing else', async (t) => {
  const { upstream, front } = await withUpgrade(t)
  await upstream.close()

  await assert.rejects(upgrade(t, front, '/events'))
  const client = await front.open()

  assert.equal(client.status, 502)
})

test('event streams of the same middleware are not disturbed', async (t) => {
  const { upstream, front } = await withUpgrade(t)
  const client = front.request()
  const stream = (await upstream.next()).stream()
  const socket = await upgrade(t, front, '/events')

  socket.destroy()
  stream.end('data: x\n\n')

  assert.equal(await client.whole(), 'data: x\n\n')
})

for (const wiring of ['ws: true', 'server.on'] as const) {
  test(`${wiring}: an upgrade that pathFilter leaves out does not reach the upstream, and another listener takes it`, async (t) => {
    const { front, upgraded } = await wired(t, wiring, { pathFilter: '/public' })
    const taken: unknown[] = []
    front.server.on('upgrade', ({ url }: { url?: string }, socket: Duplex) => {
      if (url !== '/admin/secret') return
      taken.push(url)
      socket.write(accepted)
    })

    const left = await upgrade(t, front, '/admin/secret')
    const proxied = await upgrade(t, front, '/public/chat')
    proxied.write('ping')
    const [answer] = (await within(once(proxied, 'data'), 'the echo')) as [Buffer]

    assert.equal(answer.toString(), 'echo ping')
    assert.deepEqual(taken, ['/admin/secret'])
    assert.equal(left.destroyed, false)
    assert.deepEqual(
      upgraded.map(({ url }) => url),
      ['/stream/public/chat'],
    )
  })

  test(`${wiring}: two proxies on one server take each its own`, async (t) => {
    const first = await wired(t, wiring, { pathFilter: '/one' })
    const second = await upgrading(t, { pathFilter: ['/two', '/three'], ws: wiring === 'ws: true' })
    if (wiring === 'server.on') first.front.server.on('upgrade', second.proxy.upgrade)
    else await subscribe(second.proxy, first.front)

    for (const path of ['/one', '/two', '/three/a']) (await upgrade(t, first.front, path)).destroy()

    assert.deepEqual(
      [first.upgraded, second.upgraded].map((all) => all.map(({ url }) => url)),
      [['/stream/one'], ['/stream/two', '/stream/three/a']],
    )
  })

  test(`${wiring}: a development server's own socket is left to it`, async (t) => {
    const { front, upgraded } = await wired(t, wiring, { pathFilter: (path) => path.startsWith('/api') })
    front.server.on('upgrade', ({ headers }: { headers: Record<string, string> }, socket: Duplex) => {
      if (headers['sec-websocket-protocol'] === 'vite-hmr') socket.write(accepted)
    })

    const socket = await upgrade(t, front, '/', { 'sec-websocket-protocol': 'vite-hmr' })
    await upgrade(t, front, '/api')

    assert.equal(socket.destroyed, false)
    assert.deepEqual(
      upgraded.map(({ url }) => url),
      ['/stream/api'],
    )
  })
}

test('ws: true beside server.on takes an upgrade once', async (t) => {
  const { front, proxy, upgraded } = await wired(t, 'ws: true', { pathFilter: '/chat' })
  front.server.on('upgrade', proxy.upgrade)

  const socket = await upgrade(t, front, '/chat')
  socket.write('ping')
  const [answer] = (await within(once(socket, 'data'), 'the echo')) as [Buffer]

  assert.equal(answer.toString(), 'echo ping')
  assert.equal(upgraded.length, 1)
})

test('a filter that throws leaves an upgrade alone', async (t) => {
  const { front, upgraded } = await wired(t, 'server.on', {
    pathFilter: (path) => {
      if (path === '/chat') throw new Error('a mistake')
      return true
    },
  })
  front.server.on('upgrade', ({ url }: { url?: string }, socket: Duplex) => {
    if (url === '/chat') socket.write(accepted)
  })

  await upgrade(t, front, '/chat')
  await upgrade(t, front, '/other')

  assert.deepEqual(
    upgraded.map(({ url }) => url),
    ['/stream/other'],
  )
})

test('a client that resets while a router thinks about its upgrade does not end the process', async (t) => {
  const asked = gate()
  const answer = gate<string>()
  const { front, upstream, proxy } = await proxied(t, {
    target: undefined,
    router: () => {
      asked.open()
      return answer.promise
    },
  })
  front.server.on('upgrade', proxy.upgrade)
  const served = once(front.server, 'connection') as Promise<[Socket]>
  const req = request(`${front.origin}/chat`, { headers: websocketHeaders })
  req.on('error', () => {})
  req.end()
  const [socket] = await within(served, 'the connection')
  await within(asked.promise, 'the router to be asked')

  const listeners = socket.listenerCount('error')
  socket.destroy(new Error('read ECONNRESET'))
  await until(() => socket.closed, 'the reset')
  answer.open(upstream.url)

  const stream = front.request()
  ;(await upstream.next()).answer(200)
  assert.equal((await stream.head()).status, 200)
  // An error that nobody hears ends the process.
  assert.ok(listeners > 0)
})

interface Upgraded {
  url: string | undefined
  socket: Duplex
}

/** An upstream that takes every upgrade and echoes, behind a host that hands upgrades to the middleware. */
async function withUpgrade(t: TestContext): Promise<Served> {
  const arrangement = await upgrading(t)
  arrangement.front.server.on('upgrade', arrangement.proxy.upgrade)
  return arrangement
}

interface Served extends Proxied<Upstream> {
  upgraded: Upgraded[]
}

/** The same in either way of wiring. */
async function wired(
  t: TestContext,
  wiring: 'ws: true' | 'server.on',
  options: Partial<SseProxyOptions>,
): Promise<Served> {
  const arrangement = await upgrading(t, { ...options, ws: wiring === 'ws: true' })
  if (wiring === 'server.on') arrangement.front.server.on('upgrade', arrangement.proxy.upgrade)
  else await subscribe(arrangement.proxy, arrangement.front)
  return arrangement
}

/** With `ws: true` the first request shows a proxy its server. */
async function subscribe(proxy: SseProxy, { server }: Front): Promise<void> {
  const before = server.listenerCount('upgrade')
  const req = new IncomingMessage(Object.assign(new Socket(), { server }))
  req.url = '/nothing'
  req.method = 'GET'
  proxy(req, new ServerResponse(req), () => {})
  await until(() => server.listenerCount('upgrade') > before, 'the proxy to subscribe')
}

async function upgrading(t: TestContext, options: Partial<SseProxyOptions> = {}): Promise<Served> {
  const arrangement = await proxied(t, options)
  const upgraded: Upgraded[] = []
  arrangement.upstream.server.on('upgrade', (req: { url?: string }, socket: Duplex) => {
    upgraded.push({ url: req.url, socket })
    socket.on('error', () => {})
    socket.on('data', (bytes: Buffer) => socket.write(`echo ${bytes}`))
    socket.on('end', () => socket.end())
    socket.write(accepted)
  })
  return { ...arrangement, upgraded }
}

const websocketHeaders = {
  connection: 'Upgrade',
  upgrade: 'websocket',
  'sec-websocket-version': '13',
  'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
}

async function upgrade(
  t: TestContext,
  front: Front,
  path: string,
  headers: Record<string, string> = {},
): Promise<Socket> {
  const req = request(`${front.origin}${path}`, { headers: { ...websocketHeaders, ...headers } })
  req.end()
  const [, socket] = (await within(once(req, 'upgrade'), 'the upgrade')) as [unknown, Socket]
  t.after(() => socket.destroy())
  socket.on('error', () => {})
  return socket
}
