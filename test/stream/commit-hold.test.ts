// What an answer that is held costs, and that it is given on as it came; the upstream is played.
import assert from 'node:assert/strict'
import { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import { test } from 'node:test'
import { Abort } from '../../src/abort.ts'
import { resolveOptions } from '../../src/options/resolve-options.ts'
import { createInspect } from '../../src/stream/commit-hold.ts'
import type { BodySink, UpstreamResponse } from '../../src/upstream-response.ts'
import { collectGarbage } from '../support/memory.ts'
import { cutsOf, fixtures } from './fixtures.ts'

const req = new IncomingMessage(new Socket())

test('an event in the making is held once, however it comes', () => {
  const eventBytes = 900 * 1024
  for (const readBytes of [65_536, 40_000, 100]) {
    const bytesBefore = bufferedBytes()
    const holds = Array.from({ length: 20 }, () => hold('commit'))
    for (const { sink } of holds) {
      for (let bytes = 0; bytes < eventBytes; bytes += readBytes) sink()?.onData(Buffer.alloc(readBytes, 'x'))
    }

    const ratio = (bufferedBytes() - bytesBefore) / (holds.length * eventBytes)

    assert.ok(ratio < 1.2, `${ratio} times its size in reads of ${readBytes}`)
    assert.equal(holds.length, 20)
  }
})

for (const { name, bytes } of fixtures) {
  test(`${name}: what was held is given on as it came, wherever it was cut`, async () => {
    for (const parts of cutsOf(bytes)) {
      const { sink, inspected } = hold('hold')
      for (const part of parts) sink()?.onData(part)
      sink()?.onEnd()
      const { response } = await inspected
      const passed: Buffer[] = []

      response?.body.start({ onData: (piece) => void passed.push(piece), onEnd() {}, onBroken() {} })

      assert.deepEqual(Buffer.concat(passed), bytes)
    }
  })
}

function hold(verdict: 'hold' | 'commit') {
  const options = resolveOptions({ target: 'http://localhost', retry: { commit: () => verdict } })
  let sink: BodySink | undefined
  const response: UpstreamResponse = {
    status: 200,
    statusMessage: '',
    headers: [['content-type', 'text/event-stream']],
    upstream: 'http://localhost',
    delimited: true,
    body: {
      start(given) {
        sink = given
      },
      pause() {},
      unpause() {},
      destroy() {},
    },
  }
  const controller = new Abort()
  const inspected = createInspect(options, () => {})?.(response, req, controller)
  assert.ok(inspected)
  return { inspected, controller, sink: () => sink }
}

function bufferedBytes(): number {
  collectGarbage()
  // What the first run has left to be freed.
  collectGarbage()
  return process.memoryUsage().arrayBuffers
}
