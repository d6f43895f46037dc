// What the upstream sent is what the client gets, byte for byte, unless a hook replaced an event.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { anyText } from '../support/any-text.ts'
import { hostsByProtocol } from '../support/front.ts'
import { interpret } from '../support/oracle.ts'
import { proxied, type SseProxyOptions } from '../support/proxied.ts'

type Hook = Extract<NonNullable<SseProxyOptions['transform']>, (...args: never[]) => unknown>

const oddStreams: Record<string, string | Buffer> = {
  comments: ': one\n:two\n\ndata: x\n: inside\ndata: y\n\n:\n\n',
  'unknown fields': 'data: x\nfoo: bar\nbaz\n\nfoo\n\n',
  'blocks of nothing but an id': 'id: 1\n\nid\n\nid:\n\nid: 2\ndata: x\n\n',
  'odd spacing': 'data:x\ndata:  y\ndata :z\n data: w\nevent:\tq\n\n',
  'retry lines': 'retry: 10\n\nretry: 1e3\nretry:\nretry: -1\ndata: x\n\nretry: 5 \n',
  'many blank lines': '\n\n\n\ndata: x\n\n\n\n\n',
  'a byte order mark': '\uFEFFdata: x\n\n\uFEFFdata: y\n\n',
  'CR alone': 'data: x\r\rdata: y\r\r: c\r',
  'line ends of every kind': 'data: a\r\ndata: b\rdata: c\n\r\ndata: d\r\r\n\n\r\ndata: e\n\n',
  'a NUL in an id': 'id: a\0b\ndata: x\n\n',
  'bytes that are not UTF-8': Buffer.from([...Buffer.from('data: '), 0xff, 0xc3, 0x28, 0x80, 0x0a, 0x0a]),
  'characters of four bytes': 'data: 😀𝄞\nevent: 名前\nid: 日本\n\n',
  'a very long line': `data: ${'x'.repeat(300_000)}\n\ndata: y\n\n`,
  'a tail without a blank line': 'data: x\n\ndata: tail',
  'nothing at all': '',
  'no event': 'just text',
}

const ways: { name: string; options: Partial<SseProxyOptions> }[] = [
  { name: 'passed through', options: {} },
  { name: "with framing 'bytes'", options: { framing: 'bytes' } },
  { name: 'through a hook that changes nothing', options: { transform: () => {} } },
  { name: 'through two hooks, one of them async', options: { transform: [() => {}, async () => {}] } },
]

for (const { name, options } of ways) {
  for (const [what, content] of Object.entries(oddStreams)) {
    test(`${what} arrive as they were sent, ${name}`, async (t) => {
      const { upstream, front } = await proxied(t, options)
      const client = front.request()
      const exchange = await upstream.next()

      exchange.stream().end(content)

      assert.equal(await client.ended(), 'clean')
      assert.deepEqual(client.bytes, Buffer.from(content as string))
    })
  }

  test(`any mix of lines, line ends and splits arrives as it was sent, ${name}`, async (t) => {
    const { upstream, front } = await proxied(t, options)

    await fc.assert(
      fc.asyncProperty(streamInParts, async (parts) => {
        const client = front.request()
        const exchange = await upstream.next()
        const stream = exchange.stream()
        for (const part of parts) stream.write(part)
        stream.end()

        assert.equal(await client.ended(), 'clean')
        assert.deepEqual(client.bytes, Buffer.concat(parts))
      }),
      { seed: 20_260_101, numRuns: 150 },
    )
  })
}

for (const host of hostsByProtocol) {
  for (const { name, options } of ways) {
    test(`events of all sizes keep their order, ${name} (${host})`, async (t) => {
      const { upstream, front } = await proxied(t, options, { host })
      const sizes = fc.array(fc.constantFrom(0, 1, 100, 4_000, 17_000, 70_000, 300_000), {
        minLength: 1,
        maxLength: 12,
      })

      await fc.assert(
        fc.asyncProperty(sizes, fc.boolean(), async (lengths, inOneGo) => {
          const client = front.request()
          const exchange = await upstream.next()
          const stream = exchange.stream()
          const events = lengths.map((length, at) => Buffer.from(`id: ${at}\ndata: ${'x'.repeat(length)}\n\n`))
          for (const part of inOneGo ? [Buffer.concat(events)] : events) stream.write(part)
          stream.end()

          assert.equal(await client.ended(), 'clean')
          assert.ok(client.bytes.equals(Buffer.concat(events)), `sizes ${lengths}`)
        }),
        { seed: 20_260_105, numRuns: 20 },
      )
    })
  }

  test(`a hook sees the events that the standard's rules give (${host})`, async (t) => {
    let seen: { type: string; data: string }[] = []
    let lastEventId = ''
    const options: Partial<SseProxyOptions> = {
      transform: ({ event, data }) => {
        seen.push({ type: event === undefined || event === '' ? 'message' : event, data })
      },
      onEnd: (stream) => {
        lastEventId = stream.lastEventId ?? ''
      },
    }
    const { upstream, front } = await proxied(t, options, { host })

    await fc.assert(
      fc.asyncProperty(streamInParts, async (parts) => {
        parts.push(Buffer.from('\n\n'))
        seen = []
        lastEventId = ''
        const client = front.request()
        const exchange = await upstream.next()
        const stream = exchange.stream()
        for (const part of parts) stream.write(part)
        stream.end()
        await client.ended()
        const expected = interpret(Buffer.concat(parts))

        assert.deepEqual(
          seen,
          expected.events.map(({ type, data }) => ({ type, data })),
        )
        assert.equal(lastEventId, expected.lastEventId)
      }),
      { seed: 20_260_102, numRuns: 150 },
    )
  })
}

for (const [name, wait] of [
  ['at once', () => undefined],
  ['after some thought', (length: number) => (length % 2 === 0 ? Promise.resolve() : undefined)],
] as const) {
  test(`a hook that drops and replaces events ${name} leaves exactly the others`, async (t) => {
    const decide: Hook = (event) => {
      if (event.data.length % 3 === 0) return null
      if (event.data.length % 3 === 1) return { ...event, data: `${event.data}!` }
    }
    const transform: Hook = (event, stream) => {
      const waiting = wait(event.data.length)
      return waiting ? waiting.then(() => decide(event, stream)) : decide(event, stream)
    }
    const { upstream, front } = await proxied(t, { transform })

    await fc.assert(
      fc.asyncProperty(streamInParts, async (parts) => {
        parts.push(Buffer.from('\n\n'))
        const client = front.request()
        const exchange = await upstream.next()
        const stream = exchange.stream()
        for (const part of parts) stream.write(part)
        stream.end()
        await client.ended()
        const sent = interpret(Buffer.concat(parts))

        const expected = sent.events
          .filter(({ data }) => data.length % 3 !== 0)
          .map((event) => (event.data.length % 3 === 1 ? { ...event, data: `${event.data}!` } : event))
        const received = interpret(client.bytes)
        assert.deepEqual(received.events, expected)
        assert.equal(received.lastEventId, sent.lastEventId)
      }),
      { seed: 20_260_104, numRuns: 300 },
    )
  })
}

const lineContent = fc.oneof(
  fc.constantFrom(
    '',
    'data',
    'data:',
    'data: x',
    'data:  two',
    'data:é😀',
    'id',
    'id: 7',
    'id:ü',
    'id: a\0b',
    'event: tick',
  ),
  fc.constantFrom(
    'event:',
    'event',
    'retry: 5',
    'retry: x',
    ':',
    ': comment',
    'foo: bar',
    ' data: x',
    'Data: x',
    'data: a:b',
  ),
  anyText({ maxLength: 12 }).map((text) => text.replaceAll(/[\r\n\uFEFF\uD800-\uDFFF]/g, '')),
)
const lineEnd = fc.constantFrom('\n', '\r', '\r\n', '\n\n', '\r\r', '\r\n\r\n')

/** A stream of likely lines, cut into parts at random bytes. */
const streamInParts: fc.Arbitrary<Buffer[]> = fc
  .record({
    mark: fc.constantFrom('', '', '', '\uFEFF'),
    lines: fc.array(fc.tuple(lineContent, lineEnd), { maxLength: 30 }),
    tail: fc.constantFrom('', '', 'data: tail', 'id: 9'),
    cuts: fc.array(fc.nat({ max: 400 }), { maxLength: 12 }),
  })
  .map(({ mark, lines, tail, cuts }) => {
    const bytes = Buffer.from(mark + lines.map(([line, end]) => line + end).join('') + tail)
    const places = [...new Set(cuts.filter((cut) => cut > 0 && cut < bytes.length))].sort((a, b) => a - b)
    return [...places, bytes.length].map((place, at) => bytes.subarray(at === 0 ? 0 : places[at - 1], place))
  })
