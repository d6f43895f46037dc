// Nothing waits for something later: headers do not wait for the first event, an event does not wait for the next.
import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { test } from 'node:test'
import type { OpenMessage } from 'sse-proxy-middleware'
import { type Front, hosts } from '../support/front.ts'
import { proxied, rawProxied, type SseProxyOptions } from '../support/proxied.ts'
import { chunk, streamHead } from '../support/raw-upstream.ts'

const ways: { name: string; options: Partial<SseProxyOptions> }[] = [
  { name: 'as it is', options: {} },
  { name: "with framing 'bytes'", options: { framing: 'bytes' } },
  { name: 'with a hook', options: { transform: () => {} } },
]

for (const host of hosts) {
  test(`the response headers arrive before the first event exists (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, {}, { host })
    const client = front.request()
    const exchange = await upstream.next()

    exchange.stream({ 'x-early': 'yes' })
    await client.head()

    assert.equal(client.status, 200)
    assert.equal(client.headers['x-early'], 'yes')
    assert.equal(client.text, '')
  })

  for (const { name, options } of ways) {
    test(`each event arrives before the next one is sent, ${name} (${host})`, async (t) => {
      const { upstream, front } = await proxied(t, options, { host })
      const client = front.request()
      const exchange = await upstream.next()
      const stream = exchange.stream()

      for (let count = 0; count < 50; count += 1) {
        stream.send({ data: `number ${count}`, id: `${count}` })
        await client.waitFor(`number ${count}\n\n`)
      }
      stream.end()

      assert.equal(await client.ended(), 'clean')
    })
  }
}

for (const [name, { before, text, left }] of Object.entries({
  'leaves before anything else is done': { before: [], text: '', left: true },
  'waits for an event that came with it': { before: [], text: 'data: x\n\n', left: false },
  'waits where the app holds it back': { before: [corked], text: '', left: false },
})) {
  test(`the head ${name}`, async (t) => {
    const hasLeft = new Promise<boolean>((resolve) => {
      // Told of in the turn in which the upstream has answered.
      const onOpen = (message: unknown) => {
        const { socket } = (message as OpenMessage).stream.req
        resolve(socket.bytesWritten > 0 && socket.writableCorked === 0)
      }
      subscribe('sse-proxy:open', onOpen)
      t.after(() => unsubscribe('sse-proxy:open', onOpen))
    })
    const { upstream, front } = await proxied(t, {}, { before })
    front.request()
    const { res } = await upstream.next()

    res.writeHead(200, { 'content-type': 'text/event-stream' })
    if (text) res.write(text)
    else res.flushHeaders()

    assert.equal(await hasLeft, left)
  })
}

for (const text of ['', 'data: x\n\n']) {
  for (const [name, options] of Object.entries({
    onOpen: { onOpen: (stream) => void responseOf(stream.req).setHeader('x-stream', stream.id) },
    'a function for lifetimeMs': {
      timeouts: {
        lifetimeMs: (req) => {
          responseOf(req).setHeader('x-stream', 'yes')
          return 0
        },
      },
    },
  } satisfies Record<string, Partial<SseProxyOptions>>)) {
    test(`${name} may still set headers, ${text ? 'with an event there' : 'before any event'}`, async (t) => {
      const { upstream, front } = await proxied(t, options)
      const client = front.request()
      const { res } = await upstream.next()

      res.writeHead(200, { 'content-type': 'text/event-stream' })
      if (text) res.write(text)
      else res.flushHeaders()
      await client.head()

      assert.ok(client.headers['x-stream'])
    })
  }
}

/** As Express has it. */
function responseOf(req: IncomingMessage): ServerResponse {
  return (req as IncomingMessage & { res: ServerResponse }).res
}

/** How often the sockets of clients that connect from now on were given something to send; what is corked is one write. */
function watchWrites({ server }: Front): () => number {
  let writes = 0
  server.on('connection', (socket: Socket) => {
    const { _write: write, _writev: writev } = socket
    Object.assign(socket, {
      _write: (...rest: Parameters<typeof write>) => {
        writes += 1
        write.apply(socket, rest)
      },
      _writev: (...rest: Parameters<NonNullable<typeof writev>>) => {
        writes += 1
        writev?.apply(socket, rest)
      },
    })
  })
  return () => writes
}

function corked(_req: IncomingMessage, res: ServerResponse, next: () => void): void {
  res.cork()
  next()
}

for (const { name, options } of ways) {
  test(`a complete event leaves while half of the next one is there, ${name}`, async (t) => {
    const { upstream, front } = await proxied(t, options)
    const client = front.request()
    const exchange = await upstream.next()
    const stream = exchange.stream()

    stream.write('data: whole\n\ndata: ha')
    await client.waitFor('data: whole\n\n')
    stream.end('lf\n\n')

    assert.equal(await client.whole(), 'data: whole\n\ndata: half\n\n')
  })

  for (const [how, read] of Object.entries({
    'in one chunk': [chunk('data: 1\n\ndata: 2\n\ndata: 3\n\n')],
    'in a chunk each': ['data: 1\n\n', 'data: 2\n\n', 'data: 3\n\n'].map(chunk),
  })) {
    test(`several events of one read, ${how}, leave in one write, ${name}`, async (t) => {
      const { upstream, front } = await rawProxied(t, options)
      const writes = watchWrites(front)
      const client = front.request()
      const conversation = await upstream.next()
      conversation.send(streamHead)
      await client.head()
      const before = writes()

      conversation.send(Buffer.concat(read))
      await client.waitFor('data: 3\n\n')

      assert.equal(client.text, 'data: 1\n\ndata: 2\n\ndata: 3\n\n')
      assert.equal(writes() - before, 1)
    })
  }

  test(`an event whose lines end with CR leaves without waiting for the byte after it, ${name}`, async (t) => {
    const { upstream, front } = await proxied(t, options)
    const client = front.request()
    const exchange = await upstream.next()
    const stream = exchange.stream()

    stream.write('data: 1\r\r')
    await client.waitFor('data: 1\r\r')
    stream.write('data: 2\r\n\r')
    await client.waitFor('data: 2\r\n\r')
    stream.end('\ndata: 3\r\r')

    assert.equal(await client.whole(), 'data: 1\r\rdata: 2\r\n\r\ndata: 3\r\r')
  })

  test(`an event that comes byte by byte leaves with its last byte, ${name}`, async (t) => {
    const { upstream, front } = await proxied(t, options)
    const client = front.request()
    const exchange = await upstream.next()
    const stream = exchange.stream()

    for (const byte of Buffer.from('event: ü\ndata: x\n\n')) stream.write(Buffer.of(byte))
    await client.waitFor('event: ü\ndata: x\n\n')

    assert.equal(client.text, 'event: ü\ndata: x\n\n')
  })
}

test('comments and blocks of nothing but an id leave at once, too', async (t) => {
  const { upstream, front } = await proxied(t)
  const client = front.request()
  const exchange = await upstream.next()
  const stream = exchange.stream()

  stream.write(': hello\n\n')
  await client.waitFor(': hello\n\n')
  stream.write('id: 7\n\n')
  await client.waitFor('id: 7\n\n')
  stream.write('retry: 100\n\n')
  await client.waitFor('retry: 100\n\n')

  assert.equal(client.text, ': hello\n\nid: 7\n\nretry: 100\n\n')
})
