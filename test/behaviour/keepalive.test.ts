// Comments keep a silent stream alive: only in silence, never inside an event, and not before a byte order mark counts.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { sseProxy } from 'sse-proxy-middleware'
import type { Client } from '../support/client.ts'
import { type Host, hostsByProtocol } from '../support/front.ts'
import { interpret } from '../support/oracle.ts'
import { proxied, rawProxied } from '../support/proxied.ts'
import { until } from '../support/waiting.ts'

const mark = '\uFEFF'

/** What may come when the client has already been told that it is an event stream. */
const lateFailures: { name: string; answer?: string }[] = [
  { name: 'a reset' },
  { name: 'an error status', answer: 'HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope' },
  { name: 'no content', answer: 'HTTP/1.1 204 No Content\r\n\r\n' },
  {
    name: 'an answer that is no event stream',
    answer: 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 6\r\n\r\n"nope"',
  },
]

for (const host of hostsByProtocol) {
  test(`a silent stream gets comments, again and again (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, { keepalive: 20 }, { host })
    const client = front.request()
    const stream = (await upstream.next()).stream()

    await client.waitFor(() => keepalivesIn(client) >= 3)
    stream.end('data: x\n\n')

    await client.ended()
    assert.deepEqual(dataOf(client), ['x'])
  })

  test(`with blankLine: false a comment is one line, and the event behind it is whole (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, { keepalive: { intervalMs: 20, blankLine: false } }, { host })
    const client = front.request()
    const stream = (await upstream.next()).stream()
    stream.write('data: one\n\ndata: tw')

    await client.waitFor(': keepalive\n: keepalive\n')
    stream.end('o\n\n')

    await client.ended()
    assert.match(client.text, /^(: keepalive\n)*data: one\n\n(: keepalive\n)+data: two\n\n$/)
    assert.deepEqual(dataOf(client), ['one', 'two'])
  })

  test(`no comment cuts or completes an event that is under way (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, { keepalive: 20 }, { host })
    const client = front.request()
    const stream = (await upstream.next()).stream()
    stream.write('data: one\n\nevent: tick\ndata: first line\n')
    await client.waitFor(() => keepalivesIn(client) >= 3)

    stream.write('data: second line\n\n')
    await client.waitFor('second line')

    assert.deepEqual(
      interpret(client.bytes).events.map(({ type, data }) => `${type}: ${data}`),
      ['message: one', 'tick: first line\nsecond line'],
    )
  })

  test(`with framing 'bytes' no comment gets into an event (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, { keepalive: 20, framing: 'bytes' }, { host })
    const client = front.request()
    const stream = (await upstream.next()).stream()
    await client.waitFor(() => keepalivesIn(client) >= 1)
    stream.write('event: tick\ndata: ha')
    await client.waitFor('data: ha')
    await severalIntervals(t, host)
    stream.write('lf\n')
    await client.waitFor('lf\n')
    await severalIntervals(t, host)
    stream.write('data: more\n\n')
    await client.waitFor('more\n\n')
    const after = keepalivesIn(client)
    await client.waitFor(() => keepalivesIn(client) > after)

    assert.ok(client.text.includes('event: tick\ndata: half\ndata: more\n\n'), JSON.stringify(client.text))
  })

  test(`no comment gets into an event that is larger than limits.eventBytes (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, { keepalive: 20, limits: { eventBytes: 1024 } }, { host })
    const client = front.request()
    const stream = (await upstream.next()).stream()
    stream.write(`data: ${'x'.repeat(5_000)}`)
    await client.waitFor('x'.repeat(2_000))
    await severalIntervals(t, host)

    stream.write('y\ndata: z\n\n')
    await client.waitFor('y\ndata: z\n\n')

    assert.equal(client.text.slice(client.text.indexOf('data:')), `data: ${'x'.repeat(5_000)}y\ndata: z\n\n`)
  })

  test(`a busy stream gets none (${host})`, async (t) => {
    const intervalMs = 1_000
    const { upstream, front } = await proxied(t, { keepalive: intervalMs }, { host })
    const client = front.request()
    const stream = (await upstream.next()).stream()
    await client.head()

    let longestGap = 0
    let last = performance.now()
    for (const began = last; last - began < 1.5 * intervalMs; ) {
      stream.send({ data: `at ${last}` })
      await client.waitFor(`at ${last}\n\n`)
      longestGap = Math.max(longestGap, performance.now() - last)
      last = performance.now()
    }

    // On a machine that stood still for so long, a comment would be right.
    if (longestGap > intervalMs / 2) return t.diagnostic(`inconclusive: a gap of ${longestGap} ms`)
    assert.equal(keepalivesIn(client), 0)
  })

  test(`keepalive: false writes nothing (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, { keepalive: false }, { host })
    const client = front.request()
    const stream = (await upstream.next()).stream()
    await client.head()

    await severalIntervals(t, host)
    stream.end('data: x\n\n')

    assert.equal(await client.whole(), 'data: x\n\n')
  })

  test(`the comment may be any text (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, { keepalive: { intervalMs: 20, comment: 'still here é' } }, { host })
    const client = front.request()
    const stream = (await upstream.next()).stream()

    await client.waitFor((text) => /^: ?still here é$/m.test(text))
    stream.end('data: x\n\n')

    await client.ended()
    assert.deepEqual(dataOf(client), ['x'])
  })

  test(`an ordinary response gets none (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, { keepalive: 20 }, { host })
    const client = front.request()
    const exchange = await upstream.next()
    exchange.res.writeHead(200, { 'content-type': 'application/json' }).write('{"slow":')
    await client.waitFor('{"slow":')

    await severalIntervals(t, host)
    exchange.res.end('true}')

    assert.equal(await client.whole(), '{"slow":true}')
  })

  test(`the first event counts when the upstream begins with a byte order mark after a comment (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, { keepalive: 20 }, { host })
    const client = front.request()
    const stream = (await upstream.next()).stream()
    await client.waitFor(() => keepalivesIn(client) >= 1)

    stream.end(`${mark}data: first\n\ndata: second\n\n`)
    await client.ended()

    assert.deepEqual(dataOf(client), ['first', 'second'])
  })

  test(`a byte order mark that comes in pieces after a comment does no harm either (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, { keepalive: 20 }, { host })
    const client = front.request()
    const stream = (await upstream.next()).stream()
    await client.waitFor(() => keepalivesIn(client) >= 1)

    for (const byte of Buffer.from(`${mark}data: first\n\n`)) stream.write(Buffer.of(byte))
    await client.waitFor('first\n\n')

    assert.deepEqual(dataOf(client), ['first'])
  })

  test(`a stalled client gets no heap of comments (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, { keepalive: 10 }, { host })
    const client = front.request()
    const exchange = await upstream.next()
    const stream = exchange.stream()
    await client.head()
    client.pause()
    let isStuck = false
    const event = `data: ${'x'.repeat(256 * 1024)}\n\n`
    for (let sent = 0; sent < 200; sent += 1) isStuck = !stream.write(event)

    await severalIntervals(t, host, 20)
    client.resume()
    await client.waitForLength(200 * event.length, 60_000)

    assert.ok(isStuck)
    // Between two events there is room for some; the time of standstill would have given forty in a row.
    const inARow = Math.max(
      ...client.text.split(/data: x+\n\n/).map((between) => between.length / ': keepalive'.length),
    )
    assert.ok(inARow < 10, `${inARow} comments in a row`)
    assert.equal(interpret(client.bytes).events.length, 200)
  })

  test(`openAfterMs opens the response while the upstream is still thinking (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, { keepalive: { intervalMs: 20, openAfterMs: 50 } }, { host })
    const client = front.request('', { headers: { accept: 'text/event-stream' } })
    const exchange = await upstream.next()

    await client.waitFor(() => keepalivesIn(client) >= 2)
    exchange.stream().end(`${mark}data: at last\n\n`)
    await client.ended()

    assert.equal(client.status, 200)
    assert.match(String(client.headers['content-type']), /^text\/event-stream/)
    assert.equal(client.ending, 'clean')
    assert.deepEqual(dataOf(client), ['at last'])
  })

  for (const { name, answer } of lateFailures) {
    test(`after openAfterMs ${name} breaks the transfer (${host})`, async (t) => {
      const { upstream, front } = await rawProxied(t, { keepalive: { intervalMs: 20, openAfterMs: 20 } }, { host })
      const client = front.request('', { headers: { accept: 'text/event-stream' } })
      const conversation = await upstream.next()
      await client.waitFor(() => keepalivesIn(client) >= 1)

      if (answer === undefined) conversation.reset()
      else conversation.send(answer)

      assert.equal(await client.ended(), 'broken')
      assert.deepEqual(dataOf(client), [])
      assert.doesNotMatch(client.text, /nope/)
    })
  }

  test(`an upstream that answers before openAfterMs is told with its own status (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, { keepalive: { intervalMs: 20, openAfterMs: 10_000 } }, { host })
    const client = front.request('', { headers: { accept: 'text/event-stream' } })
    const exchange = await upstream.next()

    exchange.answer(404, { 'content-type': 'text/plain' }, 'nope')

    assert.equal((await client.head()).status, 404)
    assert.equal(await client.whole(), 'nope')
  })
}

test('a comment with a line end in it is refused when the middleware is made', () => {
  for (const comment of ['a\nb', 'a\rb', 'a\r\n\r\ndata: x']) {
    assert.throws(
      () => sseProxy({ target: 'http://127.0.0.1:1', keepalive: { intervalMs: 1_000, comment } }),
      (error: unknown) => error instanceof TypeError && /keepalive\.comment/.test(error.message),
    )
  }
})

test('comments never become events, whatever the line ends of the stream are', async (t) => {
  for (const end of ['\n', '\r', '\r\n']) {
    const { upstream, front } = await proxied(t, { keepalive: 20 })
    const client = front.request()
    const stream = (await upstream.next()).stream()

    for (let count = 0; count < 3; count += 1) {
      stream.write(`event: tick${end}data: ${count}${end}${end}`)
      const seen = keepalivesIn(client)
      await client.waitFor(() => keepalivesIn(client) > seen)
    }
    stream.end()
    await client.ended()

    assert.deepEqual(
      interpret(client.bytes).events.map(({ type, data }) => type + data),
      ['tick0', 'tick1', 'tick2'],
    )
  }
})

function keepalivesIn(client: Client): number {
  return client.text.match(/^: ?keepalive$/gm)?.length ?? 0
}

function dataOf(client: Client): string[] {
  return interpret(client.bytes).events.map(({ data }) => data)
}

/** Waits until a silent stream next to the one in question has got some comments: so much time has passed. */
async function severalIntervals(t: TestContext, host: Host, count = 4): Promise<void> {
  const { upstream, front } = await proxied(t, { keepalive: 20 }, { host })
  const clock = front.request()
  const exchange = await upstream.next()
  exchange.stream()
  await until(() => keepalivesIn(clock) >= count, `${count} comments`)
  clock.close()
  await exchange.leftByPeer()
}
