// A body in chunks may bypass Node's parser, chunks and all, or be taken apart and put into new chunks, or go through
// Node alone. Nobody can tell which: here each case goes every way, and bytes, ending, close reason and counts are the same.
import assert from 'node:assert/strict'
import { Agent, type IncomingMessage, type ServerResponse } from 'node:http'
import { connect, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import type { StreamEvent } from 'sse-proxy-middleware'
import { certificate } from '../support/certificate.ts'
import type { Client } from '../support/client.ts'
import type { Front, Middleware } from '../support/front.ts'
import { interpret } from '../support/oracle.ts'
import { type Proxied, proxied, rawProxied, type SseProxy, type SseProxyOptions } from '../support/proxied.ts'
import { type Conversation, chunk, lastChunk, type RawUpstream, streamHead } from '../support/raw-upstream.ts'
import { Arrivals, until } from '../support/waiting.ts'

const lanes = ['as they are', 'made anew', 'by Node alone'] as const
type Lane = (typeof lanes)[number]

/** The options and middlewares that make a body go this way. */
function wayOf(lane: Lane): { options: { fastLane?: boolean }; before: Middleware[] } {
  return {
    options: lane === 'by Node alone' ? { fastLane: false } : {},
    before: lane === 'made anew' ? [watching] : [],
  }
}

/** Who replaces `res.write` wants to see the body. */
const watching: Middleware = (_req: unknown, res: ServerResponse, next) => {
  const write: (...args: never[]) => boolean = res.write
  res.write = (...args: never[]) => write.apply(res, args)
  next()
}

interface Closed {
  reason: string
  lastEventId: string
  events: number
  bytes: number
}

interface Setting extends Proxied<RawUpstream> {
  lane: Lane
  answers: Arrivals<IncomingMessage>
  closings: Arrivals<Closed>
}

async function setting(t: TestContext, lane: Lane, options: Partial<SseProxyOptions> = {}): Promise<Setting> {
  const answers = new Arrivals<IncomingMessage>()
  const closings = new Arrivals<Closed>()
  const arrangement = await rawProxied(
    t,
    {
      onClose: ({ lastEventId, events, bytes }, reason) =>
        closings.add({ reason, lastEventId: lastEventId ?? '', events, bytes }),
      ...wayOf(lane).options,
      ...options,
      on: {
        ...options.on,
        proxyRes: (answer, req, res) => {
          options.on?.proxyRes?.(answer, req, res)
          answers.add(answer)
        },
      },
    },
    { before: wayOf(lane).before },
  )
  return { ...arrangement, lane, answers, closings }
}

/** An open stream with the upstream's side of it, which is sent read by read. */
class Wire {
  readonly client: Client
  readonly conversation: Conversation
  readonly answer: IncomingMessage

  constructor(client: Client, conversation: Conversation, answer: IncomingMessage) {
    this.client = client
    this.conversation = conversation
    this.answer = answer
  }

  /** Resolves when these bytes have been read, in a read of their own. */
  async send(bytes: string | Buffer): Promise<void> {
    const { socket } = this.answer
    const bytesRead = socket.bytesRead + Buffer.byteLength(bytes)
    this.conversation.send(bytes)
    await until(() => socket.bytesRead >= bytesRead || socket.destroyed, 'the proxy to read')
  }
}

async function open(
  { front, upstream, answers }: Pick<Setting, 'front' | 'upstream' | 'answers'>,
  start: string | Buffer = streamHead,
): Promise<Wire> {
  const client = front.request()
  const conversation = await upstream.next()
  await conversation.head()
  conversation.send(start)
  return new Wire(client, conversation, await answers.next('the answer of the upstream'))
}

/** Some turns of the event loop. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 10; turn += 1) await setImmediate()
}

function counts(proxy: SseProxy): object {
  const { active, opened, closed, errors, resumes, eventsIn, eventsOut, bytesIn, bytesOut, ...more } = proxy.stats()
  const [timed, gaps] = [more.timeToFirstEventSeconds.count, more.eventGapSeconds.count]
  // An event that is lost in its middle is not counted byte by byte.
  const received = closed['upstream-ended'] === opened && resumes === 0 ? bytesIn : 'not known'
  return { active, opened, closed, errors, resumes, eventsIn, eventsOut, received, bytesOut, timed, gaps }
}

/** Lets a case go every way. */
async function everyWay<T>(
  t: TestContext,
  options: Partial<SseProxyOptions>,
  run: (setting: Setting) => Promise<T>,
): Promise<T> {
  const results: object[] = []
  for (const lane of lanes) {
    const way = await setting(t, lane, options)
    const result = await run(way)
    await until(() => way.proxy.stats().active === 0, 'all streams to be over')
    results.push({ result, counts: counts(way.proxy), errors: way.front.errors })
  }
  for (const result of results) assert.deepEqual(result, results[0])
  return (results[0] as { result: T }).result
}

interface Outcome {
  text: string
  ending: string
  closed: Closed
}

async function outcome({ client }: Wire, { closings }: Setting): Promise<Outcome> {
  const ending = await client.ended()
  return { text: client.text, ending, closed: await closings.next('the stream to be closed') }
}

const one = 'id: 1\ndata: one\n\n'
const two = 'id: 2\ndata: two\n\n'
const three = 'id: 3\nretry: 30\ndata: three\n\n'

// Which way it is, and that nobody notices more than that.

/** What a client's connection brings, byte for byte. */
async function rawClient(t: TestContext, { port }: Front, request: string): Promise<{ socket: Socket; text: string }> {
  const socket = connect(port, '127.0.0.1')
  t.after(() => socket.destroy())
  const client = { socket, text: '' }
  socket.on('error', () => {})
  socket.on('data', (bytes) => {
    client.text += bytes.toString('latin1')
  })
  socket.write(request)
  return client
}

const get = 'GET /events HTTP/1.1\r\nHost: x\r\n\r\n'

for (const lane of lanes) {
  test(`chunks are ${lane}`, async (t) => {
    const { upstream, front, answers } = await setting(t, lane)
    const client = await rawClient(t, front, get)
    const conversation = await upstream.next()
    await conversation.head()
    conversation.send(streamHead)
    await answers.next('the answer')
    conversation.send(chunk(one))
    await until(() => client.text.includes(one), 'the first event')

    conversation.send(`0011\r\n${two}\r\n`)
    await until(() => client.text.includes(two), 'the second event')

    assert.equal(client.text.includes(`\r\n0011\r\n${two}\r\n`), lane === 'as they are')
    assert.equal(client.text.includes(`\r\n11\r\n${two}\r\n`), lane !== 'as they are')
  })
}

/** What is written to a client's connection, write by write. */
function watchWrites(writes: string[]): Middleware {
  return ({ socket }: IncomingMessage, _res, next) => {
    const write: (...args: never[]) => boolean = socket.write
    socket.write = (...args: [never, ...never[]]) => {
      writes.push(String(args[0]))
      return write.apply(socket, args)
    }
    next()
  }
}

const heldAtFirst: Partial<SseProxyOptions> = { retry: { commit: () => 'commit' } }

// More than is read at first.
const largeHead = streamHead.replace('\r\n', `\r\nX-Large: ${'x'.repeat(12_000)}\r\n`)

for (const [fastLane, options, name, head = streamHead] of [
  [true, {}, "chunks bypass Node's parser and writer"],
  [true, {}, "chunks behind a large head bypass Node's parser and writer too", largeHead],
  [true, heldAtFirst, "chunks of an answer that was held bypass Node's parser and writer too"],
  [false, {}, "without the fast lane Node's parser is never left, and its writer makes the chunks"],
] as const) {
  test(name, async (t) => {
    const writes: string[] = []
    const readers: unknown[][] = []
    let connection: Socket | undefined
    const proxyRes = ({ socket }: IncomingMessage) => {
      connection = socket
      readers.push(socket.listeners('data'))
    }
    const { upstream, front } = await rawProxied(
      t,
      { fastLane, ...options, on: { proxyRes } },
      { before: [watchWrites(writes)] },
    )
    const client = front.request()
    const conversation = await upstream.next()
    await conversation.head()
    conversation.send(head)
    for (const event of [one, two]) {
      conversation.send(chunk(event))
      await client.waitFor(event)
      readers.push(connection?.listeners('data') ?? [])
    }

    const [atHead = [], ...later] = readers
    for (const now of later) assert.equal(now.length === 1 && atHead.includes(now[0]), !fastLane)
    assert.equal(writes.includes(`11\r\n${two}\r\n`), fastLane)
    assert.equal(writes.includes(two), !fastLane)
  })
}

for (const fastLane of [true, false]) {
  test(`a large event that came in two reads is not copied to be written (${fastLane ? 'with' : 'without'} the fast lane)`, async (t) => {
    const writes: number[] = []
    const noting: Middleware = (_req, res: ServerResponse, next) => {
      const write: (...args: never[]) => boolean = res.write
      res.write = (...args: [never, ...never[]]) => {
        writes.push(Buffer.byteLength(args[0]))
        return write.apply(res, args)
      }
      next()
    }
    const answers = new Arrivals<IncomingMessage>()
    const on: SseProxyOptions['on'] = { proxyRes: (answer) => answers.add(answer) }
    const { upstream, front } = await rawProxied(t, { fastLane, on }, { before: [noting] })
    const wire = await open({ upstream, front, answers })
    await wire.send(chunk(one))
    await wire.client.waitFor(one)
    const event = `data: ${'x'.repeat(60_000)}\n\n`
    writes.length = 0

    await wire.send(chunk(event).subarray(0, 40_000))
    await wire.send(chunk(event).subarray(40_000))
    await wire.client.waitFor(event)

    assert.deepEqual(writes, [40_000 - 'ea68\r\n'.length, event.length - 40_000 + 'ea68\r\n'.length])
  })
}

// Bodies.

const inChunks = (...parts: string[]): string => parts.map(chunk).join('')

const bodies: Record<string, string> = {
  'plain events': inChunks(one, two, three) + lastChunk,
  'several events in a chunk': inChunks(one + two, three) + lastChunk,
  'events over several chunks': inChunks('id: 1\n', 'data: one\n', '\nid: 2\nda', 'ta: two\n\n', three) + lastChunk,
  'a large event and a half one in a chunk':
    inChunks(one, `data: ${'x'.repeat(9_000)}\n\nid: 2\n`, 'data\n\n') + lastChunk,
  'a large event': inChunks(one, `data: ${'x'.repeat(9_000)}\n\n`, two) + lastChunk,
  'data that looks like chunks': inChunks(one, `${two}3\r\n:\n\n\r\n11\r\n${one}\r\n`, three) + lastChunk,
  'comments and blocks without data': inChunks(': hi\n\n', 'id: 7\n\n', 'retry: 9\n\n', '\n', one) + lastChunk,
  'every line end': inChunks('data: a\r\n\r\n', one, 'data: b\r', '\rdata: c\n\n', two) + lastChunk,
  'a byte order mark': inChunks(`\uFEFF${one}`, `\uFEFF${two}`) + lastChunk,
  'an unfinished event at the end': inChunks(one, 'id: 2\ndata: tw') + lastChunk,
  'whole lines of an event at the end': inChunks(one, 'id: 2\ndata: two\n') + lastChunk,
  'an extension': `${inChunks(one)}11;a=b;c="d"\r\n${two}\r\n${inChunks(three)}${lastChunk}`,
  'odd sizes': `0000011\r\n${one}\r\n${inChunks(two)}00000000011\r\n${two}\r\n${inChunks(one)}${lastChunk}`,
  trailers: `${inChunks(one, two)}0\r\nX-Trailer: yes\r\nY: z\r\n\r\n`,
  'a last chunk with an extension': `${inChunks(one, two)}0;x\r\n\r\n`,
  'a size of words': `${inChunks(one, two)}zz\r\n${three}\r\n${lastChunk}`,
  'a negative size': `${inChunks(one, two)}-1\r\n${three}\r\n${lastChunk}`,
  'a size that overflows': `${inChunks(one, two)}${'f'.repeat(17)}\r\n${three}`,
  'no size': `${inChunks(one, two)}\r\n${three}\r\n${lastChunk}`,
  'a chunk longer than its size': `${inChunks(one)}10\r\n${two}\r\n${lastChunk}`,
  'a chunk shorter than its size': `${inChunks(one)}12\r\n${two}\r\n${lastChunk}`,
  'LF in place of CR LF': `${inChunks(one)}11\n${two}\n${lastChunk}`,
  'an end in a chunk': `${inChunks(one)}2f\r\n${two}id: 3`,
  'an end in a size': `${inChunks(one, two)}1`,
  'an end after a size': `${inChunks(one, two)}11\r\n`,
  'an end before the line end of a chunk': `${inChunks(one)}11\r\n${two}`,
  'an end in the line end of a chunk': `${inChunks(one)}11\r\n${two}\r`,
  'an end between chunks': inChunks(one, two),
  'an end in an event': inChunks(one, 'id: 2\n'),
  'bytes after the end': `${inChunks(one, two)}${lastChunk}garbage`,
  'an answer after the end': `${inChunks(one, two)}${lastChunk}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno`,
}

const closing = streamHead.replace('OK', 'OK\r\nConnection: close')

/** So many places, all of them where there are no more. */
function places(length: number, count: number): number[] {
  const step = Math.max(1, (length - 1) / count)
  return Array.from({ length: Math.min(length - 1, count) }, (_, i) => Math.floor(1 + i * step))
}

for (const [name, text] of Object.entries(bodies)) {
  const body = Buffer.from(text)

  test(`${name}, wherever it is split`, async (t) => {
    await everyWay(t, {}, async (way) => {
      const outcomes: object[] = []
      for (const [i, at] of places(body.length, 16).entries()) {
        const wire = await open(way, closing)
        for (const part of [body.subarray(0, at), body.subarray(at)]) await wire.send(part)
        await settle()
        if (i % 2 === 0) wire.conversation.finish()
        else wire.conversation.reset()
        outcomes.push({ at, ...(await outcome(wire, way)) })
      }
      return outcomes
    })
  })

  test(`${name}, held until an event but the first`, async (t) => {
    const commit = ({ data }: StreamEvent) => (data === 'one' ? 'hold' : 'commit')
    await everyWay(t, { retry: { commit, attempts: 0 } }, async (way) => {
      const outcomes: object[] = []
      for (const at of places(body.length, 4)) {
        const wire = await open(way, closing)
        for (const part of [body.subarray(0, at), body.subarray(at)]) await wire.send(part)
        await settle()
        wire.conversation.finish()
        const ending = await wire.client.ended()
        const { status, text } = wire.client
        const closed = status === 200 ? await way.closings.next('the stream to be closed') : undefined
        outcomes.push({ at, status, text, ending, closed })
      }
      return outcomes
    })
  })

  test(`${name}, in reads of a few bytes`, async (t) => {
    await everyWay(t, {}, async (way) => {
      const wire = await open(way, closing)
      const step = body.length > 1_000 ? 500 : 3
      for (let at = 0; at < body.length; at += step) await wire.send(body.subarray(at, at + step))
      await settle()
      wire.conversation.finish()
      return await outcome(wire, way)
    })
  })
}

// Heads.

const bodyAfterHead = inChunks(one, `${two}id: 3\n`, 'data: three\n\n') + lastChunk
const heads: Record<string, string> = {
  'a head': closing,
  'an interim answer before the head': `HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n${closing}`,
  'a head with a folded line': closing.replace('\r\n\r\n', '\r\nX-Folded: a\r\n  b\r\n\r\n'),
  'a head with LF alone': closing.replaceAll('\r\n', '\n'),
  'a head with one LF alone': closing.replace('chunked\r\n', 'chunked\n'),
  'a head without a reason': closing.replace(' OK', ''),
  'a head in capitals': closing.replace('chunked', 'CHUNKED'),
  'a head of HTTP/1.0': closing.replace('1.1', '1.0').replace('Transfer-Encoding: chunked\r\n', ''),
  'a head with a length': closing.replace('Transfer-Encoding: chunked', `Content-Length: ${bodyAfterHead.length}`),
  'a head with a length and chunks': closing.replace('\r\n\r\n', '\r\nContent-Length: 5\r\n\r\n'),
  'a head with another coding': closing.replace('chunked', 'gzip, chunked'),
}

for (const [name, head] of Object.entries(heads)) {
  test(`${name}, split anywhere and together with the body`, async (t) => {
    const whole = Buffer.from(head + bodyAfterHead)
    await everyWay(t, {}, async ({ front, upstream, closings }) => {
      const outcomes: object[] = []
      for (const at of [...places(whole.length, 16), head.length, whole.length]) {
        const client = front.request()
        const conversation = await upstream.next()
        await conversation.head()
        conversation.send(whole.subarray(0, at))
        await settle()
        conversation.send(whole.subarray(at))
        conversation.finish()
        const ending = await client.ended()
        const closed = client.status === 200 ? await closings.next('the stream to be closed') : undefined
        outcomes.push({ at, status: client.status, text: client.text, ending, closed })
      }
      return outcomes
    })
  })
}

// Connections.

const ends: Record<string, string[]> = {
  'in one read': [inChunks(one, two) + lastChunk],
  'in a read of its own': [inChunks(one, two), lastChunk],
  'byte by byte': [inChunks(one, two), ...lastChunk],
  'with trailers': [inChunks(one, two), '0\r\nX: y\r\n', '\r\n'],
  'after half an event': [inChunks(one), inChunks('id: 2\n'), '0', '\r\n\r\n'],
  'after a chunk that had begun': [inChunks(one), '11\r\nid: 2\nda', `ta: two\n\n\r\n${lastChunk}`],
  'after an extension': [inChunks(one), `11;x\r\n${two}\r\n`, lastChunk],
}

for (const [name, reads] of Object.entries(ends)) {
  test(`after an end ${name} the upstream's connection serves the next request, and the one after it`, async (t) => {
    await everyWay(t, {}, async (way) => {
      const { front, upstream, answers } = way
      const wire = await open(way)
      const outcomes: object[] = []
      for (let count = 0; count < 3; count += 1) {
        const client = count === 0 ? wire.client : front.request(`?${count}`)
        if (count > 0) {
          await until(() => wire.conversation.received.includes(`?${count} `), 'the next request')
          wire.conversation.send(streamHead)
        }
        const answer = count === 0 ? wire.answer : await answers.next('the next answer')
        const next = new Wire(client, wire.conversation, answer)
        for (const read of reads) await next.send(read)
        outcomes.push(await outcome(next, way))
        await settle()
      }
      assert.equal(upstream.connections, 1)
      return outcomes
    })
  })
}

test("an agent of the app's own with one connection is used again", async (t) => {
  for (const lane of lanes) {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    t.after(() => agent.destroy())
    const way = await setting(t, lane, { agent })
    const first = await open(way)
    const second = way.front.request('?second')
    await first.send(chunk(one))
    await first.send(Buffer.concat([chunk(two), Buffer.from(lastChunk)]))
    await until(() => first.conversation.received.includes('?second '), 'the second request')
    first.conversation.send(Buffer.concat([Buffer.from(streamHead), chunk(one)]))
    first.conversation.send(Buffer.concat([chunk(three), Buffer.from(lastChunk)]))

    assert.equal(await first.client.whole(), one + two)
    assert.equal(await second.whole(), one + three)
  }
})

/** The bodies of the answers that came one after the other; all that came must be such answers. */
function answersIn(text: string): string[] {
  const found: string[] = []
  for (let rest = text; rest !== ''; ) {
    assert.match(rest, /^HTTP\/1\.1 200 OK\r\n/)
    rest = rest.slice(rest.indexOf('\r\n\r\n') + 4)
    let body = ''
    for (let size = -1; size !== 0; ) {
      const [digits = ''] = /^[\da-f]+(?=\r\n)/.exec(rest) ?? []
      size = Number.parseInt(digits, 16)
      const at = digits.length + 2
      body += rest.slice(at, at + size)
      assert.equal(rest.slice(at + size, at + size + 2), '\r\n')
      rest = rest.slice(at + size + 2)
    }
    found.push(body)
  }
  return found
}

for (const lane of lanes) {
  test(`a client's connection serves its next request, and those it sends ahead (chunks ${lane})`, async (t) => {
    const { upstream, front } = await setting(t, lane)
    const client = await rawClient(t, front, get.repeat(3))
    const conversation = await upstream.next()
    const asked = () => conversation.received.split('GET ').length - 1
    for (const i of [0, 1, 2]) {
      await until(() => asked() === i + 1, `request ${i}`)
      await settle()
      // The one behind it waits for its turn.
      assert.equal(asked(), i + 1)
      conversation.send(streamHead)
      conversation.send(chunk(`id: ${i}\n\n`))
      conversation.send(chunk(one))
      conversation.send(lastChunk)
    }
    await until(() => client.text.split('\r\n0\r\n\r\n').length === 4, 'three answers')
    client.socket.write(get)
    await until(() => asked() === 4, 'the connection to be used again')
    conversation.send(Buffer.concat([Buffer.from(streamHead), chunk(two), Buffer.from(lastChunk)]))
    await until(() => client.text.includes(two), 'the fourth answer')
    await until(() => client.text.endsWith('\r\n0\r\n\r\n'), 'its end')

    assert.deepEqual(answersIn(client.text), [`id: 0\n\n${one}`, `id: 1\n\n${one}`, `id: 2\n\n${one}`, two])
  })

  test(`a byte order mark and nothing else ends its answer once (chunks ${lane})`, async (t) => {
    const { upstream, front, proxy } = await setting(t, lane, { keepalive: 10 })
    const client = await rawClient(t, front, get)
    const conversation = await upstream.next()
    await conversation.head()
    conversation.send(streamHead)
    await until(() => proxy.stats().keepalives > 0, 'a comment')
    conversation.send(chunk('\uFEFF'))
    conversation.send(lastChunk)
    await until(() => proxy.stats().active === 0, 'the end')
    client.socket.write(get)
    await until(() => conversation.received.split('GET ').length === 3, 'the next request')
    conversation.send(Buffer.concat([Buffer.from(streamHead), chunk(two), Buffer.from(lastChunk)]))
    await until(() => client.text.includes(two) && client.text.endsWith('\r\n0\r\n\r\n'), 'the second answer')

    const bodies = answersIn(client.text).map((body) => body.replaceAll(': keepalive\n\n', ''))
    assert.deepEqual(bodies, ['', two])
  })

  test(`a client of HTTP/1.0 gets no chunks (chunks ${lane})`, async (t) => {
    const { upstream, front } = await setting(t, lane)
    const client = await rawClient(t, front, 'GET /events HTTP/1.0\r\n\r\n')
    const conversation = await upstream.next()
    conversation.send(streamHead)
    conversation.send(chunk(one))
    await until(() => client.text.includes(one), 'the first event')
    conversation.send(chunk(two))
    await until(() => client.text.includes(two), 'the second event')
    conversation.send(lastChunk)
    await until(() => client.socket.closed, 'the end')

    assert.equal(client.text.slice(client.text.indexOf('\r\n\r\n') + 4), one + two)
  })
}

// What else is written to the client, and who else reads.

const long = `id: 5\nevent: e\ndata: ${'x'.repeat(40)}\n\n`
const inPieces: Record<string, Buffer> = {
  'in one chunk': chunk(long),
  'a line a chunk': Buffer.from(inChunks('id: 5\nevent: e\n', `data: ${'x'.repeat(40)}\n`, '\n')),
  'in chunks that end anywhere': Buffer.from(inChunks(long.slice(0, 8), long.slice(8, 30), long.slice(30))),
}

for (const [name, body] of Object.entries(inPieces)) {
  test(`the app's own events come before or after an event that is on its way ${name}`, async (t) => {
    const texts = await everyWay(t, {}, async (way) => {
      const found: string[] = []
      for (const at of places(body.length, 20)) {
        const wire = await open(way, closing)
        await wire.send(chunk(one))
        await wire.client.waitFor(one)
        const [stream] = [...way.proxy.streams]
        await wire.send(body.subarray(0, at))
        await settle()
        assert.equal(stream?.send({ data: 'own' }), true)
        await wire.send(Buffer.concat([body.subarray(at), Buffer.from(lastChunk)]))
        const { text } = await outcome(wire, way)
        found.push(text)
      }
      return found
    })

    for (const text of texts) {
      const own = 'data: own\n\n'
      assert.ok([one + own + long, one + long + own].includes(text), JSON.stringify(text))
    }
  })

  test(`comments come between events where one is on its way ${name}`, async (t) => {
    for (const lane of lanes) {
      const way = await setting(t, lane, { keepalive: 10 })
      const wire = await open(way, closing)
      await wire.send(chunk(one))
      for (const part of [body.subarray(0, 20), body.subarray(20, 30)]) {
        await wire.send(part)
        const { keepalives } = way.proxy.stats()
        await until(() => way.proxy.stats().keepalives > keepalives, 'a comment')
      }
      await wire.send(Buffer.concat([body.subarray(30), Buffer.from(lastChunk)]))
      const { text, ending } = await outcome(wire, way)

      assert.equal(ending, 'clean')
      assert.deepEqual(interpret(text).events, interpret(one + long).events)
      assert.equal(text.replaceAll(': keepalive\n\n', ''), one + long)
    }
  })

  test(`a stream that is drained ends before an event that is on its way ${name}`, async (t) => {
    const results = await everyWay(t, {}, async (way) => {
      const wire = await open(way, closing)
      await wire.send(chunk(one))
      await wire.send(body.subarray(0, 25))
      await settle()
      const closed = way.proxy.close({ withinMs: 100, retryMs: 40 })
      const result = await outcome(wire, way)
      await closed
      // The time is drawn by lot.
      return { ...result, text: result.text.replace(/\d\d(?=\n\n$)/, '..') }
    })

    assert.equal(results.text, `${one}retry: ..\n\n`)
    assert.equal(results.closed.reason, 'drained')
  })

  test(`silence while an event is on its way ${name} is a loss`, async (t) => {
    const result = await everyWay(t, { timeouts: { idleMs: 80 } }, async (way) => {
      const wire = await open(way)
      await wire.send(chunk(one))
      for (const part of [body.subarray(0, 20), body.subarray(20, 30)]) await wire.send(part)
      return await outcome(wire, way)
    })

    assert.equal(result.ending, 'broken')
    assert.equal(result.closed.reason, 'upstream-lost')
  })

  test(`a client may leave while an event is on its way ${name}`, async (t) => {
    const result = await everyWay(t, {}, async (way) => {
      const wire = await open(way)
      await wire.send(chunk(one))
      await wire.send(body.subarray(0, 25))
      await wire.client.waitFor(one)
      wire.client.close()
      await wire.conversation.closed()
      return await way.closings.next('the stream to be closed')
    })

    assert.equal(result.reason, 'client-left')
  })
}

test('what comes while `onOpen` is at work follows it', async (t) => {
  const whole = Buffer.from(inChunks(one, 'id: 2\n', 'data: two\n\n', three))
  let opened = () => {}
  const onOpen = () => new Promise<void>((resolve) => (opened = resolve))
  const texts = await everyWay(t, { onOpen }, async (way) => {
    const found: string[] = []
    for (const at of places(whole.length, 12)) {
      const wire = await open(way, Buffer.concat([Buffer.from(closing), whole.subarray(0, at)]))
      wire.conversation.send(whole.subarray(at))
      await settle()
      assert.equal(wire.client.text, '')
      opened()
      await wire.client.waitFor(three)
      wire.conversation.send(Buffer.concat([chunk(one), Buffer.from(lastChunk)]))
      found.push((await outcome(wire, way)).text)
    }
    return found
  })

  for (const text of texts) assert.equal(text, one + two + three + one)
})

test('an upstream that goes on without its client is read to its end', async (t) => {
  const result = await everyWay(t, { onDisconnect: 'drain' }, async (way) => {
    const wire = await open(way)
    await wire.send(chunk(one))
    await wire.send('11\r\nid: 2\nda')
    await wire.client.waitFor(one)
    wire.client.close()
    await until(() => way.front.connections === 0, 'the client to be gone')
    await wire.send(`ta: two\n\n\r\n${inChunks(three)}`)
    await wire.send(chunk(`data: ${'x'.repeat(200_000)}\n\n`))
    await wire.send(lastChunk)
    return await way.closings.next('the stream to be closed')
  })

  assert.deepEqual(result, { reason: 'client-left', lastEventId: '3', events: 4, bytes: one.length })
})

test('a stream whose events come is not silent, however long others are', async (t) => {
  for (const lane of lanes) {
    const way = await setting(t, lane, { timeouts: { idleMs: 500 } })
    const busy = await open(way)
    const quiet = await open(way)
    while (quiet.client.ending === undefined) await busy.send(chunk(one))
    await busy.send(chunk(two))

    await busy.client.waitFor(two)
    assert.equal(way.proxy.stats().closed['upstream-lost'], 1)
  }
})

test('where a stream stands is known after each event', async (t) => {
  await everyWay(t, {}, async (way) => {
    const wire = await open(way, closing)
    const seen: unknown[] = []
    const retry = 'retry: 9\n\n'
    for (const [i, part] of [one, `: c\n\n${two}`, retry, 'id\ndata\n\n', three].entries()) {
      await wire.send(chunk(part))
      await wire.client.waitFor(() => wire.client.chunks.length > i)
      const [stream] = [...way.proxy.streams]
      seen.push([stream?.lastEventId, stream?.events, stream?.bytes, counts(way.proxy)])
    }
    await wire.send(lastChunk)
    return { seen, ...(await outcome(wire, way)) }
  })
})

test("a handler that reads the upstream's answer itself sees all of it", async (t) => {
  const seen: Buffer[] = []
  const proxyRes = (answer: IncomingMessage) => void answer.on('data', (bytes) => seen.push(bytes))
  const result = await everyWay(t, { on: { proxyRes } }, async (way) => {
    const wire = await open(way, closing)
    for (const part of [one, two, three]) await wire.send(chunk(part))
    await wire.send(lastChunk)
    return await outcome(wire, way)
  })

  assert.equal(result.text, one + two + three)
  assert.equal(Buffer.concat(seen).toString(), (one + two + three).repeat(lanes.length))
})

test("a handler that reads the upstream's answer later sees what comes from then on", async (t) => {
  const answers: IncomingMessage[] = []
  const proxyRes = (answer: IncomingMessage) => void answers.push(answer)
  const result = await everyWay(t, { on: { proxyRes } }, async (way) => {
    const wire = await open(way, closing)
    await wire.send(chunk(one))
    await wire.send(chunk(two))
    let seen = ''
    answers.at(-1)?.on('data', (bytes) => {
      seen += bytes
    })
    await wire.send(chunk(three))
    await wire.send(lastChunk)
    return { ...(await outcome(wire, way)), seen }
  })

  assert.equal(result.text, one + two + three)
  assert.equal(result.seen, three)
})

test('a loss anywhere is made good', async (t) => {
  const events = [one, two, three]
  const body = Buffer.from(inChunks('id: 2\n', 'data: two\n\n', three))
  const texts = await everyWay(t, { resume: { delayMs: 0 } }, async (way) => {
    const found: string[] = []
    for (const [i, at] of places(body.length, 40).entries()) {
      const wire = await open(way, closing)
      await wire.send(chunk(one))
      await wire.send(body.subarray(0, at))
      await settle()
      if (i % 2 === 0) wire.conversation.finish()
      else wire.conversation.reset()
      const again = await way.upstream.next()
      const [, lastEventId = '0'] = /last-event-id: (\d)/i.exec(await again.head()) ?? []
      again.send(closing)
      const next = new Wire(wire.client, again, await way.answers.next('the next answer'))
      for (const event of events.slice(Number(lastEventId))) await next.send(chunk(event))
      await next.send(lastChunk)
      again.finish()
      found.push((await outcome(wire, way)).text)
    }
    return found
  })

  for (const text of texts) assert.equal(text, events.join(''))
})

test('behind TLS, events of all sizes', async (t) => {
  for (const lane of lanes) {
    const { options, before } = wayOf(lane)
    const setup = { before, upstream: { tls: certificate } }
    const { upstream, front } = await proxied(t, { secure: false, ...options }, setup)
    const client = front.request()
    const stream = (await upstream.next()).stream()
    const sent: string[] = []
    for (const length of [1, 8_000, 17_000, 70_000, 300_000, 1]) {
      const event = `id: ${length}\ndata: ${'x'.repeat(length)}\n\n`
      for (const part of [event, event.slice(0, 9), event.slice(9)]) stream.write(part)
      sent.push(event, event)
      await client.waitForLength(sent.join('').length)
    }
    stream.end()

    assert.equal(await client.whole(), sent.join(''))
  }
})

// Clients that are slow.

for (const length of [50, 5_000, 60_000, 300_000]) {
  test(`a client that stops reading holds its upstream back, and gets everything later (${length} bytes an event)`, async (t) => {
    const events = Array.from({ length: 10 }, (_, i) => `id: ${i}\ndata: ${String(i).repeat(length)}\n\n`)
    // As many in one write as make a few reads.
    const together = Math.ceil(400_000 / (events.join('').length + 120))
    const part = Buffer.from(inChunks(...events).repeat(together))
    // More than the buffers of the kernel take on the way to the client.
    const parts = Math.ceil(24_000_000 / part.length)
    for (const lane of lanes) {
      const responses: ServerResponse[] = []
      const noting: Middleware = (_req, res, next) => {
        responses.push(res)
        next()
      }
      const answers = new Arrivals<IncomingMessage>()
      const { options, before } = wayOf(lane)
      const on: SseProxyOptions['on'] = { proxyRes: (answer) => answers.add(answer) }
      const { upstream, front } = await rawProxied(t, { ...options, on }, { before: [noting, ...before] })
      const client = front.request()
      const conversation = await upstream.next()
      conversation.send(streamHead)
      const answer = await answers.next('the answer')
      client.pause()
      for (let count = 0; count < parts; count += 1) conversation.send(part)
      conversation.send(lastChunk)

      await until(() => answer.socket.isPaused(), 'the upstream to be held back')
      await settle()
      const waiting = responses.reduce((sum, { writableLength }) => sum + writableLength, 0)
      assert.ok(waiting < 1_000_000, `${waiting} bytes wait`)
      assert.ok(answer.socket.bytesRead < parts * part.length)
      client.resume()

      assert.equal(await client.ended(60_000), 'clean')
      const expected = events.join('').repeat(together)
      assert.equal(client.length, expected.length * parts)
      const text = client.bytes
      for (let at = 0; at < text.length; at += expected.length) {
        assert.ok(text.subarray(at, at + expected.length).equals(Buffer.from(expected)), `at ${at}`)
      }
    }
  })
}

// What a hook looks at, at once or later, may leave as the bytes that came.
const looking = { transform: () => {} }
const lookingLater = { transform: async () => {} }

for (const [name, hooks] of Object.entries({
  'without hooks': {},
  'under a hook': looking,
  'under a slow hook': lookingLater,
})) {
  test(`what waits for a client is not read over, however little that is, ${name}`, async (t) => {
    for (const lane of lanes) await fillSlowly(t, lane, hooks)
  })
}

/** Sends events one by one, until a client that does not read holds the upstream back. */
async function fillSlowly(t: TestContext, lane: Lane, hooks: Partial<SseProxyOptions>): Promise<void> {
  const answers = new Arrivals<IncomingMessage>()
  const { options, before } = wayOf(lane)
  const on: SseProxyOptions['on'] = { proxyRes: (answer) => answers.add(answer) }
  const { upstream, front } = await rawProxied(t, { ...options, ...hooks, on }, { before })
  const client = front.request()
  const conversation = await upstream.next()
  conversation.send(streamHead)
  const { socket } = await answers.next('the answer')
  client.pause()
  const sent: string[] = []

  // One by one: each is a read of its own, and those that wait are fewer than hold the upstream back.
  while (!socket.isPaused()) {
    const event = `data: ${`${sent.length} `.repeat(150)}\n\n`
    const bytes = socket.bytesRead + chunk(event).length
    conversation.send(chunk(event))
    sent.push(event)
    while (socket.bytesRead < bytes && !socket.isPaused()) await setImmediate()
  }
  conversation.send(lastChunk)
  client.resume()

  assert.equal(await client.ended(60_000), 'clean')
  assert.ok(client.bytes.equals(Buffer.from(sent.join(''))))
}
