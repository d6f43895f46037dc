// No byte and no timing of an upstream ends the process, and none of one answer gets into another.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Client } from '../support/client.ts'
import { type Front, hosts, hostsByProtocol } from '../support/front.ts'
import { rawProxied, type SseProxyOptions } from '../support/proxied.ts'
import { type Conversation, chunk, lastChunk, type RawUpstream, streamHead } from '../support/raw-upstream.ts'

const eventStream = 'Content-Type: text/event-stream\r\n'
const event = 'data: x\n\n'

/** What is sent instead of a proper answer, and what may come of it. */
interface Attack {
  name: string
  send: string | Buffer | ((conversation: Conversation) => void)
  /** The client is refused with 502, or its transfer is broken; 'any' when nobody can say better. */
  expected: 'refused' | 'broken' | 'any'
}

const attacks: Attack[] = [
  { name: 'random bytes', send: noise(4_096), expected: 'refused' },
  { name: 'a single NUL', send: '\0', expected: 'any' },
  { name: 'an endless status line', send: `HTTP/1.1 200 ${'x'.repeat(200_000)}`, expected: 'refused' },
  { name: 'an endless header', send: `HTTP/1.1 200 OK\r\nX-Long: ${'x'.repeat(200_000)}`, expected: 'refused' },
  { name: 'headers without end', send: `HTTP/1.1 200 OK\r\n${'X-Many: yes\r\n'.repeat(20_000)}`, expected: 'refused' },
  {
    name: 'a header name with a space',
    send: `HTTP/1.1 200 OK\r\nBad Name: x\r\n${eventStream}\r\n`,
    expected: 'refused',
  },
  {
    name: 'a header value with NUL',
    send: `HTTP/1.1 200 OK\r\nX-Bad: a\0b\r\n${eventStream}\r\n`,
    expected: 'refused',
  },
  {
    name: 'both lengths',
    send: `HTTP/1.1 200 OK\r\n${eventStream}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    expected: 'refused',
  },
  {
    name: 'two different lengths',
    send: `HTTP/1.1 200 OK\r\n${eventStream}Content-Length: 5\r\nContent-Length: 9\r\n\r\n${event}`,
    expected: 'refused',
  },
  {
    name: 'a negative length',
    send: `HTTP/1.1 200 OK\r\n${eventStream}Content-Length: -1\r\n\r\n${event}`,
    expected: 'refused',
  },
  { name: 'status 0', send: `HTTP/1.1 0 Zero\r\n${eventStream}Content-Length: 9\r\n\r\n${event}`, expected: 'refused' },
  {
    name: 'status 99',
    send: `HTTP/1.1 099 Low\r\n${eventStream}Content-Length: 9\r\n\r\n${event}`,
    expected: 'refused',
  },
  { name: 'status 999', send: 'HTTP/1.1 999 High\r\nContent-Length: 2\r\n\r\nok', expected: 'any' },
  {
    name: 'switching protocols without being asked',
    send: 'HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n',
    expected: 'any',
  },
  { name: 'HTTP/0.9', send: 'hello, this is a page', expected: 'refused' },
  { name: 'HTTP/2 frames', send: Buffer.from([0, 0, 18, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100]), expected: 'refused' },
  {
    name: 'the greeting of a TLS server',
    send: Buffer.from([0x16, 3, 3, 0, 0x7a, 2, 0, 0, 0x76]),
    expected: 'refused',
  },
  { name: 'a chunk size that overflows', send: `${streamHead}${'f'.repeat(40)}\r\n${event}`, expected: 'broken' },
  { name: 'a negative chunk size', send: `${streamHead}-1\r\n${event}\r\n`, expected: 'broken' },
  { name: 'a chunk size of words', send: `${streamHead}ten\r\n${event}\r\n`, expected: 'broken' },
  { name: 'an endless chunk extension', send: `${streamHead}9;${'x'.repeat(200_000)}`, expected: 'broken' },
  {
    name: 'noise in place of chunks',
    send: Buffer.concat([Buffer.from(streamHead), Buffer.from('\x01'), noise(4_096)]),
    expected: 'broken',
  },
  { name: 'an endless trailer', send: `${streamHead}0\r\n${'X-Trailer: yes\r\n'.repeat(20_000)}`, expected: 'broken' },
  {
    name: 'a location with line ends',
    send: 'HTTP/1.1 302 Found\r\nLocation: /a\rb\r\nContent-Length: 0\r\n\r\n',
    expected: 'any',
  },
]

for (const host of hostsByProtocol) {
  for (const { name, send, expected } of attacks) {
    test(`${name}: the client is told, and the next one is served (${host})`, async (t) => {
      const { upstream, front } = await rawProxied(t, { timeouts: { responseMs: 2_000 } }, { host })
      const client = front.request()
      const conversation = await upstream.next()
      await conversation.head()

      if (typeof send === 'function') send(conversation)
      else conversation.socket.end(send)
      const ending = await client.ended()

      if (expected === 'refused') assert.equal(client.status, 502)
      if (expected === 'broken') assert.equal(ending, 'broken')
      if (client.status === 200) assert.notEqual(ending, 'unclear')
      await assertServes(front, upstream)
    })
  }

  test(`interim answers are not taken for the answer (${host})`, async (t) => {
    const { upstream, front } = await rawProxied(t, {}, { host })
    const client = front.request()
    const conversation = await upstream.next()

    conversation.send('HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n'.repeat(500))
    conversation.send('HTTP/1.1 102 Processing\r\n\r\n')
    conversation.send(streamHead)
    conversation.send(chunk(event))
    await client.waitFor(event)

    assert.equal(client.status, 200)
  })

  test(`an answer that follows unasked does not become the answer to somebody else (${host})`, async (t) => {
    const { upstream, front } = await rawProxied(t, {}, { host })
    const first = front.request('?first')
    const conversation = await upstream.next()
    await conversation.head()
    const smuggled = 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nstolen'
    conversation.send(`HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nfirst${smuggled}`)

    assert.equal(await first.whole(), 'first')
    await assertServes(front, upstream)
  })

  test(`bytes after the last chunk do not become the answer to somebody else (${host})`, async (t) => {
    const { upstream, front } = await rawProxied(t, {}, { host })
    const first = front.request('?first')
    const conversation = await upstream.next()
    await conversation.head()
    conversation.send(`${streamHead}9\r\n${event}\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen`)

    await first.ended()
    assert.equal(first.text, event)
    await assertServes(front, upstream)
  })

  for (const [what, answer] of [
    ['an ordinary answer', `HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\n${event}`],
    ['a stream', `${streamHead}9\r\n${event}\r\n0\r\n\r\n`],
  ] as const) {
    test(`a connection on which something comes unasked, after ${what}, ends (${host})`, async (t) => {
      const { upstream, front } = await rawProxied(t, {}, { host })
      const first = front.request('?first')
      const conversation = await upstream.next()
      await conversation.head()
      conversation.send(answer)
      assert.equal(await first.whole(), event)

      conversation.send('HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nstolen')

      await conversation.closed()
      await assertServes(front, upstream)
    })
  }

  test(`an answer with a body where none may be leaves the next one alone (${host})`, async (t) => {
    const { upstream, front } = await rawProxied(t, {}, { host })
    const first = front.request('', { method: 'HEAD' })
    const conversation = await upstream.next()
    await conversation.head()
    conversation.send(`HTTP/1.1 200 OK\r\n${eventStream}Content-Length: 9\r\n\r\n${event}`)

    assert.equal(await (await first.head()).whole(), '')
    await assertServes(front, upstream)
  })

  const ways: [string, Partial<SseProxyOptions>][] = [
    ['as it is', {}],
    ["with framing 'bytes'", { framing: 'bytes' }],
    ['with a hook and small limits', { transform: () => {}, limits: { eventBytes: 1_024, bufferBytes: 4_096 } }],
  ]
  for (const [name, options] of ways) {
    test(`any bytes at all as a stream end in a way that can be told, ${name} (${host})`, async (t) => {
      const { upstream, front } = await rawProxied(t, options, { host })

      await fc.assert(
        fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 3_000 }), { maxLength: 5 }), async (parts) => {
          const client = front.request()
          const conversation = await upstream.next()
          await conversation.head()
          conversation.send(streamHead.replace('OK', 'OK\r\nConnection: close'))
          for (const part of parts) if (part.length > 0) conversation.send(chunk(Buffer.from(part)))
          conversation.socket.end('0\r\n\r\n')

          const ending = await client.ended()

          const sent = Buffer.concat(parts)
          if (ending === 'clean') assert.deepEqual(client.bytes, sent)
          else assert.deepEqual(client.bytes, sent.subarray(0, client.length))
        }),
        { seed: 20_260_103, numRuns: 40 },
      )
    })
  }

  test(`a line without end passes, held back by the client and not heaped up (${host})`, async (t) => {
    const { upstream, front } = await rawProxied(t, {}, { host })
    const client = front.request()
    const conversation = await upstream.next()
    conversation.send(streamHead)
    const part = Buffer.alloc(1024 * 1024, 'x')
    const sent = createHash('sha1')
    for (let count = 0; count < 16; count += 1) {
      sent.update(part)
      conversation.send(chunk(part))
      await client.waitForLength((count - 1) * part.length)
    }
    conversation.socket.end('0\r\n\r\n')

    assert.equal(await client.ended(60_000), 'clean')
    assert.equal(createHash('sha1').update(client.bytes).digest('hex'), sent.digest('hex'))
  })

  test(`a line without end is an error where a hook waits for its event (${host})`, async (t) => {
    const { upstream, front } = await rawProxied(t, { transform: () => {} }, { host })
    const client = front.request()
    const conversation = await upstream.next()
    conversation.send(streamHead)
    conversation.send(chunk(Buffer.alloc(3 * 1024 * 1024, 'x')))

    assert.equal(await client.ended(), 'broken')
    assert.equal(client.text, '')
    await conversation.closed()
  })

  test(`a million tiny lines are no more than their bytes (${host})`, async (t) => {
    const { upstream, front } = await rawProxied(t, { transform: () => {} }, { host })
    const client = front.request()
    const conversation = await upstream.next()
    const lines = Buffer.from(`${':\n'.repeat(250_000) + '\n'.repeat(250_000) + 'data\n'.repeat(50_000)}\n`)
    conversation.send(streamHead)
    conversation.send(chunk(lines))
    conversation.socket.end('0\r\n\r\n')

    assert.equal(await client.ended(60_000), 'clean')
    assert.equal(client.length, lines.length)
  })

  test(`an upstream that sends one byte at a time and then nothing is bounded by idleMs (${host})`, async (t) => {
    const { upstream, front } = await rawProxied(t, { timeouts: { idleMs: 100 } }, { host })
    const client = front.request()
    const conversation = await upstream.next()
    conversation.send(streamHead)
    for (const byte of 'data: slow') conversation.send(chunk(byte))

    assert.equal(await client.ended(), 'broken')
    await conversation.closed()
  })
}

for (const host of hosts) {
  test(`headers that HTTP/2 forbids do not end the process (${host})`, async (t) => {
    const { upstream, front } = await rawProxied(t, {}, { host })
    const client = front.request()
    const conversation = await upstream.next()
    const forbidden =
      'Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nUpgrade: h2c\r\nTE: gzip\r\n' +
      'HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n'
    conversation.send(streamHead.replace('\r\n\r\n', `\r\n${forbidden}\r\n`))
    conversation.send(chunk(event))

    await client.waitFor(event)

    assert.equal(client.status, 200)
    await assertServes(front, upstream)
  })

  test(`headers that HTTP/2 forbids in an ordinary answer do not end the process (${host})`, async (t) => {
    const { upstream, front } = await rawProxied(t, {}, { host })
    const client = front.request()
    const conversation = await upstream.next()
    conversation.send(
      'HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok',
    )

    assert.equal(await (await client.head()).whole(), 'ok')
  })
}

/** The next client gets its own answer from the upstream, whichever connection that comes over. */
async function assertServes(front: Front, upstream: RawUpstream): Promise<void> {
  const client: Client = front.request('?next')
  const conversation = await upstream.next()
  const head = await conversation.head()
  conversation.send('HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nnext')

  assert.match(head, /\?next /)
  assert.equal(await client.whole(), 'next')
}

/** The same bytes at each run. */
function noise(length: number): Buffer {
  const blocks: Buffer[] = []
  for (let at = 0; at * 32 < length; at += 1) blocks.push(createHash('sha256').update(`${at}`).digest())
  return Buffer.concat(blocks).subarray(0, length)
}

test('an answer that is whole stays whole, whatever comes behind it', async (t) => {
  const { upstream, front } = await rawProxied(t)
  const client = front.request()
  const conversation = await upstream.next()
  await conversation.head()

  conversation.send(Buffer.concat([Buffer.from(streamHead), chunk(event), Buffer.from(`${lastChunk}and more\r\n\r\n`)]))

  assert.equal(await client.whole(), event)
})
