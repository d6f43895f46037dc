// Bytes leave at event boundaries, so nothing that is written in between can cut or complete somebody else's event.
import assert from 'node:assert/strict'
import type { IncomingMessage } from 'node:http'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { hostsByProtocol } from '../support/front.ts'
import { interpret } from '../support/oracle.ts'
import { proxied, rawProxied } from '../support/proxied.ts'
import { chunk, lastChunk, streamHead } from '../support/raw-upstream.ts'
import { Arrivals, until } from '../support/waiting.ts'

const lines = [
  ...['event: tick', 'id: 1', 'data: one', ''],
  ...[': comment', '', 'data', 'data: ümläut', 'unknown: x', ''],
  ...['id: 2', '', 'retry: 10', 'data: last', ''],
]

const lineEnds: { name: string; text: string }[] = [
  { name: 'LF', text: withEnds(lines, () => '\n') },
  { name: 'CR', text: withEnds(lines, () => '\r') },
  { name: 'CRLF', text: withEnds(lines, () => '\r\n') },
  { name: 'mixed ends', text: withEnds(lines, (at) => ['\n', '\r\n', '\r'][at % 3] as string) },
]

for (const { name, text } of lineEnds) {
  test(`only whole events leave, wherever the bytes are split (${name})`, async (t) => {
    const answers = new Arrivals<IncomingMessage>()
    const { upstream, front } = await rawProxied(t, { on: { proxyRes: (answer) => answers.add(answer) } })
    const bytes = Buffer.from(text)

    for (let split = 1; split < bytes.length; split += 1) {
      const client = front.request()
      const conversation = await upstream.next()
      conversation.send(streamHead)
      const answer = await answers.next('the answer of the upstream')
      const readBefore = answer.socket.bytesRead
      const half = chunk(bytes.subarray(0, split))
      conversation.send(half)
      // The second half must be a read of its own.
      await until(() => answer.socket.bytesRead >= readBefore + half.length, 'the first half to be read')
      const complete = interpret(bytes.subarray(0, split)).events.length
      await client.waitFor(() => interpret(client.bytes).events.length >= complete)
      await settle()
      assertWholeEvents(client.bytes, `split at ${split}`)
      conversation.send(chunk(bytes.subarray(split)))
      conversation.send(lastChunk)

      const ending = await client.ended()

      assert.equal(ending, 'clean')
      assert.deepEqual(client.bytes, bytes)
      conversation.socket.destroy()
    }
  })
}

for (const host of hostsByProtocol) {
  test(`a half event waits for its other half (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, {}, { host })
    const client = front.request()
    const exchange = await upstream.next()
    const stream = exchange.stream()
    stream.write('data: one\n\ndata: t')
    await client.waitFor('data: one\n\n')
    await settle()
    const early = client.text

    stream.write('wo\n\n')
    await client.waitFor('data: two\n\n')

    assert.equal(early, 'data: one\n\n')
    assert.equal(client.text, 'data: one\n\ndata: two\n\n')
  })

  test(`with framing 'bytes' a half event passes as it comes (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, { framing: 'bytes' }, { host })
    const client = front.request()
    const exchange = await upstream.next()
    const stream = exchange.stream()

    stream.write('data: t')
    const early = await client.nextChunk()
    stream.write('wo\n\n')
    const late = await client.nextChunk()

    assert.equal(early.toString(), 'data: t')
    assert.equal(late.toString(), 'wo\n\n')
  })

  test(`an event larger than limits.eventBytes passes all the same when no hook needs it (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, { limits: { eventBytes: 1024 } }, { host })
    const client = front.request()
    const exchange = await upstream.next()
    const stream = exchange.stream()
    stream.write('data: small\n\n')
    await client.waitFor('small')

    stream.write(`data: ${'x'.repeat(10_000)}`)
    await client.waitFor('x'.repeat(2_000))
    stream.write('y\n\ndata: after\n\n')
    await client.waitFor('after')
    stream.end()

    assert.equal(await client.whole(), `data: small\n\ndata: ${'x'.repeat(10_000)}y\n\ndata: after\n\n`)
  })

  test(`an event larger than limits.eventBytes is an error when a hook needs it (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, { limits: { eventBytes: 1024 }, transform: () => {} }, { host })
    const client = front.request()
    const exchange = await upstream.next()
    const stream = exchange.stream()
    stream.write('data: small\n\n')
    await client.waitFor('small')

    stream.write(`data: ${'x'.repeat(10_000)}`)

    assert.equal(await client.ended(), 'broken')
    assert.equal(client.text, 'data: small\n\n')
    await exchange.leftByPeer()
  })
}

/** The client holds no part of an event that a blank line could complete. */
function assertWholeEvents(bytes: Buffer, what: string): void {
  const completed = interpret(Buffer.concat([bytes, Buffer.from('\n\n')])).events
  assert.deepEqual(completed, interpret(bytes).events, `${what}: ${JSON.stringify(bytes.toString())}`)
}

/** Some turns of the event loop: what the proxy has written on reading, the client has. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 10; turn += 1) await setImmediate()
}

function withEnds(all: string[], endAt: (at: number) => string): string {
  return all.map((line, at) => line + endAt(at)).join('')
}
