// What becomes of a connection of the package's own agent: in its first request, when it is free, and at the end.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import http, { type ClientRequest, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { PlainAgent } from '../../src/upstream/plain-agent.ts'

test('a connection is no part of the pool in its first request, and is used again and again after it', async (t) => {
  const { agent, place, heads, connections } = await arrange(t)
  const options = { agent, ...place, path: '/x?y', headers: { 'x-a': '1' }, auth: 'a:b', method: 'PUT' }
  const request = http.request(options).end()
  const [response] = (await once(request, 'response')) as [IncomingMessage]

  const pooled = Object.values(agent.sockets).flat()
  await ended(response)
  const later = [await get(options), await get(options)]

  assert.deepEqual([pooled.length, connections.length], [0, 1])
  assert.deepEqual(
    [request, ...later].map(({ reusedSocket }) => reusedSocket),
    [false, true, true],
  )
  for (const { method, url, headers } of heads) {
    assert.deepEqual([method, url, headers['x-a']], ['PUT', '/x?y', '1'])
    assert.deepEqual([headers.authorization, headers.host], [`Basic ${btoa('a:b')}`, `127.0.0.1:${place.port}`])
  }
})

test('it is made as the request asks for it, without delay and watched by the kernel', async (t) => {
  const { agent, place } = await arrange(t)
  const asked: unknown[] = []
  const lookup: NonNullable<http.RequestOptions['lookup']> = (name, { family }, callback) => {
    asked.push(name, family)
    callback(null, '127.0.0.1', 4)
  }

  const request = await get({ agent, ...place, host: 'upstream.test', lookup, family: 4, localAddress: '127.0.0.7' })

  assert.deepEqual(asked, ['upstream.test', 4])
  assert.equal(request.socket?.localAddress, '127.0.0.7')
})

test('the path of a Unix socket is a place of its own', async (t) => {
  const socketPath = join(tmpdir(), `plain-agent-${process.pid}.sock`)
  const { agent, connections } = await arrange(t, socketPath)

  const requests = [await get({ agent, socketPath }), await get({ agent, socketPath })]

  assert.deepEqual(
    requests.map(({ reusedSocket }) => reusedSocket),
    [false, true],
  )
  assert.equal(connections.length, 1)
})

test('a free connection is forgotten when the upstream closes it', async (t) => {
  const { agent, place, connections } = await arrange(t)
  await get({ agent, ...place })
  const free = Object.values(agent.freeSockets).flat()

  connections[0]?.destroy()
  await once(free[0] as Socket, 'close')
  const request = await get({ agent, ...place })

  assert.equal(free.length, 1)
  assert.deepEqual([request.reusedSocket, connections.length], [false, 2])
})

test('one that was closed with its answer is not used again', async (t) => {
  const { agent, place, connections } = await arrange(t)

  for (const _ of [1, 2]) await get({ agent, ...place, headers: { connection: 'close' } })

  assert.equal(connections.length, 2)
  assert.deepEqual(Object.keys(agent.freeSockets), [])
})

test('one that is destroyed when its answer has ended is no part of the pool', async (t) => {
  const { agent, place } = await arrange(t)
  const request = http.request({ agent, ...place }).end()
  request.on('close', () => request.socket?.destroy())
  const [response] = (await once(request, 'response')) as [IncomingMessage]

  await ended(response)

  assert.deepEqual([Object.keys(agent.sockets), Object.keys(agent.freeSockets)], [[], []])
})

test('one that was made for a request that is not wanted any more does no harm', async (t) => {
  const { agent, place, heads } = await arrange(t)
  const unwanted = http.request({ agent, ...place })
  unwanted.destroy()
  await once(unwanted, 'error')

  await get({ agent, ...place })

  assert.equal(heads.length, 1)
})

test('one that fails is its request’s failure', async (t) => {
  const { agent, server, place } = await arrange(t)
  server.close()

  await assert.rejects(get({ agent, ...place }), { code: 'ECONNREFUSED' })
})

test('an agent that is destroyed ends free connections, and those of a first or later request', async (t) => {
  const { agent, place, connections } = await arrange(t)
  await get({ agent, ...place })
  const later = http.request({ agent, ...place, path: '/never' }).end()
  await once(later, 'socket')
  const first = http.request({ agent, ...place, path: '/never' }).end()
  await once(first, 'finish')
  await get({ agent, ...place })

  agent.destroy()

  const failures = await Promise.all([once(first, 'error'), once(later, 'error')])
  assert.deepEqual(
    failures.map(([{ code }]) => code),
    ['ECONNRESET', 'ECONNRESET'],
  )
  assert.deepEqual([later.reusedSocket, first.reusedSocket, connections.length], [true, false, 3])
  await Promise.all(connections.map((connection) => connection.closed || once(connection, 'close')))
})

for (const part of ['createSocket', 'addRequest']) {
  test(`where Node has no ${part}, a connection is used once`, async (t) => {
    const { agent, place, connections } = await arrange(t)
    hide(t, part)

    for (const _ of [1, 2]) await get({ agent, ...place })

    assert.equal(connections.length, 2)
  })
}

function hide(t: TestContext, name: string): void {
  const original: unknown = Reflect.get(http.Agent.prototype, name)
  Reflect.set(http.Agent.prototype, name, undefined)
  t.after(() => Reflect.set(http.Agent.prototype, name, original))
}

async function arrange(t: TestContext, socketPath?: string) {
  const heads: IncomingMessage[] = []
  const connections: Socket[] = []
  const server = http.createServer((req: IncomingMessage, res: ServerResponse) => {
    heads.push(req)
    if (req.url !== '/never') res.end()
  })
  server.on('connection', (socket) => connections.push(socket))
  await once(socketPath ? server.listen(socketPath) : server.listen(0, '127.0.0.1'), 'listening')
  const agent = new PlainAgent({ keepAlive: true }, true)
  t.after(() => {
    agent.destroy()
    server.closeAllConnections()
    server.close()
  })
  return { agent, server, place: { host: '127.0.0.1', port: socketPath ? 0 : portOf(server) }, heads, connections }
}

function portOf(server: http.Server): number {
  return (server.address() as AddressInfo).port
}

async function get(options: http.RequestOptions): Promise<ClientRequest> {
  const request = http.request(options).end()
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  await ended(response)
  return request
}

async function ended(response: IncomingMessage): Promise<void> {
  await once(response.resume(), 'end')
  // The connection is free a turn later.
  await new Promise((resolve) => setImmediate(resolve))
}
