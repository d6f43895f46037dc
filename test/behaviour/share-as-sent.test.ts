// What makes two clients of a shared stream alike is what the upstream is sent, and what its answers depend on.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { proxied } from '../support/proxied.ts'
import { until } from '../support/waiting.ts'

test('an answer that depends on Accept is not given to one who asked for another type', async (t) => {
  const { upstream, front } = await proxied(t, { share: { lingerMs: 0 } })
  const one = front.request('', { headers: { accept: 'text/event-stream;v=2' } })
  const first = await upstream.next()
  const other = front.request('', { headers: { accept: 'text/event-stream' } })
  const stream = first.stream({ vary: 'Accept' })
  const second = await upstream.next()
  second.stream({ vary: 'Accept' }).write('data: version 1\n\n')
  stream.write('data: version 2\n\n')

  await one.waitFor('data: version 2\n\n')
  await other.waitFor('data: version 1\n\n')

  assert.equal(second.headers.accept, 'text/event-stream')
})

for (const [how, headers, options] of [
  ['Connection takes out', { connection: 'last-event-id' }, {}],
  ['stripHeaders takes out', {}, { stripHeaders: ['last-event-id'] }],
] as const) {
  test(`a Last-Event-ID that ${how} says nothing of where a shared stream begins`, async (t) => {
    const { upstream, front } = await proxied(t, { share: { lingerMs: 0 }, ...options })
    const leader = front.request('', { headers: { 'last-event-id': '5', ...headers } })
    const first = await upstream.next()
    first.stream().write('id: 11\ndata: eleven\n\n')
    await leader.waitFor('data: eleven\n\n')

    const client = front.request('', { headers: { 'last-event-id': '5', ...headers } })
    await client.head()

    assert.equal(first.headers['last-event-id'], undefined)
    assert.equal(upstream.exchanges.length, 1)
  })
}

test('a client with an id is not put behind one whose id the upstream was not sent', async (t) => {
  const { upstream, front } = await proxied(t, { share: { lingerMs: 0 } })
  const leader = front.request('', { headers: { 'last-event-id': '5', connection: 'last-event-id' } })
  const first = await upstream.next()
  const client = front.request('', { headers: { 'last-event-id': '5' } })
  const second = await upstream.next()
  second.stream().write('id: 6\ndata: six\n\n')
  first.stream().write('id: 11\ndata: eleven\n\n')

  await client.waitFor('data: six\n\n')
  await leader.waitFor('data: eleven\n\n')

  assert.equal(second.headers['last-event-id'], '5')
})

for (const header of ['location', 'www-authenticate']) {
  test(`an answer with ${header} is one client's alone, and those who waited ask for themselves`, async (t) => {
    const { upstream, front } = await proxied(t, { share: { lingerMs: 0 } })
    const one = front.request('')
    const first = await upstream.next()
    const other = front.request('')
    await until(() => front.connections === 2, 'both clients')
    first.answer(302, { [header]: 'of-one', 'content-length': '0' })
    const second = await upstream.next()
    second.answer(302, { [header]: 'of-the-other', 'content-length': '0' })

    await Promise.all([one.ended(), other.ended()])

    assert.equal(one.headers[header], 'of-one')
    assert.equal(other.headers[header], 'of-the-other')
  })
}
