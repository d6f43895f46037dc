// Which upstream a key belongs to, and the cookie for clients that bring none. Time is handed in.
import assert from 'node:assert/strict'
import { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { leastStreams } from '../../../src/upstream/pool/balance.ts'
import { Member, Pool, type Stickiness } from '../../../src/upstream/pool/pool.ts'
import { cookieOf, KeyMemory, type Rankable, rank, StickyCookie } from '../../../src/upstream/pool/sticky.ts'
import { setWallClock } from '../../support/fake-clock.ts'
import { heapUsed } from '../../support/memory.ts'

const keys = Array.from({ length: 10_000 }, (_, i) => `user-${i}`)
const secret = 'a secret of the tests'
const now = 1_800_000_000_000
const policy = { failures: 1, ejectMs: 1_000, maxEjectMs: 8_000 }

const three = upstreams(1, 1, 1)
const four = upstreams(1, 1, 1, 1)

test('a key belongs to the same upstream in whatever order the upstreams are listed', () => {
  const weights = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 8 })
  fc.assert(
    fc.property(fc.string(), weights, (key, given) => {
      const members = upstreams(...given)

      assert.deepEqual(urls(rank(key, [...members].reverse())), urls(rank(key, members)))
    }),
  )
})

test('a key belongs to the same upstream in every release', () => {
  const homes = ['alice', 'bob', 'carol', 'dave', 'ünïcödé', ''].map((key) => rank(key, four)[0]?.url)

  const [a, c, d] = [four[0]?.url, four[2]?.url, four[3]?.url]
  assert.deepEqual(homes, [a, d, a, a, c, a])
})

test('a key ranks every upstream, each once', () => {
  fc.assert(
    fc.property(fc.string(), (key) => {
      assert.deepEqual(urls(rank(key, four)).sort(), urls(four))
    }),
  )
})

test('a fourth upstream beside three takes its quarter of 10,000 keys and moves no other', (t) => {
  const moved = keys.filter((key) => homeOf(key, three) !== homeOf(key, four))

  const share = moved.length / keys.length
  t.diagnostic(`a 4th upstream takes ${(share * 100).toFixed(1)} % of ${keys.length} keys`)
  assert.ok(share > 0.235 && share < 0.265, `the share is ${share}`)
  for (const key of moved) assert.equal(homeOf(key, four), four[3]?.url)
})

test('an upstream that goes takes only its own keys along, and they spread over all the others', () => {
  const left = four.slice(0, 3)
  const moved = keys.filter((key) => homeOf(key, four) !== homeOf(key, left))

  for (const key of moved) assert.equal(homeOf(key, four), four[3]?.url)
  assertShares(moved, left, [1 / 3, 1 / 3, 1 / 3])
})

test('keys spread as the weights say', () => {
  assertShares(keys, upstreams(1, 1, 1), [1 / 3, 1 / 3, 1 / 3])
  assertShares(keys, upstreams(1, 2, 1), [0.25, 0.5, 0.25])
  assertShares(keys, upstreams(0.1, 0.3), [0.25, 0.75])
})

test('a weight that grows draws keys only towards its own upstream', () => {
  const heavier = upstreams(1, 3, 1)

  const moved = keys.filter((key) => homeOf(key, three) !== homeOf(key, heavier))

  assert.ok(moved.length > 0)
  for (const key of moved) assert.equal(homeOf(key, heavier), heavier[1]?.url)
})

test('keys of one upstream that is down spread over the others, every process sending a key to the same one', () => {
  const [first, second] = [poolOf(three), poolOf(three)]
  for (const pool of [first, second]) pool.members[0]?.health.failed(now)
  const displaced = keys.filter((key) => homeOf(key, three) === three[0]?.url).slice(0, 1_000)

  const places = displaced.map((key) => chosenBy(first, key, now))

  assert.deepEqual(
    displaced.map((key) => chosenBy(second, key, now)),
    places,
  )
  for (const { url } of three.slice(1)) {
    const share = places.filter((place) => place === url).length / places.length
    assert.ok(share > 0.45 && share < 0.55, `the share is ${share}`)
  }
})

test('a key whose upstream is down is served by another one and comes back to it', () => {
  const pool = poolOf(three)
  const home = chosenBy(pool, 'alice', now)
  pool.members.find(({ url }) => url === home)?.health.failed(now)

  assert.notEqual(chosenBy(pool, 'alice', now + policy.ejectMs - 1), home)
  assert.equal(chosenBy(pool, 'alice', now + policy.ejectMs), home)
})

test('a key stays where it has gone although the clock is set ahead by a day', (t) => {
  const pool = poolOf(three, new KeyMemory(60_000))
  const [home] = rank('alice', pool.members)
  const substitute = pool.choose(keyed('alice'), { tried: new Set([home as Member]), avoid: undefined })

  setWallClock(t, 86_400_000)

  assert.equal(pool.choose(keyed('alice'), { tried: new Set(), avoid: undefined }), substitute)
})

test('a request that its own upstream has just failed goes to the next one of its key', () => {
  const pool = poolOf(three)
  const [home, next] = rank('alice', pool.members)

  const chosen = pool.choose(keyed('alice'), { tried: new Set([home as Member]), avoid: undefined }, now)

  assert.equal(chosen.url, next?.url)
})

test('a stream that is resumed stays with the upstream of its key, lost or not', () => {
  const pool = poolOf(three)
  const home = chosenBy(pool, 'alice', now)

  const chosen = pool.choose(keyed('alice'), { tried: new Set(), avoid: home }, now)

  assert.equal(chosen.url, home)
})

test('clients without a key are balanced', () => {
  const pool = poolOf(three)

  const chosen = [undefined, '', undefined].map((key) => chosenBy(pool, key, now))

  assert.deepEqual(chosen.sort(), urls(three))
})

test('a key stays where it was for ttlMs after its last use when an upstream is added', () => {
  const ttlMs = 60_000
  const memory = new KeyMemory(ttlMs)
  const before = poolOf(three, memory)
  const after = poolOf(four, memory)
  const moving = keys.filter((key) => homeOf(key, four) === four[3]?.url).slice(0, 50)
  const places = moving.map((key) => chosenBy(before, key, now))

  const kept = moving.map((key) => chosenBy(after, key, now + ttlMs - 1))
  const keptByUse = moving.map((key) => chosenBy(after, key, now + 2 * (ttlMs - 1)))
  const moved = moving.map((key) => chosenBy(after, key, now + 3 * ttlMs))

  assert.deepEqual(kept, places)
  assert.deepEqual(keptByUse, places)
  for (const place of moved) assert.equal(place, four[3]?.url)
})

test('a key that is kept for an upstream that has gone is given a new one', () => {
  const memory = new KeyMemory(60_000)
  const key = keys.find((one) => homeOf(one, four) === four[3]?.url)
  chosenBy(poolOf(four, memory), key, now)

  assert.equal(chosenBy(poolOf(three, memory), key, now), homeOf(key as string, three))
})

test('a memory holds 100,000 keys and forgets the one that was not used for longest', () => {
  const memory = new KeyMemory(60_000)
  for (let i = 0; i < 100_000; i += 1) memory.keep(`key-${i}`, 'http://a', now)
  memory.keep('key-0', 'http://a', now)

  memory.keep('one more', 'http://a', now)

  assert.equal(memory.recall('key-0', now), 'http://a')
  assert.equal(memory.recall('key-1', now), undefined)
  assert.equal(memory.recall('key-2', now), 'http://a')
  assert.equal(memory.recall('one more', now), 'http://a')
})

test('a memory remembers for its time and not longer', () => {
  const memory = new KeyMemory(1_000)
  memory.keep('alice', 'http://a', now)

  assert.equal(memory.recall('alice', now + 999), 'http://a')
  assert.equal(memory.recall('alice', now + 1_000), undefined)
})

const cookieHeaders: [header: string, value: string | undefined][] = [
  ['seat=7', '7'],
  ['a=1; seat=7; b=2', '7'],
  ['a=1;seat=7', '7'],
  ['seat = 7 ', '7'],
  ['seat="7"', '7'],
  ['seat=a=b', 'a=b'],
  ['seat=', ''],
  ['seats=7', undefined],
  ['SEAT=7', undefined],
  ['seat', undefined],
  ['', undefined],
]

for (const [header, value] of cookieHeaders) {
  test(`the Cookie header ${JSON.stringify(header)} brings ${value === undefined ? 'no seat' : `seat "${value}"`}`, () => {
    assert.equal(cookieOf(withCookie(header), 'seat'), value)
  })
}

test('an issued cookie brings its bearer back to its upstream', () => {
  for (const member of four) {
    assert.equal(cookie().read(withCookie(cookiePair(member)), four, now), member)
  }
})

test('an issued cookie is read by every process with the same secret, and by no other', () => {
  const pair = cookiePair(three[1] as Rankable)

  assert.equal(cookie().read(withCookie(pair), three, now), three[1])
  assert.equal(cookie({ secret: `${secret}!` }).read(withCookie(pair), three, now), undefined)
  assert.equal(cookie({ name: 'other' }).read(withCookie(pair), three, now), undefined)
})

test('a cookie that was changed in any place is not read', () => {
  const [name = '', value = ''] = cookiePair(three[1] as Rankable).split('=')
  const alphabet = [...'ABCXYZabcxyz0189-_.%"']
  fc.assert(
    fc.property(fc.nat(value.length - 1), fc.constantFrom(...alphabet), (at, character) => {
      fc.pre(value[at] !== character)
      const changed = value.slice(0, at) + character + value.slice(at + 1)

      assert.equal(cookie().read(withCookie(`${name}=${changed}`), three, now), undefined)
    }),
    { numRuns: 500 },
  )
})

test('a cookie whose parts come from two good ones is not read', () => {
  const [first = [], second = []] = [three[0], three[1]].map((member, i) =>
    cookiePair(member as Rankable, now + i * 1_000)
      .slice('seat='.length)
      .split('.'),
  )
  for (let mask = 1; mask < 7; mask += 1) {
    const mixed = first.map((part, i) => ((mask >> i) % 2 === 1 ? second[i] : part)).join('.')

    assert.equal(cookie().read(withCookie(`seat=${mixed}`), three, now), undefined, mixed)
  }
})

test('a cookie that is cut short, empty or not ours at all is not read', () => {
  const pair = cookiePair(three[1] as Rankable)
  for (let length = 0; length < pair.length; length += 1) {
    assert.equal(cookie().read(withCookie(pair.slice(0, length)), three, now), undefined)
  }
  fc.assert(
    fc.property(fc.string(), (value) => {
      assert.equal(cookie().read(withCookie(`seat=${value}`), three, now), undefined)
    }),
  )
})

test('a cookie holds for its time and not longer', () => {
  const request = withCookie(cookiePair(three[1] as Rankable))

  assert.equal(cookie().read(request, three, now + 9_999), three[1])
  assert.equal(cookie().read(request, three, now + 10_000), undefined)
})

test('a cookie for an upstream that is not listed any more names nobody', () => {
  const request = withCookie(cookiePair(four[3] as Rankable))

  assert.equal(cookie().read(request, three, now), undefined)
})

test('nothing of the upstream can be read in a cookie', () => {
  const member = { url: 'http://backend-7.internal:8080/stream', weight: 1 }
  const value = cookiePair(member).slice('seat='.length)

  const readings = [
    value,
    ...value.split('.').flatMap((part) => ['base64url', 'hex'].map((coding) => decoded(part, coding))),
  ]
  for (const reading of readings) assert.doesNotMatch(reading, /backend|internal|8080|stream|http/i)
})

test('the same upstream has another name in the cookies of another secret', () => {
  const names = [secret, `${secret}!`].map((one) => cookiePair(three[0] as Rankable, now, one).split(/[=.]/)[1])

  assert.notEqual(names[0], names[1])
})

test('a cookie is for HTTP only, for the whole site, from the same site, and for as long as it holds', () => {
  const [, ...attributes] = cookie()
    .issue(withCookie(''), three[0] as Rankable, now)
    .split('; ')

  assert.deepEqual(attributes, ['Path=/', 'Max-Age=10', 'HttpOnly', 'SameSite=Lax'])
})

test('a cookie is Secure where Express says that the client came over TLS', () => {
  const behindTls = Object.assign(withCookie(''), { secure: true })

  assert.match(cookie().issue(behindTls, three[0] as Rankable, now), /; Secure$/)
})

function upstreams(...weights: number[]): Rankable[] {
  return weights.map((weight, i) => ({ url: `http://upstream-${i}:8080`, weight }))
}

function urls(members: readonly Rankable[]): string[] {
  return members.map(({ url }) => url)
}

function homeOf(key: string, members: readonly Rankable[]): string | undefined {
  return rank(key, members)[0]?.url
}

function assertShares(some: readonly string[], members: readonly Rankable[], expected: number[]): void {
  expected.forEach((share, i) => {
    const actual = some.filter((key) => homeOf(key, members) === members[i]?.url).length / some.length
    assert.ok(Math.abs(actual - share) < 0.03, `upstream ${i} has ${actual} of the keys, ${share} expected`)
  })
}

/** A pool whose clients bring their key in a header. */
function poolOf(members: readonly Rankable[], memory?: KeyMemory): Pool {
  const sticky: Stickiness = {
    readKey: (req) => req.headers['x-key'] as string | undefined,
    memory,
    cookie: undefined,
  }
  return new Pool(
    members.map(({ url, weight }) => new Member({ target: url, url, weight, headers: undefined }, policy)),
    leastStreams(),
    sticky,
  )
}

function chosenBy(pool: Pool, key: string | undefined, at: number): string {
  return pool.choose(keyed(key), { tried: new Set(), avoid: undefined }, at).url
}

function keyed(key: string | undefined): IncomingMessage {
  return requestWith(key === undefined ? {} : { 'x-key': key })
}

function withCookie(header: string): IncomingMessage {
  return requestWith({ cookie: header })
}

function requestWith(headers: IncomingMessage['headers']): IncomingMessage {
  return Object.assign(new IncomingMessage(new Socket()), { headers })
}

function cookie({ name = 'seat', secret: given = secret } = {}): StickyCookie {
  return new StickyCookie(name, given, 10_000)
}

/** What a client sends back of a cookie. */
function cookiePair(member: Rankable, at: number = now, given: string = secret): string {
  return cookie({ secret: given }).issue(withCookie(''), member, at).split(';')[0] as string
}

function decoded(part: string, coding: string): string {
  return Buffer.from(part, coding as BufferEncoding).toString('latin1')
}

test('20,000 keys that are parts of long headers take no more memory than short ones', () => {
  const memory = new KeyMemory(60_000)
  const before = heapUsed()

  for (let count = 0; count < 20_000; count++) {
    const header = `session=${count}-${'x'.repeat(8_000)}; other=${'y'.repeat(8_000)}`
    memory.keep(header.slice(8, 8_000), 'http://one', 0)
  }

  const grown = heapUsed() - before
  assert.ok(grown < 16 * 2 ** 20, `${grown} bytes`)
  assert.equal(memory.recall(`19999-${'x'.repeat(7_986)}`, 0), 'http://one')
})
