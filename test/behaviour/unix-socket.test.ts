// An upstream that listens on a unix socket, in the form of http-proxy-middleware's target object.
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { hostsByProtocol } from '../support/front.ts'
import { proxied } from '../support/proxied.ts'

const skip = process.platform === 'win32' && 'unix sockets are named otherwise here'

for (const host of hostsByProtocol) {
  test(`events arrive from a unix socket (${host})`, { skip }, async (t) => {
    const { upstream, front } = await overSocket(t, host)
    const client = front.request('/sub?x=1')
    const exchange = await upstream.next()
    const stream = exchange.stream()

    stream.send({ data: 'one' })
    await client.waitFor('data: one\n\n')
    stream.end()

    assert.equal(await client.ended(), 'clean')
    assert.equal(exchange.url, '/sub?x=1')
  })

  test(`a client that leaves closes the connection to a unix socket (${host})`, { skip }, async (t) => {
    const { upstream, front } = await overSocket(t, host)
    const client = front.request()
    const exchange = await upstream.next()
    exchange.stream()
    await client.head()

    client.close()

    await exchange.leftByPeer()
  })

  test(`a unix socket that nobody listens on is a 502 without its path (${host})`, { skip }, async (t) => {
    const { upstream, front } = await overSocket(t, host)
    await upstream.close()

    const client = await front.open()
    await client.ended()

    assert.equal(client.status, 502)
    assert.doesNotMatch(client.text, /sock|ENOENT|tmp/)
  })
}

async function overSocket(t: TestContext, host: (typeof hostsByProtocol)[number]) {
  const folder = await mkdtemp(join(tmpdir(), 'sse-proxy-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  const socketPath = join(folder, 'upstream.sock')
  const options = { target: { socketPath, protocol: 'http:', host: 'localhost' } } as object
  return await proxied(t, options, { host, upstream: { socketPath } })
}
