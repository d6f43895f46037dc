// This package in Express or on a bare server, in the variant that is asked for.

import express from 'express'
import { sseProxy } from 'sse-proxy-middleware'
import { host, redisPort, refuse, serve, tlsPort, upstream, upstreams, variant } from './serve.ts'

// A variant may need options that the built package does not have.
type Options = Record<string, unknown>

const variants: Record<string, Options> = {
  'sse-proxy': {},
  'sse-proxy:no-keepalive': { keepalive: false },
  'sse-proxy:keepalive': { keepalive: 1_000 },
  'sse-proxy:hook': { transform: () => {} },
  'sse-proxy:json': { transform: markSeen },
  // What clients have left would be read to its end otherwise, in the way of the measure that follows.
  'sse-proxy:share': { share: { lingerMs: 0 } },
  'sse-proxy:targets': { target: upstreams, resume: true },
  'sse-proxy:tls': { target: `https://localhost:${tlsPort}`, secure: false },
  'sse-proxy:http2': { target: `https://localhost:${tlsPort}`, secure: false, http2: 'auto' },
  'sse-proxy:bare': {},
  'sse-proxy:http2-server': {},
  'sse-proxy:compression': {},
  'sse-proxy:lines': { from: 'ndjson' },
  'sse-proxy:polls': { from: { format: 'json', everyMs: 1_000 } },
  'sse-proxy:share-bare': { share: { lingerMs: 0 } },
}

function markSeen(event: { data: string }): { data: string } {
  const data: Record<string, unknown> = JSON.parse(event.data)
  data.seen = true
  return { ...event, data: JSON.stringify(data) }
}

/** Clients of several nodes name several hosts, so that the key is the URL. */
async function stored(): Promise<Options> {
  const [{ createClient }, { redisStore }] = await Promise.all([
    import('redis-6'),
    import('sse-proxy-middleware/redis'),
  ])
  const client = createClient({ url: `redis://127.0.0.1:${redisPort}` })
  await client.connect()
  return { share: { key: (req: { url: string }) => req.url, lingerMs: 0, store: redisStore({ client }) } }
}

try {
  const isStored = variant?.startsWith('sse-proxy:store')
  const options = { target: upstream, ...variants[variant ?? 'sse-proxy'], ...(isStored && (await stored())) }
  const proxy = sseProxy(options as Parameters<typeof sseProxy>[0])
  await serve(host || variant?.endsWith('bare') ? proxy : express().use(proxy))
} catch (error) {
  refuse(error instanceof Error ? error.message : String(error))
}
