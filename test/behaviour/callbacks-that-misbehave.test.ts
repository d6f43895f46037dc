// No callback of the app's, whatever it does, ends the process or leaves a stream open.
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { root } from '../support/documents.ts'
import { callbackNames, expectedOutcomes } from '../support/misbehaving-callbacks.ts'
import { type Child, startChild } from '../support/processes/child.ts'
import { proxied, type SseProxyOptions } from '../support/proxied.ts'
import { tsc } from '../support/tsc.ts'
import type { Exchange, Upstream } from '../support/upstream.ts'
import { gate, until } from '../support/waiting.ts'

let child: Child | undefined

before(async () => {
  child = await startChild('misbehaving-callbacks.ts')
})
after(() => child?.end())

for (const name of callbackNames) {
  test(`${name} may do whatever it likes: the process lives, and each request has its end`, async () => {
    const outcomes = await child?.ask('outcomes', name, 60_000)

    assert.deepEqual(outcomes, expectedOutcomes(name))
  })
}

test('every function among the options is in that table', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'callbacks-'))
  t.after(() => rm(folder, { recursive: true }))
  const config = {
    extends: join(root, 'test/tsconfig.json'),
    compilerOptions: { typeRoots: [join(root, 'node_modules/@types')] },
    include: [],
    files: ['misbehaving-callbacks.ts', 'express4.d.ts', 'http2-express.d.ts'].map((name) =>
      join(root, 'test/support', name),
    ),
  }
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify(config))

  await assert.doesNotReject(tsc(['--project', folder]))
})

test('what an async onClose fails with is written to the logger', async (t) => {
  const lines: string[] = []
  const logger = { info() {}, warn() {}, error: (line: string) => void lines.push(line) }
  const onClose = async (): Promise<never> => Promise.reject(new Error('the database is gone'))
  const { upstream, front } = await proxied(t, { name: 'chat', logger, onClose })
  const client = front.request()

  ;(await upstream.next()).stream().end()
  await client.whole()
  await until(() => lines.length > 0, 'a line in the log')

  assert.deepEqual(lines, ['[chat] onClose failed: the database is gone'])
})

test('a thenable that is no promise holds the events back as a promise does', async (t) => {
  const ready = gate()
  const thenable = { then: ready.promise.then.bind(ready.promise) }
  const onOpen = (): PromiseLike<void> => thenable
  const { upstream, front } = await proxied(t, { onOpen })
  const client = front.request()
  ;(await upstream.next()).stream().end('data: x\n\n')
  await client.head()

  const before = client.text
  ready.open()

  assert.equal(before, '')
  assert.equal(await client.whole(), 'data: x\n\n')
})

function answerOrStream(exchange: Exchange): void {
  if (exchange.url === '/after') exchange.answer(200)
  else exchange.stream()
}

test('on.start that throws keeps the request from the upstream', async (t) => {
  const start = (): never => {
    throw new Error('not this one')
  }
  const { upstream, front } = await proxied(t, { on: { start } }, { upstream: { handler: answerOrStream } })

  const client = await front.open()
  await fetch(`${upstream.url}/after`)

  assert.equal(client.status, 500)
  assert.deepEqual(
    upstream.exchanges.map(({ url }) => url),
    ['/after'],
  )
})

test('a router that decides when its attempt has been given up sends nothing any more', async (t) => {
  const decision = gate()
  let asked = 0
  let started = 0
  const options = ({ url }: Upstream): Partial<SseProxyOptions> => ({
    router: async () => {
      asked += 1
      if (asked === 1) await decision.promise
      return `${url}/routed`
    },
    on: { start: () => void started++ },
    timeouts: { connectMs: 30 },
    retry: { attempts: 1, backoffMs: 1 },
  })
  const { front } = await proxied(t, options, { upstream: { handler: answerOrStream } })
  await front.open()

  decision.open()
  // All that hangs on the decision is done in microtasks.
  await new Promise(setImmediate)

  assert.deepEqual([asked, started], [2, 1])
})

test("an onEnd that never settles does not outlive its client, with onDisconnect: 'drain' either", async (t) => {
  const ended = gate()
  const onEnd = (): Promise<never> => {
    ended.open()
    return new Promise(() => {})
  }
  const { upstream, front, proxy } = await proxied(t, { onEnd, onDisconnect: 'drain' })
  const client = front.request()
  ;(await upstream.next()).stream().end('data: x\n\n')
  await ended.promise

  client.close()

  await until(() => proxy.stats().active === 0, 'the stream to be over')
  assert.equal(proxy.stats().closed['client-left'], 1)
})

test('a client that has left an upstream that finishes is not waited for by onEnd', async (t) => {
  const { upstream, front, proxy } = await proxied(t, { onEnd: () => new Promise(() => {}), onDisconnect: 'drain' })
  const client = front.request()
  const stream = (await upstream.next()).stream()
  await client.head()
  client.close()
  await until(() => front.connections === 0, 'the client to be gone')

  stream.end('data: x\n\n')

  await until(() => proxy.stats().active === 0, 'the stream to be over')
  assert.equal(upstream.open, 0)
})
