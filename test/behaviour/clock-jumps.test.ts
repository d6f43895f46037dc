// A machine whose clock is set: what lasts, lasts as long as before. Only what is told as a time of day goes along.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setWallClock } from '../support/fake-clock.ts'
import { proxied } from '../support/proxied.ts'
import { several } from '../support/several-upstreams.ts'
import { until } from '../support/waiting.ts'

const dayMs = 86_400_000

for (const [direction, byMs] of [
  ['ahead', dayMs],
  ['back', -dayMs],
] as const) {
  test(`an ejected upstream is left alone for ejectMs where the clock is set ${direction} by a day`, async (t) => {
    const ejectMs = 1_000
    const { front, proxy } = await several(
      t,
      { balance: ([first]) => first as NonNullable<typeof first>, retry: false, health: { failures: 1, ejectMs } },
      { upstream: { handler: (exchange) => exchange.answer(503) } },
    )
    await front.request().ended()

    setWallClock(t, byMs)

    const [ejected] = proxy.stats().upstreams
    assert.equal(ejected?.healthy, false)
    assert.ok((ejected.ejectedUntil ?? 0) > Date.now() && (ejected.ejectedUntil ?? 0) <= Date.now() + ejectMs)
    await until(() => proxy.stats().upstreams[0]?.healthy === true, 'the ejection to be over', 5 * ejectMs)
  })

  test(`a client comes back to the events it has missed where the clock is set ${direction} by a day`, async (t) => {
    const { upstream, front } = await proxied(t, { share: { lingerMs: 50, replay: { ageMs: 60_000 } } })
    const opener = front.request()
    const stream = (await upstream.next()).stream()
    stream.send({ id: '1', data: 'one' })
    stream.send({ id: '2', data: 'two' })
    await opener.waitFor('data: two\n\n')

    setWallClock(t, byMs)
    stream.send({ id: '3', data: 'three' })
    await opener.waitFor('data: three\n\n')
    const client = await front.open('', { headers: { 'last-event-id': '1' } })

    await client.waitFor('data: three\n\n')
    assert.equal(client.text, 'id: 2\ndata: two\n\nid: 3\ndata: three\n\n')
  })
}
