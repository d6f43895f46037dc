// The connections of one upstream: which of them is given up, and when.
import assert from 'node:assert/strict'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { connect as connectTls, createServer } from 'node:tls'
import { Origin, type Waiter } from '../../../src/upstream/http2/origin.ts'
import type { Session } from '../../../src/upstream/http2/session.ts'
import { certificate } from '../../support/certificate.ts'
import { settingsFrame } from '../../support/http2-frames.ts'
import { type RawUpstream, startRawUpstream } from '../../support/raw-upstream.ts'
import { gate } from '../../support/waiting.ts'

async function arranged(t: TestContext, connectMs: number): Promise<{ upstream: RawUpstream; origin: Origin }> {
  const upstream = await startRawUpstream()
  const origin = new Origin('prior-knowledge', false, { connectMs, pingMs: 0, idleMs: 0, windowBytes: 65_535 })
  t.after(async () => {
    origin.destroy()
    await upstream.close()
  })
  return { upstream, origin }
}

function waiterFor({ port }: RawUpstream): { waiter: Waiter; session: Promise<Session> } {
  const session = gate<Session>()
  const waiter: Waiter = {
    dial: () => connect(port, '127.0.0.1'),
    onSession: (given) => session.open(given),
    onHttp1: () => assert.fail('HTTP/1.1'),
    onFailed: (error) => assert.fail(error),
  }
  return { waiter, session: session.promise }
}

test('another connection takes the place of one on which the upstream says nothing, however many wait', async (t) => {
  const { upstream, origin } = await arranged(t, 300)
  const { waiter, session } = waiterFor(upstream)
  origin.ask(waiter)
  const silent = await upstream.next()

  const other = await upstream.next()
  other.send(settingsFrame)

  assert.equal((await session).limit > 0, true)
  await silent.closed()
})

test('a connection that was not there yet when its upstream was retired ends with its last stream', async (t) => {
  const { upstream, origin } = await arranged(t, 0)
  const { waiter, session } = waiterFor(upstream)
  origin.ask(waiter)
  const conversation = await upstream.next()

  origin.retire()
  conversation.send(settingsFrame)
  const given = await session
  assert.equal(conversation.isClosed, false)
  given.release()

  await conversation.closed()
})

test('a waiter whose own connection cannot be dialed fails alone, where the upstream speaks HTTP/1.1', async (t) => {
  const server = createServer({ ...certificate, ALPNProtocols: ['http/1.1'] })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const origin = new Origin('auto', true, { connectMs: 0, pingMs: 0, idleMs: 0, windowBytes: 65_535 })
  const served = gate<Socket>()
  const failed = gate<Error>()
  t.after(async () => {
    ;(await served.promise).destroy()
    await new Promise((resolve) => server.close(resolve))
  })
  const first: Waiter = {
    dial: (ALPNProtocols) => connectTls({ port, host: '127.0.0.1', ALPNProtocols, rejectUnauthorized: false }),
    onSession: () => assert.fail('HTTP/2'),
    onHttp1: (socket) => served.open(socket),
    onFailed: (error) => assert.fail(error),
  }
  const dial = (): Socket => {
    throw new TypeError('options that Node does not take')
  }

  origin.ask(first)
  origin.ask({ ...first, dial, onFailed: failed.open })

  assert.equal((await failed.promise).message, 'options that Node does not take')
})

test('an origin that ends takes the connections over HTTP/1.1 along that it has asked on', async (t) => {
  const server = createServer({ ...certificate, ALPNProtocols: ['http/1.1'] })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => new Promise((resolve) => server.close(resolve)))
  const { port } = server.address() as AddressInfo
  const origin = new Origin('auto', true, { connectMs: 0, pingMs: 0, idleMs: 0, windowBytes: 65_535 })
  const served = gate<Socket>()
  origin.ask({
    dial: (ALPNProtocols) => connectTls({ port, host: '127.0.0.1', ALPNProtocols, rejectUnauthorized: false }),
    onSession: () => assert.fail('HTTP/2'),
    onHttp1: (socket) => served.open(socket),
    onFailed: (error) => assert.fail(error),
  })
  const socket = await served.promise
  const closed = new Promise((resolve) => socket.once('close', resolve))
  assert.equal(origin.isIdle, false)

  origin.destroy()

  await closed
  assert.equal(origin.isIdle, true)
})
