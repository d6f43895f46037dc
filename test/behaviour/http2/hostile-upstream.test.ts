// `http2`: whatever frames an upstream sends, in whatever order, every client gets an end, and the process goes on.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { anyFrame, headersFrame, settingsAckFrame, settingsFrame } from '../../support/http2-frames.ts'
import { rawProxied } from '../../support/proxied.ts'
import { below, type Chance, seeded } from '../../support/seeded.ts'
import { until } from '../../support/waiting.ts'

const rounds = 60

/** Any type, known or not, with any flags and a payload of any bytes, for a stream that there is or not. */
function randomFrame(chance: Chance): Buffer {
  const payload = Buffer.from(Array.from({ length: below(chance, 20) }, () => below(chance, 256)))
  return anyFrame(below(chance, 12), below(chance, 64), below(chance, 5), payload)
}

for (const hasAnswered of [false, true]) {
  test(`frames of all kinds ${hasAnswered ? 'behind' : 'in place of'} the head of an answer`, async (t) => {
    const { upstream, front } = await rawProxied(t, { http2: { mode: 'prior-knowledge', pingMs: 20 }, retry: false })

    for (let seed = 1; seed <= rounds; seed++) {
      const chance = seeded(seed)
      const client = front.request('', { method: 'POST', body: 'x' })
      const conversation = await upstream.next()
      conversation.send(Buffer.concat([settingsFrame, settingsAckFrame]))
      await until(() => conversation.received.length > 100, 'the request')

      if (hasAnswered) conversation.send(headersFrame(1, { 'content-type': 'text/event-stream' }))
      const frames = Array.from({ length: 1 + below(chance, 6) }, () => randomFrame(chance))
      conversation.send(Buffer.concat(frames))
      conversation.finish()
      const ending = await client.ended()

      const isOver = hasAnswered || client.status >= 500 || (client.status === 200 && ending !== 'unclear')
      assert.ok(isOver, `seed ${seed}: ${client.status}, ${ending}`)
    }
  })
}
