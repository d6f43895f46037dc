// What of a request's options an agent keeps for as long as a connection lasts.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { type TestContext, test } from 'node:test'
import { createAgents } from '../../src/upstream/agents.ts'

test('a connection is made from the options that concern it, and none of those that make the head', async (t) => {
  const { port, agent, connections } = await arrange(t)
  const family = 4
  const lookup = (): void => assert.fail('there is no name')

  await get({ agent, host: '127.0.0.1', port, family, lookup, path: '/x', headers: { 'x-secret': '1' }, auth: 'a:b' })

  const [options = {}] = connections
  assert.deepEqual([options.host, options.port, options.family, options.lookup], ['127.0.0.1', port, family, lookup])
  for (const name of ['headers', 'auth', 'method', 'hostname', 'agent']) assert.equal(name in options, false, name)
})

test('the head is as it was asked for, and the connection is used again', async (t) => {
  const { port, agent, connections, heads } = await arrange(t)
  const request = { agent, host: '127.0.0.1', port, path: '/x?y', headers: { 'x-a': '1' }, auth: 'a:b', method: 'PUT' }

  await get(request)
  await get(request)

  assert.equal(connections.length, 1)
  for (const { method, url, headers } of heads) {
    assert.deepEqual([method, url, headers['x-a']], ['PUT', '/x?y', '1'])
    assert.equal(headers.authorization, `Basic ${btoa('a:b')}`)
    assert.equal(headers.host, `127.0.0.1:${port}`)
  }
})

test('where Node has no such method, requests are made all the same', async (t) => {
  const { addRequest } = http.Agent.prototype as unknown as Record<string, unknown>
  Object.assign(http.Agent.prototype, { addRequest: undefined })
  const agents = createAgents()
  Object.assign(http.Agent.prototype, { addRequest })
  t.after(() => agents.destroy())
  const { port, connections } = await arrange(t, agents.pooled(false))

  await get({ agent: agents.pooled(false), host: '127.0.0.1', port, headers: { 'x-a': '1' } })

  assert.equal(connections.length, 1)
})

async function arrange(t: TestContext, given?: http.Agent) {
  const heads: http.IncomingMessage[] = []
  const server = http.createServer((req, res) => {
    heads.push(req)
    res.end()
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  const agents = createAgents()
  const connections: Record<string, unknown>[] = []
  const agent = Object.assign(given ?? agents.pooled(false), {
    createConnection(options: Record<string, unknown>) {
      connections.push(options)
      return connect(port, '127.0.0.1')
    },
  })
  t.after(() => {
    agents.destroy()
    server.closeAllConnections()
    server.close()
  })
  return { port, agent, connections, heads }
}

async function get(options: http.RequestOptions): Promise<void> {
  const request = http.request(options).end()
  const [response] = (await once(request, 'response')) as [http.IncomingMessage]
  await once(response.resume(), 'end')
  // The connection is free a turn later.
  await new Promise((resolve) => setImmediate(resolve))
}
