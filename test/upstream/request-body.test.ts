import assert from 'node:assert/strict'
import { IncomingMessage, type OutgoingHttpHeaders } from 'node:http'
import { Socket } from 'node:net'
import { PassThrough, type Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { describe, test } from 'node:test'
import { promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import express from 'express'
import express4 from 'express4'
import {
  describeBody,
  isReplayable,
  openBody,
  type RequestBody,
  requestBody,
  sendBody,
} from '../../src/upstream/request-body.ts'
import { heapUsed } from '../support/memory.ts'

const MIB = 1_048_576

type Parser = (req: never, res: never, next: (error?: unknown) => void) => void

/** A request as a server has it; `bytes` undefined for one without a body. */
function request(headers: Record<string, string>, bytes?: Buffer | string): IncomingMessage {
  const req = new IncomingMessage(new Socket())
  req.method = 'POST'
  req.httpVersionMajor = 1
  req.headers = headers
  req.complete = true
  if (bytes !== undefined) {
    req.headers['content-length'] ??= String(Buffer.byteLength(bytes))
    req.push(bytes)
  }
  req.push(null)
  return req
}

async function parsedBy(parser: Parser, req: IncomingMessage): Promise<IncomingMessage> {
  await promisify(parser)(req as never, {} as never)
  return req
}

function bodyOf(req: IncomingMessage): unknown {
  return 'body' in req ? req.body : undefined
}

function bytesOf(body: RequestBody): Buffer {
  assert.equal(body.kind, 'bytes')
  return body.kind === 'bytes' ? body.bytes : Buffer.alloc(0)
}

/** What an upstream gets of a request whose body a parser has read. */
async function sentAfter(
  parser: Parser,
  contentType: string,
  bytes: Buffer | string,
  more: Record<string, string> = {},
): Promise<{ headers: OutgoingHttpHeaders; bytes: Buffer }> {
  const req = await parsedBy(parser, request({ 'content-type': contentType, ...more }, bytes))
  const body = requestBody(req, MIB)
  const headers: OutgoingHttpHeaders = { ...req.headers }
  describeBody(headers, body)
  assert.equal(headers['content-length'], String(bytesOf(body).length))
  assert.equal(headers['transfer-encoding'], undefined)
  return { headers, bytes: bytesOf(body) }
}

for (const [version, parsers] of [
  ['Express 5', express],
  ['Express 4', express4],
] as const) {
  describe(`a body that ${version} has read`, () => {
    for (const [what, contentType, sent] of [
      ['an object', 'application/json', '{"a":[1,null,{"b":"ü"}],"c":false}'],
      ['an array', 'application/json; charset=utf-8', '[{"a":1},2]'],
      ['an empty object', 'application/json', '{}'],
      ['a problem', 'application/problem+json', '{"title":"x"}'],
    ] as const) {
      test(`json: ${what}`, async () => {
        const { bytes } = await sentAfter(parsers.json({ type: ['json', '+json'] }), contentType, sent)

        assert.equal(bytes.toString(), sent)
      })
    }

    for (const sent of ['null', 'true', '0', '"text"', '""', '"a \\"quoted\\" one"', '"5"', '"null"']) {
      test(`json that is no object: ${sent}`, async () => {
        const { bytes } = await sentAfter(parsers.json({ strict: false }), 'application/json', sent)

        assert.equal(bytes.toString(), sent)
      })
    }

    test('json: spaces go, the meaning stays', async () => {
      const { bytes } = await sentAfter(parsers.json(), 'application/json', ' { "a" : 1 }\n')

      assert.equal(bytes.toString(), '{"a":1}')
    })

    test('json that was compressed: sent in plain, and said so', async () => {
      const { headers, bytes } = await sentAfter(parsers.json(), 'application/json', gzipSync('{"a":1}'), {
        'content-encoding': 'gzip',
      })

      assert.equal(bytes.toString(), '{"a":1}')
      assert.equal(headers['content-encoding'], undefined)
    })

    for (const name of ['content-md5', 'digest', 'content-digest', 'repr-digest']) {
      test(`json: ${name} is about other bytes than those that are sent`, async () => {
        const { headers } = await sentAfter(parsers.json(), 'application/json', '{ "a": 1 }', { [name]: 'x' })

        assert.equal(headers[name], undefined)
      })
    }

    const FORM = 'application/x-www-form-urlencoded'
    for (const form of [
      'a=1',
      'a=1&b=2',
      'a=1&a=2&a=3',
      'a=',
      'a',
      'a=%26%3D%25%2B+%C3%BC',
      '%C3%BC%20%26=1',
      'a[b]=1&a[c][d]=2',
      'a[0][b]=1&a[0][c]=2&a[1][b]=3',
      'a[b][]=1&a[b][]=2',
      'a[0][0]=1&a[0][1]=2&a[1][0]=3',
      'a[]=1',
      'a[b][]=1',
      'a[]=1&a[]=2',
    ]) {
      for (const extended of [true, false]) {
        test(`urlencoded, ${extended ? 'nested' : 'flat'}: ${form}`, async () => {
          const parser = parsers.urlencoded({ extended })
          const { bytes } = await sentAfter(parser, FORM, form)

          const again = await parsedBy(parser, request({ 'content-type': FORM }, bytes))

          assert.deepEqual(bodyOf(again), bodyOf(await parsedBy(parser, request({ 'content-type': FORM }, form))))
        })
      }
    }

    test('urlencoded: what is repeated is sent as often, in order', async () => {
      const { bytes } = await sentAfter(
        parsers.urlencoded({ extended: false }),
        `${FORM}; charset=utf-8`,
        'b=2&a=1&a=0',
      )

      assert.equal(bytes.toString(), 'b=2&a=1&a=0')
    })

    for (const [what, contentType, sent] of [
      ['text', 'text/plain', 'a\r\nü\0'],
      ['json as text', 'application/json', '{ "a": 1 }'],
      ['a string of json as text', 'application/json', '"5"'],
      ['a form as text', FORM, 'a=1&b=%20'],
      ['several parts as text', 'multipart/form-data; boundary=x', '--x\r\n\r\n1\r\n--x--'],
    ] as const) {
      test(`text: ${what}`, async () => {
        const { bytes } = await sentAfter(parsers.text({ type: '*/*' }), contentType, sent)

        assert.equal(bytes.toString(), sent)
      })
    }

    test('text in another charset: what is sent is what is said', async () => {
      const { headers, bytes } = await sentAfter(
        parsers.text(),
        'text/plain; charset=iso-8859-1',
        Buffer.from('\u00fc', 'latin1'),
      )

      const charset = /charset=([\w-]+)/.exec(String(headers['content-type']))?.[1] ?? 'utf-8'
      assert.equal(new TextDecoder(charset).decode(bytes), '\u00fc')
    })

    for (const [what, contentType, sent] of [
      ['behind a byte order mark', 'application/json', Buffer.from('\uFEFF{"a":1}')],
      ['in another charset', 'application/json; charset=iso-8859-1', Buffer.from('{"a":"\u00fc"}', 'latin1')],
    ] as const) {
      test(`text: json as text, ${what}, stays what it was`, async () => {
        const { bytes } = await sentAfter(parsers.text({ type: '*/*' }), contentType, sent)

        assert.equal(typeof JSON.parse(bytes.toString()), 'object')
      })
    }

    for (const contentType of ['application/octet-stream', 'application/json', FORM, 'multipart/form-data', '']) {
      test(`raw: every byte as it came, as ${contentType || 'anything'}`, async () => {
        const sent = Buffer.from(Array.from({ length: 512 }, (_, i) => i & 0xff))

        const { bytes } = await sentAfter(parsers.raw({ type: () => true }), contentType, sent)

        assert.ok(bytes.equals(sent))
      })
    }

    test('a parser that is not for this type leaves the body to be streamed', async () => {
      const req = await parsedBy(parsers.json(), request({ 'content-type': 'text/plain' }, 'text'))

      const body = requestBody(req, 0)

      assert.equal(body.kind, 'stream')
      assert.equal((await buffer(openBody(body)!)).toString(), 'text')
    })
  })
}

describe('no body', () => {
  for (const [what, req] of [
    ['no length and no coding', request({})],
    ['a length of 0', request({ 'content-length': '0' })],
    [
      'HTTP/2 that ended with its headers',
      Object.assign(request({}), { httpVersionMajor: 2, stream: { endAfterHeaders: true } }),
    ],
  ] as const) {
    test(what, () => {
      const body = requestBody(req, MIB)
      const headers: OutgoingHttpHeaders = { ...req.headers }
      describeBody(headers, body)

      assert.equal(body.kind, 'none')
      assert.deepEqual(headers, req.headers)
      assert.equal(openBody(body), undefined)
      assert.ok(isReplayable(body))
    })
  }

  test('an object that a parser left there is not sent', () => {
    const req = Object.assign(request({}), { body: {} })

    assert.equal(requestBody(req, MIB).kind, 'none')
  })
})

describe('a body that was read by somebody else', () => {
  for (const [what, contentType, parsed] of [
    ['and left nothing', 'text/plain', undefined],
    ['and took its parts apart', 'multipart/form-data; boundary=x', { field: '1' }],
  ] as const) {
    test(`${what}: an error that says so`, async () => {
      const req = request({ 'content-type': contentType }, 'text')
      await buffer(req)
      Object.assign(req, { body: parsed })

      assert.throws(() => requestBody(req, MIB), { name: 'UpstreamError', code: 'ERR_SSE_PROXY_BODY_CONSUMED' })
    })
  }
})

describe('a body that nobody has read', () => {
  for (const [how, headers, chunked] of [
    ['with a length', { 'content-length': '4' }, undefined],
    ['in chunks', { 'transfer-encoding': 'chunked' }, 'chunked'],
  ] as const) {
    test(`${how} streams through`, async () => {
      const req = request({}, 'text')
      req.headers = { ...headers }

      const body = requestBody(req, 0)
      const sent: OutgoingHttpHeaders = how === 'in chunks' ? {} : { ...headers }
      describeBody(sent, body)

      assert.equal(body.kind, 'stream')
      assert.equal(isReplayable(body), false)
      assert.equal(sent['transfer-encoding'], chunked)
      assert.equal((await buffer(openBody(body)!)).toString(), 'text')
    })
  }

  test('over HTTP/2 it has no length and no coding', () => {
    const req = Object.assign(request({}, 'text'), { httpVersionMajor: 2, stream: { endAfterHeaders: false } })
    req.headers = {}

    assert.equal(requestBody(req, 0).kind, 'stream')
  })

  test('compressed it stays', async () => {
    const zipped = gzipSync('text')
    const req = request({ 'content-encoding': 'gzip' }, zipped)
    const body = requestBody(req, 0)
    const headers: OutgoingHttpHeaders = { ...req.headers }

    describeBody(headers, body)

    assert.equal(headers['content-encoding'], 'gzip')
    assert.ok((await buffer(openBody(body)!)).equals(zipped))
  })
})

describe('a body that is kept for another attempt', () => {
  /** A request whose body a test sends by hand. */
  function arriving(): { req: IncomingMessage; source: PassThrough } {
    const source = new PassThrough({ highWaterMark: 1024 })
    const headers = { 'transfer-encoding': 'chunked' }
    return { req: Object.assign(source, { headers, httpVersionMajor: 1 }) as unknown as IncomingMessage, source }
  }

  async function text(reader: Readable | undefined): Promise<string> {
    assert.ok(reader)
    return (await buffer(reader)).toString()
  }

  test('it begins at its start each time, whatever had come', async () => {
    const { req, source } = arriving()
    const body = requestBody(req, 100)
    source.write('one ')
    const first = openBody(body)
    await new Promise(setImmediate)
    source.write('two ')
    await new Promise(setImmediate)

    const second = openBody(body)
    source.end('three')

    assert.equal(await text(second), 'one two three')
    assert.equal(first?.destroyed, true)
    assert.ok(isReplayable(body))
    assert.equal(await text(openBody(body)), 'one two three')
  })

  test('the first attempt gets it as it comes', async () => {
    const { req, source } = arriving()
    const reader = openBody(requestBody(req, 100))!
    const came: string[] = []
    reader.on('data', (chunk: Buffer) => came.push(chunk.toString()))

    source.write('one')
    await new Promise(setImmediate)
    assert.deepEqual(came, ['one'])
    source.end('two')
    await new Promise((resolve) => reader.once('end', resolve))

    assert.deepEqual(came, ['one', 'two'])
  })

  test('more than is kept streams through once', async () => {
    const { req, source } = arriving()
    const body = requestBody(req, 10)
    const reader = openBody(body)
    assert.ok(isReplayable(body))

    source.end('eleven bytes')

    assert.equal(await text(reader), 'eleven bytes')
    assert.equal(isReplayable(body), false)
  })

  test('exactly what is kept can be sent again', async () => {
    const { req, source } = arriving()
    const body = requestBody(req, 10)
    const reader = openBody(body)
    source.end('0123456789')

    assert.equal(await text(reader), '0123456789')
    assert.equal(isReplayable(body), true)
  })

  test('an upstream that does not read slows the client', async () => {
    const { req, source } = arriving()
    openBody(requestBody(req, MIB))
    let written = 0

    for (let turn = 0; turn < 100; turn++) {
      while (written < 10 * MIB && source.write(Buffer.alloc(65_536))) written += 65_536
      await new Promise(setImmediate)
    }

    assert.ok(written < MIB, `${written} bytes were taken in`)
  })
})

test('a body that is kept: one that comes a byte at a time takes no more room than its bytes', async () => {
  const kept = 100_000
  const source = new PassThrough()
  const req = Object.assign(source, { headers: { 'transfer-encoding': 'chunked' }, httpVersionMajor: 1 })
  const before = heapUsed()

  const body = requestBody(req as unknown as IncomingMessage, kept)
  openBody(body)?.resume()
  for (let i = 0; i < kept; i++) {
    if (!source.write(Buffer.alloc(1, 'x'))) await new Promise(setImmediate)
  }
  await new Promise(setImmediate)
  const taken = heapUsed() - before

  assert.ok(taken < 20 * kept, `${taken} bytes for ${kept}`)
  assert.ok(isReplayable(body))
  source.end()
  assert.equal((await buffer(openBody(body)!)).length, kept)
})

test('a body that is kept: the client goes on when the upstream reads again', async () => {
  const source = new PassThrough({ highWaterMark: 1024 })
  const req = Object.assign(source, { headers: { 'transfer-encoding': 'chunked' }, httpVersionMajor: 1 })
  const reader = openBody(requestBody(req as unknown as IncomingMessage, 1000))
  source.end(Buffer.alloc(MIB))
  await new Promise((resolve) => setTimeout(resolve, 10))

  assert.ok(reader)
  assert.equal((await buffer(reader)).length, MIB)
})

test('a body that is kept: a second attempt takes over where the first had stopped reading', async () => {
  const source = new PassThrough({ highWaterMark: 1024 })
  const req = Object.assign(source, { headers: { 'transfer-encoding': 'chunked' }, httpVersionMajor: 1 })
  const body = requestBody(req as unknown as IncomingMessage, 2 * MIB)
  openBody(body)
  for (let i = 0; i < 1024; i++) source.write(Buffer.alloc(1024))
  source.end()
  await new Promise((resolve) => setTimeout(resolve, 10))

  const second = openBody(body)

  assert.ok(second)
  assert.equal((await buffer(second)).length, MIB)
})

describe('sendBody', () => {
  for (const [body, expected] of [
    [{ kind: 'bytes', bytes: Buffer.from('text'), isRebuilt: false }, 'text'],
    [{ kind: 'none' }, ''],
  ] as const) {
    test(`${body.kind}: it is sent, and the request ends`, async () => {
      const outgoing = new PassThrough()

      sendBody(body, outgoing)

      assert.equal((await buffer(outgoing)).toString(), expected)
    })
  }
})
