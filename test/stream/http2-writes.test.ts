// What is known of a response over HTTP/2: whether anything refers to the memory that was written from.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { connect, createServer, type ServerHttp2Stream } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { type TestContext, test } from 'node:test'
import { Http2Writes } from '../../src/stream/http2-writes.ts'
import { until } from '../support/waiting.ts'

const windowBytes = 65_535

/** A response on its way to a client, whose body is `received` as far as the client reads. */
async function arrange(t: TestContext) {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const session = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  t.after(() => {
    session.destroy()
    server.close()
  })
  const request = session.request({ ':path': '/' })
  request.on('error', () => {})
  const [, response] = await once(server, 'request')
  // Responses of HTTP/2 pass for those of HTTP/1.
  const res: ServerResponse & { readonly stream: ServerHttp2Stream } = response
  res.stream.on('error', () => {})
  res.flushHeaders()
  return { res, request }
}

test('memory is referred to until the client’s window has room for all that lies in it', async (t) => {
  const { res, request } = await arrange(t)
  const writes = Http2Writes.of(res, res.stream)
  const [first, second] = [Buffer.alloc(windowBytes, 'a'), Buffer.alloc(windowBytes, 'b')]

  writes?.write(first)
  writes?.write(second.subarray(1))
  const atOnce = [writes?.referTo(first), writes?.referTo(second)]
  await until(() => !writes?.referTo(first), 'the first to have left')
  const whileFull = writes?.referTo(second)
  request.resume()
  await until(() => !writes?.referTo(second), 'the second to have left')

  assert.deepEqual([atOnce, whileFull], [[true, true], true])
})

test('many small writes that waited for a client leave without a long turn', async (t) => {
  const { res, request } = await arrange(t)
  const writes = Http2Writes.of(res, res.stream)
  const last = Buffer.alloc(16, 'b')
  for (let count = 0; count < 200_000; count++) writes?.write(Buffer.from('data: a\n\n'))
  writes?.write(last)
  const before = process.cpuUsage()

  request.resume()
  await until(() => !writes?.referTo(last), 'the last to have left')

  const { user } = process.cpuUsage(before)
  assert.ok(user < 3_000_000, `${user} us for 200 000 writes`)
})

test('a middleware that replaces a method that writes in the middle gets memory of its own', async (t) => {
  const [one, other] = [await arrange(t), await arrange(t)]
  const writes = [Http2Writes.of(one.res, one.res.stream), Http2Writes.of(other.res, other.res.stream)]
  const [given, kept]: [Buffer, Buffer[]] = [Buffer.from('data: a\n\n'), []]
  one.res.write = (bytes: Buffer) => kept.push(bytes) > 0
  other.res.stream.write = (bytes: Buffer) => kept.push(bytes) > 0

  for (const one of writes) one?.write(given)

  assert.deepEqual(kept, [given, given])
  assert.ok(kept.every(({ buffer, byteOffset }) => buffer !== given.buffer || byteOffset !== given.byteOffset))
  // Its callback may never be called.
  assert.deepEqual(
    writes.map((one) => one?.referTo(given)),
    [false, false],
  )
})

test('memory of a response that was given up is referred to for good', async (t) => {
  const { res } = await arrange(t)
  const writes = Http2Writes.of(res, res.stream)
  const bytes = Buffer.alloc(3 * windowBytes)

  writes?.write(bytes)
  res.stream.destroy()
  await once(res.stream, 'close')
  await new Promise((resolve) => setImmediate(resolve))

  assert.equal(writes?.referTo(bytes), true)
})

test('nothing is known where a middleware has replaced a method that writes', async (t) => {
  const [one, other] = [await arrange(t), await arrange(t)]

  one.res.write = () => true
  other.res.stream.write = () => true

  assert.equal(Http2Writes.of(one.res, one.res.stream), undefined)
  assert.equal(Http2Writes.of(other.res, other.res.stream), undefined)
})
