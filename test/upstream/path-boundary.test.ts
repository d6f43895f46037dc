import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { originForm, PathBoundary } from '../../src/upstream/path-boundary.ts'

const OUTSIDE = [
  '/..',
  '/../admin',
  '/a/../../admin',
  '/%2e%2e/admin',
  '/%2E%2E/admin',
  '/.%2e/admin',
  '/%2e./admin',
  '/a/%2e%2e/.%2E/admin',
  '/..%2fadmin',
  '/..%2Fadmin',
  '/a%2f..%2f..%2fadmin',
  '/a%2fb/../../admin',
  '/..\\admin',
  '/..%5cadmin',
  '/a\\..\\..\\admin',
  '/a\\b/../../admin',
  '/a%5c..%5C..%5cadmin',
  '/..#',
  '/%2e%2e#x',
  '/..;/admin',
  '/..;x=1/admin',
  '/..%3b/admin',
  '/a/..;/..;/admin',
  '/./../admin',
  '/%2e/../admin',
  '/.;/../admin',
  '//../admin',
  '/a//../../admin',
  '/a#/../../../admin',
  'http://app.example/../admin',
  'http://app.example/a/../../admin?x',
  'http://user@app.example/%2e%2e/admin',
  '..',
  '/..?x=1',
]

const INSIDE = [
  '/',
  '/?x=1',
  '/a',
  '/a/',
  '/a/b/../c',
  '/a/b/%2e%2e/c',
  '/a/..',
  '/a/.',
  '/a/./b',
  '/ids/a%2fb',
  '/ids/a%2Fb%2fc?x',
  '/ids/https%3A%2F%2Fa.example%2Fx',
  '/a\\b',
  '/a%5cb',
  '/...',
  '/a../b',
  '/..a/b',
  '/a..b',
  '/%252e%252e/admin',
  '/..%252fadmin',
  '/.hidden/..%00',
  '/a?/../../admin',
  '/a?u=../../x',
  '//a/b',
  'http://app.example/a/../b',
  '*',
]

describe('what leads out of the path that it is joined to is not admitted', () => {
  const boundary = new PathBoundary({})

  for (const url of OUTSIDE) {
    test(url, () => assert.equal(boundary.admits(url), false))
  }

  for (const url of INSIDE) {
    test(`${url} stays inside`, () => assert.equal(boundary.admits(url), true))
  }
})

describe('where a rule of the app looks at the path, it has to mean one thing to all', () => {
  for (const [name, rules] of [
    ['pathFilter', { pathFilter: '/public' }],
    ['pathRewrite', { pathRewrite: { '^/a': '' } }],
    ['router', { router: { '/a': 'http://a' } }],
  ] as const) {
    const boundary = new PathBoundary(rules)

    for (const url of [...OUTSIDE, '/public/../admin', '/public/..%2fadmin', '//x/public', '/\\x/public']) {
      test(`${name}: ${url}`, () => assert.equal(boundary.admits(url), false))
    }

    for (const url of ['/', '/public/a%2fb', '/public//x', '/...', '/a..b', '/public?u=/../x', '/%252e%252e/a']) {
      test(`${name}: ${url} is plain`, () => assert.equal(boundary.admits(url), true))
    }
  }
})

describe('what a rewriting rule makes', () => {
  const boundary = new PathBoundary({ pathRewrite: { '^/api': '' } })

  for (const url of ['../admin', '/../admin', '/rest/../admin', '%2e%2e/admin', '/rest/..%2fadmin', '..;/a']) {
    test(`${url} is not admitted`, () => assert.equal(boundary.admitsRewritten(url), false))
  }

  for (const url of ['/admin', 'admin', '', '/rest/a%2fb', '/rest?/../x']) {
    test(`${url} is`, () => assert.equal(boundary.admitsRewritten(url), true))
  }
})

test('a path that is not sent is not looked at', () => {
  const boundary = new PathBoundary({ ignorePath: true, pathRewrite: { a: 'b' } })

  assert.equal(boundary.admits('/../admin'), true)
  assert.equal(boundary.admitsRewritten('/../admin'), true)
})

test('a long path is judged in time that grows with its length', () => {
  const boundary = new PathBoundary({})
  const startedAt = performance.now()

  assert.equal(boundary.admits(`/${'a/..%2f'.repeat(100_000)}../..`), false)
  assert.equal(boundary.admits(`/${'.'.repeat(1_000_000)}`), true)
  assert.ok(performance.now() - startedAt < 2000)
})

describe('the origin form of a URL (RFC 9112, 3.2)', () => {
  for (const [url, expected] of [
    ['/a?u=http://b/c', '/a?u=http://b/c'],
    ['HTTPS://app.example:8443/../a', '/../a'],
    ['http://app.example?x=1', '/?x=1'],
    ['*', '/'],
  ] as const) {
    test(`${url}: ${expected}`, () => assert.equal(originForm(url), expected))
  }
})
