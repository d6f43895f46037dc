// A WebSocket goes through `upgrade`, as with http-proxy-middleware.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { request } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { type TestContext, test } from 'node:test'
import type { Front } from '../support/front.ts'
import { type Proxied, proxied } from '../support/proxied.ts'
import type { Upstream } from '../support/upstream.ts'
import { until, within } from '../support/waiting.ts'

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

interface Upgraded {
  url: string | undefined
  socket: Duplex
}

/** An upstream that takes every upgrade and echoes, behind a host that hands upgrades to the middleware. */
async function withUpgrade(t: TestContext): Promise<Proxied<Upstream> & { upgraded: Upgraded[] }> {
  const arrangement = await proxied(t)
  const upgraded: Upgraded[] = []
  arrangement.upstream.server.on('upgrade', (req: { url?: string }, socket: Duplex) => {
    upgraded.push({ url: req.url, socket })
    socket.on('error', () => {})
    socket.on('data', (bytes: Buffer) => socket.write(`echo ${bytes}`))
    socket.on('end', () => socket.end())
    socket.write(accepted)
  })
  arrangement.front.server.on('upgrade', arrangement.proxy.upgrade)
  return { ...arrangement, upgraded }
}

async function upgrade(t: TestContext, front: Front, path: string): Promise<Socket> {
  const headers = {
    connection: 'Upgrade',
    upgrade: 'websocket',
    'sec-websocket-version': '13',
    'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
  }
  const req = request(`${front.origin}${path}`, { headers })
  req.end()
  const [, socket] = (await within(once(req, 'upgrade'), 'the upgrade')) as [unknown, Socket]
  t.after(() => socket.destroy())
  socket.on('error', () => {})
  return socket
}
