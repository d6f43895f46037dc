// What a client is told when the upstream gives no answer: the right status, and nothing of the inside.
import assert from 'node:assert/strict'
import { Agent, type ServerResponse } from 'node:http'
import { test } from 'node:test'
import { sseProxy } from 'sse-proxy-middleware'
import { type Client, headerOf } from '../support/client.ts'
import { hosts, hostsByProtocol, startFront } from '../support/front.ts'
import { startNeverAccepting } from '../support/never-accepts.ts'
import { proxied, rawProxied } from '../support/proxied.ts'
import { startRawUpstream } from '../support/raw-upstream.ts'
import { startUpstream } from '../support/upstream.ts'

for (const host of hosts) {
  test(`an upstream that refuses the connection is a 502 without a word about the inside (${host})`, async (t) => {
    const upstream = await startUpstream()
    await upstream.close()
    const front = await startFront(host, sseProxy({ target: `${upstream.url}/secret-path` }))
    t.after(() => front.close())

    const client = await front.open('?q=1')

    await assertRefusal(client, 502)
    for (const word of [String(upstream.port), '127.0.0.1', 'localhost', 'ECONN', 'secret', 'http', 'q=1']) {
      assert.ok(!client.text.includes(word), `${word} in ${client.text}`)
    }
    assert.deepEqual(front.errors, [])
  })
}

for (const host of hostsByProtocol) {
  const badAnswers: { name: string; answer: string | 'reset' | 'finish' }[] = [
    { name: 'a reset', answer: 'reset' },
    { name: 'a connection closed without an answer', answer: 'finish' },
    { name: 'bytes that are not HTTP', answer: 'SSH-2.0-OpenSSH_9.9\r\n' },
    { name: 'half a response head and then the end', answer: 'HTTP/1.1 200 OK\r\nContent-Ty' },
  ]
  for (const { name, answer } of badAnswers) {
    test(`${name} instead of an answer is a 502 (${host})`, async (t) => {
      const { upstream, front } = await rawProxied(t, {}, { host })
      const client = front.request()
      const conversation = await upstream.next()
      await conversation.head()

      if (answer === 'reset') conversation.reset()
      else if (answer === 'finish') conversation.finish()
      else conversation.socket.end(answer)
      await client.head()

      await assertRefusal(client, 502)
    })
  }

  test(`a name that cannot be resolved is a 502 (${host})`, async (t) => {
    const lookup = (_name: string, _options: unknown, callback: (error: Error) => void): void => {
      callback(Object.assign(new Error('getaddrinfo ENOTFOUND inside.example'), { code: 'ENOTFOUND' }))
    }
    const agent = new Agent({ lookup } as object)
    const front = await startFront(host, sseProxy({ target: 'http://inside.example/', agent }))
    t.after(() => front.close())

    const client = await front.open()

    await assertRefusal(client, 502)
    assert.doesNotMatch(client.text, /inside|ENOTFOUND/)
  })

  test(`a connection that is not established within connectMs is a 504 (${host})`, async (t) => {
    const blocked = await startNeverAccepting()
    const front = await startFront(host, sseProxy({ target: blocked.url, timeouts: { connectMs: 100 } }))
    t.after(async () => {
      await front.close()
      await blocked.close()
    })

    const client = await front.open()

    await assertRefusal(client, 504)
    assert.ok(!client.text.includes(String(blocked.port)))
  })

  test(`a TLS handshake that is not finished within connectMs is a 504 (${host})`, async (t) => {
    const upstream = await startRawUpstream()
    const target = upstream.url.replace('http:', 'https:')
    const front = await startFront(host, sseProxy({ target, secure: false, timeouts: { connectMs: 100 } }))
    t.after(async () => {
      await front.close()
      await upstream.close()
    })

    const client = await front.open()
    const conversation = await upstream.next()

    await assertRefusal(client, 504)
    await conversation.closed()
  })

  test(`an upstream that does not answer within responseMs is a 504 and is let go (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, { timeouts: { responseMs: 100 } }, { host })

    const client = await front.open()
    const exchange = await upstream.next()

    await assertRefusal(client, 504)
    await exchange.leftByPeer()
  })

  test(`responseMs and connectMs do not end a stream that is open (${host})`, async (t) => {
    const { upstream, front } = await proxied(
      t,
      { timeouts: { responseMs: 50, connectMs: 50 }, keepalive: 20 },
      { host },
    )
    const client = front.request()
    const exchange = await upstream.next()
    const stream = exchange.stream()

    await client.waitFor((text) => text.split(': keepalive').length > 6)
    stream.end('data: still here\n\n')

    assert.equal(await client.ended(), 'clean')
    assert.match(client.text, /data: still here\n\n$/)
  })

  test(`on.error may give the answer, and gets the real request and response (${host})`, async (t) => {
    const calls: unknown[] = []
    const before = (req: { mine?: string }, res: { mine?: string }, next: () => void): void => {
      req.mine = 'request'
      res.mine = 'response'
      next()
    }
    const answer = (error: Error, req: unknown, res: unknown, target: unknown): void => {
      calls.push([
        error instanceof Error,
        (req as { mine?: string }).mine,
        (res as { mine?: string }).mine,
        `${target}`,
      ])
      const response = res as ServerResponse
      response.writeHead(418, { 'content-type': 'text/plain' })
      response.end('out of tea')
    }
    const { upstream, front } = await proxied(t, { on: { error: answer } }, { host, before: [before] })
    await upstream.close()

    const client = await front.open()

    assert.equal(client.status, 418)
    assert.equal(await client.whole(), 'out of tea')
    assert.equal(calls.length, 1)
    const [isError, req, res, target] = calls[0] as unknown[]
    assert.deepEqual([isError, req, res], [true, 'request', 'response'])
    assert.ok(String(target).includes(String(upstream.port)), `target: ${target}`)
  })

  test(`an on.error that only looks leaves the answer to the proxy (${host})`, async (t) => {
    let calls = 0
    const look = (): void => {
      calls += 1
    }
    const { upstream, front } = await proxied(t, { on: { error: look } }, { host })
    await upstream.close()

    const client = await front.open()

    await assertRefusal(client, 502)
    assert.equal(calls, 1)
  })

  test(`a HEAD request is refused without a body (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, {}, { host })
    await upstream.close()

    const client = await front.open('', { method: 'HEAD' })

    assert.equal(client.status, 502)
    assert.equal(await client.whole(), '')
  })

  test(`a POST whose upstream is gone is refused and its body does not disturb (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, {}, { host })
    await upstream.close()

    const client = await front.open('', { method: 'POST', body: 'x'.repeat(200_000) })

    assert.equal(client.status, 502)
  })

  const statuses: [number, Record<string, string>, string][] = [
    [204, {}, ''],
    [201, { 'content-type': 'application/json' }, '{"made":true}'],
    [206, { 'content-type': 'text/event-stream' }, 'data: a part\n\n'],
    [400, { 'content-type': 'application/json' }, '{"error":"bad"}'],
    [401, { 'www-authenticate': 'Bearer' }, 'who?'],
    [404, { 'content-type': 'text/event-stream' }, 'data: not found\n\n'],
    [410, {}, 'gone'],
    [429, { 'retry-after': '7' }, 'later'],
    [500, { 'content-type': 'text/html' }, '<h1>oops</h1>'],
    [503, { 'retry-after': '30' }, 'down'],
  ]
  for (const [status, headers, body] of statuses) {
    test(`an upstream's own ${status} passes untouched (${host})`, async (t) => {
      const { upstream, front } = await proxied(t, { keepalive: 20 }, { host })
      const client = front.request('', { headers: { accept: 'text/event-stream' } })
      const exchange = await upstream.next()

      exchange.answer(status, { ...headers, 'cache-control': 'max-age=5', etag: '"1"' }, body)
      await client.head()

      assert.equal(client.status, status)
      assert.equal(await client.whole(), body)
      for (const [name, value] of Object.entries(headers)) assert.equal(client.headers[name], value)
      assert.equal(client.headers['cache-control'], 'max-age=5')
      assert.equal(client.headers.etag, '"1"')
    })
  }
}

async function assertRefusal(client: Client, status: number): Promise<void> {
  assert.equal(client.status, status)
  assert.match(headerOf(client, 'content-type') ?? '', /^application\/json/)
  assert.equal(client.headers['cache-control'], 'no-store')
  const { error, ...rest } = JSON.parse(await client.whole()) as { error: { code: unknown; message: unknown } }
  assert.deepEqual(rest, {})
  assert.deepEqual(Object.keys(error).sort(), ['code', 'message'])
  assert.equal(typeof error.code, 'string')
  assert.equal(typeof error.message, 'string')
}
