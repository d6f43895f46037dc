// Reads of a shared stream lie in memory that is used again, once no client needs what is in it.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { Request } from 'express'
import type { SseStream } from 'sse-proxy-middleware'
import { rawProxied, type SseProxyOptions } from '../support/proxied.ts'
import { chunk, lastChunk, streamHead } from '../support/raw-upstream.ts'

const megabyte = 2 ** 20

for (const eventBytes of [8_000, 100_000]) {
  test(`what waits for one client is not read over while another reads on (events of ${eventBytes} bytes)`, async (t) => {
    const { send, conversation, slow, fast } = await twoClients(t, eventBytes, {})

    // More than the kernel takes for a client that does not read.
    while (fast.length < 16 * megabyte) await send(1)
    conversation.send(lastChunk)
    slow.resume()

    assert.equal(await slow.ended(60_000), 'clean')
    assert.ok(slow.bytes.equals(fast.bytes))
  })
}

for (const eventBytes of [130_000, 150_000, 170_000]) {
  test(`what waits for a client that the app closes is not read over (events of ${eventBytes} bytes)`, async (t) => {
    const { send, slow, fast, handle } = await twoClients(t, eventBytes, {})

    await send(12 * megabyte)
    handle.close()
    await send(12 * megabyte)
    slow.resume()

    assert.equal(await slow.ended(60_000), 'clean')
    assert.ok(slow.length > megabyte)
    assert.ok(slow.bytes.equals(fast.bytes.subarray(0, slow.length)))
  })
}

for (const eventBytes of [40_000, 60_000]) {
  test(`nor is it where a hook closes the client in the middle of a read (events of ${eventBytes} bytes)`, async (t) => {
    let close = () => {}
    const arrangement = await twoClients(t, eventBytes, {
      transform: ({ event }, shared) => {
        if (event !== 'check') return
        // What came before it in this read leaves.
        shared.send({ data: 'own' })
        close()
      },
    })
    const { send, slow, fast, handle } = arrangement
    let isClosed = false
    close = () => {
      if ((handle.req.res?.socket?.writableLength ?? 0) === 0) return
      isClosed = true
      handle.close()
    }

    while (!isClosed) await send(1)
    await send(12 * megabyte)
    slow.resume()

    assert.equal(await slow.ended(60_000), 'clean')
    assert.ok(slow.bytes.equals(fast.bytes.subarray(0, slow.length)))
  })
}

/** One client that reads, and one that does not. */
async function twoClients(t: TestContext, eventBytes: number, options: Partial<SseProxyOptions>) {
  const opened: SseStream<Request>[] = []
  const { upstream, front } = await rawProxied(t, {
    share: { lingerMs: 0 },
    limits: { bufferBytes: 64 * megabyte },
    onOpen: (stream) => void opened.push(stream as SseStream<Request>),
    ...options,
  })
  const fast = front.request()
  const conversation = await upstream.next()
  conversation.send(streamHead)
  await fast.head()
  const slow = front.request()
  await slow.head()
  slow.pause()
  const [, handle] = opened
  assert.ok(handle)
  let count = 0
  let total = 0
  /** Sends at least so many bytes, and waits until they have come to the client that reads. */
  const send = async (bytes: number): Promise<void> => {
    const chunks: Buffer[] = []
    for (let sent = 0; sent < bytes; sent += eventBytes) {
      count += 1
      const data = `${count} `.repeat(eventBytes / `${count} `.length)
      const events = `data: ${data}\n\nevent: check\ndata: ${count}\n\n`
      total += events.length
      chunks.push(chunk(events))
      // A few at a time, so that the client that reads is not taken for a slow one.
      if (chunks.length === 40) conversation.send(Buffer.concat(chunks.splice(0)))
    }
    conversation.send(Buffer.concat(chunks))
    await fast.waitForLength(total)
  }
  return { send, conversation, slow, fast, handle }
}
