import assert from 'node:assert/strict'
import type { IncomingMessage } from 'node:http'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { ResponseBody } from '../../src/upstream/response-body.ts'

const pieceBytes = 16_384
const pieces = Array.from({ length: 64 }, (_, i) => Buffer.alloc(pieceBytes, i))

/** An answer that has all of this for whoever reads; what has not been read of it is in its own buffer. */
async function answerOf(bytes: readonly Buffer[]): Promise<{ source: PassThrough; body: ResponseBody }> {
  const source = new PassThrough()
  const body = new ResponseBody(source as unknown as IncomingMessage, undefined, undefined, undefined)
  for (const piece of bytes) source.write(piece)
  source.end()
  for (let turns = 0; turns < 20; turns++) await setImmediate()
  return { source, body }
}

function read(body: ResponseBody): Promise<Buffer> {
  const data: Buffer[] = []
  return new Promise((resolve, reject) => {
    body.start({
      onData: (piece) => void data.push(piece),
      onEnd: () => resolve(Buffer.concat(data)),
      onBroken: reject,
    })
  })
}

test('before anybody wants it, little more than a read is taken, and nothing is lost', async () => {
  const { source, body } = await answerOf(pieces)

  assert.ok(source.isPaused())
  assert.ok(body.parsedBytes <= 65_536 + pieceBytes, `${body.parsedBytes} bytes`)

  assert.deepEqual(await read(body), Buffer.concat(pieces))
})

test('what was read together with the head does not stop the reading', async () => {
  const { source, body } = await answerOf(pieces.slice(0, 4))

  assert.ok(!source.isPaused())

  assert.deepEqual(await read(body), Buffer.concat(pieces.slice(0, 4)))
})

test('who starts it may pause it at once', async () => {
  const { body } = await answerOf(pieces)
  const data: Buffer[] = []

  await new Promise<void>((resolve, reject) => {
    body.start({
      onData: (piece) => {
        data.push(piece)
        if (data.length > 10) return
        body.pause()
        void setImmediate().then(() => body.unpause())
      },
      onEnd: resolve,
      onBroken: reject,
    })
  })

  assert.deepEqual(Buffer.concat(data), Buffer.concat(pieces))
})
