import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import type { ServerResponse } from 'node:http'
import { type TestContext, test } from 'node:test'
import { whenOver } from '../../src/stream/client-gone.ts'

function openResponse(t: TestContext): { res: ServerResponse; calls: string[] } {
  t.mock.timers.enable({ apis: ['setTimeout', 'setImmediate'] })
  const res = Object.assign(new EventEmitter(), { closed: false, destroyed: false })
  return { res: res as unknown as ServerResponse, calls: [] }
}

test('a response that is over is told of a turn later', (t) => {
  const { res, calls } = openResponse(t)
  Object.assign(res, { closed: true })

  whenOver(res, () => calls.push('over'))
  const before = [...calls]
  t.mock.timers.tick(0)

  assert.deepEqual([before, calls], [[], ['over']])
})

test('a response that is open is told of when it closes, once', (t) => {
  const { res, calls } = openResponse(t)

  whenOver(res, () => calls.push('over'))
  t.mock.timers.tick(100)
  const before = [...calls]
  res.emit('close')
  t.mock.timers.tick(10_000)

  assert.deepEqual([before, calls], [[], ['over']])
})

test('a client that takes long to read the rest holds up nobody who is to be told', (t) => {
  const { res, calls } = openResponse(t)

  whenOver(res, () => calls.push('over'))
  t.mock.timers.tick(2000)
  const before = [...calls]
  res.emit('close')

  assert.deepEqual([before, calls], [['over'], ['over']])
})
