// A small MCP server that speaks both revisions on one address: 2026-07-28, where every POST stands alone, and 2025-11-25, with
// sessions, a long-lived stream and events that can be asked for again.
import { randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { toNodeHandler, toWebRequest } from '@modelcontextprotocol/node'
import { McpServer as SessionServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import { createMcpHandler, isLegacyRequest, McpServer } from '@modelcontextprotocol/server'
import express from 'express'
import { type Listening, listen } from './listen.ts'

type Options = NonNullable<ConstructorParameters<typeof StreamableHTTPServerTransport>[0]>
type EventStore = NonNullable<Options['eventStore']>
type Message = Parameters<EventStore['storeEvent']>[1]

export interface McpBackend extends Listening {
  /** Sessions that have not been ended. */
  readonly sessions: number
  /** Who the app in front says its callers are. */
  readonly users: ReadonlySet<string>
  /** How many calls of the tool `wait` were cancelled. */
  readonly cancelled: number
  /** Tells all who listen that the tools have changed. */
  announce(): void
}

const counting = { description: 'Counts to three' }
const waiting = { description: 'Waits until it is cancelled' }
const counted = { content: [{ type: 'text' as const, text: 'one, two, three' }] }

export async function startMcpServer(): Promise<McpBackend> {
  const users = new Set<string>()
  const sessions = new Sessions()
  let cancelled = 0

  const modern = createMcpHandler(
    () => {
      const server = new McpServer({ name: 'counting', version: '1.0.0' })
      server.registerTool('count', counting, async ({ mcpReq: { _meta, notify } }) => {
        await tellProgress([1, 2, 3], _meta?.progressToken, notify)
        return counted
      })
      server.registerTool('wait', waiting, async ({ mcpReq: { _meta, notify, signal } }) => {
        await tellProgress([1], _meta?.progressToken, notify)
        await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
        cancelled += 1
        return counted
      })
      return server
    },
    { legacy: 'reject' },
  )
  const handleModern = toNodeHandler(modern)

  const app = express()
  app.use('/mcp', express.json(), async (req, res) => {
    users.add(String(req.headers['x-user']))
    const isSession = req.method !== 'POST' || (await isLegacyRequest(await toWebRequest(req, req.body)))
    await (isSession ? sessions.handle(req, res, req.body) : handleModern(req, res, req.body))
  })
  const listening = await listen(createServer(app))
  return {
    url: listening.url,
    users,
    get sessions() {
      return sessions.count
    },
    get cancelled() {
      return cancelled
    },
    announce: () => modern.notify.toolsChanged(),
    async close() {
      await modern.close()
      await listening.close()
    },
  }
}

/** The sessions of 2025-11-25, each with a server of its own. */
class Sessions {
  readonly #transports = new Map<string, StreamableHTTPServerTransport>()

  get count(): number {
    return this.#transports.size
  }

  async handle(req: IncomingMessage, res: ServerResponse, body: unknown): Promise<void> {
    const known = this.#transports.get(String(req.headers['mcp-session-id']))
    if (known) return await known.handleRequest(req, res, body)
    if (req.headers['mcp-session-id']) return void res.writeHead(404).end()
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      eventStore: eventStore(),
      retryInterval: 10,
      onsessioninitialized: (id) => void this.#transports.set(id, transport),
      onsessionclosed: (id) => void this.#transports.delete(id),
    })
    await sessionServer().connect(transport as Parameters<SessionServer['connect']>[0])
    await transport.handleRequest(req, res, body)
  }
}

function sessionServer(): SessionServer {
  const server = new SessionServer({ name: 'counting', version: '1.0.0' })
  server.registerTool('count', counting, async ({ _meta, sendNotification }) => {
    await tellProgress([1, 2, 3], _meta?.progressToken, sendNotification)
    server.sendToolListChanged()
    return counted
  })
  server.registerTool('pause', { description: 'Lets its client come back for the answer' }, ({ closeSSEStream }) => {
    closeSSEStream?.()
    return counted
  })
  return server
}

interface ProgressNotification {
  method: 'notifications/progress'
  params: { progressToken: string | number; progress: number; total: number }
}

/** Only where the client has asked for it. */
async function tellProgress(
  steps: readonly number[],
  progressToken: string | number | undefined,
  notify: (notification: ProgressNotification) => Promise<void>,
): Promise<void> {
  if (progressToken === undefined) return
  for (const progress of steps) {
    await notify({ method: 'notifications/progress', params: { progressToken, progress, total: 3 } })
  }
}

/** Keeps the events of one session, in memory. */
function eventStore(): EventStore {
  const events: { stream: string; message: Message }[] = []
  return {
    async storeEvent(stream, message) {
      return String(events.push({ stream, message }))
    },
    async replayEventsAfter(lastEventId, { send }) {
      const last = Number(lastEventId)
      const { stream } = events[last - 1] ?? { stream: '' }
      for (const [i, event] of events.entries()) {
        const isMessage = 'jsonrpc' in event.message
        if (i >= last && event.stream === stream && isMessage) await send(String(i + 1), event.message)
      }
      return stream
    },
  }
}
