import assert from 'node:assert/strict'
import { test } from 'node:test'
import { start } from '../../demo/recipes/http2.ts'
import { openHttp2Session, request } from '../support/client.ts'

test('one HTTP/2 connection carries more streams than the six of HTTP/1.1', async (t) => {
  const recipe = await start()
  const session = openHttp2Session(recipe.url)
  t.after(async () => {
    session.destroy()
    await recipe.close()
  })

  const clients = Array.from({ length: 10 }, () => request(`${recipe.url}/events`, { protocol: 'h2', session }))
  await Promise.all(clients.map((client) => client.waitFor('"n":2')))

  for (const client of clients) assert.match(String(client.headers['content-type']), /^text\/event-stream/)
})

test('a client without HTTP/2 is served over HTTP/1.1', async (t) => {
  const recipe = await start()
  t.after(() => recipe.close())

  const client = request(`${recipe.url}/events`)
  t.after(() => client.close())

  await client.waitFor('"n":2')
})
