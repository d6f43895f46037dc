// A head that Node will not send, through the upstream's fault or the app's: nobody is left behind, the process least.
import assert from 'node:assert/strict'
import type { ServerResponse } from 'node:http'
import { test } from 'node:test'
import { hosts, type Middleware } from '../support/front.ts'
import { rawProxied } from '../support/proxied.ts'
import { chunk, streamHead } from '../support/raw-upstream.ts'
import { until } from '../support/waiting.ts'

const answers = {
  'an event stream': streamHead,
  'an event stream with an event': streamHead + chunk('data: x\n\n'),
  'another answer': 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nabc',
}

for (const [name, answer] of Object.entries(answers)) {
  for (const share of [false, { lingerMs: 0 }]) {
    const way = share ? 'shared' : 'of its own'

    test(`a reason phrase with a control character is left out, ${name}, ${way}`, async (t) => {
      const { upstream, front } = await rawProxied(t, { share })
      const client = front.request()
      const conversation = await upstream.next()
      await conversation.head()

      conversation.send(Buffer.from(answer.replace('200 OK', '200 O\x7fK'), 'latin1'))
      await client.head()

      assert.equal(client.status, 200)
    })

    test(`a writeHead of the app's that throws costs that client alone, ${name}, ${way}`, async (t) => {
      const errors: string[] = []
      const { upstream, front, proxy } = await rawProxied(
        t,
        { share, on: { error: (error) => void errors.push(error.name) } },
        { before: [failing] },
      )
      const client = front.request()
      const conversation = await upstream.next()
      await conversation.head()

      conversation.send(answer)
      await client.ended()
      await until(() => errors.length > 0 || client.status === 500, 'somebody to be told')
      // An ordinary answer has been read to its end, and its connection may be kept.
      if (answer.includes('chunked')) await conversation.closed()
      await until(
        () => proxy.stats().upstreams.every(({ active }) => active === 0),
        () => `nothing to be counted, got ${JSON.stringify(proxy.stats().upstreams)}`,
      )

      assert.equal(proxy.stats().active, 0)
      assert.equal(proxy.stats().shared.streams, 0)
    })
  }
}

for (const host of hosts) {
  test(`an end of the app's that throws when the head has left costs that client alone (${host})`, async (t) => {
    const errors: string[] = []
    const on = { error: (error: Error) => void errors.push(error.name) }
    const { upstream, front, proxy } = await rawProxied(t, { on }, { host, before: [failingLate] })
    const client = front.request()
    const conversation = await upstream.next()
    await conversation.head()

    conversation.send(answers['another answer'])
    await client.ended()
    await until(() => front.connections === 0 || front.protocol === 'h2', 'the client to be let go')
    assert.equal(proxy.stats().upstreams[0]?.active, 0)
    assert.equal(errors.length, 1)
  })
}

/** As a listener of `on-headers` may. */
const failing: Middleware = (_req, res: ServerResponse, next) => {
  const { writeHead } = res
  res.writeHead = () => {
    res.writeHead = writeHead
    throw new Error('no such header')
  }
  next()
}

const failingLate: Middleware = (_req, res: ServerResponse, next) => {
  const { end } = res
  res.end = () => {
    res.end = end
    throw new Error('no more')
  }
  next()
}
