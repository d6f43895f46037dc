// Reads of a shared stream lie in memory that is used again, once no client needs what is in it.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { rawProxied } from '../support/proxied.ts'
import { chunk, lastChunk, streamHead } from '../support/raw-upstream.ts'

const megabyte = 2 ** 20

for (const eventBytes of [8_000, 100_000]) {
  test(`what waits for one client is not read over while another reads on (events of ${eventBytes} bytes)`, async (t) => {
    const { upstream, front } = await rawProxied(t, { share: { lingerMs: 0 }, limits: { bufferBytes: 64 * megabyte } })
    const fast = front.request()
    const conversation = await upstream.next()
    conversation.send(streamHead)
    await fast.head()
    const slow = front.request()
    await slow.head()
    slow.pause()
    let sent = 0

    // More than the kernel takes for a client that does not read.
    for (let count = 0; sent < 16 * megabyte; count += 1) {
      const event = `data: ${`${count} `.repeat(eventBytes / `${count} `.length)}\n\n`
      sent += event.length
      conversation.send(chunk(event))
      await fast.waitForLength(sent)
    }
    conversation.send(lastChunk)
    slow.resume()

    assert.equal(await slow.ended(60_000), 'clean')
    assert.ok(slow.bytes.equals(fast.bytes))
  })
}
