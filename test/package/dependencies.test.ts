// A patch release of a dependency may fail requests, but never ends the process: what it asks of a request or response
// that is not there fails that attempt, and says so.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Change, runContract } from './contract.ts'

const httpxy = (from: string, to: string): Change => ({ package: 'httpxy', file: 'index.mjs', from, to })

test('the installed releases of http-proxy-middleware and httpxy fit', async () => {
  const { exitCode, output } = await runContract([])

  assert.equal(exitCode, 0, output)
})

test('an httpxy that asks for res.writableEnded in place of res.finished ends no process, and works', async () => {
  const { exitCode, output } = await runContract([httpxy('if (res.finished)', 'if (res.writableEnded)')])

  assert.equal(exitCode, 0, output)
})

const changes: Record<string, Change[]> = {
  'relays the body itself': [httpxy('if (res.finished)', 'if (res.closed)')],
  'relays it without asking': [httpxy('if (res.finished)', 'if (false)')],
  'writes the head': [httpxy('if (res.finished)', 'res.writeHead(proxyRes.statusCode);\nif (res.finished)')],
  'flushes the headers': [httpxy('if (res.finished)', 'res.flushHeaders();\nif (res.finished)')],
  'reads the body of the request with a pipeline': [
    httpxy('else source.pipe(proxyReq)', 'else pipeline(source, proxyReq, () => {})'),
    httpxy('import { Readable, Transform }', 'import { pipeline, Readable, Transform }'),
  ],
  'reads it part by part': [
    httpxy(
      'else source.pipe(proxyReq)',
      'else (async () => { for await (const part of source) proxyReq.write(part); proxyReq.end() })()',
    ),
  ],
  'takes every request for a stream': [httpxy('if (source instanceof Readable)', 'if (true)')],
  'looks at the raw headers': [httpxy('server.emit("start"', 'void req.rawHeaders.length;\nserver.emit("start"')],
  'destroys the response': [httpxy('if (res.finished)', 'res.destroy(new Error("away"));\nif (res.finished)')],
}

for (const [name, change] of Object.entries(changes)) {
  test(`an httpxy that ${name} fails requests at most, with 502`, async () => {
    const { exitCode, wrong, output } = await runContract(change)

    assert.ok(exitCode === 0 || exitCode === 3, output)
    for (const { status, code } of wrong) {
      assert.deepEqual([status, code], [502, 'ERR_SSE_PROXY_DEPENDENCY'], output)
    }
    const [told = ''] = /"told".*/.exec(output) ?? []
    assert.equal(told.includes('ERR_SSE_PROXY_DEPENDENCY'), wrong.length > 0, output)
  })
}

test('an http-proxy-middleware that looks at the raw headers fails requests with 502', async () => {
  const { exitCode, wrong, output } = await runContract([
    {
      package: 'http-proxy-middleware',
      file: 'http-proxy-middleware.js',
      from: 'await this.applyRouter(req, res, newProxyOptions);',
      to: 'await this.applyRouter(req, res, newProxyOptions); if (req.rawHeaders.length > 999) return;',
    },
  ])

  assert.equal(exitCode, 3, output)
  assert.deepEqual(new Set(wrong.map(({ status }) => status)), new Set([502]), output)
})
