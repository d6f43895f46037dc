import assert from 'node:assert/strict'
import { IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { PassThrough, pipeline } from 'node:stream'
import { describe, test } from 'node:test'
import { type PassHandler, StandInRequest, StandInResponse } from '../../src/upstream/stand-ins.ts'

function standIn(url: string | undefined): StandInRequest {
  const client = new IncomingMessage(new Socket())
  if (url !== undefined) client.url = url
  client.method = 'GET'
  return new StandInRequest(client, {}, { kind: 'none' }, { onUnforeseen: assert.fail } as unknown as PassHandler)
}

describe('the URL of a request is a path, in whatever form it came (RFC 9112, 3.2)', () => {
  for (const [url, expected] of [
    ['/', '/'],
    ['/a?x=1', '/a?x=1'],
    ['//evil.example/a', '//evil.example/a'],
    ['/a?u=http://b/c', '/a?u=http://b/c'],
    ['http://app.example/a?x=1', '/a?x=1'],
    ['HTTPS://app.example:8443/a', '/a'],
    ['http://user:secret@app.example/a', '/a'],
    ['http://app.example', '/'],
    ['http://app.example?x=1', '/?x=1'],
    ['http://app.example#x', '/#x'],
    ['*', '/'],
    ['', '/'],
    ['a', '/a'],
    ['app.example:443', '/app.example:443'],
  ] as const) {
    test(`${JSON.stringify(url)}: ${expected}`, () => {
      assert.equal(standIn(url).url, expected)
    })
  }
})

test('the request of the client stays as it is when the stand-in is rewritten', () => {
  const request = standIn('/a')

  request.url = '/b'
  request.headers['x-a'] = '1'

  assert.equal(request.client.url, '/a')
  assert.deepEqual(request.client.headers, {})
})

describe("the app's functions get its own response", () => {
  test('while it has not left', () => {
    const { response, client } = standInResponse()

    assert.equal(response.forApp, client)
  })

  test('and from then on one that goes nowhere, always the same, whose end is the end of the attempt', () => {
    const { response, client, ends } = standInResponse()
    client.writeHead(200)

    const { forApp } = response
    forApp.setHeader('x-a', '1')
    forApp.writeHead(404)
    forApp.end('sorry')

    assert.ok(forApp instanceof ServerResponse)
    assert.notEqual(forApp, client)
    assert.equal(response.forApp, forApp)
    assert.deepEqual(response.headers, [])
    assert.equal(client.statusCode, 200)
    assert.deepEqual(ends, ['end'])
  })
})

describe('a member of Node that a stand-in does not have fails the attempt, and does not throw', () => {
  for (const [name, use] of Object.entries<(response: ServerResponse) => unknown>({
    'a write': (response) => response.write('x'),
    'a head': (response) => response.writeHead(200, { a: 'b' }).end(),
    'an error': (response) => response.destroy(new Error('away')),
    'a write behind the end': (response) => {
      response.end()
      response.write('x')
    },
    'a header': (response) => response.appendHeader('a', 'b').getHeader('a'),
    'a state': (response) => response.writableNeedDrain,
    'an assignment': (response) => {
      response.sendDate = false
    },
  })) {
    test(`of a response: ${name}`, async () => {
      const { response, unforeseen } = standInResponse()

      use(response as unknown as ServerResponse)
      await new Promise(setImmediate)

      assert.match(String(unforeseen[0]), /^res\./)
    })
  }

  for (const [name, use] of Object.entries<(request: IncomingMessage) => unknown>({
    reading: (request) => request.read(),
    'its raw headers': (request) => request.rawHeaders.length,
    'letting go': (request) => request.unpipe(new PassThrough()).resume(),
    'an error': (request) => request.destroy(new Error('away')),
    'every part': async (request) => {
      for await (const _part of request);
    },
    'an assignment': (request) => {
      request.socket = new Socket()
    },
    'a pipeline': (request) => pipeline(request, new PassThrough(), () => {}),
  })) {
    test(`of a request: ${name}`, async () => {
      const unforeseen: string[] = []
      const handler = { onUnforeseen: (member) => void unforeseen.push(member) } as PassHandler
      const client = new IncomingMessage(new Socket())
      const request = new StandInRequest(client, {}, { kind: 'none' }, handler)

      await use(request as unknown as IncomingMessage)
      await new Promise(setImmediate)

      assert.match(String(unforeseen[0]), /^req\./)
      assert.equal(client.destroyed, false)
    })
  }
})

function standInResponse() {
  const unforeseen: string[] = []
  const ends: string[] = []
  const client = new ServerResponse(new IncomingMessage(new Socket()))
  const response = new StandInResponse(client, {
    onEnd: () => void ends.push('end'),
    onUnforeseen: (member) => void unforeseen.push(member),
  } as PassHandler)
  return { response, client, ends, unforeseen }
}
