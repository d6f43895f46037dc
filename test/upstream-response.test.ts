import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Header, headerOf, isEventStream, type UpstreamResponse } from '../src/upstream-response.ts'

function response(status: number, headers: readonly Header[]): UpstreamResponse {
  const body = { start() {}, pause() {}, unpause() {}, destroy() {} }
  return { status, statusMessage: '', headers, upstream: '', body, delimited: true }
}

for (const [status, contentType, expected] of [
  [200, 'text/event-stream', true],
  [200, 'text/event-stream; charset=utf-8', true],
  [200, 'text/event-stream;charset=utf-8', true],
  [200, 'text/event-stream ; x', true],
  [200, 'Text/Event-Stream', true],
  [200, ' text/event-stream ', true],
  [200, 'text/event-streams', false],
  [200, 'text/event-stream-2', false],
  [200, 'x-text/event-stream', false],
  [200, 'application/json', false],
  [200, 'application/json; x=text/event-stream', false],
  [200, 'text/html, text/event-stream', false],
  [200, '', false],
  [200, undefined, false],
  [201, 'text/event-stream', false],
  [204, 'text/event-stream', false],
  [206, 'text/event-stream', false],
  [304, 'text/event-stream', false],
  [404, 'text/event-stream', false],
  [503, 'text/event-stream', false],
] as const) {
  test(`${status} ${contentType ?? 'without a type'} is ${expected ? 'an' : 'no'} event stream`, () => {
    assert.equal(
      isEventStream(response(status, contentType === undefined ? [] : [['Content-Type', contentType]])),
      expected,
    )
  })
}

test('headerOf: whatever the case, the first where there are several', () => {
  const answer = response(200, [
    ['CONTENT-type', 'a/b'],
    ['Set-Cookie', ['a=1', 'b=2']],
  ])

  assert.equal(headerOf(answer, 'content-type'), 'a/b')
  assert.equal(headerOf(answer, 'set-cookie'), 'a=1')
  assert.equal(headerOf(answer, 'x-a'), undefined)
})
