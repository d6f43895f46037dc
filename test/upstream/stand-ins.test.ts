import assert from 'node:assert/strict'
import { IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { describe, test } from 'node:test'
import { type PassTaker, StandInRequest, StandInResponse } from '../../src/upstream/stand-ins.ts'

function standIn(url: string | undefined): StandInRequest {
  const client = new IncomingMessage(new Socket())
  if (url !== undefined) client.url = url
  client.method = 'GET'
  return new StandInRequest(client, {}, { kind: 'none' })
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

function standInResponse() {
  const ends: string[] = []
  const client = new ServerResponse(new IncomingMessage(new Socket()))
  const response = new StandInResponse(client, { onEnd: () => void ends.push('end') } as PassTaker)
  return { response, client, ends }
}
