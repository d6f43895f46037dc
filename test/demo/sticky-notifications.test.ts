import assert from 'node:assert/strict'
import { test } from 'node:test'
import { start } from '../../demo/recipes/sticky-notifications.ts'
import { read } from './reading.ts'

test('a user meets the same backend each time, and users are spread over the backends', async (t) => {
  const recipe = await start()
  t.after(() => recipe.close())
  const visit = async (user: string) => {
    const reading = await read(`${recipe.url}/notifications`, { headers: { authorization: `Bearer ${user}-token` } })
    const [welcome] = await reading.take(1)
    reading.close()
    return welcome
  }

  const visits = []
  for (let i = 0; i < 5; i++) visits.push(await visit('ada'))
  const others = await Promise.all(Array.from({ length: 30 }, (_, i) => visit(`user${i}`)))

  assert.deepEqual(
    visits.map(({ visit }) => visit),
    [1, 2, 3, 4, 5],
  )
  assert.equal(new Set(visits.map(({ backend }) => backend)).size, 1)
  assert.equal(new Set(others.map(({ backend }) => backend)).size, 3)
})
