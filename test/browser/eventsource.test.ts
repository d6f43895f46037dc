// What a real browser makes of the streams: its EventSource over HTTP/1.1 and HTTP/2, across origins, and fetch.
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { createSecureServer, type ServerHttp2Session } from 'node:http2'
import type { AddressInfo, Server, Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import cors from 'cors'
import express from 'express'
import http2Express from 'http2-express'
import { sseProxy } from 'sse-proxy-middleware'
import { browserForFile } from '../support/browser.ts'
import { certificate } from '../support/certificate.ts'
import { withoutBrowser, withoutTls } from '../support/chromium.ts'
import { startUpstream, type Upstream } from '../support/upstream.ts'
import { within } from '../support/waiting.ts'

const browser = browserForFile()
const skip = withoutBrowser

test('an EventSource receives messages and named events', { skip }, async (t) => {
  const upstream = await upstreamFor(t)
  const app = await startApp(t, (events) => events.use(sseProxy({ target: `${upstream.url}/stream` })))
  const page = await browser.open(t, app.url)
  const source = await page.eventSource('/events?topic=a', { names: ['progress'] })
  const exchange = await upstream.next()

  const stream = exchange.stream()
  stream.write(': a comment\n\n')
  stream.send({ data: 'first line\nsecond line', id: '1' })
  stream.send({ event: 'progress', data: 'schön 🎉', id: '2' })
  stream.send({ event: 'unheard', data: 'nobody listens' })
  stream.send({ data: '' })
  stream.send({ data: 'last' })

  assert.equal(exchange.url, '/stream?topic=a')
  assert.deepEqual(await source.next(), { type: 'open', data: null, lastEventId: null, readyState: 1 })
  assert.deepEqual(await source.next(), {
    type: 'message',
    data: 'first line\nsecond line',
    lastEventId: '1',
    readyState: 1,
  })
  assert.deepEqual(await source.next(), { type: 'progress', data: 'schön 🎉', lastEventId: '2', readyState: 1 })
  assert.deepEqual(await source.next(), { type: 'message', data: '', lastEventId: '2', readyState: 1 })
  assert.deepEqual(await source.next(), { type: 'message', data: 'last', lastEventId: '2', readyState: 1 })
})

test('an EventSource is open before the first event exists', { skip }, async (t) => {
  const upstream = await upstreamFor(t)
  const app = await startApp(t, (events) => events.use(sseProxy({ target: upstream.url })))
  const page = await browser.open(t, app.url)
  const source = await page.eventSource('/events')
  const exchange = await upstream.next()

  exchange.stream()

  assert.equal((await source.next()).type, 'open')
})

for (const ending of ['end', 'reset'] as const) {
  const how = { end: 'ended', reset: 'broken off' }[ending]

  test(`an EventSource reconnects with its last id when the upstream has ${how}`, { skip }, async (t) => {
    const upstream = await upstreamFor(t)
    const app = await startApp(t, (events) => events.use(sseProxy({ target: upstream.url })))
    const page = await browser.open(t, app.url)
    const source = await page.eventSource('/events')
    const first = await upstream.next()
    const before = first.stream()
    before.send({ data: 'before', id: 'höchste-7', retry: 10 })
    assert.equal((await source.next()).type, 'open')
    assert.equal((await source.next()).data, 'before')

    before[ending]()
    const second = await upstream.next()
    second.stream().send({ data: 'after' })

    assert.equal(first.headers['last-event-id'], undefined)
    assert.equal(Buffer.from(String(second.headers['last-event-id']), 'latin1').toString('utf8'), 'höchste-7')
    assert.deepEqual(await source.next(), { type: 'error', data: null, lastEventId: null, readyState: 0 })
    assert.equal((await source.next()).type, 'open')
    assert.deepEqual(await source.next(), { type: 'message', data: 'after', lastEventId: 'höchste-7', readyState: 1 })
  })
}

test('an event that the upstream broke off in the middle never reaches the page', { skip }, async (t) => {
  const upstream = await upstreamFor(t)
  const app = await startApp(t, (events) => events.use(sseProxy({ target: upstream.url })))
  const page = await browser.open(t, app.url)
  const source = await page.eventSource('/events')
  const broken = (await upstream.next()).stream()
  broken.send({ data: 'whole', retry: 10 })
  assert.equal((await source.next()).type, 'open')
  assert.equal((await source.next()).data, 'whole')

  broken.write('data: half of an ev')
  broken.reset()
  const stream = (await upstream.next()).stream()
  stream.send({ data: 'next' })

  assert.equal((await source.next()).type, 'error')
  assert.equal((await source.next()).type, 'open')
  assert.equal((await source.next()).data, 'next')
})

test("an EventSource survives an upstream that is away, with unavailable: 'reconnect'", { skip }, async (t) => {
  const upstream = await upstreamFor(t)
  const proxy = sseProxy({ target: upstream.url, unavailable: 'reconnect', clientRetryMs: 10 })
  const app = await startApp(t, (events) => events.use(proxy))
  const page = await browser.open(t, app.url)
  const source = await page.eventSource('/events')

  ;(await upstream.next()).req.socket.destroy()
  const stream = (await upstream.next()).stream()
  stream.send({ data: 'back again' })

  const seen = []
  do seen.push(await source.next())
  while (seen.at(-1)?.data !== 'back again')
  assert.deepEqual(
    seen.map(({ type }) => type),
    ['open', 'error', 'open', 'message'],
  )
})

test('the upstream is let go when the page closes its EventSource', { skip }, async (t) => {
  const upstream = await upstreamFor(t)
  const app = await startApp(t, (events) => events.use(sseProxy({ target: upstream.url })))
  const page = await browser.open(t, app.url)
  const source = await page.eventSource('/events')
  const exchange = await upstream.next()
  exchange.stream().send({ data: 'one' })
  assert.equal((await source.next()).type, 'open')
  assert.equal((await source.next()).data, 'one')

  await source.close()

  await exchange.leftByPeer()
})

test('the upstream is let go when the page is closed', { skip }, async (t) => {
  const upstream = await upstreamFor(t)
  const app = await startApp(t, (events) => events.use(sseProxy({ target: upstream.url })))
  const page = await browser.open(t, app.url)
  const source = await page.eventSource('/events')
  const exchange = await upstream.next()
  exchange.stream()
  assert.equal((await source.next()).type, 'open')

  await page.page.close()

  await exchange.leftByPeer()
})

test('a page of another origin receives events with its cookie, as the cors middleware allows', { skip }, async (t) => {
  const upstream = await upstreamFor(t)
  const pageApp = await startApp(t)
  const app = await startApp(t, (events) =>
    events.use(cors({ origin: pageApp.url, credentials: true }), sseProxy({ target: upstream.url })),
  )
  const page = await browser.open(t, pageApp.url)
  await page.page.context().addCookies([{ name: 'session', value: 'abc', url: app.url }])

  const source = await page.eventSource(`${app.url}/events`, { withCredentials: true })
  const exchange = await upstream.next()
  // With credentials a browser takes neither the asterisk nor two values.
  exchange.stream({ 'access-control-allow-origin': '*', vary: 'x-upstream' }).send({ data: 'for abc' })

  assert.equal(exchange.headers.cookie, 'session=abc')
  assert.equal((await source.next()).type, 'open')
  assert.equal((await source.next()).data, 'for abc')
})

test('a page of another origin gets nothing without cors, whatever it asks', { skip }, async (t) => {
  const upstream = await upstreamFor(t)
  const pageApp = await startApp(t)
  const app = await startApp(t, (events) => events.use(sseProxy({ target: upstream.url })))
  const page = await browser.open(t, pageApp.url)

  const source = await page.eventSource(`${app.url}/events`)
  const exchange = await upstream.next()
  exchange.stream().send({ data: 'not for that page' })

  assert.deepEqual(await source.next(), { type: 'error', data: null, lastEventId: null, readyState: 2 })
})

test('eight streams are open at once on one page over HTTP/2, on one connection', { skip: withoutTls }, async (t) => {
  const upstream = await upstreamFor(t)
  const app = await startApp(t, (events) => events.use(sseProxy({ target: upstream.url })), { isHttp2: true })
  const page = await browser.open(t, app.url)
  const numbers = [1, 2, 3, 4, 5, 6, 7, 8]

  const sources = await Promise.all(numbers.map((number) => page.eventSource(`/events/${number}`)))
  const exchanges = await Promise.all(numbers.map(() => upstream.next()))
  const streams = exchanges.map((exchange) => exchange.stream({ 'keep-alive': 'timeout=5' }))
  for (const source of sources) assert.equal((await source.next()).type, 'open')
  for (const [index, stream] of streams.entries()) stream.send({ data: `of ${exchanges[index]?.url}` })

  for (const [index, source] of sources.entries()) {
    assert.equal((await source.next()).data, `of /${numbers[index]}`)
  }
  assert.equal(app.sessions, 1)

  await sources[0]?.close()
  await exchanges.find(({ url }) => url === '/1')?.leftByPeer()
  for (const [index, stream] of streams.entries())
    if (exchanges[index]?.url !== '/1') stream.send({ data: 'still there' })
  for (const source of sources.slice(1)) assert.equal((await source.next()).data, 'still there')
})

test('a page reads the stream that answers its POST', { skip }, async (t) => {
  const upstream = await upstreamFor(t)
  const app = await startApp(t, (events) => events.use(express.json(), sseProxy({ target: upstream.url })))
  const page = await browser.open(t, app.url)

  const answer = page.page.evaluate(`(async () => {
    const response = await fetch('/events', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: 'hello' }),
    })
    return { type: response.headers.get('content-type'), text: await response.text() }
  })()`)
  const exchange = await upstream.next()
  const body = await exchange.body()
  const stream = exchange.stream()
  stream.send({ data: '{"token":"hi"}' })
  stream.end('data: [DONE]\n\n')

  assert.deepEqual(JSON.parse(String(body)), { prompt: 'hello' })
  assert.deepEqual(await within(answer, 'the answer to the POST'), {
    type: 'text/event-stream',
    text: 'data: {"token":"hi"}\n\ndata: [DONE]\n\n',
  })
})

interface App {
  url: string
  /** HTTP/2 connections that it has had. */
  readonly sessions: number
}

/** An app with an empty page at `/`, and whatever is mounted at `/events`. */
async function startApp(
  t: TestContext,
  mount: (events: express.Router) => void = () => {},
  { isHttp2 = false }: { isHttp2?: boolean } = {},
): Promise<App> {
  const app = isHttp2 ? http2Express(express) : express()
  const events = express.Router()
  mount(events)
  app.get('/', (_req, res) => void res.type('html').send('<!doctype html><title>A page</title>'))
  app.use('/events', events)

  const server: Server = isHttp2
    ? (createSecureServer(certificate, app as never) as unknown as Server)
    : createServer(app)
  const sessions = new Set<ServerHttp2Session>()
  const sockets = new Set<Socket>()
  server.on('session', (session: ServerHttp2Session) => sessions.add(session))
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(async () => {
    for (const socket of sockets) socket.destroy()
    await new Promise((resolve) => server.close(resolve))
  })

  const { port } = server.address() as AddressInfo
  return {
    url: `${isHttp2 ? 'https' : 'http'}://127.0.0.1:${port}`,
    get sessions() {
      return sessions.size
    },
  }
}

async function upstreamFor(t: TestContext): Promise<Upstream> {
  const upstream = await startUpstream()
  t.after(() => upstream.close())
  return upstream
}
