// Whatever http-proxy-middleware does with a response that is no event stream, this package does, too: the two stand
// side by side before the same upstream and are compared.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { createProxyMiddleware, type Options } from 'http-proxy-middleware'
import { sseProxy } from 'sse-proxy-middleware'
import type { Client, Headers, RequestOptions } from '../support/client.ts'
import { type Front, hosts, hostsByProtocol, startFront } from '../support/front.ts'
import type { SseProxyOptions } from '../support/proxied.ts'
import { type Exchange, startUpstream, type Upstream } from '../support/upstream.ts'

interface Scenario {
  name: string
  options?: (upstream: Upstream) => Options
  path?: string
  request?: RequestOptions
  answer?: (exchange: Exchange) => void
}

const ok = (exchange: Exchange): void => exchange.answer(200, { 'content-type': 'text/plain' }, 'hello')

const scenarios: Scenario[] = [
  {
    name: 'a JSON answer with validators and caching',
    answer: (exchange) =>
      exchange.answer(
        200,
        { 'content-type': 'application/json', etag: '"1"', 'last-modified': 'x', 'cache-control': 'max-age=60' },
        '{"a":1}',
      ),
  },
  { name: 'an answer without a type', answer: (exchange) => exchange.answer(200, {}, 'plain') },
  { name: 'an empty answer', answer: (exchange) => exchange.answer(200) },
  { name: 'no content', answer: (exchange) => exchange.answer(204) },
  { name: 'not modified', answer: (exchange) => exchange.answer(304, { etag: '"1"' }) },
  { name: 'an error page', answer: (exchange) => exchange.answer(500, { 'content-type': 'text/html' }, '<h1>no</h1>') },
  {
    name: 'a status text of its own',
    answer: (exchange) => {
      exchange.res.writeHead(200, 'Fine And Dandy')
      exchange.res.end('x')
    },
  },
  {
    name: 'a compressed answer',
    request: { headers: { 'accept-encoding': 'gzip' } },
    answer: (exchange) => exchange.answer(200, { 'content-encoding': 'gzip' }, gzipSync('compressed')),
  },
  {
    name: 'a range',
    request: { headers: { range: 'bytes=0-1' } },
    answer: (exchange) => exchange.answer(206, { 'content-range': 'bytes 0-1/9', 'accept-ranges': 'bytes' }, 'ab'),
  },
  {
    name: 'HEAD with a length',
    request: { method: 'HEAD' },
    answer: (exchange) => exchange.answer(200, { 'content-length': '1234', 'content-type': 'image/png' }),
  },
  {
    name: 'several cookies',
    answer: (exchange) => exchange.answer(200, { 'set-cookie': ['a=1; Path=/; HttpOnly', 'b=2; Secure'] }, 'x'),
  },
  {
    name: 'cookies with their domain and path rewritten',
    options: () => ({ cookieDomainRewrite: 'front.example', cookiePathRewrite: { '/in': '/out' } }),
    answer: (exchange) =>
      exchange.answer(200, { 'set-cookie': ['a=1; Domain=back.example; Path=/in', 'b=2; domain=x; path=/y'] }, 'x'),
  },
  {
    name: 'a redirect',
    answer: (exchange) => exchange.answer(302, { location: '/elsewhere' }, 'moved'),
  },
  {
    name: 'a redirect to the upstream with autoRewrite',
    options: () => ({ autoRewrite: true, changeOrigin: true }),
    answer: (exchange) => exchange.answer(301, { location: `http://${exchange.headers.host}/new?x=1` }),
  },
  {
    name: 'a redirect with hostRewrite and protocolRewrite',
    options: () => ({ hostRewrite: 'front.example:99', protocolRewrite: 'https', changeOrigin: true }),
    answer: (exchange) => exchange.answer(307, { location: `http://${exchange.headers.host}/new` }),
  },
  { name: 'a path and a query', path: '/a/b%20c/?x=1&y=%2F', answer: echo },
  { name: 'a query alone', path: '/?only=query', answer: echo },
  {
    name: 'pathRewrite with patterns',
    options: () => ({ pathRewrite: { '^/old': '/new' } }),
    path: '/old/x?q',
    answer: echo,
  },
  {
    name: 'pathRewrite with a function',
    options: () => ({ pathRewrite: (path) => path.replace('/a', '/b') }),
    path: '/a?q=1',
    answer: echo,
  },
  {
    name: 'pathRewrite with a promise',
    options: () => ({ pathRewrite: async (path) => `/async${path}` }),
    path: '/a?q=1',
    answer: echo,
  },
  {
    name: 'a router table',
    options: (upstream) => ({ target: 'http://127.0.0.1:1', router: { '/routed': upstream.url } }),
    path: '/routed/x',
    answer: echo,
  },
  {
    name: 'a router function',
    options: (upstream) => ({ target: 'http://127.0.0.1:1', router: () => upstream.url }),
    path: '/x',
    answer: echo,
  },
  {
    name: 'a router with a promise of an object',
    options: (upstream) => ({
      target: 'http://127.0.0.1:1',
      router: async () => ({ protocol: 'http:', host: '127.0.0.1', port: upstream.port }),
    }),
    path: '/x',
    answer: echo,
  },
  { name: 'a pathFilter that lets through', options: () => ({ pathFilter: '/in' }), path: '/in/x', answer: echo },
  { name: 'a pathFilter that does not', options: () => ({ pathFilter: '/in' }), path: '/out', answer: echo },
  {
    name: 'a pathFilter function',
    options: () => ({ pathFilter: (path) => path.startsWith('/x') }),
    path: '/xy',
    answer: echo,
  },
  {
    name: 'a router that throws',
    options: () => ({
      router: () => {
        throw new Error('on purpose')
      },
    }),
  },
  { name: 'a router that rejects', options: () => ({ router: () => Promise.reject(new Error('on purpose')) }) },
  {
    name: 'a pathRewrite that rejects',
    options: () => ({ pathRewrite: () => Promise.reject(new Error('on purpose')) }),
  },
  {
    name: 'ignorePath',
    options: (upstream) => ({ target: `${upstream.url}/fixed`, ignorePath: true }),
    path: '/x',
    answer: echo,
  },
  { name: 'changeOrigin', options: () => ({ changeOrigin: true }), answer: echoHeaders('host') },
  {
    name: 'headers of the options',
    options: () => ({ headers: { 'x-added': 'yes' } }),
    answer: echoHeaders('x-added'),
  },
  { name: 'auth of the options', options: () => ({ auth: 'user:pass' }), answer: echoHeaders('authorization') },
  { name: 'another method', options: () => ({ method: 'PUT' }) as Options, answer: echo },
  {
    name: 'a proxyReq handler that sets a header',
    options: () => ({ on: { proxyReq: (proxyReq) => proxyReq.setHeader('x-set', 'by the handler') } }),
    answer: echoHeaders('x-set'),
  },
  {
    name: 'a proxyRes handler that changes headers',
    options: () => ({
      on: {
        proxyRes: (proxyRes, _req, res) => {
          proxyRes.headers['x-added'] = 'later'
          delete proxyRes.headers['x-removed']
          res.setHeader('x-on-res', 'set')
        },
      },
    }),
    answer: (exchange) => exchange.answer(200, { 'x-removed': 'gone', 'x-kept': 'kept' }, 'x'),
  },
  {
    name: 'a plugin',
    options: () => ({
      plugins: [
        (server) => {
          server.on('proxyRes', (proxyRes) => {
            proxyRes.headers['x-plugin'] = 'was here'
          })
        },
      ],
    }),
    answer: ok,
  },
  {
    name: 'a POST with a body',
    request: { method: 'POST', headers: { 'content-type': 'text/plain' }, body: 'ping' },
    answer: (exchange) => void exchange.body().then((body) => exchange.answer(200, {}, `pong ${body}`)),
  },
  { name: 'a large answer', answer: (exchange) => exchange.answer(200, {}, 'x'.repeat(3_000_000)) },
  {
    name: 'an answer in chunks',
    answer: (exchange) => {
      exchange.res.writeHead(200)
      exchange.res.write('one ')
      exchange.res.end('two')
    },
  },
]

for (const host of hosts) {
  for (const scenario of scenarios) {
    test(`${scenario.name} (${host})`, async (t) => {
      const { name, path = '', request = {} } = scenario
      const { ours, theirs } = await sideBySide(t, host, scenario)

      const [got, expected] = await Promise.all([ours.open(path, request), theirs.open(path, request)])
      await Promise.all([got.ended(), expected.ended()])

      assert.deepEqual(summary(got, ours), summary(expected, theirs), name)
      assert.equal(got.ending, 'clean')
    })
  }
}

for (const host of hostsByProtocol) {
  test(`the same handlers are called in the same order, with the real request and response (${host})`, async (t) => {
    const calls: Record<string, string[]> = { ours: [], theirs: [] }
    const log = (whose: string): Options['on'] => {
      const note = (name: string, req: unknown, res: unknown): void => {
        calls[whose]?.push(`${name} ${(req as { mark?: string }).mark} ${(res as { mark?: string }).mark}`)
      }
      return {
        start: (req, res) => note('start', req, res),
        proxyReq: (_proxyReq, req, res) => note('proxyReq', req, res),
        proxyRes: (_proxyRes, req, res) => note('proxyRes', req, res),
        end: (req, res) => note('end', req, res),
      }
    }
    const before = (
      req: IncomingMessage & { mark?: string },
      res: ServerResponse & { mark?: string },
      next: () => void,
    ) => {
      req.mark = 'real request'
      res.mark = 'real response'
      next()
    }
    const upstream = await startUpstream({ handler: ok })
    const ours = await startFront(host, sseProxy({ target: upstream.url, on: log('ours') } as SseProxyOptions), {
      before: [before],
    })
    const theirs = await startFront(host, createProxyMiddleware({ target: upstream.url, on: log('theirs') as never }), {
      before: [before],
    })
    t.after(() => closeAll(ours, theirs, upstream))

    await (await ours.open()).ended()
    await (await theirs.open()).ended()

    assert.deepEqual(calls.ours, calls.theirs)
    assert.ok((calls.theirs?.length ?? 0) >= 3)
  })
}

for (const host of hostsByProtocol) {
  test(`a redirect is followed when followRedirects asks for it (${host})`, async (t) => {
    const handler = (exchange: Exchange): void => {
      if (exchange.url === '/final') exchange.answer(200, {}, 'here')
      else exchange.answer(302, { location: '/final' })
    }
    const upstream = await startUpstream({ handler })
    const front = await startFront(host, sseProxy({ target: upstream.url, followRedirects: true }))
    t.after(() => closeAll(front, upstream))

    const client = await front.open()

    assert.equal(client.status, 200)
    assert.equal(await client.whole(), 'here')
  })

  test(`a redirect is followed to an event stream (${host})`, async (t) => {
    const handler = (exchange: Exchange): void => {
      if (exchange.url === '/final') exchange.stream().write('data: here\n\n')
      else exchange.answer(307, { location: '/final' })
    }
    const upstream = await startUpstream({ handler })
    const front = await startFront(host, sseProxy({ target: upstream.url, followRedirects: true }))
    t.after(() => closeAll(front, upstream))

    const client = await front.open()
    await client.waitFor('data: here\n\n')
    client.close()

    const final = upstream.exchanges.find(({ url }) => url === '/final')
    await final?.leftByPeer()
  })

  for (const location of ['http://[', 'http://a:99999/']) {
    for (const options of [{ followRedirects: true }, { autoRewrite: true }]) {
      const [option] = Object.keys(options)
      test(`with ${option}, a redirect to ${location}, which is no address, is a bad answer and not the end of the process (${host})`, async (t) => {
        const upstream = await startUpstream({ handler: (exchange) => exchange.answer(302, { location }) })
        const front = await startFront(host, sseProxy({ target: upstream.url, ...options }))
        t.after(() => closeAll(front, upstream))

        const client = await front.open()

        assert.equal(client.status, 502)
        assert.match(await client.whole(), /ERR_SSE_PROXY_BAD_ANSWER/)
      })
    }
  }

  test(`a redirect is followed where the target is a host and a port (${host})`, async (t) => {
    const handler = (exchange: Exchange): void => {
      if (exchange.url === '/final') exchange.answer(200, {}, 'here')
      else exchange.answer(302, { location: '/final' })
    }
    const upstream = await startUpstream({ handler })
    const { hostname, port } = new URL(upstream.url)
    const front = await startFront(host, sseProxy({ target: { host: hostname, port }, followRedirects: true }))
    t.after(() => closeAll(front, upstream))

    const client = await front.open()

    assert.equal(await client.whole(), 'here')
  })

  test(`a redirect that does not end is let go when it has been followed (${host})`, async (t) => {
    const handler = (exchange: Exchange): void => {
      if (exchange.url === '/final') {
        exchange.stream().write('data: here\n\n')
      } else {
        exchange.res.writeHead(307, { location: '/final' })
        exchange.res.write('to be continued')
      }
    }
    const upstream = await startUpstream({ handler })
    const front = await startFront(host, sseProxy({ target: upstream.url, followRedirects: true }))
    t.after(() => closeAll(front, upstream))

    const client = await front.open()
    await client.waitFor('data: here\n\n')

    await upstream.exchanges.find(({ url }) => url !== '/final')?.leftByPeer()
    client.close()
  })
}

for (const [path, options, expected] of [
  ['', {}, '/base?key=1'],
  ['/x', {}, '/base/x?key=1'],
  ['?a=$&', {}, '/base?key=1&a=$&'],
  ['/x?a=1', {}, '/base/x?key=1&a=1'],
  ['/x', { ignorePath: true }, '/base?key=1'],
  ['/x', { prependPath: false }, '/x'],
] as const) {
  test(`a query of the target reaches an IPv6 address as any other: ${path} ${JSON.stringify(options)}`, async (t) => {
    for (const host of ['127.0.0.1', '[::1]']) {
      const server = createServer(({ url }, res) => res.end(url))
      server.listen(0, host.replace(/[[\]]/g, ''))
      t.after(() => server.close())
      const [error] = await Promise.race([once(server, 'listening'), once(server, 'error')])
      if (error) return t.skip('this machine has no IPv6')
      const port = Reflect.get(Object(server.address()), 'port')
      const front = await startFront('express5', sseProxy({ target: `http://${host}:${port}/base?key=1`, ...options }))
      t.after(() => front.close())

      const client = await front.open(path)

      assert.equal(await client.whole(), expected)
    }
  })
}

test('a response whose socket is a serverless platform’s adapter’s is answered', async (t) => {
  const upstream = await startUpstream({ handler: (exchange) => exchange.answer(200, {}, 'here') })
  t.after(() => upstream.close())
  const req = new IncomingMessage({ remoteAddress: '192.0.2.1' } as Socket)
  Object.assign(req, { method: 'GET', url: '/', headers: { host: 'a' }, complete: true })
  const res = new ServerResponse(req)
  let text = ''
  const ignore = (): void => {}
  const socket = {
    _writableState: {},
    writable: true,
    on: ignore,
    removeListener: ignore,
    destroy: ignore,
    cork: ignore,
    uncork: ignore,
  }
  const write = (bytes: Buffer | string): boolean => {
    text += bytes
    return true
  }
  res.assignSocket({ ...socket, write } as unknown as Socket)

  sseProxy({ target: upstream.url })(req, res)
  await once(res, 'finish')
  res.emit('close')

  assert.match(text, /^HTTP\/1\.1 200 OK\r\n[\s\S]*here/)
})

for (const { name, answer } of [
  {
    name: 'an event stream in another status',
    answer: (exchange: Exchange) => exchange.answer(201, eventStream, 'data: x\n\n'),
  },
  {
    name: 'a type that only begins alike',
    answer: (exchange: Exchange) => exchange.answer(200, { 'content-type': 'text/event-streams' }, 'x'),
  },
]) {
  test(`${name} is an ordinary response`, async (t) => {
    const { ours, theirs } = await sideBySide(t, 'express5', { name, answer })

    const [got, expected] = await Promise.all([ours.open(), theirs.open()])
    await Promise.all([got.ended(), expected.ended()])

    assert.deepEqual(summary(got, ours), summary(expected, theirs))
  })
}

const eventStream = { 'content-type': 'text/event-stream' }

for (const type of [
  'text/event-stream',
  'text/event-stream; charset=utf-8',
  'Text/Event-Stream;charset="utf-8"',
  'TEXT/EVENT-STREAM',
]) {
  test(`${type} is an event stream`, async (t) => {
    const upstream = await startUpstream({
      handler: (exchange) => exchange.answer(200, { 'content-type': type }, 'data: x\n\n'),
    })
    const front = await startFront('express5', sseProxy({ target: upstream.url }))
    t.after(() => closeAll(front, upstream))

    const client = await front.open()

    assert.equal(client.headers['content-type'], type)
    assert.equal(client.headers['x-accel-buffering'], 'no')
  })
}

async function sideBySide(
  t: TestContext,
  host: (typeof hosts)[number],
  scenario: Scenario,
): Promise<{ ours: Front; theirs: Front }> {
  const upstream = await startUpstream({ handler: scenario.answer ?? ok })
  const options = { target: upstream.url, ...scenario.options?.(upstream) }
  const ours = await startFront(host, sseProxy(options as SseProxyOptions))
  const theirs = await startFront(host, createProxyMiddleware({ ...options }))
  t.after(() => closeAll(ours, theirs, upstream))
  return { ours, theirs }
}

async function closeAll(...all: { close(): Promise<void> }[]): Promise<void> {
  for (const one of all) await one.close()
}

function echo(exchange: Exchange): void {
  exchange.answer(200, { 'content-type': 'text/plain' }, `${exchange.method} ${exchange.url}`)
}

function echoHeaders(...names: string[]): (exchange: Exchange) => void {
  return (exchange) => {
    const values = names.map((name) => `${name}: ${exchange.headers[name]}`)
    exchange.answer(200, { 'content-type': 'text/plain' }, values.join('\n'))
  }
}

/** What both must have in common: all but the connection's own headers, the time of day and the host's own address. */
function summary(client: Client, front: Front): { status: number; headers: Headers; body: string } {
  const headers: Headers = {}
  for (const [name, value] of Object.entries(client.headers)) {
    const isOfConnection = ['connection', 'keep-alive', 'transfer-encoding', 'date'].includes(name)
    const isLengthOfNothing = name === 'content-length' && value === '0'
    if (!isOfConnection && !isLengthOfNothing) headers[name] = value
  }
  if (typeof headers.location === 'string') headers.location = headers.location.replace(`${front.port}`, 'port')
  return { status: client.status, headers, body: client.text }
}
