import assert from 'node:assert/strict'
import { test } from 'node:test'
import { start } from '../../demo/recipes/several-upstreams.ts'
import { read } from './reading.ts'

test('a stream goes on with another upstream when its own crashes in the middle of an event', async (t) => {
  const recipe = await start()
  t.after(() => recipe.close())
  const reading = await read(`${recipe.url}/events`)

  const before = await reading.take(3)
  recipe.backends.find(({ open }) => open > 0)?.crash()
  const after = await reading.take(4)
  reading.close()

  assert.deepEqual(
    [...before, ...after].map(({ n }) => n),
    [1, 2, 3, 4, 5, 6, 7],
  )
  assert.equal(new Set([...before, ...after].map(({ from }) => from)).size, 2)
})

test('new streams go where the fewest are', async (t) => {
  const recipe = await start()
  t.after(() => recipe.close())

  const readings = []
  for (let i = 0; i < 6; i++) readings.push(await read(`${recipe.url}/events`))

  assert.deepEqual(
    recipe.backends.map(({ open }) => open),
    [2, 2, 2],
  )
  for (const reading of readings) reading.close()
})
