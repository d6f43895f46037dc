// The demo as a program: what its routes answer, and how it starts and ends.
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { request } from '../support/client.ts'
import { noRedis } from '../support/redis-server.ts'
import { until } from '../support/waiting.ts'
import { asCompiled, type DemoProcess, fromSource, startDemo } from './demo-process.ts'
import { descendantsOf, isAlive } from './descendants.ts'

test('the demo takes the next free port where the wanted one is taken', async (t) => {
  const holder = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => holder.once('listening', resolve))
  t.after(() => holder.close())
  const { port } = holder.address() as AddressInfo

  const demo = await startDemo(t, { port, program: fromSource })

  assert.notEqual(new URL(demo.url).port, String(port))
  assert.match(demo.output, new RegExp(`Port ${port} is taken`))
  assert.equal((await fetch(demo.url)).status, 200)
})

test('Ctrl-C drains the open streams and exits with 0', async (t) => {
  const demo = await startDemo(t)
  const client = request(`${demo.url.replace('localhost', '127.0.0.1')}events/ticker`)
  await client.waitFor('data:')

  const code = await demo.interrupt()

  assert.equal(code, 0)
  assert.equal(await client.ended(), 'clean')
  assert.match(client.text, /\n\nretry: \d+\n\n$/)
})

test('health, metrics, the cookie of the sign-in and the security headers are there', async (t) => {
  const demo = await startDemo(t)
  const at = (path: string) => new URL(path, demo.url)

  const health = await fetch(at('/health'))
  const metrics = await fetch(at('/metrics'))
  const stranger = await fetch(at('/events/notifications'))
  const signedIn = await fetch(at('/sign-in'), {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ user: 'Zoë' }),
  })
  const cookie = signedIn.headers.getSetCookie()[0]?.split(';')[0] ?? ''
  const me = await fetch(at('/me'), { headers: { cookie } })
  const forged = await fetch(at('/me'), { headers: { cookie: cookie.replace('Zo', 'Bo') } })
  const page = await fetch(demo.url)

  assert.deepEqual(await health.json(), { status: 'ok' })
  assert.match(await metrics.text(), /^sse_proxy_streams_active\{proxy="ticker"\} 0$/m)
  assert.equal(stranger.status, 401)
  assert.deepEqual(await me.json(), { user: 'Zoë' })
  assert.deepEqual(await forged.json(), { user: null })
  assert.match(page.headers.get('content-security-policy') ?? '', /script-src 'self'/)
})

const skip = noRedis || (process.platform === 'linux' ? false : 'processes are looked for in /proc')

test('Ctrl-C and a kill leave no Redis and no node behind', { skip }, async (t) => {
  const ends = [
    { program: fromSource, end: (demo: DemoProcess) => demo.interrupt() },
    { program: asCompiled, end: (demo: DemoProcess) => demo.kill() },
  ]

  await Promise.all(
    ends.map(async ({ program, end }) => {
      const demo = await startDemo(t, { program })
      const killed = await fetch(new URL('/experiments/kill-node', demo.url), { method: 'POST' })
      const processes = descendantsOf(demo.pid)
      await end(demo)

      assert.equal(killed.status, 200)
      const programs = processes.map(({ program }) => program)
      assert.equal(programs.filter((program) => program === 'redis-server').length, 1)
      // Two of three nodes.
      assert.ok(programs.filter((program) => program === 'node').length >= 2, programs.join())
      const left = () => processes.filter(isAlive).map(({ program }) => program)
      await until(
        () => left().length === 0,
        () => `${left()} to end`,
      )
    }),
  )
})

test('without redis-server the button that kills a node says how to get it', async (t) => {
  const demo = await startDemo(t, { env: { PATH: '' } })

  const answer = await fetch(new URL('/experiments/kill-node', demo.url), { method: 'POST' })

  assert.match((await answer.json()).impossible, /^redis-server is not installed here: apt-get install redis-server/)
})
