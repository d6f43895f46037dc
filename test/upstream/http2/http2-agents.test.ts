// How much is remembered of where requests have gone, when a router or their Host leads them to any number of places.
import assert from 'node:assert/strict'
import http from 'node:http'
import { createServer, type Http2Server } from 'node:http2'
import type { AddressInfo, Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { type Agents, http1Agents } from '../../../src/upstream/agents.ts'
import { createHttp2Agents } from '../../../src/upstream/http2/http2-agents.ts'
import { collectGarbage } from '../../support/memory.ts'
import { until } from '../../support/waiting.ts'

const bound = 1000
// Others have one loopback address.
const skip = process.platform !== 'linux' && 'it takes Linux, where all of 127.0.0.0/8 is there to connect from'

test(`past ${bound} places the connections to one that is not in use end, and those in use stay`, {
  skip,
}, async (t) => {
  const sockets = new Set<Socket>()
  const server = createServer((req, res) => {
    res.writeHead(200)
    if (req.url === '/open') res.write('x')
    else res.end()
  })
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  const { agents, port } = await agentsTo(server, t)
  /** Each place is another one to Node's agents, for the address that its connections come from. */
  const ask = async (place: number, path: string): Promise<http.IncomingMessage> => {
    const localAddress = `127.1.${place >> 7}.${(place & 127) + 1}`
    const request = http.get({ agent: agents.pooled(false, undefined), host: '127.0.0.1', port, path, localAddress })
    return await new Promise((resolve, reject) => request.once('response', resolve).once('error', reject))
  }
  const open = await ask(0, '/open')
  for (let place = 1; place < bound; place++) (await ask(place, '/')).resume()
  assert.equal(sockets.size, bound)

  for (let place = bound; place < bound + 5; place++) (await ask(place, '/')).resume()

  await until(() => sockets.size === bound, 'five connections to end')
  assert.equal(open.destroyed, false)
  open.destroy()
})

test('what a request was made of is not held for as long as it is open', async (t) => {
  const server = createServer((_req, res) => void res.writeHead(200).write('x'))
  const { agents, port } = await agentsTo(server, t)
  const open = async (): Promise<{ answer: http.IncomingMessage; headers: WeakRef<object> }> => {
    const headers = { 'x-secret': 'yes' }
    const request = http.get({ agent: agents.pooled(false, undefined), host: '127.0.0.1', port, headers })
    const answer = new Promise<http.IncomingMessage>((resolve, reject) =>
      request.once('response', resolve).once('error', reject),
    )
    return { answer: await answer, headers: new WeakRef(headers) }
  }

  const { answer, headers } = await open()

  await until(() => {
    collectGarbage()
    return headers.deref() === undefined
  }, 'the headers to be let go of')
  assert.equal(answer.destroyed, false)
  answer.destroy()
})

/** Agents for what this server says, which end with the test as it does. */
async function agentsTo(server: Http2Server, t: TestContext): Promise<{ agents: Agents; port: number }> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const agents = createHttp2Agents(
    { mode: 'prior-knowledge', pingMs: 0, idleMs: 0, connectMs: 0 },
    65_536,
    http1Agents(true),
  )
  t.after(() => {
    agents.destroy()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return { agents, port }
}
