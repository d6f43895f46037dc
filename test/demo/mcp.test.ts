import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Client as ModernClient, StreamableHTTPClientTransport as ModernTransport } from '@modelcontextprotocol/client'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import { ToolListChangedNotificationSchema } from '@modelcontextprotocol/sdk/types.js'
import { start } from '../../demo/recipes/mcp.ts'
import { gate, within } from '../support/waiting.ts'

const listening = JSON.stringify({
  jsonrpc: '2.0',
  id: 1,
  method: 'subscriptions/listen',
  params: {
    notifications: { toolsListChanged: true },
    _meta: {
      'io.modelcontextprotocol/protocolVersion': '2026-07-28',
      'io.modelcontextprotocol/clientInfo': { name: 'test', version: '1' },
      'io.modelcontextprotocol/clientCapabilities': {},
    },
  },
})

const endpoint = (url: string) => new URL(`${url}/mcp`)

test('the official client calls a tool, hears its progress, listens on the long stream and ends its session', async (t) => {
  const recipe = await start()
  t.after(() => recipe.close())
  const transport = new StreamableHTTPClientTransport(endpoint(recipe.url), {
    requestInit: { headers: { authorization: 'Bearer ada-token' } },
  })
  const client = new Client({ name: 'test', version: '1.0.0' })
  const changed = gate()
  client.setNotificationHandler(ToolListChangedNotificationSchema, () => changed.open())
  t.after(() => client.close())

  await within(client.connect(transport as Transport), 'the session')
  const progress: number[] = []
  const result = await within(
    client.callTool({ name: 'count' }, undefined, { onprogress: (step) => progress.push(step.progress) }),
    'the answer of the tool',
  )
  await within(changed.promise, 'a notification on the stream of the GET')
  assert.equal(recipe.server.sessions, 1)
  await within(transport.terminateSession(), 'the end of the session')

  assert.deepEqual(result.content, [{ type: 'text', text: 'one, two, three' }])
  assert.deepEqual(progress, [1, 2, 3])
  assert.equal(recipe.server.sessions, 0)
  assert.deepEqual([...recipe.server.users], ['ada'])
})

test('a client of the newer revision calls a tool and listens on the same route, and each has its own metrics', async (t) => {
  const recipe = await start()
  t.after(() => recipe.close())
  const versionNegotiation = { mode: { pin: '2026-07-28' } }
  const client = new ModernClient({ name: 'test', version: '1.0.0' }, { versionNegotiation })
  const changed = gate()
  client.setNotificationHandler('notifications/tools/list_changed', () => changed.open())
  t.after(() => client.close())
  const requestInit = { headers: { authorization: 'Bearer ada-token' } }

  await within(client.connect(new ModernTransport(endpoint(recipe.url), { requestInit })), 'the connection')
  await within(client.listen({ toolsListChanged: true }), 'the subscription')
  const progress: number[] = []
  const result = await within(
    client.callTool({ name: 'count' }, { onprogress: (step) => progress.push(step.progress) }),
    'the answer of the tool',
  )
  recipe.server.announce()
  await within(changed.promise, 'a notification on the stream of the subscription')
  const metrics = await (await fetch(`${recipe.url}/metrics`)).text()

  assert.deepEqual(result.content, [{ type: 'text', text: 'one, two, three' }])
  assert.deepEqual(progress, [1, 2, 3])
  assert.equal(recipe.server.sessions, 0)
  assert.match(metrics, /^sse_proxy_streams_active\{proxy="mcp-listen"\} 1$/m)
  assert.match(metrics, /^sse_proxy_streams_opened_total\{proxy="mcp"\} 1$/m)
})

test('a user may listen four times, and still call', async (t) => {
  const recipe = await start()
  t.after(() => recipe.close())
  const stop = new AbortController()
  t.after(() => stop.abort())
  const listen = () =>
    fetch(endpoint(recipe.url), {
      method: 'POST',
      headers: {
        authorization: 'Bearer ada-token',
        accept: 'application/json, text/event-stream',
        'content-type': 'application/json',
        'mcp-protocol-version': '2026-07-28',
        'mcp-method': 'subscriptions/listen',
      },
      body: listening,
      signal: stop.signal,
    })

  // Held to the end: `fetch` gives an answer up that has been collected as garbage.
  const answers: Response[] = []
  for (let i = 0; i < 5; i++) answers.push(await listen())
  const call = await fetch(endpoint(recipe.url), {
    method: 'POST',
    headers: { authorization: 'Bearer ada-token', 'content-type': 'application/json' },
    body: '{}',
  })

  const statuses = answers.map(({ status }) => status)
  assert.deepEqual(statuses, [200, 200, 200, 200, 429])
  assert.equal(call.status, 400)
})

test('a stranger is turned away before the MCP server hears of it', async (t) => {
  const recipe = await start()
  t.after(() => recipe.close())

  const answer = await fetch(endpoint(recipe.url), { method: 'POST', headers: { 'x-user': 'ada' }, body: '{}' })

  assert.equal(answer.status, 401)
  assert.equal(recipe.server.users.size, 0)
})

test('a page of the allowed origin may read the session header', async (t) => {
  const recipe = await start()
  t.after(() => recipe.close())

  const answer = await fetch(endpoint(recipe.url), {
    method: 'POST',
    headers: {
      origin: 'https://app.example',
      authorization: 'Bearer ada-token',
      accept: 'application/json, text/event-stream',
      'content-type': 'application/json',
    },
    body: JSON.stringify({
      jsonrpc: '2.0',
      id: 1,
      method: 'initialize',
      params: { protocolVersion: '2025-06-18', capabilities: {}, clientInfo: { name: 'page', version: '1' } },
    }),
  })
  await answer.text()

  assert.equal(answer.status, 200)
  assert.match(answer.headers.get('content-type') ?? '', /^text\/event-stream/)
  assert.ok(answer.headers.get('mcp-session-id'))
  assert.equal(answer.headers.get('access-control-allow-origin'), 'https://app.example')
  assert.equal(answer.headers.get('access-control-expose-headers'), 'mcp-session-id,www-authenticate')
})
