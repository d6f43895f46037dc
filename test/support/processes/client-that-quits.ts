// An app that has ended by its own account: its client of Redis is closed, and nobody has thought of the proxy.
import { createClient } from 'redis-6'
import { sseProxy } from 'sse-proxy-middleware'
import { redisStore } from 'sse-proxy-middleware/redis'
import { answer, setup } from './child.ts'

const { redisPort } = setup<{ redisPort: number }>()
const client = await createClient({ url: `redis://127.0.0.1:${redisPort}` })
  .on('error', () => {})
  .connect()
const proxy = sseProxy({ target: 'http://127.0.0.1:1', share: { store: redisStore({ client, leaseMs: 300 }) } })
while (!proxy.stats().shared.store?.isUp) await new Promise((resolve) => setTimeout(resolve, 5))

answer({
  quit: async () => {
    await client.quit()
    setImmediate(() => process.disconnect())
  },
})
