// The handlers of `on` have their say about event streams as they have about any other response.
import assert from 'node:assert/strict'
import type { ClientRequest, IncomingMessage, ServerResponse } from 'node:http'
import { test } from 'node:test'
import { hosts, type Middleware } from '../support/front.ts'
import { proxied, type SseProxyOptions } from '../support/proxied.ts'
import { until } from '../support/waiting.ts'

const mark: Middleware = (req, res, next) => {
  req.mark = 'request'
  res.mark = 'response'
  next()
}

function marksOf(req: IncomingMessage, res: ServerResponse): string {
  return `${(req as { mark?: string }).mark} ${(res as { mark?: string }).mark}`
}

for (const host of hosts) {
  test(`they get the real request and response, each once and in order (${host})`, async (t) => {
    const calls: string[] = []
    const on: SseProxyOptions['on'] = {
      start: (req, res) => void calls.push(`start ${marksOf(req, res)}`),
      proxyReq: (_proxyReq, req, res) => void calls.push(`proxyReq ${marksOf(req, res)}`),
      proxyRes: (_proxyRes, req, res) => void calls.push(`proxyRes ${marksOf(req, res)}`),
      end: (req, res) => void calls.push(`end ${marksOf(req, res)}`),
    }
    const { upstream, front } = await proxied(t, { on }, { host, before: [mark] })
    const client = front.request()
    const exchange = await upstream.next()

    exchange.stream().end('data: x\n\n')
    await client.ended()
    await until(
      () => calls.length >= 4,
      () => `four calls, got ${calls}`,
    )

    assert.deepEqual(
      calls,
      ['start', 'proxyReq', 'proxyRes', 'end'].map((name) => `${name} request response`),
    )
  })

  test(`functions that route and rewrite get the real request and response (${host})`, async (t) => {
    const calls: string[] = []
    const { upstream, front } = await proxied(
      t,
      ({ url }) => ({
        pathRewrite: (path, req, res) => {
          calls.push(`pathRewrite ${marksOf(req, res as ServerResponse)}`)
          return path
        },
        router: (req, res) => {
          calls.push(`router ${marksOf(req, res as ServerResponse)}`)
          return url
        },
      }),
      { host, before: [mark] },
    )
    const client = front.request()
    const exchange = await upstream.next()

    exchange.answer(200)
    await client.ended()

    assert.deepEqual(calls.sort(), ['pathRewrite request response', 'router request response'])
  })

  test(`proxyReq may set headers, proxyRes may set and remove them (${host})`, async (t) => {
    const on: SseProxyOptions['on'] = {
      proxyReq: (proxyReq) => {
        proxyReq.setHeader('x-user', 'ada')
        proxyReq.removeHeader('cookie')
      },
      proxyRes: (proxyRes, _req, res) => {
        proxyRes.headers['x-added'] = 'to the answer'
        delete proxyRes.headers['x-inside']
        res.setHeader('x-set', 'on the response')
      },
    }
    const { upstream, front } = await proxied(t, { on }, { host })
    const client = front.request('', { headers: { cookie: 'a=1' } })
    const exchange = await upstream.next()

    exchange.stream({ 'x-inside': 'secret' })
    await client.head()

    assert.equal(exchange.headers['x-user'], 'ada')
    assert.equal(exchange.headers.cookie, undefined)
    assert.equal(client.headers['x-added'], 'to the answer')
    assert.equal(client.headers['x-inside'], undefined)
    assert.equal(client.headers['x-set'], 'on the response')
  })

  test(`error is called once when a stream breaks off, and not when its client leaves (${host})`, async (t) => {
    const calls: string[] = []
    const on: SseProxyOptions['on'] = {
      error: (error, req, res) => void calls.push(`${error instanceof Error} ${marksOf(req, res as ServerResponse)}`),
    }
    const { upstream, front } = await proxied(t, { on }, { host, before: [mark] })
    const leaving = front.request()
    const leftExchange = await upstream.next()
    leftExchange.stream()
    await leaving.head()
    leaving.close()
    await leftExchange.leftByPeer()
    const client = front.request()
    const stream = (await upstream.next()).stream()
    stream.send({ data: 'x' })
    await client.waitFor('data: x')

    stream.reset()
    await client.ended()
    await until(() => calls.length > 0, 'on.error')

    assert.deepEqual(calls, ['true request response'])
  })
}

test('what an app listens to on the request to the upstream it hears to the end, and nobody else is left there', async (t) => {
  const events = ['socket', 'response', 'error', 'close'] as const
  const heard: string[] = []
  let proxyReq: ClientRequest | undefined
  const on: SseProxyOptions['on'] = {
    proxyReq: (request) => {
      proxyReq = request
      for (const event of events) request.on(event, () => heard.push(event))
    },
  }
  const { upstream, front } = await proxied(t, { on })
  const client = front.request()
  const stream = (await upstream.next()).stream()
  await client.head()

  const left = events.map((event) => [event, proxyReq?.listenerCount(event)])
  stream.reset()
  await until(() => heard.includes('close'), 'the end of the request')

  // The body waits for an error as well.
  assert.deepEqual(left, [
    ['socket', 1],
    ['response', 1],
    ['error', 2],
    ['close', 1],
  ])
  assert.deepEqual([heard[0], heard.at(-1)], ['response', 'close'])
})

test('proxyReq that answers a resume by itself leaves nothing with the upstream', async (t) => {
  let asked = 0
  const proxyReq = (_proxyReq: ClientRequest, _req: IncomingMessage, res: ServerResponse) => {
    asked += 1
    if (asked > 1) res.end()
  }
  const { upstream, front, proxy } = await proxied(t, { on: { proxyReq }, resume: { attempts: 1, delayMs: 1 } })
  const client = front.request()
  const stream = (await upstream.next()).stream()
  stream.send({ id: '1', data: 'x' })
  await client.waitFor('data: x')

  stream.reset()

  assert.equal(await client.ended(), 'broken')
  assert.equal(asked, 2)
  assert.equal(proxy.stats().upstreams[0]?.active, 0)
  assert.equal(upstream.open, 0)
})

test('proxyRes may ask for text, and the events are the same', async (t) => {
  const on: SseProxyOptions['on'] = { proxyRes: (answer) => void answer.setEncoding('utf8') }
  const { upstream, front } = await proxied(t, { on })
  const client = front.request()
  const stream = (await upstream.next()).stream()

  stream.write('data: zw')
  stream.write(Buffer.from('ölf').subarray(0, 1))
  stream.write(Buffer.from('ölf').subarray(1))
  stream.end('\n\n')

  assert.equal(await client.whole(), 'data: zwölf\n\n')
})

test('an on.error that never settles does not keep its client waiting for ever', async (t) => {
  const { upstream, front } = await proxied(t, { on: { error: () => new Promise(() => {}) } })

  const client = front.request('', { method: 'POST' })
  const exchange = await upstream.next()
  exchange.res.destroy()
  await client.ended()

  assert.equal(client.status, 502)
})
