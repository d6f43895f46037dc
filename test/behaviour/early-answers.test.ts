// An upstream that answers before it has the whole body: what is left of that body is nobody else's request, neither
// on the client's connection nor on the upstream's.
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { test } from 'node:test'
import { proxied, type SseProxyOptions } from '../support/proxied.ts'
import { areOverHttp2 } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

const smuggled = 'GET /stream?smuggled HTTP/1.1\r\nHost: x\r\n\r\n'

const framings = {
  'Content-Length': { header: 'Content-Length: 2000000', part: (text: string) => text, end: '' },
  chunks: {
    header: 'Transfer-Encoding: chunked',
    part: (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`,
    end: '0\r\n\r\n',
  },
}

const ways: [name: string, options: Partial<SseProxyOptions>][] = [
  ['', {}],
  [', with retries', { retry: { attempts: 2, methods: ['POST'] } }],
]

for (const [way, options] of ways) {
  for (const [framing, { header, part, end }] of Object.entries(framings)) {
    test(`the rest of an upload in ${framing} that was answered early is no request on connections used before and after${way}`, async (t) => {
      const { upstream, front } = await proxied(t, options)
      const socket = connect(front.port, '127.0.0.1')
      t.after(() => socket.destroy())
      let received = ''
      socket.on('data', (bytes: Buffer) => {
        received += bytes.toString('latin1')
      })
      socket.write('GET /events?before HTTP/1.1\r\nHost: x\r\n\r\n')
      ;(await upstream.next()).answer(200, { 'content-length': '6' }, 'first;')
      await until(() => received.includes('first;'), 'the first answer')

      socket.write(`POST /events?upload HTTP/1.1\r\nHost: x\r\n${header}\r\n\r\n${part('x'.repeat(1_000_000))}`)
      ;(await upstream.next()).answer(413, { 'content-length': '4' }, 'big;')
      await until(() => received.includes('big;'), 'the early answer')
      const rest = smuggled.padEnd(1_000_000, '\r\n')
      socket.write(part(rest) + end)
      socket.write('GET /events?after HTTP/1.1\r\nHost: x\r\n\r\n')
      ;(await upstream.next()).stream().end('data: last\n\n')
      await until(() => received.includes('data: last'), 'the last answer')

      assert.deepEqual(
        upstream.exchanges.map(({ url }) => url),
        ['/stream?before', '/stream?upload', '/stream?after'],
      )
      assert.deepEqual(received.match(/HTTP\/1\.1 \d+/g), ['HTTP/1.1 200', 'HTTP/1.1 413', 'HTTP/1.1 200'])
      socket.destroy()
    })
  }
}

for (const [way, options] of ways) {
  for (const [framing, { header, part }] of Object.entries(framings)) {
    test(`an upload in ${framing} that was answered early and never comes on holds no upstream connection${way}`, async (t) => {
      const { upstream, front } = await proxied(t, options)
      const socket = connect(front.port, '127.0.0.1')
      t.after(() => socket.destroy())
      socket.resume().write(`POST /events HTTP/1.1\r\nHost: x\r\n${header}\r\n\r\n${part('a part')}`)

      ;(await upstream.next()).answer(413, { 'content-length': '4' }, 'big;')

      // Over HTTP/2 the connection is not the request's.
      await until(() => (areOverHttp2 ? upstream.open : upstream.connections) === 0, 'the upstream to be left')
      assert.equal(front.connections, 1)
      socket.destroy()
    })
  }
}

test('an event stream that begins before its request has come in full goes on beside it', async (t) => {
  const { upstream, front } = await proxied(t)
  const headers = { 'transfer-encoding': 'chunked' }
  const client = front.request('', { method: 'POST', headers, sendsBodyLater: true })
  client.send('5\r\nfirst\r\n')
  const exchange = await upstream.next()
  const stream = exchange.stream()
  stream.send({ data: 'early' })
  await client.waitFor('early')

  client.send('6\r\nsecond\r\n0\r\n\r\n')
  const body = await exchange.body()
  stream.send({ data: 'late' })
  stream.end()

  assert.equal(String(body), 'firstsecond')
  assert.equal(await client.whole(), 'data: early\n\ndata: late\n\n')
})
