// Framing that is damaged behind whole events: what reaches a client of that, and how it ends, is the same on the short
// way of chunks and through Node's own parser.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { request } from 'node:http'
import { Duplex } from 'node:stream'
import { test } from 'node:test'
import fc from 'fast-check'
import { Cursor } from '../../src/events/cursor.ts'
import type { SseStream } from '../../src/events/event.ts'
import { Pipeline, type PipelineSink } from '../../src/stream/pipeline.ts'
import { ResponseBody } from '../../src/upstream/response-body.ts'
import { Dechunker } from '../support/chunked.ts'
import { chunk, lastChunk, streamHead } from '../support/raw-upstream.ts'

const runs = 3000

/** The connection of an upstream: what is pushed is read at once. */
class Wire extends Duplex {
  override _read(): void {}

  override _write(_bytes: Buffer, _encoding: string, done: () => void): void {
    done()
  }
}

/** A client that takes everything, and how its stream ends. */
class Client implements PipelineSink {
  readonly onChunks?: NonNullable<PipelineSink['onChunks']>
  text = ''
  chunkedBytes = 0
  ending = 'open'

  constructor(takesChunks: boolean) {
    if (!takesChunks) return
    this.onChunks = (chunks) => {
      const data = new Dechunker().take(Buffer.concat(chunks))
      this.chunkedBytes += data.length
      this.text += data.toString('latin1')
    }
  }

  onReceived(): void {}
  onReconnected(): void {}

  onEvents(pieces: readonly Buffer[]): void {
    this.text += Buffer.concat(pieces).toString('latin1')
  }

  onEnd(): void {
    this.ending = 'complete'
  }

  onFailed(): void {
    this.ending = 'broken'
  }
}

async function receive(takesChunks: boolean, early: Buffer, reads: readonly Buffer[]): Promise<Client> {
  const wire = new Wire()
  const asked = request({ createConnection: () => wire }).end()
  asked.on('error', () => {})
  const client = new Client(takesChunks)
  const answered = new Promise<ResponseBody>((resolve) => {
    asked.once('response', (answer) => resolve(new ResponseBody(answer, asked, head, undefined)))
  })
  await once(asked, 'finish')
  const head = Buffer.concat([Buffer.from(streamHead), early])
  wire.push(head)
  const body = await answered
  const feed = new Pipeline(
    {
      wholeEvents: true,
      failsOversize: false,
      eventBytes: 1_048_576,
      hooks: [],
      stream: {} as SseStream,
      cursor: new Cursor(''),
      client: { wroteBody: true, takesChunks },
      isShared: false,
    },
    { body, delimited: true },
    client,
  )
  feed.start()
  feed.release()
  for (const read of reads) {
    if (!wire.destroyed) wire.push(Buffer.from(read))
    await new Promise(setImmediate)
  }
  wire.destroy()
  await new Promise(setImmediate)
  await new Promise(setImmediate)
  return client
}

/** Proves the parser, so that the chunks of what follows may go past it. */
const proof = 'data: proof\n\n'

const event = fc.constantFrom(
  'data: a\n\n',
  'id: 7\ndata: bcd\n\n',
  ': c\n\n',
  '\n',
  'data: a\n\ndata: b\n\n',
  'data: a\n',
  `data: ${'x'.repeat(9_000)}\n\n`,
)
const damage = fc.record({
  at: fc.nat(40),
  removed: fc.nat(3),
  added: fc.constantFrom('', '\r', '\n', '0', 'g', ';', ' ', '\r\n', '0\r\n\r\n', 'f', '\0', 'HTTP/1.1 200 OK\r\n\r\n'),
})

const stream = fc.record({
  whole: fc.array(event, { minLength: 1, maxLength: 5 }),
  damaged: fc.array(event, { minLength: 1, maxLength: 3 }),
  damage,
  ends: fc.boolean(),
  early: fc.constantFrom(0, 0, 1, 20, 60),
  sizes: fc.array(fc.constantFrom(1, 3, 10, 20, 30, 50, 80, 120), { minLength: 1, maxLength: 4 }),
})

test('nothing of a whole event is lost to what follows it in the same read', async () => {
  let chunkedBytes = 0
  const property = fc.asyncProperty(
    stream,
    async ({ whole, damaged, damage: { at, removed, added }, ends, early: earlyBytes, sizes }) => {
      const start = Buffer.concat(whole.map(chunk))
      const tail = Buffer.concat([...damaged.map(chunk), Buffer.from(ends ? lastChunk : '')])
      const broken = Buffer.concat([tail.subarray(0, at), Buffer.from(added), tail.subarray(at + removed)])
      const body = Buffer.concat([start, broken])
      const early = body.subarray(0, earlyBytes)
      const reads = cut(body.subarray(earlyBytes), body.length > 2_000 ? sizes.map((size) => size * 100) : sizes)

      if (earlyBytes === 0) reads.unshift(chunk(proof))
      const short = await receive(true, early, reads)
      const ordinary = await receive(false, early, reads)

      chunkedBytes += short.chunkedBytes
      const sent = `${earlyBytes === 0 ? proof : ''}${whole.join('')}`
      assert.ok(short.text.startsWith(/^.*\n\n/s.exec(sent)?.[0] ?? ''))
      assert.deepEqual([short.text, short.ending], [ordinary.text, ordinary.ending])
    },
  )
  await fc.assert(property, { numRuns: runs, seed: 20260711 })
  assert.ok(chunkedBytes > runs)
})

function cut(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const reads: Buffer[] = []
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = sizes[i % sizes.length] ?? 1
    reads.push(Buffer.from(bytes.subarray(at, at + size)))
    at += size
  }
  return reads
}
