// A small MCP server with the official SDK: one tool, which tells its progress while it works and is announced anew on
// the long-lived stream afterwards.
import { randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import { type Listening, listen } from './listen.ts'

export interface McpBackend extends Listening {
  /** Sessions that have not been ended. */
  readonly sessions: number
  /** Who the app in front says its callers are. */
  readonly users: ReadonlySet<string>
}

export async function startMcpServer(): Promise<McpBackend> {
  const transports = new Map<string, StreamableHTTPServerTransport>()
  const users = new Set<string>()

  const server = createServer(async (req, res) => {
    users.add(String(req.headers['x-user']))
    const known = transports.get(String(req.headers['mcp-session-id']))
    if (known) return await known.handleRequest(req, res)
    if (req.headers['mcp-session-id']) return void res.writeHead(404).end()
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => void transports.set(id, transport),
      onsessionclosed: (id) => void transports.delete(id),
    })
    await countingServer().connect(transport as Parameters<McpServer['connect']>[0])
    await transport.handleRequest(req, res)
  })
  const listening = await listen(server)
  return {
    ...listening,
    users,
    get sessions() {
      return transports.size
    },
  }
}

function countingServer(): McpServer {
  const server = new McpServer({ name: 'counting', version: '1.0.0' })
  server.registerTool('count', { description: 'Counts to three' }, async ({ _meta, sendNotification }) => {
    for (const progress of [1, 2, 3]) {
      if (_meta?.progressToken === undefined) continue
      const params = { progressToken: _meta.progressToken, progress, total: 3 }
      await sendNotification({ method: 'notifications/progress', params })
    }
    server.sendToolListChanged()
    return { content: [{ type: 'text', text: 'one, two, three' }] }
  })
  return server
}
