import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isSecure, queryOntoTarget, withoutPath } from '../../src/upstream/target.ts'
import { upstreamLabel } from '../../src/upstream-label.ts'

describe('isSecure', () => {
  for (const [target, expected] of [
    ['https://a', true],
    ['HTTPS://a', true],
    ['wss://a', true],
    ['http://a', false],
    ['ws://a', false],
    ['http://https', false],
    [new URL('https://a'), true],
    [new URL('http://a'), false],
    [{ protocol: 'https:', host: 'a', port: 1 }, true],
    [{ protocol: 'https', host: 'a', port: 1 }, true],
    [{ protocol: 'http:', host: 'a', port: 1 }, false],
    [{ host: 'a', port: 443 }, false],
    [{ socketPath: '/run/a.sock' }, false],
    [undefined, false],
  ] as const) {
    test(`${JSON.stringify(target)}: ${expected}`, () => {
      assert.equal(isSecure(target), expected)
    })
  }
})

describe('upstreamLabel: where it is, without credentials and query', () => {
  for (const [target, expected] of [
    ['http://a:8080/events', 'http://a:8080/events'],
    ['http://a', 'http://a'],
    ['http://a/', 'http://a'],
    ['http://user:secret@a:1/x?token=secret#secret', 'http://a:1/x'],
    ['HTTPS://A.example:443/x', 'https://a.example/x'],
    ['http://[::1]:8080/', 'http://[::1]:8080'],
    [new URL('http://user:secret@a/x?token=secret'), 'http://a/x'],
    [{ host: 'a', port: 1 }, 'http://a:1'],
    [{ host: 'a:1' }, 'http://a:1'],
    [{ hostname: 'a', port: '1' }, 'http://a:1'],
    [{ protocol: 'https:', hostname: 'a', pathname: '/x' }, 'https://a/x'],
    [{ port: 1 }, 'http://localhost:1'],
    [{ host: 'a', port: 1, pathname: '/x?token=secret' }, 'http://a:1/x'],
    [{ host: 'a', port: 1, auth: 'user:secret' }, 'http://a:1'],
    [{ socketPath: '/run/a.sock' }, 'unix:/run/a.sock'],
    [undefined, ''],
  ] as const) {
    test(`${JSON.stringify(target)}: ${expected}`, () => {
      assert.equal(upstreamLabel(target as Parameters<typeof upstreamLabel>[0]), expected)
    })
  }
})

describe('queryOntoTarget: the query of the route itself moves over', () => {
  for (const [target, url, expected, left] of [
    ['http://a/stream', '/?x=1', 'http://a/stream?x=1', '/'],
    ['http://a/stream?t=0', '/?x=1&y', 'http://a/stream?t=0&x=1&y', '/'],
    ['http://a/stream/', '/?x=1', 'http://a/stream/?x=1', '/'],
    ['http://u:p@a:1/stream', '/?x=%20', 'http://u:p@a:1/stream?x=%20', '/'],
    [new URL('https://a/s'), '/?x=1', 'https://a/s?x=1', '/'],
    ['http://a/stream', '/', 'http://a/stream', '/'],
    ['http://a/stream', '/?', 'http://a/stream', '/?'],
    ['http://a/stream', '/sub?x=1', 'http://a/stream', '/sub?x=1'],
    ['http://a/stream', '/sub', 'http://a/stream', '/sub'],
    ['http://a', '/?x=1', 'http://a', '/?x=1'],
    ['http://a/', '/?x=1', 'http://a/', '/?x=1'],
  ] as const) {
    test(`${url} to ${target}: ${left} to ${expected}`, () => {
      const req = { url: url as string }

      const moved = queryOntoTarget(target, {}, req)

      assert.equal(String(moved), expected)
      assert.equal(req.url, left)
    })
  }

  test('parts of a URL', () => {
    const target = { host: 'a', port: 1, pathname: '/stream', cert: 'c' }
    const req = { url: '/?x=1' }

    assert.deepEqual(queryOntoTarget(target, {}, req), { ...target, pathname: '/stream?x=1' })
    assert.equal(req.url, '/')
    assert.equal(target.pathname, '/stream')
  })

  test('parts of a URL with a query of their own', () => {
    const req = { url: '/?x=1' }

    assert.deepEqual(queryOntoTarget({ host: 'a', port: 1, pathname: '/stream?t=0' }, {}, req), {
      host: 'a',
      port: 1,
      pathname: '/stream?t=0&x=1',
    })
  })

  test('parts of a URL without a path', () => {
    for (const target of [{ socketPath: '/run/a.sock' }, { host: 'a', port: 1, pathname: '/' }]) {
      const req = { url: '/?x=1' }

      assert.deepEqual(queryOntoTarget(target, {}, req), target)
      assert.equal(req.url, '/?x=1')
    }
  })

  test('the target that was given stays as it was', () => {
    const target = new URL('http://a/stream')

    queryOntoTarget(target, {}, { url: '/?x=1' })

    assert.equal(target.href, 'http://a/stream')
  })

  for (const option of [{ ignorePath: true }, { toProxy: true }, { prependPath: false }]) {
    test(`not with ${JSON.stringify(option)}, which has a meaning of its own`, () => {
      const req = { url: '/?x=1' }

      assert.equal(queryOntoTarget('http://a/stream', option, req), 'http://a/stream')
      assert.equal(req.url, '/?x=1')
    })
  }
})

describe('withoutPath', () => {
  for (const [target, expected] of [
    ['http://a:1/x?y', 'http://a:1'],
    ['https://a/', 'https://a'],
    [new URL('https://a/x'), 'https://a'],
  ] as const) {
    test(`${target}: ${expected}`, () => {
      assert.equal(withoutPath(target), expected)
    })
  }

  test('parts of a URL', () => {
    const target = { host: 'a', port: 1, pathname: '/x' }

    assert.deepEqual(withoutPath(target), { host: 'a', port: 1 })
    assert.equal(target.pathname, '/x')
  })
})
