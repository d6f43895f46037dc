// What Node writes of a request, read back wherever it is cut.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RequestReader } from '../../../src/upstream/http2/request-reader.ts'

const head = 'POST /a?b=c HTTP/1.1\r\nHost: x:1\r\nX-Twice: 1\r\nx-twice: 2\r\nConnection: keep-alive\r\n'

function read(pieces: string[]): { reader: RequestReader; body: string } {
  const reader = new RequestReader('https')
  const body = pieces.flatMap((piece) => reader.read(Buffer.from(piece, 'latin1')))
  return { reader, body: Buffer.concat(body).toString('latin1') }
}

for (const [name, rest] of [
  ['in chunks', 'Transfer-Encoding: chunked\r\n\r\n3\r\n0\r\n\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n'],
  ['with a length', 'Content-Length: 19\r\n\r\n0\r\n0123456789abcdef'],
] as const) {
  test(`a body ${name} is the same wherever it is cut`, () => {
    const text = head + rest

    for (let at = 0; at <= text.length; at++) {
      const { reader, body } = read([text.slice(0, at), text.slice(at)])

      assert.equal(body, '0\r\n0123456789abcdef', `cut at ${at}`)
      assert.equal(reader.isEnded, true)
      assert.equal(reader.head?.isWhole, false)
    }
  })

  test(`a body ${name} is not ended before its end`, () => {
    const text = head + rest

    for (let length = 0; length < text.length - '0\r\n\r\n'.length; length++) {
      assert.equal(read([text.slice(0, length)]).reader.isEnded, false, `after ${length}`)
    }
  })
}

test('a head has the pseudo headers of HTTP/2, and nothing of the hop', () => {
  const { reader } = read([`${head}\r\n`])

  assert.deepEqual(reader.head && { ...reader.head, headers: { ...reader.head.headers } }, {
    headers: { ':method': 'POST', ':path': '/a?b=c', ':scheme': 'https', ':authority': 'x:1', 'x-twice': ['1', '2'] },
    method: 'POST',
    isWhole: true,
  })
})

test('a header that is called like a member of every object is a header', () => {
  const { reader } = read([`${head}Constructor: x\r\n__proto__: y\r\n\r\n`])

  assert.deepEqual(Object.entries(reader.head?.headers ?? {}).slice(-2), [
    ['constructor', 'x'],
    ['__proto__', 'y'],
  ])
})

test('a body that is longer than its length, and a chunk that cannot be read, are errors', () => {
  assert.throws(() => read([`${head}Content-Length: 1\r\n\r\n12`]), /longer/)
  assert.throws(() => read([`${head}Transfer-Encoding: chunked\r\n\r\nx`]), /chunk/)
})
