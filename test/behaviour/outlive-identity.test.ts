// Another user's stream is found by no id, no path and no spelling: an id is looked up inside its key, which has the user.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RequestOptions } from '../support/client.ts'
import { answering, chats, keyOf, leave, post, stop } from '../support/outliving.ts'
import { proxied } from '../support/proxied.ts'

const eve = { 'x-user': 'eve' }

test("every guess at another user's stream finds nothing, and reaches the upstream as nothing of his", async (t) => {
  const room = await chats(t)
  const { asker, stream } = await answering(room, '/1')
  stream.send({ data: 'secret' })
  await asker.waitFor('secret')
  await leave(asker, room)
  const id = /^id: (.*)$/m.exec(asker.text)?.[1] ?? ''
  const ended = await answering(room, '/2')
  ended.stream.end('data: secret\n\n')
  await ended.asker.whole()

  const guesses: [path: string, options?: RequestOptions][] = [
    ['/1'],
    ['/2'],
    ['/1', { headers: { 'last-event-id': id } }],
    [`/1?lastEventId=${id}`],
    [`/1?last_event_id=${id}`],
    ['/1?x-user=ada'],
    ['/1?user=ada'],
    ['/1', { headers: { cookie: 'x-user=ada; user=ada' } }],
    ['/1', { headers: { authorization: 'Bearer ada', 'x-forwarded-user': 'ada', forwarded: 'for=ada' } }],
    ['/1', { headers: { 'x-http-method-override': 'POST', 'x-method-override': 'DELETE' } }],
    ['/1', { headers: { 'x-original-url': keyOf('/1'), 'x-rewrite-url': keyOf('/1') } }],
    ['//1'],
    ['/1/'],
    ['/./1'],
    ['/%31'],
    ['/1%00'],
    ['/1%20'],
    [`/${encodeURIComponent(keyOf('/1'))}`],
    [`/${encodeURIComponent(`=${keyOf('/1')}`)}`],
    [`/${encodeURIComponent(JSON.stringify([`=${keyOf('/1')}`, id]))}`],
  ]
  for (const [path, { headers, ...options } = {}] of guesses) {
    const guess = await room.front.open(path, { ...options, headers: { ...eve, ...headers } })
    assert.equal(guess.status, 204, `${path} ${JSON.stringify(headers)}`)
    assert.equal(guess.text, '')
  }
  assert.equal((await room.front.open('/1', { ...stop, headers: eve })).status, 404)
  assert.equal(room.upstream.exchanges.length, 2)
  assert.equal(room.proxy.stats().shared.streams, 1)
})

test('the same question of another user is one of its own, whatever runs', async (t) => {
  const room = await chats(t)
  const ada = await answering(room, '/1')

  const other = room.front.request('/1', post(eve))
  const exchange = await room.upstream.next()
  exchange.stream().send({ data: "eve's" })
  await other.waitFor("eve's")

  assert.doesNotMatch(other.text, /one/)
  assert.doesNotMatch(ada.asker.text, /eve/)
  assert.equal((await room.front.open('/1', { ...stop, headers: eve })).status, 204)
  assert.equal(await other.ended(), 'clean')
  assert.equal(ada.asker.ending, undefined)
})

test("an empty key, which says of nobody who he is, is no key of a question's: the app is told", async (t) => {
  const room = await chats(t, {
    key: ({ headers }) => headers['x-chat'] && `${headers['x-user']} ${headers['x-chat']}`,
  })

  const asked = await room.front.open('', post({ 'x-user': 'ada', 'x-chat': '' }))
  const read = await room.front.open('', { headers: { ...eve, 'x-chat': '' } })

  assert.deepEqual([asked.status, read.status], [500, 500])
  assert.equal(room.upstream.exchanges.length, 0)
})

test('a key that spells what the proxy makes of another key and an id finds nothing of it', async (t) => {
  const { front, upstream } = await proxied(t, {
    keepalive: false,
    share: { key: ({ url = '' }) => decodeURIComponent(url.slice(2)), lingerMs: 0, stop: ['DELETE'] },
  })
  const one = front.request('?room')
  const first = await upstream.next()
  const other = front.request('?room', { headers: { 'last-event-id': '5' } })
  const second = await upstream.next()
  for (const exchange of [first, second]) exchange.stream().send({ data: 'secret' })
  await Promise.all([one, other].map((client) => client.waitFor('secret')))

  const guess = front.request(`?${encodeURIComponent('["=room","5"]')}`)
  const own = await upstream.next(2000)
  own.stream().send({ data: 'own' })
  await guess.waitFor('own')

  assert.doesNotMatch(guess.text, /secret/)
})
