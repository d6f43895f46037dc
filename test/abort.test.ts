// Whether work is still wanted: who hears that it is not, how often, and what is left behind.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Abort, after, LinkedAbort, sleep } from '../src/abort.ts'
import { fakeClock } from './support/fake-clock.ts'

test('all who listen hear of an abort once, in the order they came', () => {
  const abort = new Abort()
  const heard: string[] = []
  for (const name of ['a', 'b', 'c']) abort.onAbort(() => heard.push(name))

  abort.abort('why')
  abort.abort('again')

  assert.deepEqual(heard, ['a', 'b', 'c'])
  assert.equal(abort.reason, 'why')
})

for (const left of ['a', 'b', 'c']) {
  test(`a listener that is taken back hears nothing, and the others do (${left} of three)`, () => {
    const abort = new Abort()
    const heard: string[] = []
    const listeners = ['a', 'b', 'c'].map((name) => ({ name, listener: () => heard.push(name) }))
    for (const { listener } of listeners) abort.onAbort(listener)

    for (const { name, listener } of listeners) if (name === left) abort.offAbort(listener)
    abort.onAbort(() => heard.push('d'))
    abort.abort('why')

    assert.deepEqual(
      heard,
      ['a', 'b', 'c', 'd'].filter((name) => name !== left),
    )
  })
}

test('a listener that throws keeps neither the others from hearing nor the owner from going on', () => {
  const abort = new Abort()
  const heard: string[] = []
  abort.onAbort(() => {
    throw new Error('a mistake')
  })
  abort.onAbort(() => heard.push('the other'))
  abort.signal.addEventListener('abort', () => heard.push('the real one'))

  abort.abort('why')

  assert.deepEqual(heard, ['the other', 'the real one'])
})

test('a signal that is asked for afterwards is aborted, with the reason', () => {
  const abort = new Abort()

  abort.abort('why')

  assert.equal(abort.signal.aborted, true)
  assert.equal(abort.signal.reason, 'why')
})

test('a wait ends in time, and leaves no listener', async (t) => {
  const clock = fakeClock(t)
  const abort = new Abort()
  const off = t.mock.method(abort, 'offAbort')

  const waiting = sleep(100, abort)
  clock.pass(100)
  await waiting

  assert.equal(off.mock.callCount(), 1)
})

test('a wait rejects with the reason when it is aborted, and when it was before', async () => {
  const abort = new Abort()

  const waiting = sleep(3_600_000, abort)
  abort.abort('why')

  await assert.rejects(waiting, (reason) => reason === 'why')
  await assert.rejects(sleep(3_600_000, abort), (reason) => reason === 'why')
})

test('what was to happen after a while happens then, and not at all when it is aborted before', (t) => {
  const clock = fakeClock(t)
  const [abort, aborted] = [new Abort(), new Abort()]
  const happened: string[] = []

  after(100, abort, () => happened.push('wanted'))
  after(100, aborted, () => happened.push('not wanted'))
  aborted.abort('why')
  clock.pass(99)
  assert.deepEqual(happened, [])
  clock.pass(1)

  assert.deepEqual(happened, ['wanted'])
})

test('one that is linked is aborted with the other, for its reason, and has no effect on it itself', () => {
  const other = new Abort()
  const linked = new LinkedAbort(other)
  const ended = new LinkedAbort(other)
  const unlinked = new LinkedAbort(other)

  ended.abort('own')
  unlinked.unlink()
  assert.equal(other.aborted, false)
  other.abort('why')

  assert.deepEqual([linked.reason, ended.reason, unlinked.aborted], ['why', 'own', false])
  assert.equal(new LinkedAbort(other).reason, 'why')
})
