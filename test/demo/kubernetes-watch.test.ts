import assert from 'node:assert/strict'
import { test } from 'node:test'
import { start } from '../../demo/recipes/kubernetes-watch.ts'
import { request } from '../support/client.ts'
import { interpret } from '../support/oracle.ts'

test('changes are events of their kind, each once, over watches that the API server ends', async (t) => {
  const recipe = await start()
  t.after(() => recipe.close())

  const client = request(`${recipe.url}/pods`)
  await client.waitFor('pod-8')
  client.close()

  const { events } = interpret(client.bytes)
  assert.deepEqual(
    events.slice(0, 6).map(({ type, lastEventId, data }) => [type, lastEventId, JSON.parse(data).metadata.name]),
    ['1', '2', '4', '5', '7', '8'].map((version) => ['added', version, `pod-${version}`]),
  )
  assert.deepEqual(recipe.asked.slice(0, 3), ['', '3', '6'])
})

test('a version that the API server has no more ends the stream, and who comes back begins without one', async (t) => {
  const recipe = await start({ expired: 3 })
  t.after(() => recipe.close())

  const { events } = interpret(Buffer.from(await request(`${recipe.url}/pods`).whole()))

  assert.deepEqual(
    events.map(({ type, lastEventId }) => [type, lastEventId]),
    [
      ['added', '1'],
      ['added', '2'],
      ['error', ''],
    ],
  )
  assert.deepEqual(recipe.asked, ['', '3'])
})
