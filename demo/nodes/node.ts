// One node of an app: a process with the same feed on both routes. By way of Redis its proxy knows those of the other nodes.
import { createServer } from 'node:http'
import express from 'express'
import { createProxyMiddleware } from 'http-proxy-middleware'
import { createClient } from 'redis-6'
import { sseProxy } from 'sse-proxy-middleware'
import { redisStore } from 'sse-proxy-middleware/redis'
import { listen } from '../recipes/support/listen.ts'

// A Ctrl-C in the terminal reaches every process; this one ends when the demo does, and not before.
process.on('SIGINT', () => {})
process.once('disconnect', () => process.exit(0))
// It may have ended while the modules were loaded.
if (!process.connected) process.exit(0)

const { REDIS_PORT, TARGETS } = process.env
const [first = '', ...others] = TARGETS?.split(' ') ?? []

const client = createClient({ url: `redis://127.0.0.1:${REDIS_PORT}` })
client.on('error', (error) => console.error(`Redis: ${error.message}`))
await client.connect()

const events = sseProxy({
  target: [first, ...others],
  share: {
    // It is the same for everybody.
    key: () => 'feed',
    lingerMs: 500,
    // So long a node is silent before the others take it for dead. The default is 6 s.
    store: redisStore({ client, leaseMs: 1500 }),
  },
})

const app = express()
app.use('/events', events)
app.use('/plain', createProxyMiddleware({ target: first }))
app.get('/owned', (_req, res) => void res.json(events.stats().shared.store?.owned))

const { url } = await listen(createServer(app))
process.send?.(url)
