// An answer of an HTTP/2 stream in HTTP/1.1: what the parser must not be told.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AnswerWriter } from '../../../src/upstream/http2/answer-writer.ts'

const text = (bytes: readonly Buffer[]): string => Buffer.concat(bytes).toString('latin1')

for (const end of ['\r\n', '\n', '\r', '\0']) {
  test(`a header with ${JSON.stringify(end)} in it is refused, in a list and in trailers too`, () => {
    const value = `a${end}x-injected: 1`

    assert.throws(() => new AnswerWriter().head({ ':status': '200', 'x-a': value }, 'GET'), /line break/)
    assert.throws(() => new AnswerWriter().head({ ':status': '200', 'set-cookie': ['b', value] }, 'GET'), /line break/)
    assert.throws(() => new AnswerWriter().end({ 'x-a': value }) && open().end({ 'x-a': value }), /line break/)
  })
}

function open(): AnswerWriter {
  const writer = new AnswerWriter()
  writer.head({ ':status': '200' }, 'GET')
  return writer
}

test('headers of the hop do not reach the parser', () => {
  const writer = new AnswerWriter()

  const head = writer.head({ ':status': '200', connection: 'close', 'transfer-encoding': 'gzip', 'x-a': '1' }, 'GET')

  assert.equal(head.toString(), 'HTTP/1.1 200 OK\r\nx-a: 1\r\ntransfer-encoding: chunked\r\n\r\n')
})

test('a status that is none is refused', () => {
  for (const status of ['', '99', '1000', 'OK']) {
    assert.throws(() => new AnswerWriter().head({ ':status': status }, 'GET'), /status/)
  }
})

test('data of an answer that has no body is not written', () => {
  const writer = new AnswerWriter()
  writer.head({ ':status': '204' }, 'GET')

  assert.equal(text([...writer.data(Buffer.from('x')), ...writer.end({})]), '')
})
