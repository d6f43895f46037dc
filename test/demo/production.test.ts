import assert from 'node:assert/strict'
import { test } from 'node:test'
import { start } from '../../demo/recipes/production.ts'
import { request } from '../support/client.ts'
import { read } from './reading.ts'

const ada = { authorization: 'Bearer ada-token' }

test('auth, CORS, security headers, limits and metrics do their work around the stream', async (t) => {
  const recipe = await start({ drainMs: 100 })
  t.after(() => recipe.close())
  const url = `${recipe.url}/events`

  const stranger = await fetch(url)
  const readings = []
  for (let i = 0; i < 3; i++) {
    readings.push(await read(url, { headers: { ...ada, origin: 'https://app.example' } }))
  }
  const fourth = await fetch(url, { headers: ada })
  const somebodyElse = await read(url, { headers: { authorization: 'Bearer grace-token' } })
  const [first] = readings
  const events = await first?.take(3)
  const metrics = await (await fetch(`${recipe.url}/metrics`)).text()

  assert.equal(stranger.status, 401)
  assert.equal(fourth.status, 429)
  assert.equal(somebodyElse.response.status, 200)
  assert.deepEqual(
    events?.map(({ n }) => n),
    [1, 2, 3],
  )
  assert.equal(first?.response.headers.get('access-control-allow-origin'), 'https://app.example')
  assert.equal(first?.response.headers.get('x-content-type-options'), 'nosniff')
  assert.equal(first?.response.headers.get('content-encoding'), null)
  assert.match(metrics, /^sse_proxy_streams_active\{proxy="events"\} 4$/m)
  assert.match(metrics, /^sse_proxy_refused_total\{.*reason="client-limit".*\} 1$/m)
  for (const reading of [...readings, somebodyElse]) reading.close()
})

test('the shutdown ends open streams at an event boundary, with a time to come back', async () => {
  const recipe = await start({ drainMs: 300 })
  const client = request(`${recipe.url}/events`, { headers: ada })
  await client.waitFor('"n":2')

  await recipe.close()

  assert.equal(await client.ended(), 'clean')
  assert.match(client.text, /\n\nretry: \d+\n\n$/)
})

test('a crashing backend is not noticed', async (t) => {
  const recipe = await start({ drainMs: 100 })
  t.after(() => recipe.close())
  const reading = await read(`${recipe.url}/events`, { headers: ada })
  await reading.take(2)

  for (const backend of recipe.backends) backend.crash()
  const events = await reading.take(3)

  assert.deepEqual(
    events.map(({ n }) => n),
    [3, 4, 5],
  )
  assert.deepEqual(recipe.failures, [])
  reading.close()
})
