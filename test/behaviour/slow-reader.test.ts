// A client that reads slowly slows its own upstream; one that does not read at all is let go after writeMs.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'
import { test } from 'node:test'
import { hostsByProtocol } from '../support/front.ts'
import { proxied, type SseProxyOptions } from '../support/proxied.ts'
import type { Exchange } from '../support/upstream.ts'
import { gate, until, within } from '../support/waiting.ts'

const megabyte = 1024 * 1024
/** More than all the buffers of the kernel on the way can take. */
const tooMuch = 96 * megabyte

const ways: { name: string; options: Partial<SseProxyOptions> }[] = [
  { name: 'passed through', options: {} },
  { name: "with framing 'bytes'", options: { framing: 'bytes' } },
  { name: 'through a hook', options: { transform: () => {} } },
  { name: 'after a hold', options: { retry: { commit: () => 'commit', holdMs: 1 } } },
]

for (const host of hostsByProtocol) {
  for (const { name, options } of ways) {
    test(`a client that stops reading stops its upstream and later gets everything, ${name} (${host})`, async (t) => {
      const { upstream, front } = await proxied(t, options, { host })
      const client = front.request()
      const exchange = await upstream.next()
      exchange.stream()
      await client.head()
      client.pause()

      const pump = new Pump(exchange, 40 * megabyte)
      await until(() => pump.isHeldBack, 'the upstream to be held back')
      const sentWhenHeldBack = pump.sentBytes
      client.resume()
      await client.ended(60_000)

      assert.ok(sentWhenHeldBack < 40 * megabyte, `held back after ${sentWhenHeldBack} bytes`)
      assert.equal(client.ending, 'clean')
      assert.equal(createHash('sha256').update(client.bytes).digest('hex'), pump.hash)
    })

    test(`a client that does not read is let go after writeMs, ${name} (${host})`, async (t) => {
      const closed = gate<string>()
      const { upstream, front } = await proxied(
        t,
        { ...options, timeouts: { writeMs: 300 }, onClose: (_stream, reason) => closed.open(reason) },
        { host },
      )
      const client = front.request()
      const exchange = await upstream.next()
      exchange.stream()
      await client.head()
      client.pause()

      const pump = new Pump(exchange, tooMuch)
      const reason = await within(closed.promise, 'the stream to be closed')
      await exchange.leftByPeer()
      client.resume()

      assert.equal(reason, 'slow-client')
      assert.ok(pump.sentBytes < tooMuch, `the upstream sent all of its ${pump.sentBytes} bytes`)
      assert.equal(await client.ended(), 'broken')
    })
  }

  test(`a slow client does not slow another one (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, {}, { host })
    const slow = front.request('?slow')
    const slowExchange = await upstream.next()
    slowExchange.stream()
    await slow.head()
    slow.pause()
    const pump = new Pump(slowExchange, tooMuch)
    await until(() => pump.isHeldBack, 'the upstream of the slow client to be held back')

    const quick = front.request('?quick')
    const stream = (await upstream.next()).stream()
    for (let count = 0; count < 20; count += 1) {
      stream.send({ data: `number ${count}` })
      await quick.waitFor(`number ${count}\n\n`)
    }

    assert.equal(slow.ending, undefined)
  })

  for (const [kind, before] of [
    ['merely quiet', 'before'],
    ['quiet behind more than its client could take at once', 'x'.repeat(8 * megabyte)],
  ] as const) {
    test(`a stream that is ${kind} is not taken for a slow client (${host})`, async (t) => {
      const { upstream, front } = await proxied(t, { timeouts: { writeMs: 400 }, keepalive: false }, { host })
      const client = front.request()
      const stream = (await upstream.next()).stream()
      stream.send({ data: before })
      await client.waitFor(`${before}\n\n`)

      // Another stream that idles out says that several times writeMs have passed.
      const clock = await proxied(t, { timeouts: { idleMs: 1200 } }, { host })
      const other = clock.front.request()
      const otherExchange = await clock.upstream.next()
      otherExchange.stream()
      await other.ended()
      stream.send({ data: 'after' })

      await client.waitFor('after')
    })
  }
}

test('a client that reads on all the time is not let go in the middle of an event that takes it longer than writeMs', async (t) => {
  const { upstream, front } = await proxied(t, {
    transform: () => {},
    limits: { eventBytes: 64 * megabyte },
    timeouts: { writeMs: 300 },
  })
  const socket = connect(front.port, '127.0.0.1')
  t.after(() => socket.destroy())
  const ended = once(socket, 'close')
  let received = 0
  // One read at a time.
  socket.on('data', (bytes) => {
    received += bytes.length
    socket.pause()
    setTimeout(() => socket.resume(), 2)
  })
  socket.write('GET /events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
  const stream = (await upstream.next()).stream()

  const event = `data: ${'x'.repeat(40 * megabyte)}\n\n`
  stream.end(event)

  await within(ended, 'the end of the answer', 60_000)
  assert.ok(received > event.length, `${received} bytes`)
})

/** Sends events as fast as the connection takes them, up to a limit, then ends the stream. */
class Pump {
  sentBytes = 0
  isHeldBack = false
  readonly #hash = createHash('sha256')
  readonly #exchange: Exchange
  readonly #limit: number

  constructor(exchange: Exchange, limit: number) {
    this.#exchange = exchange
    this.#limit = limit
    this.#run().catch(() => {})
  }

  /** Of everything that was sent. */
  get hash(): string {
    return this.#hash.copy().digest('hex')
  }

  async #run(): Promise<void> {
    const { res } = this.#exchange
    const gone = once(res, 'close')
    for (let count = 0; this.sentBytes < this.#limit && !res.destroyed; count += 1) {
      const event = Buffer.from(`id: ${count}\ndata: ${String(count % 10).repeat(32 * 1024)}\n\n`)
      this.sentBytes += event.length
      this.#hash.update(event)
      if (!res.write(event)) await this.#drained(gone)
    }
    res.end()
  }

  async #drained(gone: Promise<unknown>): Promise<void> {
    const { res } = this.#exchange
    // Held back is who waits far longer than a connection that somebody reads ever lets one wait.
    const timer = setTimeout(() => {
      this.isHeldBack = true
    }, 500)
    await Promise.race([once(res, 'drain'), gone])
    clearTimeout(timer)
    this.isHeldBack = false
  }
}
