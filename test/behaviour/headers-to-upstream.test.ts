// What the upstream is told of the client's request, and what it is not.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import express from 'express'
import { sseProxy } from 'sse-proxy-middleware'
import type { Headers, RequestOptions } from '../support/client.ts'
import { hosts, hostsByProtocol, type Middleware, startFront } from '../support/front.ts'
import { type Proxied, proxied, type SseProxyOptions } from '../support/proxied.ts'
import { type Exchange, startUpstream, type Upstream } from '../support/upstream.ts'

for (const host of hostsByProtocol) {
  test(`an event stream is asked for in clear, through a named proxy (${host})`, async (t) => {
    const arrangement = await proxied(t, {}, { host })

    const { headers } = await reached(arrangement, '', { headers: { 'accept-encoding': 'gzip, br' } })

    assert.equal(headers['accept-encoding'], 'identity')
    assert.equal(headers.accept, 'text/event-stream, */*;q=0.9')
    assert.match(
      String(headers.via),
      host === 'express5' ? /^1\.1 sse-proxy-middleware$/ : /^2(\.0)? sse-proxy-middleware$/,
    )
  })

  test(`Via is appended to what is there, takes another name, or is left out (${host})`, async (t) => {
    const cases: [Partial<SseProxyOptions>, RegExp | undefined][] = [
      [{}, /^1\.0 earlier, [\d.]+ sse-proxy-middleware$/],
      [{ via: 'edge' }, /^1\.0 earlier, [\d.]+ edge$/],
      [{ via: false }, /^1\.0 earlier$/],
    ]

    for (const [options, expected] of cases) {
      const arrangement = await proxied(t, options, { host })
      const { headers } = await reached(arrangement, '', { headers: { via: '1.0 earlier' } })

      assert.match(String(headers.via), expected as RegExp)
    }
  })

  const accepts: { method: string; sent?: string; expected: string | undefined }[] = [
    { method: 'GET', expected: 'text/event-stream, */*;q=0.9' },
    { method: 'GET', sent: '*/*', expected: 'text/event-stream, */*;q=0.9' },
    { method: 'GET', sent: 'application/json, */*;q=0.1', expected: 'application/json, */*;q=0.1' },
    { method: 'GET', sent: 'text/event-stream', expected: 'text/event-stream' },
    { method: 'GET', sent: 'application/json', expected: 'application/json' },
    { method: 'POST', expected: undefined },
    { method: 'POST', sent: '*/*', expected: '*/*' },
    { method: 'POST', sent: 'application/json, text/event-stream', expected: 'application/json, text/event-stream' },
  ]
  for (const { method, sent, expected } of accepts) {
    test(`${method} with Accept ${sent ?? 'missing'} asks for ${expected ?? 'nothing in particular'} (${host})`, async (t) => {
      const arrangement = await proxied(t, {}, { host })

      const { headers } = await reached(arrangement, '', { method, headers: sent ? { accept: sent } : {} })

      assert.equal(headers.accept, expected)
    })
  }

  test(`Last-Event-ID is passed on (${host})`, async (t) => {
    const arrangement = await proxied(t, {}, { host })

    const { headers } = await reached(arrangement, '', { headers: { 'last-event-id': '42' } })

    assert.equal(headers['last-event-id'], '42')
  })

  for (const [query, expected] of [
    ['?lastEventId=7', '7'],
    ['?last_event_id=7', '7'],
    ['?a=1&lastEventId=a%20b%2Fc', 'a b/c'],
    [`?lastEventId=${encodeURIComponent('日本é')}`, Buffer.from('日本é').toString('latin1')],
  ] as const) {
    test(`Last-Event-ID is taken from ${query} when the header is missing (${host})`, async (t) => {
      const arrangement = await proxied(t, {}, { host })

      const { headers } = await reached(arrangement, query)

      assert.equal(headers['last-event-id'], expected)
    })
  }

  test(`the header wins over the query (${host})`, async (t) => {
    const arrangement = await proxied(t, {}, { host })

    const { headers } = await reached(arrangement, '?lastEventId=old', { headers: { 'last-event-id': 'new' } })

    assert.equal(headers['last-event-id'], 'new')
  })

  test(`an id in the query that no header can carry does no harm (${host})`, async (t) => {
    const arrangement = await proxied(t, {}, { host })

    for (const query of [
      '?lastEventId=a%0D%0AX-Evil:%201',
      '?lastEventId=%00',
      '?lastEventId=%FF%FE',
      '?lastEventId=%zz',
    ]) {
      const { headers } = await reached(arrangement, query)

      assert.equal(headers['x-evil'], undefined)
      assert.doesNotMatch(String(headers['last-event-id'] ?? ''), /[\r\n\0]/)
    }
  })

  test(`xfwd appends to X-Forwarded-For instead of trusting it (${host})`, async (t) => {
    const arrangement = await proxied(t, { xfwd: true }, { host })

    const { headers } = await reached(arrangement, '', { headers: { 'x-forwarded-for': '6.6.6.6' } })
    const { headers: plain } = await reached(arrangement)

    assert.match(String(headers['x-forwarded-for']), /^6\.6\.6\.6, ?(::ffff:)?127\.0\.0\.1$/)
    assert.match(String(plain['x-forwarded-for']), /^(::ffff:)?127\.0\.0\.1$/)
    assert.equal(plain['x-forwarded-proto'], host === 'express5' ? 'http' : 'https')
    assert.equal(plain['x-forwarded-port'], String(arrangement.front.port))
  })

  test(`without xfwd nothing is said about the client (${host})`, async (t) => {
    const arrangement = await proxied(t, {}, { host })

    const { headers } = await reached(arrangement)

    for (const name of Object.keys(headers)) assert.ok(!name.startsWith('x-forwarded'), name)
  })

  test(`credentials and other end-to-end headers pass, pseudo headers do not (${host})`, async (t) => {
    const sent = { authorization: 'Bearer x', cookie: 'a=1; b=2', 'mcp-session-id': 's', origin: 'https://app.example' }
    const arrangement = await proxied(t, {}, { host })

    const { headers } = await reached(arrangement, '', { headers: sent })

    for (const [name, value] of Object.entries(sent)) assert.equal(headers[name], value)
    for (const name of Object.keys(headers)) assert.ok(!name.startsWith(':'), name)
  })
}

const hopByHop: Headers = {
  connection: 'x-named, keep-alive',
  'x-named': 'for this hop',
  'keep-alive': 'timeout=5',
  'proxy-authorization': 'Basic secret',
  'proxy-connection': 'keep-alive',
  te: 'trailers',
  trailer: 'x-checksum',
  upgrade: 'h2c',
}

test('headers of the hop, and those that Connection names, end at the proxy', async (t) => {
  const arrangement = await proxied(t)

  const { headers } = await reached(arrangement, '', { headers: { ...hopByHop, 'x-kept': 'yes' } })

  for (const name of Object.keys(hopByHop)) if (name !== 'connection') assert.equal(headers[name], undefined, name)
  assert.doesNotMatch(String(headers.connection ?? ''), /x-named|upgrade/)
  assert.equal(headers['x-kept'], 'yes')
})

test('naming a header in Connection cannot take away what the proxy adds', async (t) => {
  const arrangement = await proxied(t, { xfwd: true, headers: { authorization: 'Bearer ours' } })
  const connection = 'authorization, via, x-forwarded-for, accept, accept-encoding, last-event-id, host, content-length'

  const { headers } = await reached(arrangement, '?lastEventId=7', {
    method: 'POST',
    headers: { connection, authorization: 'Bearer theirs', 'x-forwarded-for': '6.6.6.6' },
    body: 'hello',
  })

  assert.equal(headers.authorization, 'Bearer ours')
  assert.match(String(headers.via), /sse-proxy-middleware/)
  assert.match(String(headers['x-forwarded-for']), /127\.0\.0\.1$/)
  assert.ok(headers.host)
})

test('a header that a middleware in front has added reaches the upstream', async (t) => {
  const addUser: Middleware = (req, _res, next) => {
    req.headers['x-user'] = 'ada'
    next()
  }
  const arrangement = await proxied(t, {}, { before: [addUser] })

  const { headers } = await reached(arrangement)

  assert.equal(headers['x-user'], 'ada')
})

for (const value of ['root', undefined]) {
  const sent = value === undefined ? 'did not send it' : 'sent it too'
  test(`a client cannot have a header of the app's taken away by naming it in Connection: it ${sent}`, async (t) => {
    const identify: Middleware = (req, _res, next) => {
      req.headers['x-user'] = 'ada'
      next()
    }
    const arrangement = await proxied(t, {}, { before: [identify] })
    const own = value === undefined ? {} : { 'x-user': value }

    const { headers } = await reached(arrangement, '', {
      headers: { connection: 'x-user, x-own', 'x-own': '1', ...own },
    })

    assert.equal(headers['x-user'], 'ada')
    assert.equal(headers['x-own'], undefined)
  })
}

for (const accept of ['*/*', undefined]) {
  test(`a backend that offers JSON alone does not answer 406 to a GET with Accept ${accept ?? 'missing'}`, async (t) => {
    const backend = express()
    backend.get('/stream', (_req, res) => {
      res.format({ json: () => void res.json({ hello: 'world' }) })
    })
    const { front, upstream } = await proxied(t)
    const client = front.request('', { headers: accept === undefined ? {} : { accept } })
    const { req, res } = await upstream.next()

    backend(req, res)

    assert.equal(await client.whole(), '{"hello":"world"}')
    assert.equal(client.status, 200)
  })
}

const paths: [target: string, asked: string, expected: string][] = [
  ['/stream', '', '/stream'],
  ['/stream', '?x=1', '/stream?x=1'],
  ['/stream', '/', '/stream'],
  ['/stream', '/sub?x=1', '/stream/sub?x=1'],
  ['', '', '/'],
  ['', '?x=1', '/?x=1'],
  ['', '/sub', '/sub'],
  ['/stream?fixed=1', '', '/stream?fixed=1'],
  ['/stream?fixed=1', '?x=1', '/stream?fixed=1&x=1'],
  ['/stream', '?x=%2F..%2f&y=a+b', '/stream?x=%2F..%2f&y=a+b'],
  ['/stream', '/a%20b/..%2f', '/stream/a%20b/..%2f'],
]

for (const host of hosts) {
  for (const [target, asked, expected] of paths) {
    test(`/events${asked} reaches ${expected} when the target is ${target || 'an origin'} (${host})`, async (t) => {
      const upstream = await startUpstream()
      const front = await startFront(host, sseProxy({ target: upstream.url + target }))
      t.after(async () => {
        await front.close()
        await upstream.close()
      })

      const client = front.request(asked)
      const exchange = await upstream.next()
      exchange.stream().end()
      await client.ended()

      // "/stream/" is what the mounted path "/" asks for as well.
      const got = asked === '/' ? exchange.url.replace(/(.)\/$/, '$1') : exchange.url
      assert.equal(got, expected)
    })
  }
}

/** Lets a request through to the upstream and shows it there. */
async function reached(
  { upstream, front }: Proxied<Upstream>,
  path: string = '',
  options: RequestOptions = {},
): Promise<Exchange> {
  const client = front.request(path, options)
  const exchange = await upstream.next()
  exchange.stream().end()
  await client.ended()
  return exchange
}
