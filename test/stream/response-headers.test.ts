import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import {
  answerHeaders,
  eventStreamHeaders,
  type HeadersSet,
  mergeVary,
  streamCacheControl,
} from '../../src/stream/response-headers.ts'
import type { Header } from '../../src/upstream-response.ts'

/** The headers by their lower-case names. */
function sent(upstream: readonly Header[], app: HeadersSet = {}): Record<string, unknown> {
  const headers = eventStreamHeaders(upstream, app)
  const names = headers.map(([name]) => name.toLowerCase())
  assert.equal(new Set(names).size, names.length, `twice in ${names}`)
  return Object.fromEntries(headers.map(([name, value]) => [name.toLowerCase(), value]))
}

const ALWAYS = { 'cache-control': 'no-cache, no-transform', 'x-accel-buffering': 'no' }

describe('what the upstream sent', () => {
  for (const name of [
    'Content-Length',
    'Content-Encoding',
    'ETag',
    'Last-Modified',
    'Accept-Ranges',
    'Content-MD5',
    'Digest',
    'Content-Digest',
    'Repr-Digest',
  ]) {
    test(`${name} goes: it is about other bytes than those that are sent`, () => {
      for (const spelled of [name, name.toLowerCase(), name.toUpperCase()]) {
        assert.deepEqual(sent([[spelled, '1']]), ALWAYS)
      }
    })
  }

  for (const [name, value] of [
    ['Content-Type', 'text/event-stream; charset=utf-8'],
    ['Date', 'Tue, 01 Jul 2025 00:00:00 GMT'],
    ['Server', 'backend'],
    ['X-Request-Id', '1'],
    ['Last-Event-ID', '7'],
    ['Mcp-Session-Id', '1'],
    ['Access-Control-Allow-Origin', '*'],
    ['X-Frame-Options', 'DENY'],
    ['Vary', 'Accept'],
    ['Location', '/elsewhere'],
    ['X-Digest', 'mine'],
  ] as const) {
    test(`${name} stays, spelled as it was`, () => {
      assert.deepEqual(eventStreamHeaders([[name, value]], {})[0], [name, value])
    })
  }

  test('Set-Cookie stays, all of them', () => {
    assert.deepEqual(sent([['Set-Cookie', ['a=1', 'b=2']]])['set-cookie'], ['a=1', 'b=2'])
    assert.deepEqual(sent([['Set-Cookie', 'a=1']])['set-cookie'], ['a=1'])
  })
})

describe('X-Accel-Buffering', () => {
  for (const [what, upstream] of [
    ['nothing', []],
    ['yes', [['X-Accel-Buffering', 'yes']]],
    ['no', [['x-accel-buffering', 'no']]],
  ] as const) {
    test(`no, when the upstream says ${what}`, () => {
      assert.equal(sent(upstream)['x-accel-buffering'], 'no')
    })
  }
})

describe('Cache-Control', () => {
  for (const [existing, expected] of [
    [undefined, 'no-cache, no-transform'],
    ['', 'no-cache, no-transform'],
    ['no-cache', 'no-cache, no-transform'],
    ['no-store', 'no-store, no-transform'],
    ['no-transform', 'no-transform, no-cache'],
    ['no-cache, no-transform', 'no-cache, no-transform'],
    ['No-Store , NO-TRANSFORM', 'No-Store, NO-TRANSFORM'],
    ['private', 'private, no-cache, no-transform'],
    ['public, max-age=60', 'public, max-age=60, no-cache, no-transform'],
    ['no-cache="set-cookie"', 'no-cache="set-cookie", no-cache, no-transform'],
    ['private="a, b"', 'private="a, b", no-cache, no-transform'],
    ['x-no-store', 'x-no-store, no-cache, no-transform'],
    [['private', 'no-store'], 'private, no-store, no-transform'],
  ] as const) {
    test(`${JSON.stringify(existing) ?? 'none'} becomes ${JSON.stringify(expected)}`, () => {
      const value = typeof existing === 'object' ? [...existing] : existing

      assert.equal(streamCacheControl(value), expected)
      if (value !== undefined) assert.equal(sent([['cache-control', value]])['cache-control'], expected)
      assert.equal(sent([], { 'cache-control': value })['cache-control'], expected)
    })
  }

  test('one answer has nothing to do with the one before', () => {
    const list = ['private']
    assert.equal(streamCacheControl(list), 'private, no-cache, no-transform')
    list.push('no-store')
    assert.equal(streamCacheControl(list), 'private, no-store, no-transform')
    for (const [value, expected] of [
      ['private', 'private, no-cache, no-transform'],
      ['no-store', 'no-store, no-transform'],
      ['private', 'private, no-cache, no-transform'],
      [undefined, 'no-cache, no-transform'],
      ['', 'no-cache, no-transform'],
    ] as const) {
      assert.equal(streamCacheControl(value), expected)
    }
  })

  test('the upstream knows its answer better than the app', () => {
    const headers = sent([['Cache-Control', 'no-store']], { 'cache-control': 'public, max-age=60' })

    assert.equal(headers['cache-control'], 'no-store, no-transform')
  })
})

describe('CORS', () => {
  const upstream: Header[] = [
    ['Access-Control-Allow-Origin', '*'],
    ['access-control-expose-headers', 'x-a'],
    ['Access-Control-Allow-Credentials', 'true'],
    ['X-A', '1'],
  ]

  test('the upstream counts where the app has set nothing', () => {
    const headers = sent(upstream, { 'x-other': '1' })

    assert.equal(headers['access-control-allow-origin'], '*')
    assert.equal(headers['access-control-expose-headers'], 'x-a')
    assert.equal(headers['access-control-allow-credentials'], 'true')
  })

  test('the app counts alone once it has set any of it: two halves make a policy that nobody meant', () => {
    for (const name of ['access-control-allow-origin', 'access-control-allow-credentials']) {
      assert.deepEqual(sent(upstream, { [name]: 'https://app.example' }), { ...ALWAYS, 'x-a': '1' })
    }
  })
})

describe('security headers', () => {
  for (const name of [
    'Content-Security-Policy',
    'Content-Security-Policy-Report-Only',
    'Cross-Origin-Embedder-Policy',
    'Cross-Origin-Opener-Policy',
    'Cross-Origin-Resource-Policy',
    'Origin-Agent-Cluster',
    'Permissions-Policy',
    'Referrer-Policy',
    'Strict-Transport-Security',
    'X-Content-Type-Options',
    'X-DNS-Prefetch-Control',
    'X-Download-Options',
    'X-Frame-Options',
    'X-Permitted-Cross-Domain-Policies',
    'X-XSS-Protection',
  ]) {
    test(`${name} is the app's where it has set it, else the upstream's`, () => {
      assert.deepEqual(sent([[name, 'theirs']], { [name.toLowerCase()]: 'ours' }), ALWAYS)
      assert.equal(sent([[name, 'theirs']], { 'x-other': '1' })[name.toLowerCase()], 'theirs')
    })
  }

  test('one that the app has set says nothing of the others', () => {
    const headers = sent([['X-Frame-Options', 'theirs']], { 'referrer-policy': 'ours' })

    assert.equal(headers['x-frame-options'], 'theirs')
  })
})

describe('Vary', () => {
  for (const [app, upstream, expected] of [
    [undefined, 'Accept', 'Accept'],
    ['Origin', 'Accept', 'Origin, Accept'],
    ['Origin', 'origin', 'Origin'],
    ['Origin, Accept', 'ACCEPT,Cookie', 'Origin, Accept, Cookie'],
    [['Origin', 'Accept'], ['Cookie'], 'Origin, Accept, Cookie'],
    ['*', 'Accept', '*'],
    ['Origin', 'Accept, *', '*'],
    ['Origin', '', 'Origin'],
    [',Origin,,', ' Accept ', 'Origin, Accept'],
  ] as const) {
    test(`${JSON.stringify(app)} and ${JSON.stringify(upstream)} make ${JSON.stringify(expected)}`, () => {
      const ours = typeof app === 'object' ? [...app] : app
      const theirs = typeof upstream === 'object' ? [...upstream] : upstream

      assert.equal(mergeVary(ours, theirs), expected)
      assert.equal(sent([['vary', theirs]], { vary: ours }).vary, expected)
    })
  }

  test('what the app has set stays where the upstream has none', () => {
    assert.deepEqual(sent([], { vary: 'Origin' }), ALWAYS)
  })
})

describe('Set-Cookie', () => {
  for (const [app, upstream, expected] of [
    ['session=1', ['a=1', 'b=2'], ['session=1', 'a=1', 'b=2']],
    [['session=1', 'csrf=2'], 'a=1', ['session=1', 'csrf=2', 'a=1']],
    [undefined, 'a=1', ['a=1']],
  ] as const) {
    test(`the app's come first, the upstream's after them: ${expected.join('; ')}`, () => {
      const ours = typeof app === 'object' ? [...app] : app
      const theirs = typeof upstream === 'object' ? [...upstream] : upstream

      assert.deepEqual(sent([['Set-Cookie', theirs]], { 'set-cookie': ours })['set-cookie'], expected)
    })
  }
})

test('what was given stays as it was', () => {
  const upstream: Header[] = [
    ['Set-Cookie', ['a=1']],
    ['Vary', 'Accept'],
    ['ETag', '1'],
  ]
  const app = { 'set-cookie': ['session=1'], vary: 'Origin' }

  eventStreamHeaders(upstream, app)

  assert.deepEqual(upstream, [
    ['Set-Cookie', ['a=1']],
    ['Vary', 'Accept'],
    ['ETag', '1'],
  ])
  assert.deepEqual(app, { 'set-cookie': ['session=1'], vary: 'Origin' })
})

describe('an answer that is no event stream', () => {
  const messages: Header = ['Content-Type', 'application/grpc-web+json']

  test('keeps its headers as they are', () => {
    const headers: Header[] = [
      ['Content-Type', 'application/json'],
      ['Cache-Control', 'max-age=1'],
    ]

    assert.equal(answerHeaders(headers, {}), headers)
  })

  for (const [upstream, app, expected] of [
    [undefined, undefined, 'no-transform'],
    ['no-store', undefined, 'no-store, no-transform'],
    [undefined, 'private', 'private, no-transform'],
    ['no-store', 'private', 'no-store, no-transform'],
  ] as const) {
    test(`made of messages is not transformed, where Cache-Control is ${upstream} and the app's ${app}`, () => {
      const headers: Header[] = [messages, ...(upstream === undefined ? [] : [['cache-control', upstream] as const])]

      const sent = answerHeaders(headers, { 'cache-control': app })

      assert.deepEqual(sent, [messages, ['Cache-Control', expected]])
    })
  }

  for (const [upstream, app] of [
    ['No-Transform, no-store', undefined],
    [undefined, 'no-cache, no-transform'],
  ] as const) {
    test(`made of messages keeps a no-transform of its own: ${upstream ?? app}`, () => {
      const headers: Header[] = [messages, ...(upstream === undefined ? [] : [['Cache-Control', upstream] as const])]

      assert.equal(answerHeaders(headers, { 'cache-control': app }), headers)
    })
  }
})
