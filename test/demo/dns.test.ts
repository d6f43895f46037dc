import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sseProxy, type WeightedTarget } from 'sse-proxy-middleware'
import { addressTargets, followDns, srvTargets, start } from '../../demo/recipes/dns.ts'
import { until } from '../support/waiting.ts'
import { read } from './reading.ts'

// First, since those that follow leave timers of `fetch` behind, which a mocked clock would not clear.
test('the name is asked again when it has been answered, so that no old answer takes the place of a newer one', async (t) => {
  const answers: ((targets: WeightedTarget[]) => void)[] = []
  const proxy = sseProxy({ target: 'http://a' })
  const ask = () => new Promise<WeightedTarget[]>((resolve) => answers.push(resolve))
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] })
  const stop = followDns(proxy, 1000, ask)
  t.after(stop)

  t.mock.timers.tick(1000)
  t.mock.timers.tick(5000)
  assert.equal(answers.length, 1)
  answers[0]?.([{ url: 'http://b' }])
  await new Promise((resolve) => setImmediate(resolve))
  t.mock.timers.tick(1000)
  assert.equal(answers.length, 2)
  stop()
  answers[1]?.([{ url: 'http://c' }])
  await new Promise((resolve) => setImmediate(resolve))
  t.mock.timers.tick(5000)

  assert.equal(answers.length, 2)
})

test('a stream goes over to another backend when its own is not in the answer any more, and stays when nobody answers', async (t) => {
  // The stream moves as soon as its upstream has gone.
  t.mock.method(Math, 'random', () => 0)
  t.mock.method(console, 'warn', () => {})
  const recipe = await start({ everyMs: 20 })
  t.after(() => recipe.close())
  const reading = await read(`${recipe.url}/events`)
  const before = await reading.take(3)
  const [own] = recipe.backends.filter(({ open }) => open > 0)

  recipe.answer = undefined
  const meanwhile = await reading.take(2)
  recipe.answer = []
  meanwhile.push(...(await reading.take(2)))
  recipe.answer = recipe.backends.filter((backend) => backend !== own)
  await until(() => own?.open === 0, 'the stream to have moved')
  const after = await reading.take(3)
  reading.close()

  const all = [...before, ...meanwhile, ...after]
  assert.deepEqual(
    all.map(({ n }) => n),
    all.map((_, i) => i + 1),
  )
  assert.equal(new Set([...before, ...meanwhile].map(({ from }) => from)).size, 1)
  assert.notEqual(after.at(-1).from, before[0].from)
})

test('of SRV records those of the lowest priority are asked, by their weight', async () => {
  const record = (name: string, priority: number, weight: number) => ({ name, port: 8080, priority, weight })
  const resolveSrv = async () => [record('a', 1, 5), record('b', 2, 1), record('c', 1, 0)]

  assert.deepEqual(await srvTargets({ resolveSrv }, 'name'), [
    { url: 'http://a:8080/events', weight: 5 },
    { url: 'http://c:8080/events', weight: 0.1 },
  ])
})

test('of addresses all are asked', async () => {
  const resolve4 = async () => ['10.0.0.1', '10.0.0.2']

  assert.deepEqual(await addressTargets({ resolve4 }, 'name', 80), [
    { url: 'http://10.0.0.1:80/events' },
    { url: 'http://10.0.0.2:80/events' },
  ])
})
