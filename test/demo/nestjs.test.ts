import assert from 'node:assert/strict'
import { test } from 'node:test'
import { start } from '../../demo/recipes/nestjs.ts'
import { open } from '../support/client.ts'
import { within } from '../support/waiting.ts'
import { read } from './reading.ts'

test('a NestJS app proxies a stream behind its own guard', async (t) => {
  const recipe = await start()
  t.after(() => recipe.close())

  const stranger = await fetch(`${recipe.url}/events`)
  const reading = await read(`${recipe.url}/events`, { headers: { authorization: 'Bearer demo' } })
  const events = await reading.take(3)

  assert.equal(stranger.status, 401)
  assert.deepEqual(
    events.map(({ n }) => n),
    [1, 2, 3],
  )
  reading.close()
})

test('a NestJS app that shuts down tells its readers to come back', async () => {
  const recipe = await start()
  const client = await open(`${recipe.url}/events`, { headers: { authorization: 'Bearer demo' } })
  await client.waitFor('data: ')

  await within(recipe.close(), 'the app to close', 10_000)

  assert.equal(await client.ended(), 'clean')
  assert.match(client.text, /retry: \d+\n\n$/)
})
