// Connections that wait: an upstream that speaks on one loses it, with TLS and without, and one that has gone loses all.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import http, { type ClientRequest, type IncomingMessage } from 'node:http'
import https from 'node:https'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { createServer as createTlsServer } from 'node:tls'
import { createAgents, http1Agents } from '../../src/upstream/agents.ts'
import { certificate } from '../support/certificate.ts'
import { within } from '../support/waiting.ts'

const answer = 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nown'
const unasked = 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen'

for (const secure of [false, true]) {
  const name = secure ? 'TLS' : 'plain'

  test(`a connection that speaks unasked ends, and the next request has another (${name})`, async (t) => {
    const { ask, connections } = await arrange(t, secure)
    await ask()
    const closed = once(connections[0] as Socket, 'close')

    connections[0]?.write(unasked)
    await closed
    const { request, body } = await ask()

    assert.deepEqual([body, request.reusedSocket, connections.length], ['own', false, 2])
  })

  test(`it is not given to a request of the same turn (${name})`, async (t) => {
    const { ask, free, connections } = await arrange(t, secure)
    await Promise.all([ask(), ask(), ask()])
    // The one that Node would take next.
    const next = free().at(-1)
    // Where Node itself has seen it there is no 'data'.
    const seen = Promise.race([once(next as Socket, 'data'), once(next as Socket, 'close')])

    connections.find(({ remotePort }) => remotePort === next?.localPort)?.write(unasked)
    await seen
    const { body } = await ask()

    assert.equal(body, 'own')
  })

  test(`one that keeps quiet is used again and again, and gathers no listeners (${name})`, async (t) => {
    const { ask, connections } = await arrange(t, secure)
    await ask()
    const { request: second } = await ask()
    const listeners = second.socket?.listenerCount('data')

    for (let i = 0; i < 5; i++) await ask()
    const { request, body } = await ask()

    assert.deepEqual([body, request.reusedSocket, connections.length], ['own', true, 1])
    assert.equal(request.socket?.listenerCount('data'), listeners)
  })
}

test('the idle connection to an upstream that is retired ends, and one in use ends behind its answer', async (t) => {
  const { ask, agents, upstream, connections } = await arrange(t, false)
  await Promise.all([ask(), ask()])
  const closed = connections.map((connection) => once(connection, 'close'))
  const inUse = ask()

  agents.retire(upstream)
  const { request, body } = await inUse
  await within(Promise.all(closed), 'both connections to end')

  assert.deepEqual([body, request.reusedSocket, connections.length], ['own', true, 2])
})

test('an upstream that is retired and comes back keeps its connections again, and others never lost theirs', async (t) => {
  const { ask, agents, upstream, connections } = await arrange(t, false)
  await ask()

  agents.retire({ ...upstream })
  const { request: kept } = await ask()
  agents.retire(upstream)
  await ask()
  const { request: again } = await ask()

  assert.deepEqual([kept.reusedSocket, again.reusedSocket, connections.length], [true, true, 2])
})

test('a connection of its first request to a retired upstream ends with the proxy, whatever is retired behind it', async (t) => {
  const { agents, upstream, silent } = await arrange(t, false)
  const request = http.request({ agent: agents.pooled(false, upstream), host: '127.0.0.1', port: silent }).end()
  await once(request, 'finish')
  agents.retire(upstream)
  agents.pooled(false, upstream)
  agents.retire(upstream)

  agents.destroy()

  await within(assert.rejects(once(request, 'response'), { code: 'ECONNRESET' }), 'the request to fail')
})

async function arrange(t: TestContext, secure: boolean) {
  const connections: Socket[] = []
  const serve = (socket: Socket): void => {
    connections.push(socket)
    socket.on('error', () => {}).on('data', () => socket.write(answer))
  }
  const server = secure ? createTlsServer(certificate, serve) : createServer(serve)
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  const mute = createServer((socket) => connections.push(socket.on('error', () => {}).resume()))
  await once(mute.listen(0, '127.0.0.1'), 'listening')
  const target = `http://127.0.0.1:${port}`
  const upstream = { target, parsed: target, url: target, headers: undefined }
  const agents = createAgents(http1Agents(true))
  t.after(() => {
    agents.destroy()
    for (const connection of connections) connection.destroy()
    server.close()
    mute.close()
  })

  async function ask(): Promise<{ request: ClientRequest; body: string }> {
    const options = { agent: agents.pooled(secure, upstream), host: '127.0.0.1', port, rejectUnauthorized: false }
    const request = (secure ? https : http).request(options).end()
    const [response] = (await once(request, 'response')) as [IncomingMessage]
    let body = ''
    for await (const part of response.setEncoding('utf8')) body += part
    // The connection is free a turn later.
    await new Promise((resolve) => setImmediate(resolve))
    return { request, body }
  }
  return {
    ask,
    agents,
    upstream,
    silent: (mute.address() as AddressInfo).port,
    free: () => Object.values(agents.pooled(secure, upstream).freeSockets).flatMap((all) => all ?? []),
    connections,
  }
}
