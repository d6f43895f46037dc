// Workers of one machine behind one port, with a Redis server between them: one upstream stream for the clients of all, and
// limits and stops that hold over all.
import assert from 'node:assert/strict'
import cluster, { type Worker } from 'node:cluster'
import { once } from 'node:events'
import { type TestContext, test } from 'node:test'
import { open, request } from '../support/client.ts'
import { interpret } from '../support/oracle.ts'
import { freePort } from '../support/ports.ts'
import { scriptOf } from '../support/processes/child.ts'
import { noRedis, RedisServer } from '../support/redis-server.ts'
import { startUpstream } from '../support/upstream.ts'
import { within } from '../support/waiting.ts'

const clientCount = 12

test('four workers have one upstream stream, and count and stop the streams of a client together', {
  skip: noRedis,
}, async (t) => {
  const redis = await RedisServer.start()
  const upstream = await startUpstream()
  t.after(async () => {
    await upstream.close()
    await redis.end()
  })
  const url = await startWorkers(t, {
    ...{ TARGET: `${upstream.url}/stream`, REDIS_PORT: `${redis.port}`, STREAMS_PER_CLIENT: `${clientCount}` },
  })
  const first = request(url)
  const exchange = await upstream.next()
  const stream = exchange.stream()
  const others = await Promise.all(Array.from({ length: clientCount - 1 }, () => open(url)))
  const clients = [first, ...others]

  for (let id = 1; id <= 20; id++) stream.send({ id: `${id}`, data: `${id}` })
  for (const client of clients) await client.waitFor('data: 20\n\n')
  const oneTooMany = await request(url).head()
  const stopped = await request(url, { method: 'DELETE' }).head()
  for (const client of clients) assert.equal(await client.ended(), 'clean')

  const workers = new Set(await Promise.all(clients.map(async (client) => (await client.head()).headers['x-worker'])))
  assert.equal(workers.size, 4)
  assert.equal(upstream.exchanges.length, 1)
  const expected = Array.from({ length: 20 }, (_, i) => `${i + 1}`)
  for (const client of clients) {
    assert.deepEqual(
      interpret(client.bytes).events.map(({ data }) => data),
      expected,
    )
  }
  assert.deepEqual([oneTooMany.status, stopped.status], [429, 204])
  await exchange.leftByPeer()
})

async function startWorkers(t: TestContext, env: Record<string, string>): Promise<string> {
  // Each gets its share of the connections.
  cluster.schedulingPolicy = cluster.SCHED_RR
  const { path, execArgv } = scriptOf('store-worker.ts')
  cluster.setupPrimary({ exec: path, execArgv })
  const port = await freePort()
  const workers = [1, 2, 3, 4].map(() => cluster.fork({ ...env, PORT: `${port}`, NODE_OPTIONS: '' }))
  t.after(() => Promise.all(workers.map(end)))
  await within(Promise.all(workers.map((worker) => once(worker, 'message'))), 'four workers', 30_000)
  return `http://127.0.0.1:${port}/`
}

async function end(worker: Worker): Promise<void> {
  if (worker.isDead()) return
  const exit = once(worker, 'exit')
  worker.process.kill('SIGKILL')
  await exit
}
