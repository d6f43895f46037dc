// Active health checks, over real sockets.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { HpmOptions } from '../../../src/hpm.ts'
import type { ProbePolicy } from '../../../src/options/resolve-health.ts'
import { Member } from '../../../src/upstream/pool/pool.ts'
import { Probes } from '../../../src/upstream/pool/probe.ts'
import { upstreamLabel } from '../../../src/upstream-label.ts'
import { certificate } from '../../support/certificate.ts'
import { watchLeftovers } from '../../support/leftovers.ts'
import { startNeverAccepting } from '../../support/never-accepts.ts'
import { refusingUrl } from '../../support/several-upstreams.ts'
import { type Exchange, startUpstream, type Upstream, type UpstreamOptions } from '../../support/upstream.ts'
import { until } from '../../support/waiting.ts'

const policy: ProbePolicy = { path: '/health?deep=1', intervalMs: 10, timeoutMs: 2_000, rise: 2, fall: 3 }

test('the first probe is sent at once, to the path of the options on the host of the target', async (t) => {
  const { upstream, probed } = await watched(t, { at: '/stream?x=1', intervalMs: 3_600_000 })

  const exchange = await upstream.next()
  exchange.answer(200)

  assert.equal(exchange.method, 'GET')
  assert.equal(exchange.url, '/health?deep=1')
  assert.equal(exchange.headers.host, new URL(upstream.url).host)
  assert.equal(probed.member.healthy, true)
})

test('an upstream whose probes fail is out after as many as fall says, and back after as many as rise says', async (t) => {
  let status = 500
  const { upstream, probed } = await watched(t, { handler: (exchange) => exchange.answer(status) })

  await until(() => !probed.member.healthy, 'the upstream to be out')
  assert.ok(upstream.exchanges.length >= 3)
  assert.deepEqual(probed.ejected, [probed.member])

  status = 200
  const before = upstream.exchanges.length
  await until(() => probed.member.healthy, 'the upstream to be back')
  assert.ok(upstream.exchanges.length >= before + 2)
  assert.deepEqual(probed.ejected, [probed.member])
})

test('passed probes end an ejection before its time', async (t) => {
  const { probed } = await watched(t, { handler: (exchange) => exchange.answer(200) })
  for (let i = 0; i < 3; i += 1) probed.member.health.failed(performance.now())
  assert.equal(probed.member.healthy, false)

  await until(() => probed.member.healthy, 'the upstream to be back', 5_000)
})

const passing: [name: string, answer: (exchange: Exchange) => void][] = [
  ['200', (exchange) => exchange.answer(200, {}, 'fine')],
  ['204', (exchange) => exchange.answer(204)],
  ['a redirection', (exchange) => exchange.answer(302, { location: '/elsewhere' })],
  ['an answer that never ends', (exchange) => void exchange.stream()],
]

for (const [name, handler] of passing) {
  test(`${name} passes`, async (t) => {
    const { upstream, probed } = await watched(t, { handler }, false)

    await until(() => probed.member.healthy, 'the upstream to be back')

    await until(() => upstream.open <= 1, 'answers to be let go of')
  })
}

const failing: [name: string, answer: (exchange: Exchange) => void][] = [
  ['400', (exchange) => exchange.answer(400)],
  ['404', (exchange) => exchange.answer(404)],
  ['500', (exchange) => exchange.answer(500)],
  ['503', (exchange) => exchange.answer(503)],
  ['a reset', ({ req }) => req.socket.resetAndDestroy()],
  ['a closed connection', ({ req }) => req.socket.end()],
  ['something that is no HTTP', ({ req }) => req.socket.end('what?')],
]

for (const [name, handler] of failing) {
  test(`${name} fails`, async (t) => {
    const { probed } = await watched(t, { handler })

    await until(() => !probed.member.healthy, 'the upstream to be out')
  })
}

test('no answer in time fails, and the connection is given up', async (t) => {
  const { upstream, probed } = await watched(t, { timeoutMs: 30, fall: 1, intervalMs: 3_600_000 })

  await until(() => !probed.member.healthy, 'the upstream to be out')

  const exchange = await upstream.next()
  await exchange.leftByPeer()
})

test('a refused connection fails', async (t) => {
  const probed = start(t, refusingUrl)

  await until(() => !probed.member.healthy, 'the upstream to be out')
})

test('a connection that is never established fails in time', async (t) => {
  const blocked = await startNeverAccepting()
  t.after(() => blocked.close())

  const probed = start(t, blocked.url, { timeoutMs: 30, fall: 1, intervalMs: 3_600_000 })

  await until(() => !probed.member.healthy, 'the upstream to be out')
})

test('options that Node refuses fail the probe and nothing else', async (t) => {
  const upstream = await startUpstream({ tls: certificate, handler: (exchange) => exchange.answer(200) })
  t.after(() => upstream.close())

  const probed = start(t, upstream.url, { fall: 1 }, { ssl: { cert: 'no certificate at all' } })

  await until(() => !probed.member.healthy, 'the upstream to be out')
})

test('a certificate that is not trusted fails unless secure is false', async (t) => {
  const upstream = await startUpstream({ tls: certificate, handler: (exchange) => exchange.answer(200) })
  t.after(() => upstream.close())

  const strict = start(t, upstream.url, {}, {})
  await until(() => !strict.member.healthy, 'the upstream to be out')

  const lenient = start(t, upstream.url, {}, { secure: false }, false)
  await until(() => lenient.member.healthy, 'the upstream to be back')

  const trusting = start(t, upstream.url, {}, { ssl: { ca: certificate.cert } }, false)
  await until(() => trusting.member.healthy, 'the upstream to be back')
})

const spellings: [name: string, target: (upstream: Upstream) => HpmOptions['target']][] = [
  ['a URL object', ({ url }) => new URL(url)],
  ['host and port', ({ port }) => ({ protocol: 'http:', host: '127.0.0.1', port })],
  ['hostname and port', ({ port }) => ({ protocol: 'http:', hostname: '127.0.0.1', port, host: `127.0.0.1:${port}` })],
  ['a host with its port', ({ port }) => ({ protocol: 'http:', host: `127.0.0.1:${port}`, port })],
]

for (const [name, target] of spellings) {
  test(`a target given as ${name} is probed`, async (t) => {
    const upstream = await startUpstream({ handler: (exchange) => exchange.answer(200) })
    t.after(() => upstream.close())

    const probed = start(t, target(upstream), {}, {}, false)

    await until(() => probed.member.healthy, 'the upstream to be back')
  })
}

test('a unix socket is probed', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'probe-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const socketPath = join(folder, 'upstream.sock')
  const upstream = await startUpstream({ socketPath, handler: (exchange) => exchange.answer(200) })
  t.after(() => upstream.close())

  const probed = start(t, { socketPath, host: '', port: '' }, {}, {}, false)

  await until(() => probed.member.healthy, 'the upstream to be back')
  assert.equal(upstream.exchanges[0]?.url, policy.path)
})

test('every upstream is probed for itself', async (t) => {
  const well = await startUpstream({ handler: (exchange) => exchange.answer(200) })
  const ill = await startUpstream({ handler: (exchange) => exchange.answer(500) })
  t.after(() => Promise.all([well.close(), ill.close()]))
  const members = [well, ill].map(({ url }) => memberOf(url))
  const ejected: Member[] = []
  const probes = new Probes({ policy, hpm: {}, onEjected: (member) => ejected.push(member) })
  t.after(() => probes.watch([]))
  probes.watch(members)

  await until(() => ejected.length > 0 && well.exchanges.length > 5, 'probes')

  assert.deepEqual(
    members.map(({ healthy }) => healthy),
    [true, false],
  )
  assert.deepEqual(ejected, [members[1]])
})

test('a probe that is slower than the interval does not pile up others behind it', async (t) => {
  const { upstream } = await watched(t, { intervalMs: 5, timeoutMs: 60_000 })
  await upstream.next()
  const second = await startUpstream({ handler: (exchange) => exchange.answer(200) })
  t.after(() => second.close())
  start(t, second.url, { intervalMs: 5 })

  await until(() => second.exchanges.length > 20, 'many intervals to pass')

  assert.equal(upstream.open, 1)
})

test('nothing is left when probing stops', async (t) => {
  const leftovers = watchLeftovers(t)
  const upstream = await startUpstream({ handler: (exchange) => exchange.answer(200) })
  const member = memberOf(upstream.url)
  const probes = new Probes({ policy: { ...policy, timeoutMs: 200 }, hpm: {}, onEjected: () => {} })
  probes.watch([member])
  await until(() => upstream.exchanges.length > 3, 'probes')

  probes.watch([])

  await upstream.close()
  await leftovers.assertNone()
})

interface Probed {
  member: Member
  ejected: Member[]
}

type Overrides = Partial<ProbePolicy>

/** An upstream that is probed; one that starts `well: false` has failed its probes before. */
async function watched(
  t: TestContext,
  { handler, at = '', ...overrides }: Overrides & UpstreamOptions & { at?: string } = {},
  well: boolean = true,
): Promise<{ upstream: Upstream; probed: Probed }> {
  const upstream = await startUpstream(handler && { handler })
  t.after(() => upstream.close())
  return { upstream, probed: start(t, upstream.url + at, overrides, {}, well) }
}

function start(
  t: TestContext,
  target: HpmOptions['target'],
  overrides: Overrides = {},
  hpm: HpmOptions = {},
  well: boolean = true,
): Probed {
  const member = memberOf(target)
  const given = { ...policy, ...overrides }
  for (let i = 0; i < given.fall && !well; i += 1) member.health.probed(false, given, performance.now())
  const ejected: Member[] = []
  const probes = new Probes({ policy: given, hpm, onEjected: (one) => ejected.push(one) })
  t.after(() => probes.watch([]))
  probes.watch([member])
  return { member, ejected }
}

function memberOf(target: HpmOptions['target']): Member {
  const health = { failures: 3, ejectMs: 3_600_000, maxEjectMs: 3_600_000 }
  const given = target as NonNullable<HpmOptions['target']>
  return new Member({ target: given, url: upstreamLabel(target), weight: 1, headers: undefined }, health)
}
