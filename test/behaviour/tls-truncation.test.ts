// A TLS connection to an upstream that ends in the middle of a record, without a word that it is over. Node takes that for
// a proper end, so that only what was told of the body says whether it is whole.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { sseProxy } from 'sse-proxy-middleware'
import { certificate } from '../support/certificate.ts'
import type { Client } from '../support/client.ts'
import { type CuttingRelay, startCuttingRelay } from '../support/cutting-relay.ts'
import { type Host, hostsByProtocol, startFront } from '../support/front.ts'
import { type EventStream, type Exchange, startUpstream } from '../support/upstream.ts'

type Open = (exchange: Exchange) => EventStream

const inChunks: Open = (exchange) => exchange.stream()
const withLength: Open = (exchange) => exchange.stream({ 'content-length': '1000' })
const delimitedByConnection: Open = (exchange) => {
  exchange.res.removeHeader('transfer-encoding')
  return exchange.stream({ connection: 'close' })
}

const losses: { name: string; open: Open; before: string }[] = [
  { name: 'a body in chunks, in an event', open: inChunks, before: 'data: one\n\ndata: tw' },
  { name: 'a body in chunks, between events', open: inChunks, before: 'data: one\n\n' },
  { name: 'a body with a length, between events', open: withLength, before: 'data: one\n\n' },
  {
    name: 'a body that its connection delimits, in an event',
    open: delimitedByConnection,
    before: 'data: one\n\ndata: tw',
  },
]

for (const host of hostsByProtocol) {
  for (const { name, open, before } of losses) {
    test(`${name}, that is cut inside of a TLS record breaks the transfer (${host})`, async (t) => {
      const { client, stream, relay } = await opened(t, host, open)
      stream.write(before)
      await client.waitFor('one\n\n')

      relay.cutNext()
      stream.write('o\n\ndata: three\n\n')

      assert.equal(await client.ended(), 'broken')
      assert.equal(client.text, 'data: one\n\n')
    })
  }
}

async function opened(
  t: TestContext,
  host: Host,
  open: Open,
): Promise<{ client: Client; stream: EventStream; relay: CuttingRelay }> {
  const upstream = await startUpstream({ tls: certificate })
  t.after(() => upstream.close())
  const relay = await startCuttingRelay(t, upstream.port)
  const front = await startFront(host, sseProxy({ target: `https://127.0.0.1:${relay.port}/stream`, secure: false }))
  t.after(() => front.close())
  const client = front.request()
  return { client, stream: open(await upstream.next()), relay }
}
