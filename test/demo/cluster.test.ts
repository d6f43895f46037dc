import assert from 'node:assert/strict'
import { test } from 'node:test'
import { start } from '../../demo/recipes/cluster.ts'
import { request } from '../support/client.ts'
import '../support/processes/compiled-forks.ts'

test('a client is led to its upstream by whichever process it reaches, and a shutdown drains them all', async () => {
  const recipe = await start()
  const url = `${recipe.url}/events`
  const first = request(url)
  await first.waitFor('"n":1')
  const cookie = String(first.headers['set-cookie']).split(';')[0] ?? ''

  const later = Array.from({ length: 8 }, () => request(url, { headers: { cookie } }))
  await Promise.all(later.map((client) => client.waitFor('"n":1')))
  await recipe.close()

  const upstreams = new Set([first, ...later].map((client) => /"from":"(\w)"/.exec(client.text)?.[1]))
  const workers = new Set(later.map((client) => client.headers['x-worker']))
  assert.equal(upstreams.size, 1)
  assert.equal(workers.size, 2)
  for (const client of [first, ...later]) assert.equal(await client.ended(), 'clean')
})
