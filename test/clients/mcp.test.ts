// MCP with the official clients and servers of both revisions, all of them through one route.
import assert from 'node:assert/strict'
import type { IncomingMessage } from 'node:http'
import { type TestContext, test } from 'node:test'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { Client as SessionClient } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport as SessionTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import { sseProxy } from 'sse-proxy-middleware'
import { type McpBackend, startMcpServer } from '../../demo/recipes/support/mcp-server.ts'
import { resolveOptions } from '../../src/options/resolve-options.ts'
import { request } from '../support/client.ts'
import { type Middleware, startFront } from '../support/front.ts'
import type { SseProxy, SseProxyOptions } from '../support/proxied.ts'
import { gate, until, within } from '../support/waiting.ts'

const revision = '2026-07-28'
const counted = [{ type: 'text', text: 'one, two, three' }]

test('2026-07-28: every request is a POST on its own, without sessions and ids, and progress comes before the answer', async (t) => {
  const { url, asked } = await gateway(t)
  const answers: Headers[] = []
  const { client } = await connected(t, url, async (input, init) => {
    const answer = await fetch(input, init)
    answers.push(answer.headers)
    return answer
  })

  const progress: number[] = []
  const result = await within(
    client.callTool({ name: 'count' }, { onprogress: (step) => progress.push(step.progress) }),
    'the answer of the tool',
  )

  assert.deepEqual(result.content, counted)
  assert.deepEqual(progress, [1, 2, 3])
  assert.deepEqual([...new Set(asked.map(({ method }) => method))], ['POST'])
  assert.equal(asked.at(-1)?.headers['mcp-method'], 'tools/call')
  assert.equal(asked.at(-1)?.headers['mcp-name'], 'count')
  assert.match(answers.at(-1)?.get('content-type') ?? '', /^text\/event-stream/)
  assert.ok(answers.every((headers) => !headers.has('mcp-session-id')))
  assert.ok(asked.every(({ headers }) => !headers['mcp-session-id'] && !headers['last-event-id']))
})

test('2026-07-28: a client that closes the stream of a call cancels it at the server', async (t) => {
  const { url, server } = await gateway(t)
  const { client } = await connected(t, url)
  const controller = new AbortController()
  const begun = gate()

  const call = client.callTool({ name: 'wait' }, { signal: controller.signal, onprogress: () => begun.open() })
  const calling = assert.rejects(call)
  await within(begun.promise, 'the call to be under way')
  controller.abort()
  await calling

  await until(() => server.cancelled === 1, 'the server to hear of it')
})

test('2026-07-28: a subscription outlasts all that bounds the answer to a POST, and its client takes keepalives for nothing', async (t) => {
  const bounds = { connectMs: 100, responseMs: 100, writeMs: 100 }
  const { url, server, proxy } = await gateway(t, { timeouts: bounds, keepalive: 20 })
  const { client, changed } = await connected(t, url)
  const subscription = await within(client.listen({ toolsListChanged: true }), 'the subscription')

  await until(() => proxy.stats().keepalives >= 15, 'a silence of three times the bounds')
  server.announce()
  await within(changed.promise, 'the notification')

  assert.deepEqual(proxy.stats().errors, {})
  const { idleMs, firstEventMs, eventMs, lifetimeMs } = resolveOptions({ target: url }).timeouts
  assert.deepEqual(
    { idleMs, firstEventMs, eventMs, lifetimeMs },
    { idleMs: 0, firstEventMs: 0, eventMs: 0, lifetimeMs: 0 },
  )
  await subscription.close()
})

test('2026-07-28: a drain ends a subscription as a loss that its client may mend, and not as its end', async (t) => {
  const { url, proxy } = await gateway(t)
  const { client } = await connected(t, url)
  const subscription = await within(client.listen({ toolsListChanged: true }), 'the subscription')

  await proxy.close({ withinMs: 50 })

  assert.equal(await within(subscription.closed, 'the end'), 'remote')
})

test('2026-07-28: the headers say which server is asked, and whose place is taken', async (t) => {
  const other = await startMcpServer()
  t.after(() => other.close())
  const isListening = (req: IncomingMessage) => req.headers['mcp-method'] === 'subscriptions/listen'
  const { url, server, proxy } = await gateway(t, ({ url }) => ({
    target: `${url}/mcp`,
    router: ({ headers }) => (headers['mcp-name'] === 'wait' ? `${other.url}/mcp` : `${url}/mcp`),
    limits: { streamsPerClient: 1, clientKey: (req) => (isListening(req) ? 'listening' : 'calling') },
  }))
  const { client } = await connected(t, url)
  const subscription = await within(client.listen({ toolsListChanged: true }), 'the subscription')
  const controller = new AbortController()

  await assert.rejects(client.listen({ toolsListChanged: true }), /429|too many/)
  const call = client.callTool({ name: 'wait' }, { signal: controller.signal })
  const calling = assert.rejects(call)
  await until(() => other.users.size === 1, 'the call to reach the other server')
  controller.abort()
  await calling
  await until(() => other.cancelled === 1, 'the other server to hear of its end')

  assert.equal(server.cancelled, 0)
  assert.equal(proxy.stats().refused['client-limit'], 1)
  await subscription.close()
})

test('2026-07-28: what the server refuses, since header and body differ, reaches the client as it is', async (t) => {
  const { url } = await gateway(t)
  const meta = {
    'io.modelcontextprotocol/protocolVersion': revision,
    'io.modelcontextprotocol/clientInfo': { name: 'test', version: '1' },
    'io.modelcontextprotocol/clientCapabilities': {},
  }
  const message = { jsonrpc: '2.0', id: 7, method: 'tools/call', params: { name: 'wait', arguments: {}, _meta: meta } }

  const client = request(url, {
    method: 'POST',
    headers: {
      accept: 'application/json, text/event-stream',
      'content-type': 'application/json',
      'mcp-protocol-version': revision,
      'mcp-method': 'tools/call',
      'mcp-name': 'count',
    },
    body: JSON.stringify(message),
  })

  assert.equal(JSON.parse(await client.whole()).error.code, -32020)
  assert.equal(client.status, 400)
})

test('2025-11-25: a client comes back by GET for the answer of a stream that the server has closed, past hooks that meet an event without data', async (t) => {
  const told: string[] = []
  const { url, asked } = await gateway(t, {
    transform: ({ data }) => {
      told.push(data === '' ? 'nothing' : Object.keys(JSON.parse(data)).join())
    },
  })
  const client = new SessionClient({ name: 'test', version: '1.0.0' })
  const transport = new SessionTransport(new URL(url))
  t.after(() => client.close())
  await within(client.connect(transport as Transport), 'the session')

  const result = await within(client.callTool({ name: 'pause' }), 'the answer')

  assert.deepEqual(result.content, counted)
  const back = asked.find(({ method, headers }) => method === 'GET' && headers['last-event-id'])
  assert.equal(back?.headers['mcp-session-id'], transport.sessionId)
  assert.ok(told.includes('nothing'), told.join())
  assert.ok(told.includes('result,jsonrpc,id'), told.join())
})

interface Gateway {
  url: string
  server: McpBackend
  proxy: SseProxy
  /** What came in. */
  asked: readonly IncomingMessage[]
}

async function gateway(
  t: TestContext,
  options: Partial<SseProxyOptions> | ((server: McpBackend) => Partial<SseProxyOptions>) = {},
): Promise<Gateway> {
  const server = await startMcpServer()
  const given = typeof options === 'function' ? options(server) : options
  const proxy = sseProxy({ target: `${server.url}/mcp`, ...given } as SseProxyOptions)
  const asked: IncomingMessage[] = []
  const noted: Middleware = (req, _res, next) => {
    asked.push(req)
    next()
  }
  const front = await startFront('express5', proxy, { mount: '/mcp', before: [noted] })
  t.after(async () => {
    await front.close()
    await server.close()
  })
  return { url: front.url, server, proxy, asked }
}

async function connected(t: TestContext, url: string, through: typeof fetch = fetch) {
  const client = new Client({ name: 'test', version: '1.0.0' }, { versionNegotiation: { mode: { pin: revision } } })
  const changed = gate()
  client.setNotificationHandler('notifications/tools/list_changed', () => changed.open())
  t.after(() => client.close())
  await within(client.connect(new StreamableHTTPClientTransport(new URL(url), { fetch: through })), 'the connection')
  return { client, changed }
}
