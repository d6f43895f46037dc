import assert from 'node:assert/strict'
import { test } from 'node:test'
import { start } from '../../demo/recipes/shared-feed.ts'
import { read } from './reading.ts'

const plan = (name: string) => ({ authorization: `Bearer ${name}` })

test('all clients share one upstream stream, and each sees what its plan allows', async (t) => {
  const recipe = await start()
  t.after(() => recipe.close())

  const full = await read(`${recipe.url}/prices`, { headers: plan('full') })
  const free = await Promise.all(
    Array.from({ length: 20 }, () => read(`${recipe.url}/prices`, { headers: plan('free') })),
  )
  const all = await full.take(6)
  const acme = await Promise.all(free.map((reading) => reading.take(2)))

  assert.equal(recipe.upstream.opened, 1)
  assert.deepEqual(new Set(all.map(({ symbol }) => symbol)), new Set(['ACME', 'INIT', 'HOLI']))
  assert.deepEqual(new Set(acme.flat().map(({ symbol }) => symbol)), new Set(['ACME']))
  for (const reading of [full, ...free]) reading.close()
})

test('a client that comes back gets what it missed, without another upstream stream', async (t) => {
  const recipe = await start()
  t.after(() => recipe.close())
  const staying = await read(`${recipe.url}/prices`, { headers: plan('full') })
  const leaving = await read(`${recipe.url}/prices`, { headers: plan('full') })
  const [last] = (await leaving.take(3)).slice(-1)
  leaving.close()
  const missed = (await staying.take(12)).filter(({ n }) => n > last.n)

  const back = await read(`${recipe.url}/prices`, { headers: { ...plan('full'), 'last-event-id': String(last.n) } })
  const caughtUp = await back.take(missed.length)

  assert.deepEqual(caughtUp, missed)
  assert.equal(recipe.upstream.opened, 1)
  for (const reading of [staying, back]) reading.close()
})
