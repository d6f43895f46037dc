import assert from 'node:assert/strict'
import { test } from 'node:test'
import { start } from '../../demo/recipes/polled-status.ts'
import { request } from '../support/client.ts'

test('pages get the state and each change of it, from one poller', async (t) => {
  const recipe = await start({ everyMs: 500 })
  t.after(() => recipe.close())
  const first = request(`${recipe.url}/status`)
  await first.waitFor('event: mail\ndata: up\n\n')

  recipe.set('mail', 'down')
  await first.waitFor('event: mail\ndata: down\n\n')
  const asked = recipe.asked
  const later = request(`${recipe.url}/status`)
  await later.waitFor('event: mail\ndata: down\n\n')

  assert.equal(later.text, 'event: api\ndata: up\n\nevent: mail\ndata: down\n\n')
  assert.equal(recipe.asked, asked)
  first.close()
  later.close()
})
