// What the client is told of an event stream: nothing of the hop behind, nothing that no longer holds, no caching.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { type TestContext, test } from 'node:test'
import type { Client, Headers } from '../support/client.ts'
import { headerOf } from '../support/client.ts'
import { type Host, hosts, hostsByProtocol, type Middleware } from '../support/front.ts'
import { proxied, rawProxied } from '../support/proxied.ts'
import { chunk, streamHead } from '../support/raw-upstream.ts'
import { within } from '../support/waiting.ts'

for (const host of hosts) {
  test(`the headers that make an event stream work are there (${host})`, async (t) => {
    const client = await answered(t, host, {})

    assert.equal(client.status, 200)
    assert.equal(client.headers['content-type'], 'text/event-stream')
    assert.deepEqual(directives(client), ['no-cache', 'no-transform'])
    assert.equal(client.headers['x-accel-buffering'], 'no')
  })

  test(`headers that do not hold for a stream in passing are left out (${host})`, async (t) => {
    const client = await answered(t, host, {
      etag: '"1"',
      'last-modified': 'Thu, 01 Jan 1970 00:00:00 GMT',
      'accept-ranges': 'bytes',
      'content-md5': 'x',
      digest: 'sha-256=x',
      'content-digest': 'sha-256=:x:',
      'repr-digest': 'sha-256=:x:',
      'x-accel-buffering': 'yes',
      'x-kept': 'yes',
    })

    for (const name of ['etag', 'last-modified', 'accept-ranges', 'content-md5'])
      assert.equal(client.headers[name], undefined)
    for (const name of ['digest', 'content-digest', 'repr-digest']) assert.equal(client.headers[name], undefined)
    assert.equal(client.headers['x-accel-buffering'], 'no')
    assert.equal(client.headers['x-kept'], 'yes')
  })

  const cacheControls: [string, string[]][] = [
    ['max-age=60, private', ['max-age=60', 'no-cache', 'no-transform', 'private']],
    ['no-store', ['no-store', 'no-transform']],
    ['no-cache, no-transform', ['no-cache', 'no-transform']],
    ['No-Cache', ['no-cache', 'no-transform']],
  ]
  for (const [sent, expected] of cacheControls) {
    test(`Cache-Control "${sent}" becomes "${expected}" (${host})`, async (t) => {
      const client = await answered(t, host, { 'cache-control': sent })

      assert.deepEqual(directives(client), expected)
    })
  }

  test(`headers of the hop behind, and those that Connection names, end at the proxy (${host})`, async (t) => {
    const { upstream, front } = await rawProxied(t, {}, { host })
    const client = front.request()
    const conversation = await upstream.next()
    conversation.send(
      streamHead.replace(
        '\r\n\r\n',
        '\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=77\r\nProxy-Authenticate: Basic\r\n' +
          'Proxy-Connection: keep-alive\r\nUpgrade: h2c\r\nTrailer: X-Sum\r\nTE: trailers\r\nX-Kept: yes\r\n\r\n',
      ),
    )
    conversation.send(chunk('data: x\n\n'))
    await client.waitFor('data: x\n\n')

    for (const name of ['x-hop', 'proxy-authenticate', 'proxy-connection', 'upgrade', 'trailer', 'te']) {
      assert.equal(client.headers[name], undefined, name)
    }
    assert.doesNotMatch(String(client.headers['keep-alive'] ?? ''), /77/)
    assert.doesNotMatch(String(client.headers.connection ?? ''), /hop/i)
    assert.equal(client.headers['x-kept'], 'yes')
    if (front.protocol === 'h2') {
      assert.equal(client.headers.connection, undefined)
      assert.equal(client.headers['keep-alive'], undefined)
      assert.equal(client.headers['transfer-encoding'], undefined)
    }
  })

  test(`headers of the hop behind end at the proxy for ordinary responses, too (${host})`, async (t) => {
    const { upstream, front } = await rawProxied(t, {}, { host })
    const client = front.request()
    const conversation = await upstream.next()
    conversation.send(
      'HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=77\r\n' +
        'Proxy-Authenticate: Basic\r\nContent-Length: 2\r\n\r\nok',
    )

    assert.equal(await (await client.head()).whole(), 'ok')
    for (const name of ['x-hop', 'proxy-authenticate']) assert.equal(client.headers[name], undefined, name)
    assert.doesNotMatch(String(client.headers['keep-alive'] ?? ''), /77/)
  })

  test(`cookies of the app and of the upstream both arrive, Vary is merged (${host})`, async (t) => {
    const before: Middleware = (_req, res, next) => {
      res.setHeader('set-cookie', 'app=1')
      res.setHeader('vary', 'Origin')
      res.setHeader('content-security-policy', "default-src 'self'")
      res.setHeader('access-control-allow-origin', 'https://app.example')
      next()
    }
    const client = await answered(
      t,
      host,
      {
        'set-cookie': ['back=2; HttpOnly', 'more=3'],
        vary: 'Accept, origin',
        'content-security-policy': 'default-src *',
        'access-control-allow-origin': '*',
      },
      [before],
    )

    assert.deepEqual([client.headers['set-cookie']].flat().sort(), ['app=1', 'back=2; HttpOnly', 'more=3'])
    assert.deepEqual(lowerCaseList(headerOf(client, 'vary')), ['accept', 'origin'])
    assert.equal(client.headers['content-security-policy'], "default-src 'self'")
    assert.equal(client.headers['access-control-allow-origin'], 'https://app.example')
  })

  test(`without headers of the app those of the upstream stand (${host})`, async (t) => {
    const client = await answered(t, host, { 'access-control-allow-origin': '*', vary: 'Accept', 'set-cookie': 'a=1' })

    assert.equal(client.headers['access-control-allow-origin'], '*')
    assert.equal(client.headers.vary, 'Accept')
    assert.deepEqual([client.headers['set-cookie']].flat(), ['a=1'])
  })
}

for (const host of hostsByProtocol) {
  test(`a Content-Length of the upstream is not told (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, {}, { host })
    const client = front.request()
    const exchange = await upstream.next()

    exchange.answer(200, { 'content-type': 'text/event-stream', 'content-length': '9' }, 'data: x\n\n')

    assert.equal(await (await client.head()).whole(), 'data: x\n\n')
    assert.equal(client.headers['content-length'], undefined)
  })

  test(`header values beyond ASCII arrive with the same bytes (${host})`, async (t) => {
    const { upstream, front } = await rawProxied(t, {}, { host })
    const client = front.request()
    const conversation = await upstream.next()

    conversation.send(Buffer.from(streamHead.replace('\r\n\r\n', '\r\nX-Name: grüße\r\n\r\n'), 'latin1'))
    await client.head()

    assert.equal(client.headers['x-name'], 'grüße')
  })
}

test('a client of HTTP/1.0 gets a stream that ends with its connection', async (t) => {
  const { upstream, front } = await proxied(t)
  const socket = connect(front.port, '127.0.0.1')
  t.after(() => socket.destroy())
  let received = ''
  socket.on('data', (bytes) => {
    received += bytes
  })
  socket.write('GET /events HTTP/1.0\r\n\r\n')
  const exchange = await upstream.next()

  exchange.stream().end('data: x\n\n')
  await within(once(socket, 'end'), 'the end of the connection')

  assert.match(received, /^HTTP\/1\.[01] 200/)
  assert.doesNotMatch(received, /transfer-encoding/i)
  assert.match(received, /\r\n\r\ndata: x\n\n$/)
})

async function answered(t: TestContext, host: Host, headers: Headers, before: Middleware[] = []): Promise<Client> {
  const { upstream, front } = await proxied(t, {}, { host, before })
  const client = front.request()
  const exchange = await upstream.next()
  exchange.stream(headers)
  return await client.head()
}

function directives(client: Client): string[] {
  return lowerCaseList(headerOf(client, 'cache-control'))
}

function lowerCaseList(value: string = ''): string[] {
  return value
    .split(',')
    .map((item) => item.trim().toLowerCase())
    .sort()
}
