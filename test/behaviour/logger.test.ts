// What an app that gives a `logger` reads: http-proxy-middleware's lines, and one line for an upstream that is down.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Agent, request as httpRequest } from 'node:http'
import { type TestContext, test } from 'node:test'
import { format } from 'node:util'
import { proxied, type SseProxyOptions } from '../support/proxied.ts'
import { startUpstream, type UpstreamOptions } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

const answering: UpstreamOptions = { handler: (exchange) => exchange.answer(200, {}, 'here') }

function memory() {
  const lines: string[] = []
  const to =
    (level: string) =>
    (message: string, ...rest: unknown[]) =>
      void lines.push(`${level}: ${format(message, ...rest)}`)
  return { lines, logger: { info: to('info'), warn: to('warn'), error: to('error') } }
}

test('an answer is a line with the port that was asked', async (t) => {
  const { lines, logger } = memory()
  const { upstream, front } = await proxied(t, { logger }, { upstream: answering })

  await (await front.open('/a?x=1')).whole()
  await (await front.open('/a?x=1')).whole()

  const line = `info: [HPM] GET /events/a?x=1 -> ${upstream.url}/stream/a?x=1 [200]`
  assert.deepEqual(lines, [line, line])
})

test("the lines of a proxy that was given a name begin with it, http-proxy-middleware's too", async (t) => {
  const { lines, logger } = memory()
  const { upstream, front } = await proxied(t, { logger, name: '100%s' }, { upstream: answering })

  await (await front.open()).whole()
  await refusedPath(t, { logger, name: '100%s' })

  assert.equal(lines[0], `info: [100%s] [HPM] GET /events -> ${upstream.url}/stream [200]`)
  assert.match(lines[1]!, /^error: \[100%s\] \[HPM\] Error occurred while proxying request localhost/)
})

test('with several upstreams each line has its own port', async (t) => {
  const { lines, logger } = memory()
  const second = await startUpstream(answering)
  t.after(() => second.close())
  const { upstream, front } = await proxied(
    t,
    ({ url }) => ({ logger, target: [`${url}/one`, `${second.url}/two`], balance: 'round-robin' }),
    { upstream: answering },
  )

  for (let times = 0; times < 2; times++) await (await front.open()).whole()

  assert.deepEqual(
    lines.sort(),
    [
      `info: [HPM] GET /events -> ${upstream.url}/one [200]`,
      `info: [HPM] GET /events -> ${second.url}/two [200]`,
    ].sort(),
  )
})

test('a wrong port is told once, with the port, the system error and what to look at, and so is its coming back', async (t) => {
  const { lines, logger } = memory()
  const gone = await startUpstream()
  await gone.close()
  const { front } = await proxied(t, { logger, target: `${gone.url}/events`, retry: { attempts: 1, backoffMs: 0 } })

  for (let times = 0; times < 3; times++) assert.equal((await front.open()).status, 502)

  assert.deepEqual(lines, [
    `error: [sse-proxy] ${gone.url}/events: The upstream could not be reached (connect ECONNREFUSED 127.0.0.1:${gone.port}). Does the backend run, and does it listen on this port and address?`,
  ])
})

test('one that another upstream stands in for is told of too, and so is its coming back', async (t) => {
  const { lines, logger } = memory()
  const { upstream, front } = await proxied(
    t,
    ({ url }) => ({ logger, target: [`${url}/one`, `${url}/two`], balance: (candidates) => candidates[0]! }),
    {
      upstream: {
        handler: (exchange) =>
          exchange.url === '/one' && upstream.exchanges.length === 1
            ? exchange.res.socket?.resetAndDestroy()
            : exchange.answer(200),
      },
    },
  )

  for (let times = 0; times < 2; times++) assert.equal((await front.open()).status, 200)

  const own = lines.filter((line) => line.includes('[sse-proxy]'))
  assert.equal(own.length, 2)
  assert.match(own[0]!, /^error: \[sse-proxy\] http:\/\/127\.0\.0\.1:\d+\/one: .*ECONNRESET/)
  assert.match(own[1]!, /^info: \[sse-proxy\] http:\/\/127\.0\.0\.1:\d+\/one answers again, after 1 failure$/)
})

const notFound: UpstreamOptions = { handler: (exchange) => exchange.answer(404) }

test('a path that is in the target and in the request is told once, with what to do', async (t) => {
  const { lines, logger } = memory()
  const { upstream, front } = await proxied(t, ({ url }) => ({ logger, target: `${url}/events` }), {
    host: 'http',
    upstream: notFound,
    mount: '',
  })

  for (const path of ['/events?token=s3cret', '/events/7']) await front.open(path)

  assert.deepEqual(
    lines.filter((line) => line.includes('[sse-proxy]')),
    [
      `warn: [sse-proxy] ${upstream.url}/events/events was answered 404: the target's path comes before the request's, which has /events already. Mount with app.use('/events', ...), which cuts it off, or leave it out of target.`,
    ],
  )
})

test('a mount path that was cut off, with a target that has none, is told once, with what to do', async (t) => {
  const { lines, logger } = memory()
  const { upstream, front } = await proxied(t, ({ url }) => ({ name: 'chat', logger, target: url }), {
    upstream: notFound,
  })

  for (let times = 0; times < 2; times++) await front.open()

  assert.deepEqual(
    lines.filter((line) => !line.includes('[HPM]')),
    [
      `warn: [chat] ${upstream.url}/ was answered 404: the mount path /events has been cut off, and the target has no path. Where the upstream has one, write it: target: '${upstream.url}/events'.`,
    ],
  )
})

for (const [what, path, status] of [
  ['what is not there, on a target with a path', '/7', 404],
  ['a path that is there', '', 200],
] as const) {
  test(`nothing is said of paths to who asks for ${what}`, async (t) => {
    const { lines, logger } = memory()
    const handler: UpstreamOptions['handler'] = (exchange) => exchange.answer(status)
    const { front } = await proxied(t, { logger }, { upstream: { handler } })

    await front.open(path)

    assert.equal(lines.length, 1)
    assert.match(lines[0]!, /^info: \[HPM\]/)
  })
}

test("an agent of the app's whose sockets are all in use is told, with what to do", async (t) => {
  const { lines, logger } = memory()
  const agent = new Agent({ maxSockets: 1 })
  t.after(() => agent.destroy())
  const { upstream, front } = await proxied(t, { logger, agent, timeouts: { connectMs: 100 } })
  const first = front.request()
  ;(await upstream.next()).stream().send({ data: 'x' })
  await first.waitFor('data: x')

  const second = await front.open()

  assert.equal(second.status, 504)
  assert.equal(lines.filter((line) => line.startsWith('error')).length, 1)
  assert.match(
    lines.join('\n'),
    /all sockets of the option agent are in use\)\. Each open stream keeps one: give the agent maxSockets: Infinity, or leave it out/,
  )
})

test('streams that an upstream loses together are one line', async (t) => {
  const { lines, logger } = memory()
  const { upstream, proxy, front } = await proxied(t, { logger })
  const clients = [front.request(), front.request(), front.request()]
  for (const _ of clients) (await upstream.next()).stream().send({ data: 'x' })
  for (const client of clients) await client.waitFor('data: x')

  for (const exchange of upstream.exchanges) exchange.res.socket?.resetAndDestroy()
  for (const client of clients) await client.ended()

  const errors = () => lines.filter((line) => line.startsWith('error'))
  await until(
    () => errors().length > 0,
    () => `an error line in ${JSON.stringify(lines)}`,
  )
  assert.equal(proxy.stats().errors.ERR_SSE_PROXY_UPSTREAM_LOST, 3)
  assert.equal(errors().length, 1)
  assert.match(errors()[0]!, /The upstream was lost in the middle of the stream/)
})

test('a client that leaves is no failure of an upstream', async (t) => {
  const { lines, logger } = memory()
  const { upstream, proxy, front } = await proxied(t, { logger })
  const client = front.request()
  const exchange = await upstream.next()

  client.close()
  await exchange.leftByPeer()
  await until(() => proxy.stats().upstreams[0]?.active === 0, 'the request to be over')

  assert.deepEqual(lines, [])
})

test('what the app refuses by itself is a line each, with the reason', async (t) => {
  const { lines, logger } = memory()
  const { front } = await proxied(t, {
    logger,
    router: () => {
      throw new Error('no tenant')
    },
  })

  await front.open('/a')

  assert.equal(lines.length, 0)
  assert.match(String(front.errors[0]), /no tenant/)
  await refusedPath(t, { logger })
  assert.match(lines[0]!, /^error: \[HPM\] Error occurred while proxying request .* \[ERR_SSE_PROXY_PATH\] \(The path/)
})

async function refusedPath(t: TestContext, options: Partial<SseProxyOptions>): Promise<void> {
  const { front } = await proxied(t, options)
  const request = httpRequest({ port: front.port, path: '/events/../..' })
  request.end()
  const [answer] = await once(request, 'response')
  answer.resume()
  await once(answer, 'end')
}
