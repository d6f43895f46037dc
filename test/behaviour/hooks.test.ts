// Hooks: they see every event in order and may drop, replace or split it; what they leave alone leaves as it came.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { Client } from '../support/client.ts'
import { hostsByProtocol } from '../support/front.ts'
import { interpret } from '../support/oracle.ts'
import { proxied, type SseProxyOptions } from '../support/proxied.ts'
import { gate, until, within } from '../support/waiting.ts'

type Hook = Extract<NonNullable<SseProxyOptions['transform']>, (...args: never[]) => unknown>

for (const host of hostsByProtocol) {
  test(`an event that is dropped still moves the cursor of the client (${host})`, async (t) => {
    const client = await through(t, host, ({ data }) => (data === 'secret' ? null : undefined), [
      'id: 1\ndata: open\n\n',
      'id: 2\ndata: secret\n\n',
    ])

    const { events, lastEventId } = interpret(client.bytes)
    assert.deepEqual(
      events.map(({ data }) => data),
      ['open'],
    )
    assert.equal(lastEventId, '2')
    assert.doesNotMatch(client.text, /secret/)
  })

  test(`an empty array drops as well, and an event without an id leaves no trace (${host})`, async (t) => {
    const client = await through(t, host, () => [], ['data: one\n\n', 'event: x\ndata: two\n\n'])

    assert.deepEqual(interpret(client.bytes).events, [])
    assert.doesNotMatch(client.text, /one|two|event/)
  })

  test(`a dropped event with an empty id resets the cursor (${host})`, async (t) => {
    const client = await through(t, host, ({ data }) => (data === 'drop' ? null : undefined), [
      'id: 1\ndata: keep\n\n',
      'id\ndata: drop\n\n',
    ])

    assert.equal(interpret(client.bytes).lastEventId, '')
  })

  test(`an event is replaced (${host})`, async (t) => {
    const client = await through(t, host, (event) => ({ ...event, data: event.data.toUpperCase() }), [
      'event: tick\nid: 1\ndata: grüße 😀\n\n',
      'data: two\ndata: lines\n\n',
    ])

    assert.deepEqual(interpret(client.bytes).events, [
      { type: 'tick', data: 'GRÜSSE 😀', lastEventId: '1' },
      { type: 'message', data: 'TWO\nLINES', lastEventId: '1' },
    ])
  })

  test(`an event is split into several (${host})`, async (t) => {
    const client = await through(
      t,
      host,
      ({ data, id }) => data.split(',').map((part, at) => ({ data: part, id: `${id}-${at}`, event: 'part' })),
      ['id: 1\ndata: a,b,c\n\n'],
    )

    assert.deepEqual(interpret(client.bytes).events, [
      { type: 'part', data: 'a', lastEventId: '1-0' },
      { type: 'part', data: 'b', lastEventId: '1-1' },
      { type: 'part', data: 'c', lastEventId: '1-2' },
    ])
  })

  test(`a replacement without an id keeps the cursor right (${host})`, async (t) => {
    const client = await through(t, host, () => ({ data: 'new' }), ['id: 7\ndata: old\n\n'])

    const { events, lastEventId } = interpret(client.bytes)
    assert.equal(events[0]?.data, 'new')
    assert.equal(lastEventId, '7')
  })

  for (const [name, data] of [
    ['LF', 'a\nb'],
    ['CRLF', 'a\r\nb'],
    ['CR', 'a\rb'],
    ['a leading space', ' a'],
    ['nothing', ''],
    ['a line end at the end', 'a\n'],
    ['something like a field', 'id: 9\nevent: evil\n\ndata: forged'],
  ] as const) {
    test(`data with ${name} from a hook stays one event (${host})`, async (t) => {
      const client = await through(t, host, () => ({ data }), ['data: x\n\n'])

      const { events } = interpret(client.bytes)
      assert.equal(events.length, 1)
      assert.equal(events[0]?.type, 'message')
      assert.equal(events[0]?.data, data.replaceAll(/\r\n?/g, '\n'))
      assert.equal(events[0]?.lastEventId, '')
    })
  }

  test(`async hooks keep the order of events (${host})`, async (t) => {
    const delays = [5, 0, 3, 0, 1]
    const slow: Hook = async ({ data }) => {
      await new Promise((resolve) => setTimeout(resolve, delays[Number(data) % delays.length]))
      return { data: `${data}!` }
    }
    const sent = Array.from({ length: 40 }, (_, at) => `data: ${at}\n\n`)

    const client = await through(t, host, slow, sent)

    assert.deepEqual(
      interpret(client.bytes).events.map(({ data }) => data),
      sent.map((_, at) => `${at}!`),
    )
  })

  test(`hooks run one after the other, each on what the one before it made (${host})`, async (t) => {
    const split: Hook = ({ data }) => data.split('').map((letter) => ({ data: letter }))
    const dropB: Hook = async ({ data }) => (data === 'b' ? null : undefined)
    const mark: Hook = ({ data }) => ({ data: `<${data}>` })

    const client = await through(t, host, [split, dropB, mark], ['data: abc\n\n', 'data: d\n\n'])

    assert.deepEqual(
      interpret(client.bytes).events.map(({ data }) => data),
      ['<a>', '<c>', '<d>'],
    )
  })

  test(`an event that no hook touches leaves with its own bytes, next to one that is replaced (${host})`, async (t) => {
    const odd = ': note\nfoo: bar\ndata:x\r\nid:1\n\n'

    const client = await through(t, host, ({ data }) => (data === 'y' ? { data: 'z' } : undefined), [
      odd,
      'data: y\n\n',
      'retry: 5\n\n',
      ': bye\n\n',
    ])

    assert.ok(client.text.startsWith(odd), JSON.stringify(client.text))
    assert.ok(client.text.endsWith('retry: 5\n\n: bye\n\n'), JSON.stringify(client.text))
    assert.deepEqual(
      interpret(client.bytes).events.map(({ data }) => data),
      ['x', 'z'],
    )
  })

  test(`the upstream is paused while a hook is at work (${host})`, async (t) => {
    const hook = gate()
    const { upstream, front } = await proxied(t, { transform: () => hook.promise }, { host })
    const client = front.request()
    const exchange = await upstream.next()
    const stream = exchange.stream()
    const event = `data: ${'x'.repeat(64 * 1024)}\n\n`
    const limit = 500
    let sent = 0
    const pump = async (): Promise<void> => {
      for (; sent < limit && !exchange.res.destroyed; sent += 1) {
        if (!stream.write(event)) await new Promise((resolve) => exchange.res.once('drain', resolve))
      }
      stream.end()
    }

    const pumping = pump()
    let before = -1
    await until(() => {
      const isStill = sent === before && exchange.res.writableNeedDrain
      before = sent
      return isStill
    }, 'the upstream to be held back')
    const heldBackAt = sent
    hook.open()
    await within(pumping, 'the rest to be sent', 60_000)

    assert.ok(heldBackAt < limit, `held back after ${heldBackAt} events`)
    assert.equal(await client.ended(60_000), 'clean')
    assert.equal(client.length, limit * event.length)
  })

  const failures: [name: string, hook: Hook][] = [
    ['throws', () => assert.fail('on purpose')],
    ['rejects', () => Promise.reject(new Error('on purpose'))],
    ['returns an id with a line end', () => ({ data: 'x', id: '1\ndata: forged' })],
    ['returns an id with a NUL', () => ({ data: 'x', id: '1\0' })],
    ['returns an event name with CR', () => ({ data: 'x', event: 'a\rb' })],
    ['returns an event name with a NUL', () => ({ data: 'x', event: 'a\0' })],
    ['returns data that is no text', () => ({ data: 7 }) as never],
    ['returns something else altogether', () => 'x' as never],
    ['returns one bad event among good ones', () => [{ data: 'x' }, { data: 'y', id: 'a\nb' }]],
  ]
  for (const [name, hook] of failures) {
    test(`a hook that ${name} breaks the stream and does not let the original through (${host})`, async (t) => {
      const reason = gate<string>()
      const transform: Hook = (event, stream) => (event.data === 'secret' ? hook(event, stream) : undefined)
      const { upstream, front } = await proxied(t, { transform, onClose: (_stream, why) => reason.open(why) }, { host })
      const client = front.request()
      const exchange = await upstream.next()
      const stream = exchange.stream()
      stream.send({ data: 'fine' })
      await client.waitFor('fine')

      stream.write('data: secret\n\ndata: after\n\n')

      assert.equal(await client.ended(), 'broken')
      assert.equal(client.text, 'data: fine\n\n')
      assert.equal(await within(reason.promise, 'onClose'), 'hook-failed')
      await exchange.leftByPeer()
    })
  }

  test(`a hook that fails on the last event does not make the end look clean (${host})`, async (t) => {
    const transform: Hook = async () => {
      await new Promise((resolve) => setTimeout(resolve, 5))
      throw new Error('on purpose')
    }
    const { upstream, front } = await proxied(t, { transform }, { host })
    const client = front.request()
    const exchange = await upstream.next()

    exchange.stream().end('data: last\n\n')

    assert.equal(await client.ended(), 'broken')
    assert.equal(client.text, '')
  })

  test(`an unfinished tail does not slip past a hook (${host})`, async (t) => {
    const client = await through(t, host, () => null, ['data: one\n\n', 'data: secret'])

    assert.doesNotMatch(client.text, /secret/)
  })
}

test('a hook gets data, event and id, and changing them in place changes nothing', async (t) => {
  const seen: unknown[] = []
  const hook: Hook = (event) => {
    seen.push({ ...event })
    Reflect.set(event, 'data', 'changed')
  }

  const client = await through(t, 'express5', hook, ['event: tick\nid: 1\ndata: x\n\n', 'data: y\n\n', 'id: 2\n\n'])

  assert.equal(client.text, 'event: tick\nid: 1\ndata: x\n\ndata: y\n\nid: 2\n\n')
  assert.deepEqual((seen[0] as { data: string; event: string; id: string }).data, 'x')
  assert.deepEqual((seen[0] as { event: string }).event, 'tick')
  assert.deepEqual((seen[0] as { id: string }).id, '1')
  assert.deepEqual((seen[1] as { data: string }).data, 'y')
  assert.equal((seen[1] as { event?: string }).event, undefined)
  assert.equal((seen[1] as { id?: string }).id, undefined)
  assert.equal(seen.length, 2)
})

test('hooks see nothing of an ordinary response', async (t) => {
  let calls = 0
  const transform: Hook = () => {
    calls += 1
  }
  const { upstream, front } = await proxied(t, { transform })
  const client = front.request()
  const exchange = await upstream.next()

  exchange.answer(200, { 'content-type': 'application/json' }, '{"data":"x"}\n\n')

  assert.equal(await client.whole(), '{"data":"x"}\n\n')
  assert.equal(calls, 0)
})

/** Sends the parts through the hooks to a clean end. */
async function through(
  t: TestContext,
  host: (typeof hostsByProtocol)[number],
  transform: Hook | Hook[],
  parts: string[],
): Promise<Client> {
  const { upstream, front } = await proxied(t, { transform }, { host })
  const client = front.request()
  const exchange = await upstream.next()
  const stream = exchange.stream()
  for (const part of parts) stream.write(part)
  stream.end()
  await client.whole()
  return client
}
