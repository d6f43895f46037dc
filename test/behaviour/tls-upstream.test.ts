// An upstream behind TLS, with a certificate of one's own, and one that wants to see a certificate itself.
import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { test } from 'node:test'
import type { TLSSocket } from 'node:tls'
import { certificate } from '../support/certificate.ts'
import { clientCertificate } from '../support/client-certificate.ts'
import { hostsByProtocol } from '../support/front.ts'
import { type OptionsFor, proxied } from '../support/proxied.ts'
import type { Upstream } from '../support/upstream.ts'

const { cert } = certificate

for (const host of hostsByProtocol) {
  test(`a certificate that nobody vouches for is refused (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, {}, { host, upstream: { tls: certificate } })

    const client = await front.open()
    await client.ended()

    assert.equal(client.status, 502)
    assert.doesNotMatch(client.text, /certificate|signed|localhost/i)
    assert.equal(upstream.exchanges.length, 0)
  })

  const trusting: { name: string; options: OptionsFor<Upstream> }[] = [
    { name: 'secure: false', options: { secure: false } },
    { name: 'its CA in `ssl`', options: { ssl: { ca: cert } } },
    { name: 'its CA in `ca`', options: { ca: cert } as object },
    {
      name: 'its CA in the target',
      options: ({ port }) =>
        ({ target: { protocol: 'https:', host: 'localhost', port, pathname: '/stream', ca: cert } }) as object,
    },
  ]
  for (const { name, options } of trusting) {
    test(`with ${name} its events arrive (${host})`, async (t) => {
      const { upstream, front } = await proxied(t, options, { host, upstream: { tls: certificate } })
      const client = front.request('?x=1')
      const exchange = await upstream.next()
      const stream = exchange.stream()

      stream.send({ data: 'one' })
      await client.waitFor('data: one\n\n')
      stream.end()

      assert.equal(await client.ended(), 'clean')
      assert.equal(exchange.url, '/stream?x=1')
      assert.equal((exchange.req.socket as TLSSocket).encrypted, true)
    })
  }

  test(`a client that leaves closes the TLS connection (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, { secure: false }, { host, upstream: { tls: certificate } })
    const client = front.request()
    const exchange = await upstream.next()
    exchange.stream()
    await client.head()

    client.close()

    await exchange.leftByPeer()
  })

  test(`a TLS connection that is cut breaks the transfer (${host})`, async (t) => {
    const { upstream, front } = await proxied(t, { secure: false }, { host, upstream: { tls: certificate } })
    const client = front.request()
    const exchange = await upstream.next()
    const stream = exchange.stream()
    stream.send({ data: 'one' })
    await client.waitFor('one')

    stream.cut()

    assert.equal(await client.ended(), 'broken')
  })

  const clientCertificates: { name: string; options: OptionsFor<Upstream> }[] = [
    { name: '`ssl`', options: { ssl: { ...clientCertificate, ca: cert } } },
    {
      name: 'the target',
      options: ({ port }) =>
        ({
          target: { protocol: 'https:', host: 'localhost', port, pathname: '/stream', ...clientCertificate, ca: cert },
        }) as object,
    },
  ]
  for (const { name, options } of clientCertificates) {
    test(`an upstream that asks for a certificate gets the one of ${name} (${host})`, async (t) => {
      const tls = { ...certificate, ca: clientCertificate.cert, requestCert: true, rejectUnauthorized: true }
      const { upstream, front } = await proxied(t, options, { host, upstream: { tls } })
      const client = front.request()
      const exchange = await upstream.next()

      const shown = (exchange.req.socket as TLSSocket).getPeerX509Certificate()
      exchange.stream().end('data: x\n\n')

      assert.equal(await client.whole(), 'data: x\n\n')
      assert.equal(shown?.fingerprint256, new X509Certificate(clientCertificate.cert).fingerprint256)
    })
  }

  test(`an upstream that asks for a certificate and gets none is a 502 (${host})`, async (t) => {
    const tls = { ...certificate, ca: clientCertificate.cert, requestCert: true, rejectUnauthorized: true }
    const { front } = await proxied(t, { secure: false }, { host, upstream: { tls } })

    const client = await front.open()

    assert.equal(client.status, 502)
  })
}
