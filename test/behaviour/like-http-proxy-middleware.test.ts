// What http-proxy-middleware promises its users, asked of both side by side. Where the two differ on purpose, the table says
// what is had here, and why.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Agent, request as httpRequest, METHODS } from 'node:http'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { type TestContext, test } from 'node:test'
import { format } from 'node:util'
import express from 'express'
import { createProxyMiddleware, fixRequestBody, type Options, type Plugin } from 'http-proxy-middleware'
import { sseProxy } from 'sse-proxy-middleware'
import type { RequestOptions } from '../support/client.ts'
import { type Front, type FrontOptions, startFront } from '../support/front.ts'
import { type Exchange, startUpstream, type Upstream, type UpstreamOptions } from '../support/upstream.ts'
import { until, within } from '../support/waiting.ts'

type Proxy = ReturnType<typeof createProxyMiddleware>
type Create = (options: Options) => Proxy

const creators: Record<'theirs' | 'ours', Create> = {
  theirs: (options) => createProxyMiddleware(options),
  ours: (options) => sseProxy(options as Parameters<typeof sseProxy>[0]) as unknown as Proxy,
}

interface Behaviour {
  name: string
  act: (create: Create, t: TestContext) => Promise<unknown>
  expected: unknown
  /** Where it is another one here. */
  ours?: unknown
  because?: string
  skip?: string | false
}

const table: Behaviour[] = [
  {
    name: 'it is a function with an upgrade',
    act: async (create) => {
      const proxy = create({ target: 'http://127.0.0.1:1' })
      return [typeof proxy, typeof proxy.upgrade]
    },
    expected: ['function', 'function'],
  },
  {
    name: 'a path and its query reach the target as they are',
    act: asked({ pathFilter: '/api' }, '/api/b/c/dp?q=1&r=[2,3]'),
    expected: '200 GET /api/b/c/dp?q=1&r=[2,3]',
  },
  {
    name: 'a mount path comes off, and a path of the target on',
    act: asked(({ url }) => ({ target: `${url}/api` }), '/foo/bar', {}, { mount: '/mounted' }),
    expected: '200 GET /api/foo/bar',
  },
  {
    name: 'the query of the mount path itself',
    act: asked(({ url }) => ({ target: `${url}/api` }), '?x=1', {}, { mount: '/mounted' }),
    expected: '200 GET /api/?x=1',
    ours: '200 GET /api?x=1',
    because: 'an event source at /api is asked for without a slash that nobody wrote',
  },
  ...filters('/api', ['/api/b/c/d', '/lorum']),
  ...filters(['/api', '/ajax'], ['/api/b', '/ajax/b', '/lorum']),
  ...filters('/api/**', ['/api/b/c', '/lorum']),
  ...filters(['**/*.html', '!**.json'], ['/api/index.html', '/api/data.json']),
  ...filters((path: string) => path.endsWith('/yes'), ['/a/yes', '/a/no']),
  {
    name: 'a filter that throws lets nobody in',
    act: async (create, t) => {
      const pathFilter = () => {
        throw new Error('MY_ERROR')
      }
      const { upstream, front } = await arranged(create, t, { pathFilter })
      return [(await front.open('/api')).status, upstream.exchanges.length, front.errors.map(String)]
    },
    expected: [404, 0, []],
    ours: [500, 0, ['Error: MY_ERROR']],
    because: "a mistake of the app's goes to its error handling",
  },
  {
    name: 'headers reach the target, Host among them',
    act: asked({ headers: { host: 'foobar.dev', 'x-added': '1' } }, '/', {}, {}, ['host', 'x-added']),
    expected: '200 GET / host=foobar.dev x-added=1',
  },
  {
    name: 'changeOrigin: the Host is that of the target',
    act: async (create, t) => {
      const { front, upstream } = await arranged(create, t, { changeOrigin: true }, {}, ['host'])
      return String(await answerOf(front, '/')).replace(String(upstream.port), 'PORT')
    },
    expected: '200 GET / host=127.0.0.1:PORT',
  },
  {
    name: 'xfwd tells who asked',
    act: asked({ xfwd: true }, '/', { headers: { host: 'app.example' } }, {}, ['x-forwarded-for', 'x-forwarded-host']),
    expected: '200 GET / x-forwarded-for=127.0.0.1 x-forwarded-host=app.example',
  },
  {
    name: 'auth becomes a header',
    act: asked({ auth: 'user:pass' }, '/', {}, {}, ['authorization']),
    expected: '200 GET / authorization=Basic dXNlcjpwYXNz',
  },
  {
    name: 'ignorePath, and prependPath',
    act: async (create, t) => [
      await asked(({ url }) => ({ target: `${url}/api`, ignorePath: true }), '/foo')(create, t),
      await asked(({ url }) => ({ target: `${url}/api`, prependPath: false }), '/foo')(create, t),
    ],
    expected: ['200 GET /api', '200 GET /api/foo'],
    ours: ['200 GET /api', '200 GET /foo'],
    because: 'its 4.2 takes prependPath: false and does not heed it',
  },
  ...(
    [
      ['a table', { '^/api': '/rest', '^/remove': '' }, '/api/foo', '/rest/foo'],
      ['a table that removes', { '^/api': '/rest', '^/remove': '' }, '/remove/api/lipsum', '/api/lipsum'],
      ['a function', (path: string) => path.replace('/foobar', ''), '/foobar/api', '/api'],
      ['an async function', async (path: string) => path.replace('/foobar', ''), '/foobar/api', '/api'],
      ['a function that returns nothing', () => undefined, '/api', '/api'],
    ] as const
  ).map(([name, pathRewrite, path, expected]) => ({
    name: `pathRewrite: ${name}`,
    act: asked({ pathRewrite }, path),
    expected: `200 GET ${expected}`,
  })),
  {
    name: 'pathRewrite gets the response, and the options with the target as it was written',
    act: async (create, t) => {
      const got: unknown[] = []
      const { upstream, front } = await arranged(create, t, ({ url }) => ({
        target: url,
        pathRewrite: (path, req, res, options) => {
          got.push(path, req.url, typeof res?.end, options?.target)
          return path
        },
      }))
      await answerOf(front, '/api')
      return got.map((each) => (each === upstream.url ? 'as written' : each))
    },
    expected: ['/api', '/api', 'function', 'as written'],
  },
  {
    name: 'on.proxyReq and on.proxyRes change headers',
    act: async (create, t) => {
      const { front } = await arranged(
        create,
        t,
        {
          on: {
            proxyReq: (proxyReq) => proxyReq.setHeader('x-added', 'yes'),
            proxyRes: (proxyRes) => {
              proxyRes.headers['x-back'] = 'foobar'
              delete proxyRes.headers['x-removed']
            },
          },
        },
        {},
        ['x-added'],
      )
      const client = await front.open('/')
      return [await client.whole(), client.headers['x-back'], client.headers['x-removed']]
    },
    expected: ['GET / x-added=yes', 'foobar', undefined],
  },
  {
    name: 'header changes are safe where an agent has one socket for twenty requests',
    act: async (create, t) => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 })
      t.after(() => agent.destroy())
      const on = {
        proxyReq: (proxyReq: { setHeader(name: string, value: string): void }) => proxyReq.setHeader('x-added', 'yes'),
      }
      const { front } = await arranged(create, t, { agent, on }, {}, ['x-added'])
      const all = await Promise.all(Array.from({ length: 20 }, () => answerOf(front, '/')))
      return [...new Set(all)]
    },
    expected: ['200 GET / x-added=yes'],
  },
  {
    name: 'on.error answers in its own way',
    act: async (create, t) => {
      const { front } = await arranged(create, t, {
        target: 'http://127.0.0.1:1',
        on: { error: (_error, _req, res) => void ('writeHead' in res && res.writeHead(418).end("I'm a teapot")) },
      })
      return answerOf(front, '/')
    },
    expected: "418 I'm a teapot",
  },
  {
    name: 'a target that is not there',
    act: async (create, t) => {
      const { front } = await arranged(create, t, { target: 'http://127.0.0.1:1' })
      return (await front.open('/')).status
    },
    expected: 504,
    ours: 502,
    because: 'RFC 9110: 504 is for an upstream that is late; one that refuses or resets is a bad gateway',
  },
  {
    name: 'a target that resets',
    act: async (create, t) => {
      const handler = ({ res }: Exchange) => res.socket?.resetAndDestroy()
      const { front } = await arranged(create, t, {}, {}, [], { handler })
      return (await front.open('/')).status
    },
    expected: 504,
    ours: 502,
    because: 'the same',
  },
  {
    name: 'a plugin hears what the proxy does',
    act: async (create, t) => {
      const heard: unknown[] = []
      const plugin: Plugin = (proxy) => {
        proxy.on('proxyReq', (_proxyReq, req) => heard.push(req.url))
        proxy.on('proxyRes', ({ statusCode }) => heard.push(statusCode))
      }
      await asked({ plugins: [plugin] }, '/users/1')(create, t)
      return heard
    },
    expected: ['/users/1', 200],
  },
  ...(
    [
      ['a string', (url: string) => () => url],
      ['an object', (url: string) => () => partsOf(url)],
      ['a promise', (url: string) => async () => url],
    ] as const
  ).map(([name, router]) => ({
    name: `router: ${name}`,
    act: asked(({ url }) => ({ target: 'http://127.0.0.1:1', router: router(url) }), '/api'),
    expected: '200 GET /api',
  })),
  {
    name: "router: a rejection goes to the app's error handling",
    act: async (create, t) => {
      const router = async () => {
        throw new Error('An error thrown in the router')
      }
      const { front } = await arranged(create, t, { router })
      return [(await front.open('/')).status, front.errors.map(String)]
    },
    expected: [500, ['Error: An error thrown in the router']],
  },
  {
    name: "router: nothing, without a target, is told to the app's error handling",
    act: async (create, t) => {
      const { front } = await arranged(create, t, { target: '', router: () => undefined as never })
      return [(await front.open('/')).status, front.errors.length]
    },
    expected: [500, 1],
  },
  {
    name: 'router: the options are its own to change for this request',
    act: async (create, t) => {
      const { front } = await arranged(
        create,
        t,
        ({ url }) => ({
          target: 'http://127.0.0.1:1',
          router: (req, _res, options) => {
            options.headers = { 'x-path': String(req.url) }
            return url
          },
        }),
        {},
        ['x-path'],
      )
      return [await answerOf(front, '/a'), await answerOf(front, '/b')]
    },
    expected: ['200 GET /a x-path=/a', '200 GET /b x-path=/b'],
  },
  {
    name: 'router: a table of hosts and paths, exactly',
    act: async (create, t) => {
      const others = await Promise.all(
        [0, 1, 2].map(() => startUpstream({ handler: ({ res }) => void res.end(`${res.socket?.localPort}`) })),
      )
      t.after(() => Promise.all(others.map((each) => each.close())))
      const [a, b, c] = others as [Upstream, Upstream, Upstream]
      const { front } = await arranged(create, t, {
        target: a.url,
        router: { 'beta.localhost:6000': b.url, 'localhost:6000/api': c.url },
      })
      const names = new Map(others.map(({ port }, i) => [`200 ${port}`, 'abc'[i]]))
      const hosts = ['x', 'beta.localhost:6000', 'evilbeta.localhost:6000', 'localhost:6000', 'evillocalhost:6000']
      const answers: unknown[] = []
      for (const host of hosts) answers.push(names.get(await answerOf(front, '/api', { headers: { host } })))
      return answers.join('')
    },
    expected: 'abaca',
  },
  {
    name: 'logger: a line for each answer, with the port',
    act: async (create, t) => {
      const { logger, lines } = memory()
      const { upstream, front } = await arranged(create, t, { logger })
      await answerOf(front, '/api/foo/bar')
      return lines.map((line) => line.replace(upstream.url, 'TARGET'))
    },
    expected: ['[HPM] GET /api/foo/bar -> TARGET/api/foo/bar [200]'],
  },
  {
    name: 'logger: a line for a target that cannot be reached',
    act: async (create, t) => {
      const { logger, lines } = memory()
      const { front } = await arranged(create, t, { target: 'http://127.0.0.1:1', logger })
      for (let times = 0; times < 2; times++) await front.open('/')
      return [lines.length, lines.every((line) => line.includes('ECONNREFUSED') && line.includes('127.0.0.1:1'))]
    },
    expected: [2, true],
    ours: [1, true],
    because: 'one that is down fails every request: the first failure is told, then each minute at most',
  },
  ...(
    [
      ['a form', express.urlencoded({ extended: false }), 'application/x-www-form-urlencoded', 'foo=bar&bar=baz'],
      ['JSON', express.json(), 'application/json', '{"foo":"bar","doubleByte":"文"}'],
    ] as const
  ).map(([name, parser, type, body]) => ({
    name: `a body that was parsed before: ${name}, with fixRequestBody`,
    act: asked(
      { on: { proxyReq: fixRequestBody } },
      '/api',
      { method: 'POST', headers: { 'content-type': type }, body },
      { before: [parser] },
    ),
    expected: `200 POST /api ${body}`,
  })),
  {
    name: 'a form that smuggles a part into a multipart body is refused, and the logger has the reason',
    act: async (create, t) => {
      const { logger, lines } = memory()
      const { upstream, front } = await arranged(
        create,
        t,
        {
          logger,
          on: {
            proxyReq: (proxyReq, req) => {
              proxyReq.setHeader('Content-Type', 'multipart/form-data; boundary=BB')
              fixRequestBody(proxyReq, req)
            },
          },
        },
        { before: [express.urlencoded({ extended: false })] },
      )
      const body = `user=${encodeURIComponent('alice\r\n--BB\r\nContent-Disposition: form-data; name="role"\r\n\r\nadmin\r\n--BB--')}`
      const headers = { 'content-type': 'application/x-www-form-urlencoded' }
      const client = await front.open('/', { method: 'POST', headers, body })
      await client.whole()
      return [client.status, upstream.exchanges.length, lines.join().includes('HPM_ERR_INVALID_MULTIPART_FIELD_VALUE')]
    },
    expected: [400, 0, true],
  },
  {
    name: 'a body that was parsed before, without fixRequestBody, has come by the time another request has been answered',
    act: async (create, t) => {
      const { upstream, front } = await arranged(create, t, {}, { before: [express.json()] }, [], {})
      front.request('/first', { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"a":1}' })
      const { req } = await upstream.next()
      req.resume()
      const second = front.request('/second')
      ;(await upstream.next()).answer(200)
      await second.whole()
      return req.complete
    },
    expected: false,
    ours: true,
    because: 'what a parser has read is sent again, where it would wait for ever',
  },
  {
    name: 'QUERY is a method like another',
    act: asked({}, '/search?q=a+b', { method: 'QUERY', headers: { 'content-type': 'text/plain' }, body: 'term' }),
    expected: '200 QUERY /search?q=a+b term',
    skip: !METHODS.includes('QUERY') && 'this Node does not know the method',
  },
  {
    name: 'a target with a literal IPv6 address',
    act: async (create, t) => {
      const { createServer } = await import('node:http')
      const server = createServer(({ url }, res) => res.end(url))
      server.listen(0, '::1')
      await once(server, 'listening')
      t.after(() => server.close())
      const port = Reflect.get(Object(server.address()), 'port')
      const { front } = await arranged(create, t, { target: `http://[::1]:${port}/base` })
      return answerOf(front, '/api?foo=bar')
    },
    expected: '200 /base/api?foo=bar',
    skip: !(await hasIpv6()) && 'this machine has no IPv6',
  },
  {
    name: 'a target on a unix socket',
    act: async (create, t) => {
      const socketPath = join(tmpdir(), `like-${process.pid}-${Math.random().toString(36).slice(2)}.sock`)
      const upstream = await startUpstream({ socketPath, handler: ({ url, res }) => void res.end(url) })
      t.after(() => upstream.close())
      const { front } = await arranged(create, t, { target: { socketPath } as never })
      return answerOf(front, '/hello')
    },
    expected: '200 /hello',
    skip: process.platform === 'win32' && 'no unix sockets',
  },
  {
    name: 'its server hears of the end of the last server it worked for',
    act: async (create, t) => {
      let closed = 0
      const plugin: Plugin = (proxy) => {
        proxy.close = () => void closed++
      }
      const { front } = await arranged(create, t, { plugins: [plugin] })
      for (let times = 0; times < 3; times++) await answerOf(front, '/')
      await front.close()
      return closed
    },
    expected: 1,
    ours: 0,
    because: 'connections to upstreams are ended by close(), which drains',
  },
  {
    name: 'await goes on when the exchange is over',
    act: async (create, t) => {
      const { proxy, upstream } = await arranged(create, t, {}, {}, [], { handler: () => {} })
      let isOver = false
      const front = await startFront('http', async (req, res, next) => {
        await proxy(req, res, next)
        isOver = true
      })
      t.after(() => front.close())
      const client = front.request()
      const { res } = await upstream.next()
      res.write('x')
      await client.waitFor('x')
      const before = isOver
      res.end()
      await client.whole()
      await until(() => isOver, 'the promise')
      return before
    },
    expected: false,
  },
  {
    name: 'without a server behind the socket nothing fails',
    act: async (create) => {
      const { IncomingMessage, ServerResponse } = await import('node:http')
      const passed: string[] = []
      for (const socket of [{}, { server: null }]) {
        const req = new IncomingMessage(socket as Socket)
        req.url = '/other'
        const proxy = create({ target: 'http://127.0.0.1:1', ws: true, pathFilter: '/api' })
        await proxy(req, new ServerResponse(req), () => passed.push('next'))
      }
      return passed
    },
    expected: ['next', 'next'],
  },
  ...(['ws: true', 'server.on'] as const).map((wiring) => ({
    name: `${wiring}: a WebSocket reaches the target, rewritten, and one that the filter leaves out does not`,
    act: async (create: Create, t: TestContext) => {
      const { proxy, upstream, front } = await arranged(create, t, {
        ws: wiring === 'ws: true',
        pathRewrite: { '^/socket': '' },
        pathFilter: '/socket',
      })
      const urls: unknown[] = []
      upstream.server.on('upgrade', ({ url }: { url?: string }, socket: Duplex) => {
        urls.push(url)
        socket.end('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n')
      })
      const left = new Promise((resolve) =>
        front.server.on('upgrade', (req: { url?: string }, socket: Duplex) => {
          if (!req.url?.startsWith('/other')) return
          socket.destroy()
          resolve('left alone')
        }),
      )
      if (wiring === 'server.on') front.server.on('upgrade', proxy.upgrade)
      await answerOf(front, '/socket')
      await upgrade(front, '/socket/chat')
      await upgrade(front, '/other').catch(() => {})
      return [urls, await within(left, 'the other listener')]
    },
    expected: [['/chat'], 'left alone'],
  })),
  {
    name: "a WebSocket whose target is not there is told to the app's on.error",
    act: async (create, t) => {
      const told: unknown[] = []
      const { proxy, front } = await arranged(create, t, {
        target: 'http://127.0.0.1:1',
        on: {
          error: (error, req, socket) => {
            told.push(Reflect.get(error, 'code'), req.url)
            if ('destroy' in socket) socket.destroy()
          },
        },
      })
      front.server.on('upgrade', proxy.upgrade)
      await upgrade(front, '/socket').catch(() => {})
      return told
    },
    expected: ['ECONNREFUSED', '/socket'],
  },
  ...(['selfHandleResponse', 'proxyTimeout', 'timeout', 'buffer'] as const).map((name) => ({
    name: `the option ${name}`,
    act: (create: Create) => created(create, { target: 'http://a', [name]: name === 'selfHandleResponse' ? true : 1 }),
    expected: 'taken',
    ours: 'refused',
    because: 'it has another name here, which the error tells',
  })),
  {
    name: "a target with a WebSocket's scheme",
    act: (create) => created(create, { target: 'ws://a' }),
    expected: 'taken',
    ours: 'refused',
    because: 'http: serves events and WebSockets',
  },
  {
    name: 'dot segments that lead out of the path of the target',
    act: async (create, t) => {
      const { front } = await arranged(create, t, ({ url }) => ({ target: `${url}/base` }))
      const req = httpRequest({ port: front.port, path: '/../admin' })
      req.end()
      const [answer] = await within(once(req, 'response'), 'an answer')
      answer.resume()
      return answer.statusCode
    },
    expected: 200,
    ours: 400,
    because: "the target's path is a boundary",
  },
]

for (const { name, act, expected, ours, because, skip = false } of table) {
  test(`theirs: ${name}`, { skip }, async (t) => assert.deepEqual(await act(creators.theirs, t), expected))

  const here = because === undefined ? expected : ours
  test(`ours: ${name}${because === undefined ? '' : `: differs, since ${because}`}`, { skip }, async (t) => {
    assert.deepEqual(await act(creators.ours, t), here)
  })
}

type OptionsFor = Partial<Options> | ((upstream: Upstream) => Partial<Options>)

interface Arranged {
  proxy: Proxy
  upstream: Upstream
  front: Front
}

/** An upstream that tells what it got, and a proxy before it in an Express app. */
async function arranged(
  create: Create,
  t: TestContext,
  options: OptionsFor,
  mounting: FrontOptions = {},
  headers: readonly string[] = [],
  upstreamOptions: UpstreamOptions = { handler: (exchange) => void tellBack(exchange, headers).catch(() => {}) },
): Promise<Arranged> {
  const upstream = await startUpstream(upstreamOptions)
  const given = typeof options === 'function' ? options(upstream) : options
  const { target = upstream.url, ...rest } = given
  const proxy = create(target === '' ? rest : { target, ...rest })
  const front = await startFront('express5', proxy, { mount: '', ...mounting })
  t.after(async () => {
    await front.close()
    await upstream.close()
  })
  return { proxy, upstream, front }
}

async function tellBack(exchange: Exchange, names: readonly string[]): Promise<void> {
  const { method, url, headers } = exchange
  const told = [method, url, ...names.map((name) => `${name}=${headers[name]}`), String(await exchange.body())]
  exchange.answer(200, { 'x-removed': '1' }, told.filter(Boolean).join(' '))
}

function asked(
  options: OptionsFor,
  path: string,
  request: RequestOptions = {},
  mounting: FrontOptions = {},
  headers: readonly string[] = [],
): Behaviour['act'] {
  return async (create, t) => answerOf((await arranged(create, t, options, mounting, headers)).front, path, request)
}

/** Status and body; of an answer that the app gave, the status alone. */
async function answerOf(front: Front, path: string, options: RequestOptions = {}): Promise<string> {
  const client = await front.open(path, options)
  const body = await client.whole()
  return client.status === 404 ? '404' : `${client.status} ${body}`
}

function filters(pathFilter: NonNullable<Options['pathFilter']>, paths: string[]): Behaviour[] {
  return paths.map((path) => ({
    name: `pathFilter ${typeof pathFilter === 'function' ? 'function' : JSON.stringify(pathFilter)}: ${path}`,
    act: asked({ pathFilter }, path),
    expected: path.includes('lorum') || path.endsWith('no') || path.endsWith('json') ? '404' : `200 GET ${path}`,
  }))
}

function partsOf(url: string): { host: string; port: string; protocol: string } {
  const { hostname, port, protocol } = new URL(url)
  return { host: hostname, port, protocol }
}

function memory() {
  const lines: string[] = []
  const log = (message: string, ...rest: unknown[]) => void lines.push(format(message, ...rest))
  return { lines, logger: { info: log, warn: log, error: log } }
}

async function created(create: Create, options: object): Promise<string> {
  try {
    create(options)
    return 'taken'
  } catch {
    return 'refused'
  }
}

async function upgrade(front: Front, path: string): Promise<void> {
  const headers = {
    connection: 'Upgrade',
    upgrade: 'websocket',
    'sec-websocket-version': '13',
    'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
  }
  const req = httpRequest(`${front.origin}${path}`, { headers })
  req.end()
  const [, socket] = (await within(once(req, 'upgrade'), 'the upgrade')) as [unknown, Socket]
  socket.destroy()
}

async function hasIpv6(): Promise<boolean> {
  const { createServer } = await import('node:net')
  const server = createServer()
  return new Promise((resolve) => {
    server.once('error', () => resolve(false))
    server.listen(0, '::1', () => server.close(() => resolve(true)))
  })
}
