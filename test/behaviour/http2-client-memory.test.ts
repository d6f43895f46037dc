// Reads for a client over HTTP/2 lie in memory that is used again, once the client has what is in it.
import assert from 'node:assert/strict'
import type { ServerResponse } from 'node:http'
import { type TestContext, test } from 'node:test'
import { type Arrangement, rawProxied } from '../support/proxied.ts'
import { chunk, lastChunk, streamHead } from '../support/raw-upstream.ts'
import { until } from '../support/waiting.ts'

test('what waits for a client over HTTP/2 is not read over', async (t) => {
  let waitingBytes = () => 0
  const { send, client, sent } = await stream(t, (_req, res, next) => {
    waitingBytes = () => res.writableLength
    next()
  })

  client.pause()
  // Each in a read of its own, while the upstream is not held up yet.
  while (waitingBytes() < 8_000) await send(500)
  client.resume()
  await send(0)

  assert.equal(await client.ended(), 'clean')
  assert.ok(client.bytes.equals(Buffer.concat(sent)))
})

test('a middleware that replaces `write` in the middle of a stream over HTTP/2 has what it keeps as it was', async (t) => {
  const [kept, before]: [Buffer[], Buffer[]] = [[], []]
  let response: ServerResponse | undefined
  const { send, client, sent } = await stream(t, (_req, res, next) => {
    response = res
    next()
  })
  await send(500)
  before.push(...sent)
  replaceWrite(response, kept)

  for (let i = 0; i < 200; i++) await send(500)
  await send(0)
  await client.ended()

  assert.ok(Buffer.concat([...before, ...kept]).equals(Buffer.concat(sent)))
})

test('a middleware that keeps what is written over HTTP/2 has it as it was', async (t) => {
  const kept: Buffer[] = []
  const { send, client, sent } = await stream(t, (_req, res, next) => {
    replaceWrite(res, kept)
    next()
  })

  for (let i = 0; i < 40; i++) await send(30_000)
  await send(0)
  await client.ended()

  assert.ok(Buffer.concat(kept).equals(Buffer.concat(sent)))
})

/** As a middleware does that looks at what is written. */
function replaceWrite(res: ServerResponse | undefined, kept: Buffer[]): void {
  const write = res?.write
  if (!res || !write) return
  const replaced = (bytes: Buffer, ...rest: unknown[]) => {
    kept.push(bytes)
    return Reflect.apply(write, res, [bytes, ...rest])
  }
  Object.assign(res, { write: replaced })
}

/** A stream whose upstream sends events that differ from each other; `send` resolves when the proxy has read them. */
async function stream(t: TestContext, ...before: NonNullable<Arrangement['before']>) {
  const { upstream, proxy, front } = await rawProxied(t, {}, { host: 'connect over http2', before })
  const client = front.request()
  const conversation = await upstream.next()
  conversation.send(streamHead)
  await client.head()
  const sent: Buffer[] = []
  let bytes = 0
  const send = async (eventBytes: number): Promise<void> => {
    if (eventBytes === 0) return void conversation.send(lastChunk)
    const word = `${sent.length} `
    const event = Buffer.from(`data: ${word.repeat(eventBytes / word.length)}\n\n`)
    sent.push(event)
    bytes += event.length
    conversation.send(chunk(event))
    await until(() => proxy.stats().bytesIn >= bytes, `${bytes} bytes to be read`)
  }
  return { send, client, sent }
}
