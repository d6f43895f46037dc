// The options about upstreams: which lists of targets there can be, and what is assumed about what is not said.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ConfigError } from '../../src/errors.ts'
import type { SseProxyOptions } from '../../src/options/options.ts'
import { resolveUpstreams } from '../../src/options/resolve-upstreams.ts'

const url = 'http://backend:8080/events'

for (const weight of [0, -0, -1, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, '2', true, [1]]) {
  test(`a weight of ${String(weight)} (${typeof weight}) is refused`, () => {
    assert.throws(
      () => resolve({ target: ['http://other', { url, weight: weight as number }] }),
      refusal(/^target\[1\]\.weight: expected a number above 0, got /),
    )
  })
}

const wrongHeaders: [headers: unknown, message: RegExp][] = [
  ['authorization: hunter2', /^target\[1\]\.headers: expected a plain object .*, got a string \(not shown\)$/],
  [['authorization', 'hunter2'], /^target\[1\]\.headers: expected a plain object .*, got a object \(not shown\)$/],
  [new Headers({ authorization: 'hunter2' }), /^target\[1\]\.headers: expected a plain object/],
  [new Map([['authorization', 'hunter2']]), /^target\[1\]\.headers: expected a plain object/],
  [
    { authorization: 'a', Authorization: 'b' },
    /^target\[1\]\.headers: authorization is there twice, in different case$/,
  ],
  [
    { 'authorization: hunter2': '' },
    /^target\[1\]\.headers: expected the names of headers as keys, got a string \(not shown\)$/,
  ],
  [null, /^target\[1\]\.headers: expected a value, or undefined for the default, got null$/],
  [
    { authorization: undefined },
    /^target\[1\]\.headers\.authorization: expected a text that a header can carry, got undefined$/,
  ],
  [{ authorization: 'hunter2\r\nx: y' }, /^target\[1\]\.headers\.authorization: .*, got a string \(not shown\)$/],
  [{ authorization: ['hunter2'] }, /^target\[1\]\.headers\.authorization: .*, got a object \(not shown\)$/],
  [{ 'a b': 'x' }, /^target\[1\]\.headers: expected the names of headers as keys, got a string \(not shown\)$/],
  [{ Connection: 'close' }, /^target\[1\]\.headers: connection belongs to the connection, and is the proxy's own$/],
  [{ 'content-length': '5' }, /^target\[1\]\.headers: content-length belongs to the connection/],
]

for (const [headers, message] of wrongHeaders) {
  test(`own headers ${show(headers).replace('hunter2', '***')} are refused, and no value is told`, () => {
    assert.throws(
      () => resolve({ target: ['http://other', { url, headers: headers as Record<string, string> }] }),
      (error) => refusal(message)(error) && error instanceof Error && !error.message.includes('hunter2'),
    )
  })
}

test("a target's own headers are known by their names in lower case", () => {
  const { pool } = resolve({ target: { url, headers: { Authorization: 'Bearer x', 'X-A': '' } } })

  assert.deepEqual(pool?.upstreams[0]?.headers, { authorization: 'Bearer x', 'x-a': '' })
})

for (const beside of [{ router: () => url }, { forward: 'http://mirror' }] as const) {
  const [name] = Object.keys(beside)

  test(`a target's own headers beside ${name} are refused`, () => {
    assert.throws(
      () => resolve({ target: { url, headers: { a: 'b' } }, ...beside }),
      refusal(new RegExp(`^target\\.headers: cannot be used with ${name}`)),
    )
  })
}

const twins: [SseProxyOptions['target'], SseProxyOptions['target']][] = [
  [url, url],
  [url, new URL(url)],
  [url, { url, weight: 7 }],
  [url, 'http://BACKEND:8080/events'],
  [url, `${url}?x=1`],
  [url, 'http://user:password@backend:8080/events'],
  ['http://backend', 'http://backend/'],
  ['http://backend/x', 'http://backend:80/x'],
  ['https://backend/x', 'https://backend:443/x'],
  [{ host: 'backend', port: 8080 }, 'http://backend:8080'],
  [
    { socketPath: '/run/a.sock', host: 'x', port: 1 },
    { socketPath: '/run/a.sock', host: 'y', port: 2 },
  ],
]

for (const [one, other] of twins) {
  test(`an upstream in the list twice is refused: ${show(one)} and ${show(other)}`, () => {
    assert.throws(
      () => resolve({ target: [one, 'http://between', other] as string[] }),
      refusal(/^target\[2\]: expected an upstream that is not in the list yet, got /),
    )
  })
}

test('upstreams that differ in scheme, port or path are several', () => {
  const target = [url, 'https://backend:8080/events', 'http://backend:8081/events', 'http://backend:8080/events/']

  assert.equal(resolve({ target }).pool?.upstreams.length, 4)
})

for (const target of [
  ['http://user:hunter2@a b/', 'http://other'],
  'user:hunter2@backend:8080/events',
  ['http://a:hunter2@h/x', 'http://b:hunter2@h/x'],
  [{ url: 'ftp://user:hunter2@backend/' }],
]) {
  test(`a password is not told in a message about ${show(target).replace(/hunter2/g, '***')}`, () => {
    assert.throws(
      () => resolve({ target: target as string }),
      (error) => error instanceof ConfigError && !error.message.includes('hunter2'),
    )
  })
}

test('credentials are not part of the name under which an upstream is known', () => {
  const { pool } = resolve({ target: 'http://user:hunter2@backend:8080/events?token=hunter2' })

  assert.equal(pool?.upstreams[0]?.url, url)
})

test('a secret is not told in a message about it', () => {
  assert.throws(
    () => resolve({ target: url, sticky: { issueCookie: 'seat', secret: 'hunter2' } }),
    (error) => error instanceof ConfigError && !error.message.includes('hunter2'),
  )
})

for (const key of ['balance', 'sticky', 'health'] as const) {
  for (const target of [undefined, url]) {
    test(`${key} beside a router ${target ? 'with' : 'without'} a target is refused`, () => {
      const value = { balance: 'random', sticky: 'ip', health: { failures: 1 } }[key]

      assert.throws(
        () => resolve({ target, router: () => url, [key]: value }),
        refusal(new RegExp(`^${key}: cannot be used without target: the router chooses$`)),
      )
    })
  }
}

for (const target of [[url], [url, 'http://other']]) {
  test(`a list of ${target.length} beside a router is refused`, () => {
    assert.throws(
      () => resolve({ target, router: { '/a': url } }),
      refusal(/^target: several targets cannot be used with router, which chooses$/),
    )
  })
}

test('a bad target beside a router is refused as well', () => {
  assert.throws(
    () => resolve({ target: 'backend:8080', router: () => url }),
    refusal(/^target: expected a URL with its scheme/),
  )
})

for (const path of ['health', '', '/he alth', 'http://backend/health', '//backend/\u5065', '/\u0000', 7]) {
  test(`a probe of ${JSON.stringify(path)} is refused`, () => {
    assert.throws(
      () => resolve({ target: url, health: { probe: { path: path as string } } }),
      refusal(/^health\.probe\.path: expected a path such as '\/health', got /),
    )
  })
}

test('one target is asked once; of several, the others are asked once each, three at most', () => {
  const hosts = Array.from({ length: 6 }, (_, i) => `http://backend-${i}`)

  const attempts = [1, 2, 3, 4, 5, 6].map((count) => {
    const { retry } = resolve({ target: hosts.slice(0, count) })
    return retry === false ? retry : retry.attempts
  })

  assert.deepEqual(attempts, [false, 1, 2, 3, 3, 3])
})

test('retry without numbers tries one target once more', () => {
  const { retry } = resolve({ target: url, retry: {} })

  assert.deepEqual(retry, {
    attempts: 1,
    backoffMs: 100,
    maxBackoffMs: 2_000,
    statuses: [502, 503, 504],
    methods: ['GET', 'HEAD'],
  })
})

test('with a predicate each of the others is worth asking', () => {
  const hosts = Array.from({ length: 6 }, (_, i) => `http://backend-${i}`)

  const attempts = [1, 2, 6].map((count) => {
    const { retry } = resolve({ target: hosts.slice(0, count), retry: { commit: () => 'commit' } })
    return retry === false ? retry : retry.attempts
  })

  assert.deepEqual(attempts, [1, 1, 5])
})

test('true says what the option is without members', () => {
  const given = resolve({ target: [url, 'http://other'], retry: true, health: true, sticky: true })

  const written = resolve({ target: [url, 'http://other'], retry: {}, health: {}, sticky: 'ip' })
  assert.deepEqual({ ...given, retryOption: {} }, written)
})

test('a longest wait that is not given is never shorter than the first', () => {
  const { retry } = resolve({ target: url, retry: { backoffMs: 60_000 } })
  const { pool } = resolve({ target: url, health: { failures: 1, ejectMs: 600_000 } })

  assert.equal(retry === false ? retry : retry.maxBackoffMs, 60_000)
  assert.deepEqual(pool?.health, { failures: 1, ejectMs: 600_000, maxEjectMs: 600_000 })
})

test('weights are 1 where they are not given', () => {
  const { pool } = resolve({ target: [{ url, weight: 2.5 }, 'http://other', { url: new URL('http://third') }] })

  assert.deepEqual(
    pool?.upstreams.map(({ weight }) => weight),
    [2.5, 1, 1],
  )
})

test('probes come only where they are asked for', () => {
  assert.equal(resolve({ target: url }).probe, undefined)
  assert.deepEqual(resolve({ target: url, health: { probe: { path: '/health' } } }).probe, {
    path: '/health',
    intervalMs: 10_000,
    timeoutMs: 2_000,
    rise: 2,
    fall: 3,
  })
})

function resolve(options: object): ReturnType<typeof resolveUpstreams> {
  return resolveUpstreams(options as SseProxyOptions)
}

function refusal(pattern: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof ConfigError)
    assert.ok(error instanceof TypeError)
    assert.match(error.message, pattern)
    return true
  }
}

function show(target: unknown): string {
  return target instanceof URL ? `URL ${target.href}` : JSON.stringify(target)
}
