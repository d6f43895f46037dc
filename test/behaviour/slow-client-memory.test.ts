// A client that does not read, and an upstream with a gigabyte for it: what the proxy's process holds of that.
import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { constants, createGzip } from 'node:zlib'
import type { ProxyStats } from 'sse-proxy-middleware'
import { openHttp2Session, request } from '../support/client.ts'
import { type Child, childOf } from '../support/processes/child.ts'
import type { ProxySetup } from '../support/processes/proxy.ts'
import { type Exchange, startUpstream, type Upstream } from '../support/upstream.ts'

const mebibyte = 2 ** 20
const gibibyte = 2 ** 30
/** What the process may grow by while a client is in its way: the buffers of a few streams, and what V8 likes to keep. */
const growthBytes = 128 * mebibyte

interface Way {
  name: string
  options?: object
  looks?: boolean
  gzip?: boolean
}

const ways: Way[] = [
  { name: 'passed through' },
  { name: "with framing 'bytes'", options: { framing: 'bytes' } },
  { name: 'through a hook', looks: true },
  { name: 'out of a gzip body of a megabyte', gzip: true },
  { name: 'shared', options: { share: { lingerMs: 0 } } },
]

for (const http2 of [false, true]) {
  for (const { name, options, looks = false, gzip = false } of ways) {
    test(`a client that stops reading costs no memory and is let go, ${name} (${http2 ? 'h2' : 'http/1.1'})`, async (t) => {
      const writeMs = 1000
      const { upstream, proxy, url } = await started(t, {
        options: { timeouts: { writeMs }, ...options },
        looks,
        http2,
      })
      const client = request(url, { protocol: http2 ? 'h2' : 'http/1.1' })
      t.after(() => client.close())
      const exchange = await upstream.next()
      const pump = new Pump(exchange, gzip)
      await client.waitFor('data: ')
      client.pause()
      const before = await proxy.ask<number>('memory')

      const pausedAt = Date.now()
      const peak = await peakUntil(proxy, ({ active }) => active === 0)
      const letGoAfter = Date.now() - pausedAt
      await exchange.leftByPeer()

      const { closed, bytesIn } = await proxy.ask<ProxyStats>('stats')
      t.diagnostic(
        `rss ${inMiB(before)} before, ${inMiB(peak)} at most; ${inMiB(pump.sentBytes)} of 1024 MiB sent, ` +
          `${inMiB(bytesIn)} read by the proxy; let go after ${letGoAfter} ms`,
      )
      assert.ok(peak - before < growthBytes, `grew from ${inMiB(before)} to ${inMiB(peak)}`)
      assert.ok(gzip || pump.sentBytes < gibibyte / 4, `the upstream went on: ${inMiB(pump.sentBytes)}`)
      assert.ok(bytesIn < gibibyte / 4, `the proxy went on reading: ${inMiB(bytesIn)}`)
      assert.equal(closed['slow-client'], 1)
    })
  }
}

test('a client that reads a gigabyte in its own time gets all of it, and the proxy holds next to nothing', async (t) => {
  const { upstream, proxy, url } = await started(t, { options: {} })
  const socket = rawRequest(t, url)
  const exchange = await upstream.next()
  const pump = new Pump(exchange)
  let received = 0
  let tail = ''
  let isResting = false
  socket.on('data', (bytes: Buffer) => {
    const isNextHundred =
      Math.floor(received / (100 * mebibyte)) < Math.floor((received + bytes.length) / (100 * mebibyte))
    received += bytes.length
    tail = (tail + bytes.subarray(-10).toString('latin1')).slice(-10)
    // A rest now and then, until every buffer on the way is full.
    if (isNextHundred) {
      socket.pause()
      isResting = true
    }
  })
  const before = await proxy.ask<number>('memory')

  let bytesBefore = 0
  const peak = await peakUntil(proxy, ({ bytesIn }) => {
    if (isResting && bytesIn === bytesBefore) {
      isResting = false
      socket.resume()
    }
    bytesBefore = bytesIn
    return tail.endsWith('0\r\n\r\n') || socket.destroyed
  })

  const { bytesOut } = await proxy.ask<ProxyStats>('stats')
  t.diagnostic(`rss ${inMiB(before)} before, ${inMiB(peak)} at most, over ${inMiB(bytesOut)}`)
  assert.ok(tail.endsWith('0\r\n\r\n'), 'the whole of it has come')
  assert.equal(bytesOut, pump.sentBytes)
  assert.ok(bytesOut >= gibibyte)
  assert.ok(peak - before < growthBytes, `grew from ${inMiB(before)} to ${inMiB(peak)}`)
})

test('on HTTP/2 the siblings of a stream that nobody reads go on, before, while and after it is let go', async (t) => {
  const writeMs = 1000
  const { upstream, proxy, url } = await started(t, { options: { timeouts: { writeMs } }, http2: true })
  const session = openHttp2Session(new URL(url).origin)
  t.after(() => session.destroy())
  const siblings = await Promise.all(
    [1, 2, 3].map(async (number) => {
      const client = request(`${url}?sibling=${number}`, { protocol: 'h2', session })
      return { client, stream: (await upstream.next()).stream() }
    }),
  )
  const slow = request(`${url}?slow`, { protocol: 'h2', session })
  const slowExchange = await upstream.next()
  await Promise.all(siblings.map(({ client }) => client.head()))
  new Pump(slowExchange)
  await slow.waitFor('data: ')
  slow.pause()

  const pausedAt = Date.now()
  let longest = 0
  let count = 0
  while ((await proxy.ask<ProxyStats>('stats')).closed['slow-client'] === 0 || count % 10 !== 0) {
    const sentAt = Date.now()
    count += 1
    for (const { stream } of siblings) stream.send({ data: `number ${count}.` })
    await Promise.all(siblings.map(({ client }) => client.waitFor(`number ${count}.`)))
    longest = Math.max(longest, Date.now() - sentAt)
  }

  t.diagnostic(
    `${count} events for each sibling, the slowest after ${longest} ms; let go after ${Date.now() - pausedAt} ms`,
  )
  assert.ok(longest < writeMs, `an event took ${longest} ms`)
  assert.ok(count > 10)
  slow.resume()
  assert.equal(await slow.ended(), 'broken')
})

async function started(
  t: TestContext,
  { options, ...more }: Partial<ProxySetup>,
): Promise<{ upstream: Upstream; proxy: Child; url: string }> {
  const upstream = await startUpstream()
  t.after(() => upstream.close())
  const setup: ProxySetup = { options: { target: upstream.url, secure: false, ...options }, ...more }
  const proxy = await childOf(t, 'proxy.ts')
  const port = await proxy.ask<number>('start', setup)
  return { upstream, proxy, url: more.http2 ? `https://localhost:${port}/` : `http://127.0.0.1:${port}/` }
}

/** The most memory that the process has had by the time that its counts are as wanted. */
async function peakUntil(proxy: Child, isSo: (stats: ProxyStats) => boolean): Promise<number> {
  let peak = 0
  const look = ({ memory, ...stats }: ProxyStats & { memory: number }): boolean => {
    peak = Math.max(peak, memory)
    return isSo(stats)
  }
  await proxy.askUntil('statsAndMemory', look, 120_000)
  return peak
}

/** A plain socket: a gigabyte is not to be kept in the test's own memory. */
function rawRequest(t: TestContext, url: string): Socket {
  const { host, port } = new URL(url)
  const socket = connect(Number(port), '127.0.0.1')
  t.after(() => socket.destroy())
  socket.write(`GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`)
  return socket
}

/** Sends a gibibyte of events, as fast as it is taken. */
class Pump {
  sentBytes = 0

  constructor({ res }: Exchange, gzip = false) {
    res.writeHead(200, { 'content-type': 'text/event-stream', ...(gzip && { 'content-encoding': 'gzip' }) })
    const body = gzip ? createGzip({ level: 1, flush: constants.Z_SYNC_FLUSH }) : res
    if (body !== res) body.pipe(res)
    const event = Buffer.from(`data: ${'x'.repeat(mebibyte - 8)}\n\n`)
    const more = (): void => {
      while (!res.closed && this.sentBytes < gibibyte) {
        this.sentBytes += event.length
        if (!body.write(event)) return
      }
      body.off('drain', more)
      body.end()
    }
    body.on('drain', more)
    more()
  }
}

function inMiB(bytes: number): string {
  return `${Math.round(bytes / mebibyte)} MiB`
}
