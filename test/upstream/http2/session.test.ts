// One connection to an upstream, past what a test over a whole proxy can reach.
import assert from 'node:assert/strict'
import {
  createSecureServer,
  createServer,
  type Http2SecureServer,
  type Http2Server,
  type ServerHttp2Session,
} from 'node:http2'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import type { RequestHead } from '../../../src/upstream/http2/request-reader.ts'
import { Session } from '../../../src/upstream/http2/session.ts'
import { certificate } from '../../support/certificate.ts'
import { gate, within } from '../../support/waiting.ts'

const head: RequestHead = { headers: { ':method': 'GET', ':path': '/' }, method: 'GET', isWhole: true }

interface Arranged {
  session: Session
  over: Promise<Error>
}

async function sessionTo(
  t: TestContext,
  server: Http2Server | Http2SecureServer,
  dial: (port: number) => Socket,
): Promise<Arranged> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const socket = dial((server.address() as AddressInfo).port)
  const free = gate<void>()
  const over = gate<Error>()
  const owner = { onFree: () => free.open(), onHttp1Required() {}, onOver: (cause: Error) => over.open(cause) }
  const session = new Session(socket, 'http', { pingMs: 0, idleMs: 0, windowBytes: 65_535 }, owner)
  t.after(async () => {
    session.destroy()
    await new Promise((resolve) => server.close(resolve))
  })
  await within(free.promise, 'the settings of the upstream')
  return { session, over: over.promise }
}

test('a connection whose stream ids are used up takes no more requests, and ends with the last one', async (t) => {
  const server = createServer((_req, res) => res.end('x'))
  const { session, over } = await sessionTo(t, server, (port) => connect(port, '127.0.0.1'))
  session.take()
  session.take()
  const first = session.request(head, undefined)?.resume()
  Reflect.apply(Reflect.get(Object(first?.session), 'setNextStreamID'), first?.session, [2 ** 31 - 1])

  const last = session.request(head, undefined)?.resume()

  assert.equal(last?.id, 2 ** 31 - 1)
  assert.equal(session.isFree, false)
  await within(new Promise((resolve) => last?.once('end', resolve)), 'the answer to the last request')
  session.release()
  session.release()
  await within(over, 'the end of the connection')
})

test('an upstream that sends names of origins without end loses its connection', async (t) => {
  const server = createSecureServer(certificate)
  const names = (n: number): string[] => Array.from({ length: 60 }, (_, i) => `https://${n}-${i}.${'x'.repeat(200)}`)
  const accepted = gate<ServerHttp2Session>()
  server.on('session', (session) => accepted.open(session.on('error', () => {})))
  server.on('stream', (stream) => stream.on('error', () => {}))
  const { session, over } = await sessionTo(t, server, (port) =>
    connectTls({ port, host: '127.0.0.1', ALPNProtocols: ['h2'], rejectUnauthorized: false }),
  )
  session.take()
  session.request(head, undefined)?.on('error', () => {})
  const upstream = await within(accepted.promise, 'the connection')

  for (let n = 0; n < 200 && !upstream.destroyed; n += 1) upstream.origin(...names(n))

  assert.match((await within(over, 'the end of the connection')).message, /origin/i)
})
