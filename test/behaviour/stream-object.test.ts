// The stream that hooks and observers are given: what it knows, what it can do, and when they are called.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Front, hostsByProtocol, type Middleware } from '../support/front.ts'
import { interpret } from '../support/oracle.ts'
import { proxied, rawProxied, type SseProxyOptions } from '../support/proxied.ts'
import { chunk, streamHead } from '../support/raw-upstream.ts'
import type { Upstream } from '../support/upstream.ts'
import { gate, until, within } from '../support/waiting.ts'

type Stream = Parameters<NonNullable<SseProxyOptions['onOpen']>>[0]

for (const host of hostsByProtocol) {
  test(`it tells the request, the upstream, the cursor and how much has passed (${host})`, async (t) => {
    const opened = gate<Stream>()
    const mark: Middleware = (req, _res, next) => {
      req.user = 'ada'
      next()
    }
    const options: Partial<SseProxyOptions> = { onOpen: (stream) => opened.open(stream) }
    const { upstream, front } = await proxied(t, options, { host, before: [mark] })
    const client = front.request('?x=1', { headers: { 'last-event-id': 'theirs' } })
    const exchange = await upstream.next()
    const before = Date.now()
    const sending = exchange.stream()
    const stream = await within(opened.promise, 'onOpen')
    const idAtFirst = stream.lastEventId

    sending.write('id: ü1\ndata: one\n\nid: 2\n\ndata: two\n\nid: 3\ndata: unfin')
    await client.waitFor('data: two\n\n')

    assert.equal((stream.req as { user?: string }).user, 'ada')
    assert.ok(stream.upstream.includes(String(upstream.port)), stream.upstream)
    assert.equal(idAtFirst, 'theirs')
    assert.equal(stream.lastEventId, '2')
    assert.equal(stream.events, 2)
    assert.equal(stream.bytes, Buffer.byteLength('id: ü1\ndata: one\n\nid: 2\n\ndata: two\n\n'))
    assert.ok(stream.openedAt >= before - 1_000 && stream.openedAt <= Date.now())
    assert.equal(stream.signal.aborted, false)
    assert.equal(typeof stream.id, 'string')
    sending.end()
    await client.ended()
    await until(() => stream.signal.aborted, 'the signal')
  })

  test(`credentials in the target are not told by stream.upstream (${host})`, async (t) => {
    const opened = gate<Stream>()
    const { upstream, front } = await proxied(
      t,
      ({ port }) => ({
        target: `http://user:hunter2@127.0.0.1:${port}/stream`,
        onOpen: (stream) => opened.open(stream),
      }),
      { host },
    )
    front.request()
    ;(await upstream.next()).stream()

    const stream = await within(opened.promise, 'onOpen')

    assert.doesNotMatch(stream.upstream, /hunter2/)
  })

  test(`each stream has an id and locals of its own, the same from the first hook to the last (${host})`, async (t) => {
    const seen: string[] = []
    const options: Partial<SseProxyOptions> = {
      onOpen: (stream) => {
        stream.locals.name = stream.req.url?.includes('a') ? 'a' : 'b'
      },
      transform: (_event, stream) => void seen.push(`hook ${stream.locals.name}`),
      onEnd: (stream) => void seen.push(`end ${stream.locals.name}`),
      onClose: (stream, reason) => void seen.push(`close ${stream.locals.name} ${reason}`),
    }
    const { upstream, front } = await proxied(t, options, { host })

    for (const name of ['a', 'b']) {
      const client = front.request(`?${name}`)
      const exchange = await upstream.next()
      exchange.stream().end('data: x\n\n')
      await client.ended()
      await until(() => seen.includes(`close ${name} upstream-ended`), 'onClose')
    }

    assert.deepEqual(seen, [
      ...['hook a', 'end a', 'close a upstream-ended'],
      ...['hook b', 'end b', 'close b upstream-ended'],
    ])
  })

  test(`onOpen may hold the stream up until it is done (${host})`, async (t) => {
    const ready = gate()
    const order: string[] = []
    const options: Partial<SseProxyOptions> = {
      onOpen: async () => {
        await ready.promise
        order.push('open')
      },
      transform: () => void order.push('event'),
    }
    const { upstream, front } = await proxied(t, options, { host })
    const client = front.request()
    const exchange = await upstream.next()
    exchange.stream().write('data: x\n\n')

    ready.open()
    await client.waitFor('data: x\n\n')

    assert.deepEqual(order, ['open', 'event'])
  })

  test(`onOpen may send the first event, onEnd the last (${host})`, async (t) => {
    const options: Partial<SseProxyOptions> = {
      onOpen: (stream) => void stream.send({ event: 'hello', data: 'first' }),
      onEnd: (stream) => void stream.send({ event: 'bye', data: 'last' }),
    }
    const { upstream, front } = await proxied(t, options, { host })
    const client = front.request()
    const exchange = await upstream.next()

    exchange.stream().end('data: x\n\n')

    assert.deepEqual(
      interpret(await client.whole()).events.map(({ type, data }) => `${type} ${data}`),
      ['hello first', 'message x', 'bye last'],
    )
  })

  test(`onEnd is not called for a stream that broke off (${host})`, async (t) => {
    const calls: string[] = []
    const options: Partial<SseProxyOptions> = {
      onEnd: () => void calls.push('end'),
      onClose: (_stream, reason) => void calls.push(reason),
    }
    const { upstream, front } = await rawProxied(t, options, { host })
    const client = front.request()
    const conversation = await upstream.next()
    conversation.send(streamHead)
    conversation.send(chunk('data: x\n\n'))
    await client.waitFor('data: x')

    conversation.reset()
    await client.ended()
    await until(() => calls.length > 0, 'onClose')

    assert.deepEqual(calls, ['upstream-lost'])
  })

  test(`stream.send puts an event between two others, never into one (${host})`, async (t) => {
    const opened = gate<Stream>()
    const { upstream, front } = await proxied(t, { onOpen: (stream) => opened.open(stream) }, { host })
    const client = front.request()
    const sending = (await upstream.next()).stream()
    const stream = await within(opened.promise, 'onOpen')
    sending.write('data: one\n\nevent: tick\ndata: tw')
    await client.waitFor('data: one\n\n')

    stream.send({ data: 'mine\nof two lines', event: 'note', id: 'n1' })
    await client.waitFor('two lines')
    sending.end('o\n\n')
    await client.ended()

    assert.deepEqual(interpret(client.bytes).events, [
      { type: 'message', data: 'one', lastEventId: '' },
      { type: 'note', data: 'mine\nof two lines', lastEventId: 'n1' },
      { type: 'tick', data: 'two', lastEventId: 'n1' },
    ])
  })

  test(`stream.send refuses what would forge a field (${host})`, async (t) => {
    const opened = gate<Stream>()
    const { upstream, front } = await proxied(t, { onOpen: (stream) => opened.open(stream) }, { host })
    const client = front.request()
    const sending = (await upstream.next()).stream()
    const stream = await within(opened.promise, 'onOpen')

    assert.throws(() => stream.send({ data: 'x', id: '1\n2' }), TypeError)
    assert.throws(() => stream.send({ data: 'x', event: 'a\rb' }), TypeError)
    assert.throws(() => stream.send({ data: 'x', id: '\0' }), TypeError)
    sending.end('data: still fine\n\n')

    assert.equal(await client.whole(), 'data: still fine\n\n')
  })

  test(`stream.send with framing 'bytes' waits for the end of the event under way (${host})`, async (t) => {
    const opened = gate<Stream>()
    const { upstream, front } = await proxied(
      t,
      { framing: 'bytes', onOpen: (stream) => opened.open(stream) },
      { host },
    )
    const client = front.request()
    const sending = (await upstream.next()).stream()
    const stream = await within(opened.promise, 'onOpen')
    sending.write('data: tw')
    await client.waitFor('data: tw')

    stream.send({ data: 'mine' })
    sending.write('o\n\n')
    await client.waitFor('mine')
    sending.end()
    await client.ended()

    assert.deepEqual(
      interpret(client.bytes).events.map(({ data }) => data),
      ['two', 'mine'],
    )
  })

  test(`stream.close ends cleanly between two events and frees the upstream (${host})`, async (t) => {
    const opened = gate<Stream>()
    const reason = gate<string>()
    const { upstream, front } = await proxied(
      t,
      { onOpen: (stream) => opened.open(stream), onClose: (_stream, why) => reason.open(why) },
      { host },
    )
    const client = front.request()
    const exchange = await upstream.next()
    exchange.stream().write('data: one\n\ndata: tw')
    const stream = await within(opened.promise, 'onOpen')
    await client.waitFor('data: one\n\n')

    stream.close()

    assert.equal(await client.ended(), 'clean')
    assert.equal(client.text, 'data: one\n\n')
    assert.equal(await within(reason.promise, 'onClose'), 'closed')
    assert.equal(stream.signal.aborted, true)
    assert.equal(stream.send({ data: 'too late' }), false)
    await exchange.leftByPeer()
  })

  test(`stream.close may be called by a hook, whose event still leaves (${host})`, async (t) => {
    const transform: SseProxyOptions['transform'] = ({ data }, stream) => {
      if (data === '[DONE]') stream.close()
    }
    const { upstream, front } = await proxied(t, { transform }, { host })
    const client = front.request()
    const exchange = await upstream.next()

    exchange.stream().write('data: x\n\ndata: [DONE]\n\ndata: never\n\n')

    assert.equal(await client.ended(), 'clean')
    assert.doesNotMatch(client.text, /never/)
    await exchange.leftByPeer()
  })

  test(`the reason of the signal is the close reason (${host})`, async (t) => {
    const opened = gate<Stream>()
    const { upstream, front } = await proxied(t, { onOpen: (stream) => opened.open(stream) }, { host })
    const client = front.request()
    const exchange = await upstream.next()
    exchange.stream()
    const stream = await within(opened.promise, 'onOpen')
    await client.head()

    client.close()
    await until(() => stream.signal.aborted, 'the signal')

    assert.match(String(stream.signal.reason), /client-left/)
  })

  test(`an observer that throws does no harm to the stream (${host})`, async (t) => {
    const options: Partial<SseProxyOptions> = {
      onClose: () => {
        throw new Error('on purpose')
      },
    }
    const { upstream, front } = await proxied(t, options, { host })

    const ending = await oneStream(front, upstream)
    const again = await oneStream(front, upstream)

    assert.deepEqual([ending, again], ['clean', 'clean'])
  })

  for (const [name, onOpen] of [
    ['throws', () => assert.fail('on purpose')],
    ['rejects', () => Promise.reject(new Error('on purpose'))],
  ] as const) {
    test(`an onOpen that ${name} lets nothing through that would look complete (${host})`, async (t) => {
      const { upstream, front } = await proxied(t, { onOpen }, { host })
      const client = front.request()
      const exchange = await upstream.next()
      exchange.stream().write('data: secret\n\n')

      const ending = await client.ended()

      assert.ok(ending === 'broken' || client.status >= 500, `${ending} ${client.status} ${client.text}`)
      assert.doesNotMatch(client.text, /secret/)
      await exchange.leftByPeer()
    })
  }
}

test('ordinary responses open no stream', async (t) => {
  let calls = 0
  const count = (): void => {
    calls += 1
  }
  const { upstream, front } = await proxied(t, { onOpen: count, onEnd: count, onClose: count })
  const client = front.request()
  const exchange = await upstream.next()

  exchange.answer(200, {}, 'hello')
  await client.whole()

  assert.equal(calls, 0)
})

async function oneStream(front: Front, upstream: Upstream): Promise<string> {
  const client = front.request()
  const exchange = await upstream.next()
  exchange.stream().end('data: x\n\n')
  return await client.ended()
}
