// Libraries that read event streams in a page, in a real browser.
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import express from 'express'
import { sseProxy } from 'sse-proxy-middleware'
import { browserForFile } from '../support/browser.ts'
import { withoutBrowser } from '../support/chromium.ts'
import { root } from '../support/documents.ts'
import { startUpstream, type Upstream } from '../support/upstream.ts'

const browser = browserForFile()
const skip = withoutBrowser

test('htmx puts the events of a stream into the page, keepalive comments left out', { skip }, async (t) => {
  const { upstream, url } = await arrange(
    t,
    `<script src="/libraries/htmx.org/dist/htmx.min.js"></script>
     <script src="/libraries/htmx-ext-sse/dist/sse.min.js"></script>
     <div hx-ext="sse" sse-connect="/events">
       <p id="news" sse-swap="news" hx-swap="beforeend"></p>
       <p id="plain" sse-swap="message"></p>
     </div>`,
  )
  const { page } = await browser.open(t, url)
  const stream = (await upstream.next()).stream()

  stream.send({ event: 'news', data: '<b>one</b>' })
  stream.send({ event: 'news', data: '<b>two</b>' })
  stream.send({ data: 'last' })
  await page.waitForFunction(`document.querySelector('#plain').textContent === 'last'`)

  assert.equal(await page.innerHTML('#news'), '<b>one</b><b>two</b>')
})

test('sse.js posts a body, reads named events, and its leaving is heard', { skip }, async (t) => {
  const { upstream, url } = await arrange(
    t,
    `<script type="module">
       import { SSE } from '/libraries/sse.js/lib/sse.js'
       window.seen = []
       window.source = new SSE('/events', { payload: '{"q":1}', headers: { 'content-type': 'application/json' } })
       for (const name of ['message', 'token']) {
         source.addEventListener(name, (event) => seen.push([event.type, event.id, event.data]))
       }
     </script>`,
  )
  const { page } = await browser.open(t, url)
  const exchange = await upstream.next()
  const body = await exchange.body()
  const stream = exchange.stream()

  stream.send({ event: 'token', id: '1', data: 'Hel' })
  stream.send({ event: 'token', id: '2', data: 'lo' })
  stream.send({ id: '3', data: 'done' })
  await page.waitForFunction('window.seen?.length === 3')
  const seen = await page.evaluate('seen')
  await page.evaluate('source.close()')

  assert.equal(String(body), '{"q":1}')
  assert.deepEqual(seen, [
    ['token', '1', 'Hel'],
    ['token', '2', 'lo'],
    ['message', '3', 'done'],
  ])
  await exchange.leftByPeer()
})

/** A page with this body, the libraries of the tests beside it, and a proxied stream at `/events`. */
async function arrange(t: TestContext, body: string): Promise<{ upstream: Upstream; url: string }> {
  const upstream = await startUpstream()
  const app = express()
  app.get('/', (_req, res) => void res.type('html').send(`<!doctype html><title>A page</title>${body}`))
  app.use('/libraries', express.static(join(root, 'node_modules')))
  app.use('/events', express.json(), sseProxy({ target: `${upstream.url}/stream`, keepalive: 20 }))
  const server = createServer(app)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
    await upstream.close()
  })
  return { upstream, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}
