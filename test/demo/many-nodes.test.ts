import assert from 'node:assert/strict'
import { test } from 'node:test'
import { start } from '../../demo/recipes/many-nodes.ts'
import { request } from '../support/client.ts'
import '../support/processes/compiled-forks.ts'
import { noRedis, RedisServer } from '../support/redis-server.ts'

test('three nodes have one upstream connection, and an id of one is good on another', { skip: noRedis }, async (t) => {
  const recipe = await start()
  t.after(() => recipe.close())
  const clients = recipe.nodes.map(({ url }) => request(`${url}/prices`))
  for (const client of clients) await client.waitFor('"n":10')

  const back = request(`${recipe.nodes[2]?.url}/prices`, { headers: { 'last-event-id': '5' } })
  await back.waitFor('"n":10')

  assert.equal(recipe.backend.open, 1)
  assert.match(back.text, /^id: 6\n/)
  for (const client of [...clients, back]) client.close()
})

test('the node that reads the upstream is killed, and a client of another one loses nothing', {
  skip: noRedis,
}, async (t) => {
  // What is given is used, and not ended.
  const redis = await RedisServer.start()
  t.after(() => redis.end())
  const recipe = await start({ size: 2, redisUrl: `redis://127.0.0.1:${redis.port}` })
  t.after(() => recipe.close())
  const clients = recipe.nodes.map(({ url }) => request(`${url}/prices`))
  for (const client of clients) await client.waitFor('"n":5')
  const owned = await Promise.all(
    recipe.nodes.map(async ({ url }) => (await (await fetch(`${url}/node`)).json()).owned),
  )
  const owner = owned.indexOf(1)

  recipe.nodes[owner]?.process.kill('SIGKILL')
  const other = clients[1 - owner]
  const last = Number(/.*"n":(\d+)/s.exec(other?.text ?? '')?.[1])
  await other?.waitFor(`"n":${last + 20}`, 20_000)

  const numbers = [...(other?.text ?? '').matchAll(/"n":(\d+)/g)].map(([, n]) => Number(n))
  assert.deepEqual(
    numbers,
    numbers.map((_, i) => (numbers[0] ?? 0) + i),
  )
  assert.equal(await redis.cli('PING'), 'PONG')
  other?.close()
})

test('where there is no Redis it says how to get one', async () => {
  const { PATH } = process.env
  process.env.PATH = ''
  try {
    await assert.rejects(start(), /There is no redis-server on this machine: install it/)
  } finally {
    process.env.PATH = PATH
  }
})
