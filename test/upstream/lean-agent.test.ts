// What an agent makes of a request's options, and what becomes of its connections when they can be used again.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import http, { type ClientRequest } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { LeanAgent } from '../../src/upstream/lean-agent.ts'

test('a connection is made from the options that concern it, and none of those that make the head', async (t) => {
  const { agent, port } = await arrange(t)
  const connections: Record<string, unknown>[] = []
  Object.assign(agent, {
    createConnection(options: Record<string, unknown>) {
      connections.push(options)
      return connect(port, '127.0.0.1')
    },
  })
  const family = 4
  const lookup = (): void => assert.fail('there is no name')

  await get({ agent, host: '127.0.0.1', port, family, lookup, path: '/x', headers: { 'x-secret': '1' }, auth: 'a:b' })

  const [options = {}] = connections
  assert.deepEqual([options.host, options.port, options.family, options.lookup], ['127.0.0.1', port, family, lookup])
  assert.deepEqual([options.noDelay, options.keepAlive, options.keepAliveInitialDelay], [true, true, 15_000])
  for (const name of ['headers', 'auth', 'method', 'hostname', 'agent', 'path'])
    assert.equal(name in options, false, name)
})

test('the head is as it was asked for, and the connection is used again and again', async (t) => {
  const { agent, port, heads, connections } = await arrange(t)
  const options = { agent, host: '127.0.0.1', port, path: '/x?y', headers: { 'x-a': '1' }, auth: 'a:b', method: 'PUT' }

  const requests = [await get(options), await get(options), await get(options)]

  assert.equal(connections.length, 1)
  assert.deepEqual(
    requests.map(({ reusedSocket }) => reusedSocket),
    [false, true, true],
  )
  for (const { method, url, headers } of heads) {
    assert.deepEqual([method, url, headers['x-a']], ['PUT', '/x?y', '1'])
    assert.equal(headers.authorization, `Basic ${btoa('a:b')}`)
    assert.equal(headers.host, `127.0.0.1:${port}`)
  }
})

test('a free connection is known to the pool, and forgotten by it when the upstream closes it', async (t) => {
  const { agent, port, connections } = await arrange(t)

  await get({ agent, host: '127.0.0.1', port })
  const free = Object.values(agent.freeSockets).flat()
  connections[0]?.destroy()
  await once(free[0] as Socket, 'close')
  const request = await get({ agent, host: '127.0.0.1', port })

  assert.equal(free.length, 1)
  assert.deepEqual([request.reusedSocket, connections.length], [false, 2])
})

test('a connection that was closed with its answer is not used again', async (t) => {
  const { agent, port, connections } = await arrange(t)

  for (const _ of [1, 2]) await get({ agent, host: '127.0.0.1', port, headers: { connection: 'close' } })

  assert.equal(connections.length, 2)
  assert.deepEqual(Object.keys(agent.freeSockets), [])
})

test('one that is destroyed when its answer has ended is no part of the pool', async (t) => {
  const { agent, port } = await arrange(t)
  const request = http.request({ agent, host: '127.0.0.1', port }).end()
  request.on('close', () => request.socket?.destroy())
  const [response] = (await once(request, 'response')) as [http.IncomingMessage]

  await ended(response)

  assert.deepEqual([Object.keys(agent.sockets), Object.keys(agent.freeSockets)], [[], []])
})

test('one that was made for a request that is not wanted any more does no harm', async (t) => {
  const { agent, port, heads } = await arrange(t)
  const unwanted = http.request({ agent, host: '127.0.0.1', port })
  unwanted.destroy()
  await once(unwanted, 'error')

  await get({ agent, host: '127.0.0.1', port })

  assert.equal(heads.length, 1)
})

test('one that fails is its request’s failure', async (t) => {
  const { agent, server, port } = await arrange(t)
  server.close()

  await assert.rejects(get({ agent, host: '127.0.0.1', port }), { code: 'ECONNREFUSED' })
})

test('requests to a thousand other places later, it is still known where a connection leads', async (t) => {
  const { agent, port } = await arrange(t)
  const first = http.request({ agent, host: '127.0.0.1', port }).end()
  const [response] = (await once(first, 'response')) as [http.IncomingMessage]
  for (let i = 0; i < 2500; i++) {
    const onSocket = (socket: Socket): unknown => socket.destroy()
    agent.addRequest({ onSocket } as unknown as ClientRequest, {
      host: '127.0.0.1',
      port,
      localAddress: `127.0.${i >> 8}.${i & 255}`,
    })
  }

  await ended(response)
  const { reusedSocket } = await get({ agent, host: '127.0.0.1', port })

  assert.equal(reusedSocket, true)
})

test('an agent that is destroyed ends the connections of its pool', async (t) => {
  const { agent, port, connections } = await arrange(t)
  await get({ agent, host: '127.0.0.1', port })

  agent.destroy()

  await once(connections[0] as Socket, 'close')
})

for (const part of ['createSocket', 'addRequest']) {
  test(`where Node has no ${part}, a connection is used once`, async (t) => {
    const { agent, port, connections } = await arrange(t)
    hide(t, part, undefined)

    for (const _ of [1, 2]) await get({ agent, host: '127.0.0.1', port })

    assert.equal(connections.length, 2)
  })
}

test('where requests cannot be given a connection, Node gives it to them', (t) => {
  const given: unknown[] = []
  hide(t, 'addRequest', (request: unknown) => given.push(request))
  const request = {} as ClientRequest

  new LeanAgent().addRequest(request, { host: '127.0.0.1', port: 1 })

  assert.deepEqual(given, [request])
})

function hide(t: TestContext, name: string, replacement: unknown): void {
  const { [name]: original } = http.Agent.prototype as unknown as Record<string, unknown>
  Object.assign(http.Agent.prototype, { [name]: replacement })
  t.after(() => Object.assign(http.Agent.prototype, { [name]: original }))
}

async function arrange(t: TestContext, answer = (res: http.ServerResponse): unknown => res.end()) {
  const heads: http.IncomingMessage[] = []
  const connections: Socket[] = []
  const server = http.createServer((req, res) => {
    heads.push(req)
    answer(res)
  })
  server.on('connection', (socket) => connections.push(socket))
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  const agent = new LeanAgent()
  t.after(() => {
    agent.destroy()
    server.closeAllConnections()
    server.close()
  })
  return { agent, server, port, heads, connections }
}

async function get(options: http.RequestOptions): Promise<ClientRequest> {
  const request = http.request(options).end()
  const [response] = (await once(request, 'response')) as [http.IncomingMessage]
  await ended(response)
  return request
}

async function ended(response: http.IncomingMessage): Promise<void> {
  await once(response.resume(), 'end')
  // The connection is free a turn later.
  await new Promise((resolve) => setImmediate(resolve))
}
