// An upstream that compresses although it was asked not to is decoded as it streams, event by event.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import zlib from 'node:zlib'
import { hostsByProtocol } from '../support/front.ts'
import { proxied } from '../support/proxied.ts'

interface Compressor {
  write(text: string): void
  flush(done: () => void): void
  end(): void
  on(event: 'data', listener: (bytes: Buffer) => void): void
}

const codings: Record<string, () => Compressor> = {
  gzip: () => zlib.createGzip(),
  'x-gzip': () => zlib.createGzip(),
  deflate: () => zlib.createDeflate(),
  br: () => zlib.createBrotliCompress(),
  GZIP: () => zlib.createGzip(),
}

// Some servers send the bare algorithm under the name of the wrapped one.
const bareDeflate = (): Compressor => zlib.createDeflateRaw()

// Node has it from 22.15 on; its types here are those of the oldest release. Where it takes a cut frame for a whole one,
// a stream that was cut would look complete, and is better left as it is.
const zstd = zlib as {
  createZstdCompress?: () => Compressor
  zstdCompressSync?: (text: string) => Buffer
  zstdDecompressSync?: (bytes: Buffer) => Buffer
}
if (zstd.createZstdCompress && noticesCutFrames()) codings.zstd = zstd.createZstdCompress

function noticesCutFrames(): boolean {
  try {
    zstd.zstdDecompressSync?.(zstd.zstdCompressSync?.('data: x\n\n').subarray(0, -3) ?? Buffer.alloc(0))
    return false
  } catch {
    return true
  }
}

for (const host of hostsByProtocol) {
  for (const [name, create] of [...Object.entries(codings), ['deflate without its wrapping', bareDeflate] as const]) {
    const coding = name.split(' ')[0] as string
    test(`each event of a stream in ${name} arrives before the next one is sent (${host})`, async (t) => {
      const { upstream, front } = await proxied(t, {}, { host })
      const client = front.request()
      const exchange = await upstream.next()
      const stream = exchange.stream({ 'content-encoding': coding, vary: 'Accept-Encoding' })
      const compressor = create()
      compressor.on('data', (bytes) => stream.write(bytes))
      await client.head()

      let sent = ''
      for (let count = 0; count < 10; count += 1) {
        const event = `id: ${count}\ndata: ümläut ${count}\n\n`
        compressor.write(event)
        await new Promise<void>((resolve) => compressor.flush(resolve))
        sent += event
        await client.waitFor(event)
      }
      compressor.end()
      await once(compressor as unknown as NodeJS.EventEmitter, 'end')
      stream.end()

      assert.equal(await client.whole(), sent)
      assert.equal(client.headers['content-encoding'], undefined)
      assert.equal(client.headers['content-length'], undefined)
    })
  }

  test(`a stream that was compressed twice is decoded twice (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, {}, { host })
    const client = front.request()
    const exchange = await upstream.next()

    const body = zlib.brotliCompressSync(zlib.gzipSync('data: one\n\ndata: two\n\n'))
    exchange.stream({ 'content-encoding': 'gzip, br' }).end(body)

    assert.equal(await client.whole(), 'data: one\n\ndata: two\n\n')
    assert.equal(client.headers['content-encoding'], undefined)
  })

  test(`a stream in a coding that nobody knows is not taken for plain events (${host})`, async (t) => {
    const body = Buffer.from([1, 10, 10, 2, 10, 13, 10, 0, 10])
    const { upstream, front } = await proxied(t, { keepalive: 20 }, { host })
    const client = front.request()
    const exchange = await upstream.next()

    exchange.stream({ 'content-encoding': 'x-unheard-of' }).end(body)
    await client.ended()

    if (client.status === 502) return
    assert.equal(client.headers['content-encoding'], 'x-unheard-of')
    assert.deepEqual(client.bytes, body)
  })

  test(`a compressed stream that stops in the middle of an event is broken (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, {}, { host })
    const client = front.request()
    const exchange = await upstream.next()
    const stream = exchange.stream({ 'content-encoding': 'gzip' })
    const gzip = zlib.createGzip()
    gzip.on('data', (bytes: Buffer) => stream.write(bytes))
    gzip.write('data: one\n\ndata: tw')
    await new Promise<void>((resolve) => gzip.flush(resolve))
    await client.waitFor('data: one\n\n')

    // The HTTP message is complete, the compressed stream in it is not.
    stream.end()

    assert.equal(await client.ended(), 'broken')
    assert.equal(client.text, 'data: one\n\n')
  })

  test(`a stream in zstd that stops in the middle of a frame never looks complete (${host})`, async (t) => {
    const whole = zstd.zstdCompressSync?.('data: one\n\ndata: two\n\n')
    if (!whole) return t.skip('this Node has no zstd')
    const { upstream, front } = await proxied(t, {}, { host })
    const client = front.request()
    const exchange = await upstream.next()

    exchange.stream({ 'content-encoding': 'zstd' }).end(whole.subarray(0, -3))
    await client.ended()

    // As it is, the client's own decoder notices.
    if (client.headers['content-encoding'] === 'zstd') assert.deepEqual(client.bytes, whole.subarray(0, -3))
    else assert.equal(client.ending, 'broken')
  })

  test(`bytes that cannot be decoded break the transfer (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, {}, { host })
    const client = front.request()
    const exchange = await upstream.next()

    exchange.stream({ 'content-encoding': 'gzip' }).write('data: this was never compressed\n\n')

    assert.equal(await client.ended(), 'broken')
    assert.equal(client.text, '')
    await exchange.leftByPeer()
  })

  test(`a reset in a compressed stream breaks the transfer (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, {}, { host })
    const client = front.request()
    const exchange = await upstream.next()
    const stream = exchange.stream({ 'content-encoding': 'br' })
    await client.head()

    stream.reset()

    assert.equal(await client.ended(), 'broken')
  })

  test(`a client that leaves a compressed stream frees the upstream (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, {}, { host })
    const client = front.request()
    const exchange = await upstream.next()
    exchange.stream({ 'content-encoding': 'gzip' }).write(zlib.gzipSync('data: one\n\n').subarray(0, 15))
    await client.head()

    client.close()

    await exchange.leftByPeer()
  })

  test(`hooks see decoded events (${host})`, async (t) => {
    const seen: string[] = []
    const { upstream, front } = await proxied(t, { transform: ({ data }) => void seen.push(data) }, { host })
    const client = front.request()
    const exchange = await upstream.next()

    exchange.stream({ 'content-encoding': 'deflate' }).end(zlib.deflateSync('data: one\n\ndata: two\n\n'))

    assert.equal(await client.whole(), 'data: one\n\ndata: two\n\n')
    assert.deepEqual(seen, ['one', 'two'])
  })

  test(`a compressed ordinary response passes as it is (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, {}, { host })
    const body = zlib.gzipSync('{"compressed":true}')
    const client = front.request('', { headers: { 'accept-encoding': 'gzip' } })
    const exchange = await upstream.next()

    exchange.answer(200, { 'content-type': 'application/json', 'content-encoding': 'gzip' }, body)
    await client.ended()

    assert.equal(client.headers['content-encoding'], 'gzip')
    assert.deepEqual(client.bytes, body)
  })
}

test('a small compressed stream that unfolds to very much does not fill the memory', async (t) => {
  const { upstream, front } = await proxied(t, { timeouts: { writeMs: 300 } })
  const client = front.request()
  const exchange = await upstream.next()
  const stream = exchange.stream({ 'content-encoding': 'gzip' })
  await client.head()
  client.pause()
  const before = process.memoryUsage().arrayBuffers
  let peak = 0
  const sampling = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage().arrayBuffers - before)
  }, 10)
  t.after(() => clearInterval(sampling))

  // 512 MiB of one long line in half a megabyte.
  const part = zlib.gzipSync(Buffer.alloc(64 * 1024 * 1024, 'x'))
  for (let count = 0; count < 8; count += 1) stream.write(part)
  await exchange.leftByPeer(60_000)

  clearInterval(sampling)
  assert.ok(peak < 256 * 1024 * 1024, `${Math.round(peak / 1024 / 1024)} MiB more`)
})
