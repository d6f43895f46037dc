// A real page that reads an answer as it comes, and is busy with what it has got. A browser drops what its page has not read
// of an answer when that breaks.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { browserForFile } from '../support/browser.ts'
import { withoutBrowser } from '../support/chromium.ts'
import { proxied } from '../support/proxied.ts'
import { Arrivals } from '../support/waiting.ts'

const browser = browserForFile()
const tokens = Array.from({ length: 8 }, (_, i) => `data: ${i}\n\n`)
const readAll = `(async () => {
  const reader = (await fetch('/events')).body.pipeThrough(new TextDecoderStream()).getReader()
  let text = ''
  try {
    for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
      const busyMs = text === '' ? 100 : 5
      text += value
      void fetch('/events/read')
      for (const until = performance.now() + busyMs; performance.now() < until; );
    }
    return [text, 'whole']
  } catch {
    return [text, 'broken']
  }
})()`

for (const [way, share] of Object.entries({ 'a stream': false, 'a shared stream': { lingerMs: 0 } } as const)) {
  test(`a busy page reads the last event of ${way} that is lost, before its transfer breaks`, {
    skip: withoutBrowser,
  }, async (t) => {
    const reads = new Arrivals<string>()
    const page = (req: { url: string }, res: { end(html: string): void }, next: () => void): void => {
      if (req.url === '/read') reads.add(req.url)
      if (req.url === '/') next()
      else res.end('<!doctype html><title>A page</title>')
    }
    const { upstream, front } = await proxied(t, { onLost: () => ({ data: 'sorry' }), share }, { before: [page] })
    const opened = await browser.open(t, `${front.url}/page`)
    const read = opened.page.evaluate(readAll)
    const stream = (await upstream.next()).stream()
    const [first = '', ...others] = tokens
    stream.write(first)
    await reads.next('a read of the page')

    for (const token of others) {
      stream.write(token)
      await new Promise(setImmediate)
    }
    stream.cut()

    assert.deepEqual(await read, [`${tokens.join('')}data: sorry\n\n`, 'broken'])
  })
}
