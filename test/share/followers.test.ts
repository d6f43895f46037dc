import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Follower, Followers } from '../../src/share/followers.ts'

function follower(told: string[], name: string, onEvents: () => void = () => {}): Follower {
  return {
    isIdle: true,
    isDone: true,
    onEvents() {
      told.push(`${name} has events`)
      onEvents()
    },
    onGap: () => void told.push(`${name} has a gap`),
    onEnd() {},
    onClosed() {},
    onFailed() {},
  }
}

test('who joins while events are handed out has them from the log, and does not get them again', () => {
  const followers = new Followers()
  const told: string[] = []
  const late = follower(told, 'late')
  followers.add(follower(told, 'first', () => followers.add(late)))

  followers.deliver([Buffer.from('data: a\n\n')], 1)
  followers.deliver([Buffer.from('data: b\n\n')], 1)

  assert.deepEqual(told, ['first has events', 'first has events', 'late has events'])
})

test('who leaves while events are handed out gets none of them', () => {
  const followers = new Followers()
  const told: string[] = []
  const second = follower(told, 'second')
  followers.add(follower(told, 'first', () => followers.delete(second)))
  followers.add(second)

  followers.deliver([Buffer.from('data: a\n\n')], 1)

  assert.deepEqual(told, ['first has events'])
})

test('what is handed out from a callback comes to all behind what is on its way, and not to who joins meanwhile', () => {
  const followers = new Followers()
  const told: string[] = []
  const hear = (name: string, also: (text: string) => void = () => {}): Follower => ({
    ...follower([], name),
    onEvents({ shared }) {
      told.push(`${name}: ${shared.bytes}`)
      also(String(shared.bytes))
    },
  })
  const late = hear('late')
  followers.add(
    hear('first', (text) => {
      if (text !== 'one') return
      followers.deliver([Buffer.from('two')], 1)
      followers.add(late)
    }),
  )
  followers.add(hear('second'))

  followers.deliver([Buffer.from('one')], 1)

  assert.deepEqual(told, ['first: one', 'second: one', 'first: two', 'second: two'])
})

test('who has left is kept no longer than until it has taken all, where nobody asks for it either', () => {
  const followers = new Followers()
  const asked: string[] = []
  let hasTaken = false
  const left: Follower = {
    ...follower([], 'left'),
    get isDone() {
      asked.push(hasTaken ? 'taken' : 'waiting')
      return hasTaken
    },
  }
  followers.add(left)
  followers.delete(left)
  hasTaken = true

  for (const name of ['second', 'third']) followers.delete(follower([], name))

  assert.deepEqual(asked, ['waiting', 'taken'])
})

test('a follower that fails keeps nothing that comes later from the others', () => {
  const followers = new Followers()
  const told: string[] = []
  const failing = follower(told, 'first', () => {
    throw new Error('not written')
  })
  followers.add(failing)
  followers.add(follower(told, 'second'))

  assert.throws(() => followers.deliver([Buffer.from('data: a\n\n')], 1), /not written/)
  followers.delete(failing)
  followers.deliver([Buffer.from('data: b\n\n')], 1)

  assert.deepEqual(told, ['first has events', 'second has events'])
})

test('followers are not idle until who has left has taken what it was handed', () => {
  const followers = new Followers()
  const left = { ...follower([], 'left'), isIdle: false, isDone: false }
  followers.add(follower([], 'first'))
  followers.add(left)

  followers.delete(left)
  const before = followers.areIdle
  left.isDone = true

  assert.deepEqual([before, followers.areIdle], [false, true])
})
