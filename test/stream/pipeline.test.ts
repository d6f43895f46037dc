import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { StreamError } from '../../src/errors.ts'
import { Cursor } from '../../src/events/cursor.ts'
import type { SseStream, TransformHook } from '../../src/events/event.ts'
import { Pipeline, type PipelineOptions, type PipelineSink } from '../../src/stream/pipeline.ts'
import type { BodySink, UpstreamBody } from '../../src/upstream-response.ts'
import { interpret } from '../support/oracle.ts'
import { BOM } from './fixtures.ts'

// No copy is made of parts as large as this.
const large = 'x'.repeat(40_000)

/** A feed between an upstream that a test sends by hand and a client that takes everything. */
class Stage implements PipelineSink {
  readonly written: Buffer[] = []
  readonly body: UpstreamBody & { sink?: BodySink; paused: boolean; destroyed: boolean } = {
    paused: false,
    destroyed: false,
    start(sink) {
      this.sink = sink
    },
    pause() {
      this.paused = true
    },
    unpause() {
      this.paused = false
    },
    destroy() {
      this.destroyed = true
    },
  }
  readonly cursor = new Cursor('')
  readonly feed: Pipeline
  ended = false
  failure: StreamError | undefined

  constructor(options: Partial<PipelineOptions> = {}, delimited = true) {
    this.feed = new Pipeline(
      {
        wholeEvents: true,
        failsOversize: false,
        eventBytes: 1_048_576,
        hooks: [],
        stream: {} as SseStream,
        cursor: this.cursor,
        client: Object.defineProperty({ wroteBody: false, takesChunks: false }, 'wroteBody', {
          get: () => this.written.length > 0,
        }),
        isShared: false,
        ...options,
      },
      { body: this.body, delimited },
      this,
    )
    this.feed.start()
    this.feed.release()
  }

  get text(): string {
    return Buffer.concat(this.written).toString()
  }

  /** As a keepalive does. */
  comment(): void {
    if (this.feed.atBoundary) this.written.push(Buffer.from(':x\n\n'))
  }

  async send(...chunks: string[]): Promise<void> {
    for (const chunk of chunks) this.body.sink?.onData(Buffer.from(chunk))
    await new Promise(setImmediate)
  }

  onReceived(): void {}

  onEvents(pieces: readonly Buffer[]): void {
    this.written.push(...pieces)
  }

  onReconnected(): void {}

  onEnd(): void {
    this.ended = true
  }

  onFailed(error: StreamError): void {
    this.failure = error
  }
}

test('a comment while a hook thinks about the first event does not cost that event behind a byte order mark', async () => {
  let decide = () => {}
  const hook: TransformHook = () => new Promise<void>((resolve) => (decide = resolve))
  const stage = new Stage({ hooks: [hook] })

  await stage.send(`${BOM}data: a\n\n`)
  stage.comment()
  decide()
  await new Promise(setImmediate)

  assert.equal(interpret(stage.text).events.length, 1)
})

test('an event of the app that a hook sends before the first event does not cost that event behind a byte order mark', async () => {
  const hook: TransformHook = () => {
    stage.feed.flush()
    stage.written.push(Buffer.from('data: own\n\n'))
  }
  const stage: Stage = new Stage({ hooks: [hook] })

  await stage.send(`${BOM}data: a\n\n`)

  assert.deepEqual(
    interpret(stage.text).events.map(({ data }) => data),
    ['own', 'a'],
  )
})

test('an id, an event and a retry behind a byte order mark count', async () => {
  const stage = new Stage()

  await stage.send(`${BOM}id: 1\ndata: a\n\n`)
  assert.deepEqual([stage.cursor.lastEventId, stage.cursor.events], ['1', 1])
  await stage.send(`${BOM}retry: 7\n\n`)

  assert.deepEqual([stage.text, stage.cursor.retryMs], [`${BOM}id: 1\ndata: a\n\n${BOM}retry: 7\n\n`, undefined])
})

test('events that came whole still leave when the one after them is too large for the hooks', async () => {
  const stage = new Stage({ hooks: [() => undefined], eventBytes: 20 })

  await stage.send(`data: a\n\ndata: ${'x'.repeat(30)}`)

  assert.equal(stage.text, 'data: a\n\n')
  assert.equal(stage.failure?.code, 'ERR_SSE_PROXY_EVENT_TOO_LARGE')
  assert.ok(stage.body.destroyed)
})

test('the chunks of one read leave together', async () => {
  const stage = new Stage()

  await stage.send('data: a\n\nda', 'ta: b\n', '\n:')

  assert.deepEqual(
    stage.written.map((bytes) => bytes.toString()),
    ['data: a\n\ndata: b\n\n'],
  )
})

test('large parts of an event that came in one read are not copied', async () => {
  const stage = new Stage()
  await stage.send('data: small\n\n')
  const parts = [`data: ${large}`, `${large}\n\n`].map((text) => Buffer.from(text))

  for (const part of parts) stage.body.sink?.onData(part)
  await new Promise(setImmediate)

  assert.deepEqual(
    stage.written.slice(1).map(({ buffer }) => buffer),
    parts.map(({ buffer }) => buffer),
  )
  assert.equal(stage.cursor.events, 2)
})

test('of a read in large parts, a hook that thinks about one event holds the next', async () => {
  const asked: string[] = []
  let decide = () => {}
  const stage = new Stage({
    hooks: [
      ({ data }) => {
        asked.push(data.slice(0, 1))
        return new Promise<void>((resolve) => (decide = resolve))
      },
    ],
  })

  await stage.send(`data: a${large}\n\n`, `data: b${large}\n\n`)
  const askedAtOnce = asked.join()
  decide()
  await new Promise(setImmediate)
  decide()
  await new Promise(setImmediate)

  assert.equal(askedAtOnce, 'a')
  assert.equal(asked.join(), 'a,b')
  assert.equal(stage.text, `data: a${large}\n\ndata: b${large}\n\n`)
})

test('of a read in large parts, nothing passes behind an event that is too large', async () => {
  const stage = new Stage({ eventBytes: 1000, failsOversize: true })

  await stage.send(`data: ${large}`, `${large}\n\ndata: a\n\n`)

  assert.equal(stage.failure?.code, 'ERR_SSE_PROXY_EVENT_TOO_LARGE')
  assert.equal(stage.text, '')
})

test('the upstream is paused while a hook thinks, and read again after that', async () => {
  let decide = () => {}
  const stage = new Stage({ hooks: [() => new Promise<void>((resolve) => (decide = resolve))] })

  await stage.send('data: a\n\n')
  assert.equal(stage.body.paused, true)
  decide()
  await new Promise(setImmediate)

  assert.equal(stage.body.paused, false)
  assert.equal(stage.text, 'data: a\n\n')
})

test('an end while a hook thinks waits for it', async () => {
  let decide = () => {}
  const stage = new Stage({ hooks: [() => new Promise<void>((resolve) => (decide = resolve))] })

  await stage.send('data: a\n\ndata: b')
  stage.body.sink?.onEnd()
  assert.equal(stage.ended, false)
  decide()
  await new Promise(setImmediate)
  assert.equal(stage.ended, false)
  decide()
  await new Promise(setImmediate)

  assert.equal(stage.text, 'data: a\n\ndata: b')
  assert.equal(stage.ended, true)
})

test('an end leaves the unfinished event, a loss does not', async () => {
  for (const [how, left] of [
    ['end', 'data: a\n\ndata: b'],
    ['loss', 'data: a\n\n'],
  ] as const) {
    const stage = new Stage()
    await stage.send('data: a\n\ndata: b')

    if (how === 'end') stage.body.sink?.onEnd()
    else stage.body.sink?.onBroken(new Error('reset'))

    assert.equal(stage.text, left)
    assert.equal(stage.ended, how === 'end')
    assert.equal(stage.failure?.code, how === 'end' ? undefined : 'ERR_SSE_PROXY_UPSTREAM_LOST')
  }
})

test('where only the connection ends a body, an end in the middle of an event is a loss', async () => {
  for (const [sent, lost] of [
    ['data: a\n\n', false],
    ['data: a\n\ndata: b\n', true],
  ] as const) {
    const stage = new Stage({}, false)
    await stage.send(sent)

    stage.body.sink?.onEnd()

    assert.equal(stage.failure?.code, lost ? 'ERR_SSE_PROXY_UPSTREAM_LOST' : undefined)
    assert.equal(stage.ended, !lost)
  }
})

test('after a clean end without a tail something else can still be said', async () => {
  const stage = new Stage()
  await stage.send('data: a\n\n')

  stage.body.sink?.onEnd()

  assert.equal(stage.feed.atBoundary, true)
})

test('the cursor is the same for pieces as for whole reads', async () => {
  const stage = new Stage()

  for (const chunk of [
    ...['id: 1\nda', 'ta: a\n', '\nid: 2\n\nid: 3\nretry: 5\n', 'data: b\r', '\n\r\n'],
    ...['id: 1', '2\nda', 'ta: c\n\n', 'id: 4\n'],
  ]) {
    await stage.send(chunk)
    const { events, lastEventId } = interpret(stage.text)
    assert.deepEqual([stage.cursor.events, stage.cursor.lastEventId], [events.length, lastEventId])
  }

  assert.deepEqual([stage.cursor.events, stage.cursor.lastEventId], [3, '12'])
})

for (const wholeEvents of [true, false]) {
  for (const text of [BOM, `${BOM}\n`, `${BOM}\r\n`, `${BOM}\r`, `${BOM}data: a\n\n`]) {
    test(`a body that its connection delimits is complete when it ends after ${JSON.stringify(text)} (wholeEvents: ${wholeEvents})`, async () => {
      const bytes = Buffer.from(text)
      for (let at = 0; at < bytes.length; at++) {
        const stage = new Stage({ wholeEvents }, false)
        stage.body.sink?.onData(bytes.subarray(0, at))
        await stage.send()
        stage.body.sink?.onData(bytes.subarray(at))
        await stage.send()

        stage.body.sink?.onEnd()

        assert.equal(stage.failure, undefined)
        assert.equal(stage.ended, true)
        assert.equal(stage.text, text)
      }
    })
  }

  for (const text of ['\u00ef', `${BOM}d`, `${BOM}${BOM}\n`, `\n${BOM}\n`]) {
    test(`it is cut when it ends after ${JSON.stringify(text)} (wholeEvents: ${wholeEvents})`, async () => {
      const stage = new Stage({ wholeEvents }, false)
      await stage.send(text)

      stage.body.sink?.onEnd()

      assert.equal(stage.ended, false)
    })
  }
}
