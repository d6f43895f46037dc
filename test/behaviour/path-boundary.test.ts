// The target's path is a boundary: nothing that a client asks for reaches the upstream with a path that leads out of it.
// Plain sockets, since HTTP clients resolve dot segments before they send.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { type TestContext, test } from 'node:test'
import type { Front } from '../support/front.ts'
import { hosts, protocolOf } from '../support/front.ts'
import { proxied } from '../support/proxied.ts'
import type { UpstreamOptions } from '../support/upstream.ts'
import { within } from '../support/waiting.ts'

const answering: UpstreamOptions = { handler: (exchange) => exchange.answer(200, {}, `upstream ${exchange.url}`) }

const OUT_OF_IT = [
  '/events/../../admin',
  '/events/..',
  '/events/a/../../admin',
  '/events/%2e%2e/admin',
  '/events/%2E%2E/%2e%2e/admin',
  '/events/.%2e/admin',
  '/events/..%2fadmin',
  '/events/a%2f..%2f..%2fadmin',
  '/events/..\\admin',
  '/events/..%5cadmin',
  '/events/..;/admin',
  '/events/..;a=b/admin',
  '/events//../admin',
  '/events/./../admin',
]

for (const host of hosts.filter((each) => protocolOf(each) === 'http/1.1')) {
  test(`${host}: what leads out of the target's path is answered 400, and the upstream hears nothing of it`, async (t) => {
    const { upstream, proxy, front } = await proxied(t, {}, { host, upstream: answering })

    // A bare server has no routes for whole URLs.
    const whole = host === 'http' ? [] : OUT_OF_IT.map((each) => `http://app.example${each}`)
    for (const path of [...OUT_OF_IT, ...whole]) {
      const answer = await ask(t, front, path)

      assert.match(answer, /^HTTP\/1\.1 400 /, path)
      assert.match(answer, /"code":"ERR_SSE_PROXY_PATH"/, path)
    }

    assert.deepEqual(upstream.exchanges, [])
    assert.equal(proxy.stats().active, 0)
  })
}

test('over HTTP/2 the same', async (t) => {
  const { upstream, front } = await proxied(t, {}, { host: 'connect over http2', upstream: answering })
  const { connect: connectHttp2 } = await import('node:http2')
  const session = connectHttp2(front.origin, { rejectUnauthorized: false })
  t.after(() => session.destroy())

  for (const path of OUT_OF_IT) {
    const stream = session.request({ ':path': path })
    const [headers] = await within(once(stream, 'response'), `the answer to ${path}`)
    stream.close()

    assert.equal((headers as Record<string, unknown>)[':status'], 400, path)
  }

  assert.deepEqual(upstream.exchanges, [])
})

test('what stays inside under every reading reaches the upstream byte for byte', async (t) => {
  const { front } = await proxied(t, {}, { upstream: answering })

  for (const [path, expected] of [
    ['/events/ids/a%2fb', '/stream/ids/a%2fb'],
    ['/events/ids/a%2Fb%5Cc', '/stream/ids/a%2Fb%5Cc'],
    ['/events/a/../b', '/stream/a/../b'],
    ['/events/%252e%252e/a', '/stream/%252e%252e/a'],
    ['/events/...', '/stream/...'],
    ['/events/x?back=/../../y', '/stream/x?back=/../../y'],
    ['/events//x', '/stream//x'],
  ] as const) {
    const answer = await ask(t, front, path)

    assert.ok(answer.includes(`upstream ${expected}\r\n`), `${path}: ${answer}`)
  }
})

test('a filter is not passed with a path that means something else to the upstream', async (t) => {
  const { upstream, front } = await proxied(t, { pathFilter: '/public' }, { upstream: answering })

  for (const path of ['/events/public/..%2fadmin', '/events/public/..%5cadmin', '/events//admin/public']) {
    assert.match(await ask(t, front, path), /^HTTP\/1\.1 400 /, path)
  }
  assert.match(await ask(t, front, '/events/admin'), /^HTTP\/1\.1 404 /)
  assert.match(await ask(t, front, '/events/public/../admin'), /^HTTP\/1\.1 404 /)

  assert.deepEqual(upstream.exchanges, [])
})

test('a path that becomes a dot segment by being rewritten is refused too, and counts against no upstream', async (t) => {
  const { upstream, proxy, front } = await proxied(
    t,
    { pathRewrite: { '^/api': '' }, health: { failures: 1 } },
    { upstream: answering },
  )

  for (const path of ['/events/api../admin', '/events/api..%2fadmin', '/events/api..;/admin']) {
    assert.match(await ask(t, front, path), /^HTTP\/1\.1 400 /, path)
  }
  assert.match(await ask(t, front, '/events/api/a'), /upstream \/stream\/a\r\n/)

  assert.equal(upstream.exchanges.length, 1)
  assert.equal(proxy.stats().upstreams[0]?.failures, 0)
})

test("the app's on.error may answer in its own way", async (t) => {
  const codes: unknown[] = []
  const { front } = await proxied(t, {
    on: {
      error: (error, _req, res) => {
        codes.push(Reflect.get(error, 'code'))
        if ('writeHead' in res) res.writeHead(404).end('no such thing')
      },
    },
  })

  const answer = await ask(t, front, '/events/../admin')

  assert.match(answer, /^HTTP\/1\.1 404 [\s\S]*no such thing/)
  assert.deepEqual(codes, ['ERR_SSE_PROXY_PATH'])
})

test('a WebSocket takes the same boundary, before and after its path is rewritten', async (t) => {
  const { upstream, proxy, front } = await proxied(t, { pathRewrite: { '^/api': '' } })
  const upgraded: unknown[] = []
  upstream.server.on('upgrade', (req: { url?: string }, socket) => {
    upgraded.push(req.url)
    socket.end('HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n')
  })
  front.server.on('upgrade', proxy.upgrade)
  const websocket = 'Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n'

  for (const path of [...OUT_OF_IT, 'http://app.example/..', '/api../admin', '/api..;/admin']) {
    const answer = await ask(t, front, path, `Connection: Upgrade\r\n${websocket}`)

    assert.match(answer, /^HTTP\/1\.1 400 Bad Request\r\n/, path)
    assert.match(answer, /"code":"ERR_SSE_PROXY_PATH"/, path)
  }
  assert.match(await ask(t, front, 'http://app.example/api/chat', `Connection: Upgrade\r\n${websocket}`), / 403 /)

  assert.deepEqual(upgraded, ['/stream/chat'])
})

/** The whole answer to a request whose target is sent as it is. */
async function ask(t: TestContext, front: Front, target: string, headers = 'Connection: close\r\n'): Promise<string> {
  const socket = connect(front.port, '127.0.0.1')
  t.after(() => socket.destroy())
  let answer = ''
  socket.on('data', (bytes: Buffer) => {
    answer += bytes.toString('latin1')
  })
  socket.write(`GET ${target} HTTP/1.1\r\nHost: app.example\r\n${headers}\r\n`)
  await within(once(socket, 'close'), `the answer to ${target}`)
  return answer
}
