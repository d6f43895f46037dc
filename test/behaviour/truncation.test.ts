// An upstream that breaks off in the middle never looks like one that has finished.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import { type AddressInfo, connect, createServer as createTcpServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { constants, gzipSync } from 'node:zlib'
import { hostsByProtocol } from '../support/front.ts'
import { proxied, rawProxied } from '../support/proxied.ts'
import { type Conversation, chunk, lastChunk, streamHead } from '../support/raw-upstream.ts'
import { gate, until, within } from '../support/waiting.ts'

const first = 'data: one\n\n'

const breaks: { name: string; then: (upstream: Conversation) => void }[] = [
  { name: 'a reset in the middle of an event', then: (upstream) => sendAndReset(upstream, chunk('data: tw')) },
  { name: 'a reset between two events', then: (upstream) => upstream.reset() },
  { name: 'a FIN in the middle of an event', then: (upstream) => sendAndFinish(upstream, chunk('data: tw')) },
  { name: 'a FIN between two events', then: (upstream) => upstream.finish() },
  { name: 'a FIN in the middle of a chunk', then: (upstream) => sendAndFinish(upstream, '20\r\ndata: tw') },
  { name: 'a chunk size that is no number', then: (upstream) => upstream.send('zz\r\ndata: two\n\n\r\n') },
  { name: 'a chunk that is longer than its size', then: (upstream) => upstream.send('3\r\ndata: two\n\n\r\n') },
]

for (const host of hostsByProtocol) {
  for (const { name, then } of breaks) {
    test(`${name} breaks the client's transfer (${host})`, async (t) => {
      const { upstream, front } = await rawProxied(t, {}, { host })
      const client = front.request()
      const conversation = await upstream.next()
      conversation.send(streamHead)
      conversation.send(chunk(first))
      await client.waitFor(first)

      then(conversation)

      assert.equal(await client.ended(), 'broken')
      assert.equal(client.text, first)
      assert.equal(client.status, 200)
    })

    test(`${name} breaks the client's transfer when bytes pass as they come (${host})`, async (t) => {
      const { upstream, front } = await rawProxied(t, { framing: 'bytes' }, { host })
      const client = front.request()
      const conversation = await upstream.next()
      conversation.send(streamHead)
      conversation.send(chunk(first))
      await client.waitFor(first)

      then(conversation)

      assert.equal(await client.ended(), 'broken')
      assert.match(client.text, /^data: one\n\n(data: tw|dat)?$/)
    })
  }

  test(`a reset right after the response head breaks the client's transfer (${host})`, async (t) => {
    const { upstream, front } = await rawProxied(t, {}, { host })
    const client = front.request()
    const conversation = await upstream.next()
    conversation.send(streamHead)
    await client.head()

    conversation.reset()

    assert.equal(await client.ended(), 'broken')
    assert.equal(client.text, '')
  })

  test(`fewer bytes than Content-Length promised break the client's transfer (${host})`, async (t) => {
    const { upstream, front } = await rawProxied(t, {}, { host })
    const client = front.request()
    const conversation = await upstream.next()
    conversation.send(`HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 1000\r\n\r\n${first}`)
    await client.waitFor(first)

    conversation.finish()

    assert.equal(await client.ended(), 'broken')
    assert.equal(client.text, first)
  })

  test(`an upstream that falls silent for idleMs is a loss, not an end (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, { timeouts: { idleMs: 100 } }, { host })
    const client = front.request()
    const exchange = await upstream.next()
    exchange.stream().write(`${first}data: tw`)

    const ending = await client.ended()

    assert.equal(ending, 'broken')
    assert.equal(client.text, first)
    await exchange.leftByPeer()
  })

  test(`an error handler that writes a page cannot make a broken stream look complete (${host})`, async (t) => {
    const answerEverything = (_error: unknown, _req: unknown, res: unknown): void => {
      const response = res as import('node:http').ServerResponse
      if (!response.headersSent) response.writeHead(502)
      response.end('the page of an error handler')
    }
    const { upstream, front } = await rawProxied(t, { on: { error: answerEverything } }, { host })
    const client = front.request()
    const conversation = await upstream.next()
    conversation.send(streamHead)
    conversation.send(chunk(first))
    await client.waitFor(first)

    sendAndReset(conversation, chunk('data: tw'))

    assert.equal(await client.ended(), 'broken')
    assert.equal(client.text, first)
  })

  test(`a broken ordinary response breaks the client's transfer as well (${host})`, async (t) => {
    const { upstream, front } = await rawProxied(t, {}, { host })
    const client = front.request()
    const conversation = await upstream.next()
    conversation.send('HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n')
    conversation.send(chunk('{"half":'))
    await client.waitFor('{"half":')

    conversation.reset()

    assert.equal(await client.ended(), 'broken')
    assert.equal(client.text, '{"half":')
  })

  test(`a stream without length or chunks that is closed inside an event is broken (${host})`, async (t) => {
    const { upstream, front } = await rawProxied(t, {}, { host })
    const client = front.request()
    const conversation = await upstream.next()
    conversation.send(`HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n${first}data: tw`)
    await client.waitFor(first)

    conversation.finish()

    assert.equal(await client.ended(), 'broken')
    assert.equal(client.text, first)
  })

  test(`a stream without length or chunks that is closed after an event has ended (${host})`, async (t) => {
    const { upstream, front } = await rawProxied(t, {}, { host })
    const client = front.request()
    const conversation = await upstream.next()
    conversation.send(`HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n${first}`)
    await client.waitFor(first)

    conversation.finish()

    assert.equal(await client.ended(), 'clean')
    assert.equal(client.text, first)
  })

  for (const [what, type] of [
    ['a stream', 'text/event-stream'],
    ['an ordinary response', 'text/plain'],
  ] as const) {
    test(`${what} without length or chunks that is reset after a whole event is broken (${host})`, async (t) => {
      const { upstream, front } = await rawProxied(t, {}, { host })
      const client = front.request()
      const conversation = await upstream.next()
      conversation.send(`HTTP/1.0 200 OK\r\nContent-Type: ${type}\r\n\r\n${first}`)
      await client.waitFor(first)

      conversation.reset()

      assert.equal(await client.ended(), 'broken')
      assert.equal(client.text, first)
    })
  }

  for (const how of ['reset', 'finish'] as const) {
    test(`the events of a compressed stream without length or chunks pass before it is cut by a ${how} (${host})`, async (t) => {
      const { upstream, proxy, front } = await rawProxied(t, { isEnd: ({ data }) => data === 'one' }, { host })

      for (let i = 0; i < 20; i += 1) {
        const client = front.request()
        const conversation = await upstream.next()
        await conversation.head()
        conversation.send('HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n\r\n')
        await client.head()
        conversation.socket.write(gzipSync(first, { finishFlush: constants.Z_SYNC_FLUSH }), () => conversation[how]())
        await client.ended()

        assert.equal(client.ending, 'clean')
        assert.equal(client.text, first)
      }
      assert.equal(proxy.stats().closed['upstream-ended'], 20)
    })
  }

  test(`the LF of a last CR LF may come alone before such a connection is closed (${host})`, async (t) => {
    const { upstream, front } = await rawProxied(t, {}, { host })
    const client = front.request()
    const conversation = await upstream.next()
    conversation.send('HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: one\r\n\r')
    await client.waitFor('data: one\r\n\r')

    conversation.send('\n')
    conversation.finish()

    assert.equal(await client.ended(), 'clean')
    assert.equal(client.text, 'data: one\r\n\r\n')
  })

  test(`a reset breaks the answer to a POST whose body is still on its way (${host})`, async (t) => {
    const { upstream, front } = await rawProxied(t, {}, { host })
    const client = front.request('', { method: 'POST', headers: { 'content-length': '100' }, sendsBodyLater: true })
    client.send('the first part')
    const conversation = await upstream.next()
    conversation.send(streamHead)
    conversation.send(chunk(first))
    await client.waitFor(first)

    conversation.reset()

    assert.equal(await client.ended(), 'broken')
    assert.equal(client.text, first)
  })

  test(`a reset while the client is behind breaks the transfer after what was sent (${host})`, async (t) => {
    const { upstream, front } = await rawProxied(t, {}, { host })
    const client = front.request()
    const conversation = await upstream.next()
    conversation.send(streamHead)
    await client.head()
    client.pause()
    const event = `data: ${'x'.repeat(64 * 1024)}\n\n`
    for (let count = 0; count < 10; count += 1) conversation.send(chunk(event))
    sendAndReset(conversation, chunk('data: tw'))
    await conversation.closed()

    client.resume()

    assert.equal(await client.ended(), 'broken')
    assert.ok(event.repeat(10).startsWith(client.text))
  })

  test(`a complete stream ends cleanly, its unfinished tail included (${host})`, async (t) => {
    const { upstream, front } = await rawProxied(t, {}, { host })
    const client = front.request()
    const conversation = await upstream.next()
    conversation.send(streamHead)
    conversation.send(chunk(`${first}data: tail`))
    await client.waitFor(first)

    conversation.send(lastChunk)

    assert.equal(await client.ended(), 'clean')
    assert.equal(client.text, `${first}data: tail`)
  })
}

test('a client of HTTP/1.0, for whom the end of the connection is the end of the body, sees a reset instead', async (t) => {
  const { upstream, front } = await rawProxied(t)
  const socket = connect(front.port, '127.0.0.1')
  t.after(() => socket.destroy())
  let received = ''
  socket.on('data', (bytes) => {
    received += bytes
  })
  const ended = new Promise<string>((resolve) => {
    socket.once('end', () => resolve('a clean end'))
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''))
  })
  socket.write('GET /events HTTP/1.0\r\n\r\n')
  const conversation = await upstream.next()
  conversation.send(streamHead)
  conversation.send(chunk(first))
  await until(() => received.includes(first), 'the first event')

  conversation.reset()

  assert.equal(await within(ended, 'the end of the connection'), 'ECONNRESET')
})

test('a reset while a hook is at work breaks the transfer after the event that the hook releases', async (t) => {
  const hook = gate()
  const asked = gate()
  const transform = (): Promise<void> => {
    asked.open()
    return hook.promise
  }
  const { upstream, front } = await rawProxied(t, { transform })
  const client = front.request()
  const conversation = await upstream.next()
  conversation.send(streamHead)
  conversation.send(chunk(`${first}data: tw`))
  await within(asked.promise, 'the hook to be asked')

  conversation.reset()
  hook.open()

  assert.equal(await client.ended(), 'broken')
  assert.equal(client.text, first)
})

function sendAndReset(conversation: Conversation, bytes: Buffer): void {
  // The reset must not overtake the bytes: it is sent once the kernel has taken them.
  conversation.socket.write(bytes, () => conversation.reset())
}

function sendAndFinish(conversation: Conversation, bytes: Buffer | string): void {
  conversation.send(bytes)
  conversation.finish()
}

// The body of such a client ends with its connection, and Node resets no other connection than one of plain TCP.
test('an upstream that breaks off under a client of HTTP/1.0 over TLS ends neither the process nor the TLS session', async (t) => {
  const { upstream, proxy, front } = await proxied(t, {}, { host: 'connect over http2' })
  const records = Buffer.alloc(2 ** 16)
  let received = 0
  const relay = createTcpServer((near) => {
    const far = connect(front.port, '127.0.0.1')
    far.on('data', (bytes) => {
      received += bytes.copy(records, received)
    })
    near.pipe(far).pipe(near)
  }).listen(0, '127.0.0.1')
  t.after(() => relay.close())
  await once(relay, 'listening')
  // Up to 1.2 a record says what it is.
  const { port } = relay.address() as AddressInfo
  const client = connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false, maxVersion: 'TLSv1.2' })
  t.after(() => client.destroy())
  let text = ''
  client.setEncoding('latin1').on('data', (part) => {
    text += part
  })
  client.write('GET /events HTTP/1.0\r\n\r\n')
  const stream = (await upstream.next()).stream()
  stream.write(first)
  await until(() => text.endsWith(first), 'the event')

  stream.reset()
  await within(once(client, 'close'), 'the end of the connection')

  assert.equal(alertsIn(records.subarray(0, received)), 0)
  await until(() => proxy.stats().closed['upstream-lost'] === 1, 'the stream to be told as lost')
})

test('an upstream that breaks off under a client of HTTP/1.0 on a Unix socket does not end the process', async (t) => {
  const { upstream, proxy } = await proxied(t)
  const folder = await mkdtemp(join(tmpdir(), 'sse-proxy-'))
  const server = createServer((req, res) => proxy(req, res)).listen(join(folder, 'socket'))
  t.after(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
    await rm(folder, { recursive: true })
  })
  await once(server, 'listening')
  const client = connect(join(folder, 'socket'))
  let text = ''
  client.setEncoding('latin1').on('data', (part) => {
    text += part
  })
  client.write('GET / HTTP/1.0\r\n\r\n')
  const stream = (await upstream.next()).stream()
  stream.write(first)
  await until(() => text.endsWith(first), 'the event')

  stream.reset()
  await within(once(client, 'close'), 'the end of the connection')

  await until(() => proxy.stats().closed['upstream-lost'] === 1, 'the stream to be told as lost')
  assert.equal(proxy.stats().active, 0)
})

/** How many records of TLS are alerts: one is the announcement that a session ends. */
function alertsIn(records: Buffer): number {
  let alerts = 0
  for (let at = 0; at + 5 <= records.length; at += 5 + records.readUInt16BE(at + 3)) {
    if (records[at] === 21) alerts += 1
  }
  return alerts
}
