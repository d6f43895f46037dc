// Connections on which nobody writes are asked about by the kernel, so that a pulled cable is noticed on both sides.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { sseProxy } from 'sse-proxy-middleware'
import { certificate } from '../support/certificate.ts'
import { request } from '../support/client.ts'
import { proxied } from '../support/proxied.ts'
import { startUpstream } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

const skip = process.platform === 'linux' ? false : 'only Linux tells which timers its connections have'

test('the connection of a client is asked about after a minute of silence', { skip }, async (t) => {
  const { upstream, front } = await proxied(t, { keepalive: false })
  const client = front.request()
  ;(await upstream.next()).stream()
  await client.head()

  const seconds = await secondsToProbe({ local: front.port })

  assert.ok(seconds > 50 && seconds <= 60, `after ${seconds} s`)
})

test('so is that of a client which waits for a whole stream as one answer', { skip }, async (t) => {
  const { upstream, front, proxy } = await proxied(t, { to: { format: () => 'json' } })
  front.request()
  ;(await upstream.next()).stream().send({ data: '1' })
  await until(() => proxy.stats().eventsIn === 1, 'the first event')

  const seconds = await secondsToProbe({ local: front.port })

  assert.ok(seconds > 50 && seconds <= 60, `after ${seconds} s`)
})

test('an app whose server has keepalive times of its own keeps them', { skip }, async (t) => {
  const upstream = await startUpstream()
  const proxy = sseProxy({ target: upstream.url })
  const server = createServer({ keepAlive: true, keepAliveInitialDelay: 5_000 }, (req, res) => proxy(req, res))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const client = request(`http://127.0.0.1:${port}`)
  t.after(async () => {
    client.close()
    await new Promise((resolve) => server.close(resolve))
    await upstream.close()
  })
  ;(await upstream.next()).stream()
  await client.head()

  const seconds = await secondsToProbe({ local: port })

  assert.ok(seconds <= 5, `after ${seconds} s`)
})

const upload = { method: 'POST', headers: { 'content-length': '2' }, body: 'ab' }
const ways = [
  { name: '', tls: undefined, how: {} },
  { name: ' over TLS', tls: certificate, how: {} },
  { name: ' with an upload', tls: undefined, how: upload },
  { name: ' over TLS with an upload', tls: certificate, how: upload },
]

for (const { name, tls, how } of ways) {
  test(`the connection to an upstream${name} is asked about after a quarter of a minute of silence`, {
    skip,
  }, async (t) => {
    const { upstream, front } = await proxied(t, { secure: false }, { upstream: tls ? { tls } : {} })
    const client = front.request('', how)
    ;(await upstream.next()).stream()
    await client.head()

    const seconds = await secondsToProbe({ remote: upstream.port })

    assert.ok(seconds > 10 && seconds <= 15, `after ${seconds} s`)
  })
}

/** When the kernel will ask the other side of a connection whether it is there, if it will. */
async function secondsToProbe(ports: { local?: number; remote?: number }): Promise<number> {
  let seconds: number | undefined
  await until(
    () => {
      seconds = probeTimer(ports)
      return seconds !== undefined
    },
    'a keepalive timer of the connection',
    2_000,
  )
  return seconds ?? Number.NaN
}

function probeTimer({ local, remote }: { local?: number; remote?: number }): number | undefined {
  for (const line of readFileSync('/proc/net/tcp', 'utf8').split('\n').slice(1)) {
    const [, from, to, state, , timer = ''] = line.trim().split(/\s+/)
    const [kind, due = ''] = timer.split(':')
    const isIt = (local === undefined || portOf(from) === local) && (remote === undefined || portOf(to) === remote)
    // Established, and the timer is that of keepalives, in hundredths of a second.
    if (isIt && state === '01' && kind === '02') return Number.parseInt(due, 16) / 100
  }
  return undefined
}

function portOf(address = ''): number {
  return Number.parseInt(address.split(':')[1] ?? '', 16)
}
