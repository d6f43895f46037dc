// A real browser's EventSource as the reader of a stream that another request has opened: it comes late, reads all of it,
// and stops for good at the 204 that says there is no more.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { browserForFile } from '../support/browser.ts'
import { withoutBrowser } from '../support/chromium.ts'
import { answering, chats } from '../support/outliving.ts'

const browser = browserForFile()
const page = (req: { url: string }, res: { end(html: string): void }, next: () => void): void =>
  req.url === '/page' ? res.end('<!doctype html><title>A page</title>') : next()

for (const [name, share] of [
  ['nothing is kept', {}],
  ['it is kept', { keepEndedMs: 60_000 }],
] as const) {
  test(`an EventSource that joins gets the whole answer and stops behind its end, where ${name}`, {
    skip: withoutBrowser,
  }, async (t) => {
    const room = await chats(t, share, {}, { before: [page] })
    const { stream } = await answering(room, '/1')
    const opened = await browser.open(t, `${room.front.url}/page`)
    const source = await opened.eventSource('/events/1')
    assert.equal((await source.next()).type, 'open')
    assert.equal((await source.next()).data, 'one')

    stream.write('retry: 10\n\n')
    stream.end('data: two\n\n')

    assert.equal((await source.next()).data, 'two')
    // The end, after which it asks again, and the 204.
    assert.deepEqual([(await source.next()).readyState, (await source.next()).readyState], [0, 2])
    assert.equal(room.upstream.exchanges.length, 1)
  })
}

test('an EventSource that comes when nothing runs stops at once', { skip: withoutBrowser }, async (t) => {
  const room = await chats(t, {}, {}, { before: [page] })
  const opened = await browser.open(t, `${room.front.url}/page`)

  const source = await opened.eventSource('/events/1')

  const { type, readyState } = await source.next()
  assert.deepEqual({ type, readyState }, { type: 'error', readyState: 2 })
})
