import assert from 'node:assert/strict'
import type { OutgoingHttpHeaders } from 'node:http'
import { describe, test } from 'node:test'
import { type RequestFacts, requestHeaders, withoutHopByHop } from '../../src/upstream/request-headers.ts'
import type { Header } from '../../src/upstream-response.ts'

const FACTS: RequestFacts = {
  method: 'GET',
  url: '/',
  httpVersion: '1.1',
  remoteAddress: '192.0.2.7',
  via: false,
  xfwd: false,
  stripped: new Set(),
}

const EVENTS_OR_ANYTHING = 'text/event-stream, */*;q=0.9'

/** The headers to the upstream of a client that has sent all of these itself. */
function asked(incoming: Record<string, string>, facts: RequestFacts): OutgoingHttpHeaders {
  return requestHeaders({ headers: incoming, rawHeaders: Object.entries(incoming).flat() }, facts)
}

/** The same, less the two that every GET gets. */
function sent(incoming: Record<string, string>, facts: Partial<RequestFacts> = {}): Record<string, unknown> {
  const { 'accept-encoding': acceptEncoding, ...rest } = asked(incoming, { ...FACTS, ...facts })
  assert.equal(acceptEncoding, 'identity')
  const { accept, ...others } = rest
  return accept === EVENTS_OR_ANYTHING ? others : rest
}

const HOP_BY_HOP = [
  'connection',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
  'proxy-connection',
  'proxy-authorization',
  'proxy-authenticate',
  'proxy-authentication-info',
  'proxy-features',
]

describe('to the upstream: what concerns this hop only goes (RFC 9110, 7.6.1)', () => {
  for (const name of HOP_BY_HOP) {
    test(name, () => {
      assert.deepEqual(sent({ host: 'app', [name]: 'x' }), { host: 'app' })
    })
  }

  for (const [connection, gone] of [
    ['x-a', ['x-a']],
    ['X-A', ['x-a']],
    ['keep-alive, X-A , x-b', ['x-a', 'x-b']],
    ['x-a,x-b', ['x-a', 'x-b']],
    ['close', []],
    ['keep-alive', []],
    ['close, x-a', ['x-a']],
    [',x-a,', ['x-a']],
    ['', []],
    ['x-a-b', []],
    ['authorization, cookie', ['authorization', 'cookie']],
  ] as const) {
    test(`Connection: ${connection} takes ${gone.join(' and ') || 'nothing else'} along`, () => {
      const all = { 'x-a': '1', 'x-b': '2', authorization: 'Basic 1', cookie: 'a=1' }

      const left = sent({ connection, ...all })

      assert.deepEqual(
        left,
        Object.fromEntries(Object.entries(all).filter(([name]) => !(gone as readonly string[]).includes(name))),
      )
    })
  }

  test('Host stays, although Connection names it', () => {
    assert.deepEqual(sent({ connection: 'host', host: 'app' }), { host: 'app' })
  })

  test('what is added here stays, although the client names it', () => {
    const connection = 'via, x-forwarded-for, accept, accept-encoding, last-event-id'
    const given = { via: '1.0 evil', 'x-forwarded-for': '6.6.6.6', 'last-event-id': '9', accept: 'x/y' }

    const headers = asked({ connection, ...given }, { ...FACTS, via: 'us', xfwd: true, url: '/?lastEventId=7' })

    assert.deepEqual(headers, {
      'accept-encoding': 'identity',
      accept: EVENTS_OR_ANYTHING,
      via: '1.1 us',
      'x-forwarded-for': '192.0.2.7',
      'last-event-id': '7',
    })
  })

  test('what the app has set or changed stays, although the client names it', () => {
    const rawHeaders = ['Connection', 'x-user, x-plan, x-own, x-list, cookie', 'X-User', 'root', 'X-Own', '1']
    rawHeaders.push('X-List', 'a', 'x-list', 'b', 'Cookie', 'a=1', 'Cookie', 'b=2')
    const headers = { connection: 'x-user, x-plan, x-own, x-list, cookie', 'x-list': 'a, b', cookie: 'a=1; b=2' }

    const left = requestHeaders(
      { headers: { ...headers, 'x-user': 'ada', 'x-plan': 'free', 'x-own': '1' }, rawHeaders },
      FACTS,
    )

    assert.equal(left['x-user'], 'ada')
    assert.equal(left['x-plan'], 'free')
    assert.equal(left['x-own'], undefined)
    assert.equal(left['x-list'], undefined)
    assert.equal(left.cookie, undefined)
  })

  test('Expect goes: this server has answered it', () => {
    assert.deepEqual(sent({ expect: '100-continue' }), {})
  })

  test('what belongs to the end stays', () => {
    const headers = {
      host: 'app',
      authorization: 'Bearer x',
      cookie: 'a=1',
      origin: 'https://a',
      'cache-control': 'no-cache',
    }

    assert.deepEqual(sent(headers), headers)
  })
})

describe('to the upstream: the length of a body', () => {
  test('Content-Length stays', () => {
    assert.deepEqual(sent({ 'content-length': '5' }, { method: 'POST' }), { 'content-length': '5' })
  })

  test('Content-Length goes when the body came in chunks: it cannot be trusted (RFC 9112, 6.3)', () => {
    assert.deepEqual(sent({ 'content-length': '5', 'transfer-encoding': 'chunked' }, { method: 'POST' }), {})
  })
})

describe('to the upstream: HTTP/2', () => {
  test('pseudo headers go, and :authority becomes Host', () => {
    const pseudo = { ':method': 'GET', ':path': '/', ':scheme': 'https', ':authority': 'app.example' }

    assert.deepEqual(sent({ ...pseudo, 'x-a': '1' }, { httpVersion: '2.0' }), { host: 'app.example', 'x-a': '1' })
  })

  test(':authority counts more than Host', () => {
    assert.deepEqual(sent({ ':authority': 'a', host: 'b' }, { httpVersion: '2.0' }), { host: 'a' })
  })
})

describe('to the upstream: Accept', () => {
  for (const [method, accept, expected] of [
    ['GET', undefined, EVENTS_OR_ANYTHING],
    ['GET', '*/*', EVENTS_OR_ANYTHING],
    ['GET', 'text/event-stream', 'text/event-stream'],
    ['GET', 'application/json', 'application/json'],
    ['GET', 'application/json, text/event-stream', 'application/json, text/event-stream'],
    ['GET', 'text/html, */*;q=0.8', 'text/html, */*;q=0.8'],
    ['HEAD', undefined, undefined],
    ['HEAD', '*/*', '*/*'],
    ['POST', undefined, undefined],
    ['POST', '*/*', '*/*'],
    ['OPTIONS', undefined, undefined],
  ] as const) {
    test(`${method} with ${accept ?? 'none'}: ${expected ?? 'none'}`, () => {
      const headers = asked(accept === undefined ? {} : { accept }, { ...FACTS, method })

      assert.equal(headers.accept, expected)
    })
  }
})

test('to the upstream: no coding is asked for, whatever the client would take', () => {
  for (const incoming of [
    {},
    { 'accept-encoding': 'gzip, br' },
    { 'accept-encoding': 'gzip', connection: 'accept-encoding' },
  ]) {
    for (const method of ['GET', 'POST']) {
      assert.equal(asked(incoming, { ...FACTS, method })['accept-encoding'], 'identity')
    }
  }
})

describe('to the upstream: Last-Event-ID', () => {
  for (const [what, header, url, expected] of [
    ['none', undefined, '/', undefined],
    ['the header', '7', '/', '7'],
    ['the header, in UTF-8 as it came', 'Ã¼', '/', 'Ã¼'],
    ['lastEventId of the query', undefined, '/?lastEventId=7', '7'],
    ['last_event_id of the query', undefined, '/?a=b&last_event_id=7', '7'],
    ['the header rather than the query', '1', '/?lastEventId=7', '1'],
    ['an id of the query in UTF-8', undefined, '/?lastEventId=%C3%BC', 'Ã¼'],
    ['no id of the query that no header can carry', undefined, '/?lastEventId=1%0d%0aX-Evil:%201', undefined],
    ['no empty id of the query', undefined, '/?lastEventId=', undefined],
    ['no empty header', '', '/', undefined],
  ] as const) {
    test(what, () => {
      const incoming = header === undefined ? {} : { 'last-event-id': header }

      assert.equal(asked(incoming, { ...FACTS, url })['last-event-id'], expected)
    })
  }

  for (const [what, lastEventId, expected] of [
    ['the id of a resume rather than that of the client', '9', '9'],
    ['it in UTF-8', 'ü', 'Ã¼'],
    ['none, when the upstream has taken it back', '', undefined],
    ['none that no header can carry', 'a\u0001', undefined],
  ] as const) {
    test(what, () => {
      const headers = asked({ 'last-event-id': '1' }, { ...FACTS, url: '/?lastEventId=2', lastEventId })

      assert.equal(headers['last-event-id'], expected)
      assert.equal('last-event-id' in headers, expected !== undefined)
    })
  }
})

describe('to the upstream: Via (RFC 9110, 7.6.3)', () => {
  for (const [httpVersion, existing, via, expected] of [
    ['1.1', undefined, 'us', '1.1 us'],
    ['1.0', undefined, 'us', '1.0 us'],
    ['2.0', undefined, 'us', '2 us'],
    ['1.1', '1.0 a, 1.1 b', 'us', '1.0 a, 1.1 b, 1.1 us'],
    ['1.1', '1.0 a', false, '1.0 a'],
    ['1.1', undefined, false, undefined],
  ] as const) {
    test(`HTTP/${httpVersion}, ${existing ?? 'none'} so far, ${via || 'off'}: ${expected ?? 'none'}`, () => {
      const headers = asked(existing === undefined ? {} : { via: existing }, { ...FACTS, httpVersion, via })

      assert.equal(headers.via, expected)
    })
  }
})

describe('to the upstream: X-Forwarded-For', () => {
  for (const [what, existing, facts, expected] of [
    ['off: as the client sent it', '6.6.6.6', { xfwd: false }, '6.6.6.6'],
    ['off: none', undefined, { xfwd: false }, undefined],
    ['on: the client', undefined, { xfwd: true }, '192.0.2.7'],
    ['on: the client behind what it claims', '6.6.6.6', { xfwd: true }, '6.6.6.6, 192.0.2.7'],
    ['on: nothing for a client without an address', undefined, { xfwd: true, remoteAddress: undefined }, undefined],
  ] as const) {
    test(what, () => {
      const headers = asked(existing === undefined ? {} : { 'x-forwarded-for': existing }, {
        ...FACTS,
        ...facts,
      })

      assert.equal(headers['x-forwarded-for'], expected)
    })
  }
})

test('to the upstream: what the client sent stays as it was', () => {
  const incoming = { connection: 'x-a', 'x-a': '1', 'last-event-id': '1', via: '1.0 a' }
  const before = structuredClone(incoming)

  asked(incoming, { ...FACTS, via: 'us', lastEventId: '' })

  assert.deepEqual(incoming, before)
})

describe('from the upstream: what concerns that hop only goes', () => {
  for (const name of [...HOP_BY_HOP, 'Keep-Alive', 'Transfer-Encoding', 'Proxy-Authenticate', 'UPGRADE']) {
    test(name, () => {
      const headers: Header[] = [
        ['X-A', '1'],
        [name, 'x'],
      ]

      assert.deepEqual(withoutHopByHop(headers, undefined), [['X-A', '1']])
    })
  }

  test('and what Connection names, however it is written', () => {
    const headers: Header[] = [
      ['Connection', 'X-Hop, keep-alive'],
      ['X-HOP', '1'],
      ['x-other', '2'],
      ['Set-Cookie', ['a=1', 'b=2']],
    ]

    assert.deepEqual(withoutHopByHop(headers, 'X-Hop, keep-alive'), [
      ['x-other', '2'],
      ['Set-Cookie', ['a=1', 'b=2']],
    ])
  })

  test('the rest stays, in order and spelled as it was', () => {
    const headers: Header[] = [
      ['content-TYPE', 'text/event-stream'],
      ['Via', '1.1 them'],
      ['Date', 'today'],
      ['Set-Cookie', ['a=1']],
    ]

    assert.deepEqual(withoutHopByHop(headers, 'keep-alive'), headers)
    assert.deepEqual(withoutHopByHop(headers, undefined), headers)
  })
})
