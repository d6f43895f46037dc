// The middleware in frameworks that know nothing of Express.
import assert from 'node:assert/strict'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import middie from '@fastify/middie'
import { serve } from '@hono/node-server'
import express from 'express'
import Fastify from 'fastify'
import { Hono } from 'hono'
import Koa from 'koa'
import polka from 'polka'
import { sseProxy } from 'sse-proxy-middleware'
import { request } from '../support/client.ts'
import { checkHost, type Hosting } from '../support/host-checks.ts'
import type { SseProxy } from '../support/proxied.ts'
import { startUpstream } from '../support/upstream.ts'

checkHost('Polka', {
  async start(proxy) {
    const app = polka()
    app.use('/events', express.json(), proxy)
    return await listening(createServer(app.handler))
  },
})

checkHost('Koa', {
  async start(proxy) {
    const app = new Koa()
    app.use(async (ctx, next) => {
      if (!ctx.path.startsWith('/events')) return await next()
      // From here on the response is the proxy's.
      ctx.respond = false
      ctx.req.url = ctx.url.slice('/events'.length) || '/'
      await proxy(ctx.req, ctx.res)
    })
    return await listening(createServer(app.callback()))
  },
})

checkHost('Hono on Node', {
  async start(proxy) {
    const app = new Hono<{ Bindings: { incoming: IncomingMessage; outgoing: ServerResponse } }>()
    const { RESPONSE_ALREADY_SENT } = await import('@hono/node-server/utils/response')
    app.all('/events', async ({ env: { incoming, outgoing } }) => {
      incoming.url = incoming.url?.slice('/events'.length) || '/'
      await proxy(incoming, outgoing)
      return RESPONSE_ALREADY_SENT
    })
    const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }) as Server
    if (!server.listening) await new Promise((resolve) => server.once('listening', resolve))
    return hostingOf(server)
  },
})

checkHost('Fastify with middie', {
  async start(proxy) {
    const app = Fastify({ forceCloseConnections: true })
    await app.register(middie)
    app.use('/events', proxy)
    return await listeningFastify(app, proxy)
  },
})

checkHost('Fastify with a hijacked reply', {
  async start(proxy) {
    const app = Fastify({ forceCloseConnections: true })
    app.all('/events', async (request, reply) => {
      reply.hijack()
      const { raw } = request
      raw.url = raw.url?.slice('/events'.length) || '/'
      // Fastify has parsed it, and keeps it elsewhere.
      await proxy(Object.assign(raw, { body: request.body }), reply.raw)
    })
    return await listeningFastify(app, proxy)
  },
})

test('Koa: a body that is parsed to where the proxy cannot see it is an error that names the cure', async (t) => {
  const upstream = await startUpstream()
  const lines: string[] = []
  const logger = { info() {}, warn() {}, error: (line: string) => void lines.push(line) }
  const proxy = sseProxy({ target: upstream.url, logger })
  const app = new Koa()
  app.use(async (ctx) => {
    // What Koa's body parsers do: the body is in `ctx.request`, an object of Koa's own.
    for await (const _ of ctx.req) {
    }
    ctx.respond = false
    await proxy(ctx.req, ctx.res)
  })
  const hosting = await listening(createServer(app.callback()))
  t.after(async () => {
    await hosting.close()
    await upstream.close()
  })

  const post = { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"a":1}' }
  const client = request(hosting.origin, post)
  const again = request(hosting.origin, post)

  assert.equal(JSON.parse(await client.whole()).error.code, 'ERR_SSE_PROXY_BODY_CONSUMED')
  assert.equal(await again.ended(), 'clean')
  const cures = lines.filter((line) => line.includes('ctx.req.body = ctx.request.body'))
  assert.equal(cures.length, 1, lines.join('\n'))
})

for (const [name, given] of Object.entries({
  'the name of a signal': ['SIGTERM', 15],
  'a callback': [() => {}],
  'the framework itself': [Fastify()],
})) {
  test(`close as a hook may be handed ${name}, and resolves to nothing that passes for an error`, async () => {
    const { close } = sseProxy({ target: 'http://127.0.0.1:1' })

    const result = await Reflect.apply(close, {}, given)

    assert.equal(result, undefined)
  })
}

test('close by itself resolves to what became of the streams, and refuses options that are wrong', async () => {
  const proxy = sseProxy({ target: 'http://127.0.0.1:1' })
  const { close } = proxy

  assert.deepEqual(await close({ withinMs: 0 }), { drained: 0, aborted: 0, other: 0 })
  assert.deepEqual(await proxy.close(), { drained: 0, aborted: 0, other: 0 })
  await assert.rejects(Reflect.apply(close, proxy, [{ withinMS: 1 }]), /did you mean withinMs/)
})

async function listeningFastify(app: ReturnType<typeof Fastify>, proxy: SseProxy): Promise<Hosting> {
  app.addHook('preClose', proxy.close)
  return { origin: await app.listen({ port: 0, host: '127.0.0.1' }), close: () => app.close() }
}

async function listening(server: Server): Promise<Hosting> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return hostingOf(server)
}

function hostingOf(server: Server): Hosting {
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      if (!server.listening) return
      const closed = new Promise((resolve) => server.close(resolve))
      server.closeIdleConnections()
      await closed
    },
  }
}
