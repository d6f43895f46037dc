import assert from 'node:assert/strict'
import { test } from 'node:test'
import { start } from '../../demo/recipes/connect.ts'
import { read } from './reading.ts'

test('a plain Connect app proxies a stream', async (t) => {
  const recipe = await start()
  t.after(() => recipe.close())

  const reading = await read(`${recipe.url}/events`)
  const events = await reading.take(3)

  assert.deepEqual(
    events.map(({ n }) => n),
    [1, 2, 3],
  )
  reading.close()
})
