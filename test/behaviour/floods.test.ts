// Upstreams that send as much as they can of what is next to nothing: it passes byte for byte, others are served
// meanwhile, and memory stays where it was.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { heapUsed } from '../support/memory.ts'
import { proxied, rawProxied, type SseProxyOptions } from '../support/proxied.ts'
import { type Conversation, chunk, lastChunk, streamHead } from '../support/raw-upstream.ts'
import { until } from '../support/waiting.ts'

const MIB = 2 ** 20

const floods: [name: string, text: string][] = [
  ['blank lines', '\n'],
  ['blank lines of CR LF', '\r\n'],
  ['events without data', 'data\n\n'],
  ['blocks with an id alone', 'id:1\n\n'],
  ['comments', ':\n\n'],
]

const ways: [name: string, options: Partial<SseProxyOptions>][] = [
  ['a hook', { transform: () => {} }],
  ['share', { share: { lingerMs: 0 } }],
  ['neither', {}],
]

for (const [flood, text] of floods) {
  for (const [way, options] of ways) {
    test(`4 MiB of ${flood} from a compressed upstream pass with ${way}, and others are served meanwhile`, async (t) => {
      const { upstream, front } = await proxied(t, options)
      const bytes = Buffer.concat([Buffer.alloc(4 * MIB - 2, text), Buffer.from('\n\n')])
      const before = heapUsed()
      const client = front.request('?flood')
      const turns = countTurns()

      ;(await upstream.next()).stream({ 'content-encoding': 'gzip' }).end(gzipSync(bytes))
      await client.waitForLength(1)
      const other = front.request('?other')
      ;(await upstream.next()).stream().send({ data: 'x' })
      await other.waitFor('data: x')
      const atThatTime = client.length
      await client.ended(60_000)

      assert.equal(sha256(client.bytes), sha256(bytes))
      // A read of a socket or of the decoder each.
      assert.ok(turns() > 64, `${turns()} turns`)
      assert.ok(atThatTime < bytes.length, 'served before the flood was over')
      client.chunks.length = 0
      assert.ok(heapUsed() - before < 16 * MIB, `${(heapUsed() - before) / MIB} MiB`)
    })
  }
}

for (const [flood, text] of [...floods, ['lines with an id that never end a block', 'id:1\n']] as const) {
  for (const [way, options] of ways) {
    const isEndless = text === 'id:1\n'
    // What a hook or a late client needs whole may not be larger than that.
    const fails = isEndless && way !== 'neither'
    test(`300,000 chunks of ${flood} ${fails ? 'are too large an event' : 'pass'} with ${way}`, async (t) => {
      const { upstream, front } = await rawProxied(t, options)
      const client = front.request()
      const conversation = await upstream.next()
      const one = chunk(text)

      conversation.send(streamHead)
      conversation.send(Buffer.alloc(one.length * 300_000, one))
      conversation.send(chunk('\n\n'))
      conversation.send(lastChunk)

      assert.equal(await client.ended(60_000), fails ? 'broken' : 'clean')
      if (!fails) assert.equal(client.length, 300_000 * text.length + 2)
    })
  }
}

/** Sends headers until the connection is closed, or far too many were taken; returns how many bytes. */
async function sendHeaders(conversation: Conversation): Promise<number> {
  let sent = 0
  while (!conversation.isClosed && sent < 64 * MIB) {
    const line = `X-${sent}: ${'x'.repeat(1000)}\r\n`
    sent += line.length
    if (conversation.socket.write(line)) continue
    // One that is about to close takes nothing, and says so in a turn of its own.
    await new Promise((resolve) => setImmediate(resolve))
    await until(() => conversation.isClosed || !conversation.socket.writableNeedDrain, 'room for more')
  }
  return sent
}

test('an upstream whose header section never ends costs no more than Node allows for it, and is a 502', async (t) => {
  const { upstream, front } = await rawProxied(t)
  const client = front.request()
  const conversation = await upstream.next()
  conversation.send('HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n')
  const before = heapUsed()

  const sent = await sendHeaders(conversation)

  assert.equal((await client.head()).status, 502)
  assert.ok(sent < 8 * MIB, `${sent} bytes were taken`)
  assert.ok(heapUsed() - before < 8 * MIB)
})

test('an upstream whose trailers never end breaks its stream, whose events have passed', async (t) => {
  const { upstream, front } = await rawProxied(t)
  const client = front.request()
  const conversation = await upstream.next()
  conversation.send(streamHead)
  conversation.send(chunk('data: x\n\n'))
  await client.waitFor('data: x')

  conversation.send('0\r\n')
  const sent = await sendHeaders(conversation)

  assert.equal(await client.ended(), 'broken')
  assert.equal(client.text, 'data: x\n\n')
  assert.ok(sent < 8 * MIB, `${sent} bytes were taken`)
})

test('an upstream that sends interim answers for ever is given up when its time is over', async (t) => {
  const { upstream, front } = await rawProxied(t, { timeouts: { responseMs: 300 } })
  const client = front.request()
  const conversation = await upstream.next()
  const more = setInterval(() => conversation.send('HTTP/1.1 102 Processing\r\n\r\n'.repeat(100)), 5)
  t.after(() => clearInterval(more))

  await client.head()

  assert.equal(client.status, 504)
  await conversation.closed()
})

for (const share of [false, { lingerMs: 0 }] as const) {
  test(`stream.send in a loop to a client that does not read stops at limits.bufferBytes${share ? ', shared' : ''}`, async (t) => {
    const { upstream, front, proxy } = await proxied(t, { share, limits: { bufferBytes: MIB } })
    const client = front.request()
    ;(await upstream.next()).stream()
    await client.head()
    client.pause()
    const [stream] = proxy.streams
    assert.ok(stream)
    const data = 'x'.repeat(10_000)

    let taken = 0
    for (let round = 0; round < 200; round++) {
      for (let count = 0; count < 50; count++) {
        if (stream.send({ data })) taken++
      }
      await new Promise((resolve) => setImmediate(resolve))
    }

    // What the kernel has taken does not wait here.
    assert.ok(taken * 10_008 < 16 * MIB, `${taken} of 10,000 taken`)
    assert.ok(taken * 10_008 > MIB / 2, `${taken} of 10,000 taken`)
    client.resume()
    await client.waitForLength(taken * 10_008)
    assert.equal(stream.send({ data: 'last' }), true)
    await client.waitFor('last')
  })
}

function countTurns(): () => number {
  let turns = 0
  let isOver = false
  const next = () => {
    turns++
    if (!isOver) setImmediate(next)
  }
  setImmediate(next)
  return () => {
    isOver = true
    return turns
  }
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}
