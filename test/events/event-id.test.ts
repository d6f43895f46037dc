import assert from 'node:assert/strict'
import http, { type OutgoingHttpHeader } from 'node:http'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import {
  clientEventId,
  decodeEventId,
  encodeEventId,
  lastEventIdOfQuery,
  withoutEventId,
} from '../../src/events/event-id.ts'
import { requestHeaders } from '../../src/upstream/request-headers.ts'
import { anyText } from '../support/any-text.ts'

describe('lastEventIdOfQuery', () => {
  for (const [url, expected] of [
    ['/', ''],
    ['/?', ''],
    ['/lastEventId=1', ''],
    ['/?lastEventId=1', '1'],
    ['/?last_event_id=1', '1'],
    ['/a/b?x=y&lastEventId=1&z', '1'],
    ['/?lastEventId=1&last_event_id=2', '1'],
    ['/?lastEventId=1&lastEventId=2', '1'],
    ['/?lastEventId=a%20b', 'a b'],
    ['/?lastEventId=a+b', 'a b'],
    ['/?lastEventId=%E6%97%A5', '日'],
    ['/?lastEventId=%', '%'],
    ['/?lastEventId', ''],
    ['/?xlastEventId=1', ''],
    ['/?lasteventid=1', ''],
    ['', ''],
    ['http://h/p?lastEventId=1', '1'],
    ['/?lastEventId=1;user=a', '1'],
    ['/?lastEventId=1%3Ba', '1;a'],
    ['/?lastEventId=1#x', '1'],
    ['/#?lastEventId=1', ''],
    ['/?x=y?lastEventId=1', ''],
    ['/?x=y;lastEventId=1', ''],
    ['/?last%45ventId=1', ''],
  ] as const) {
    test(`${url}: ${JSON.stringify(expected)}`, () => {
      assert.equal(lastEventIdOfQuery(url), expected)
    })
  }
})

describe('withoutEventId', () => {
  for (const [url, expected] of [
    ['/', '/'],
    ['/?', '/?'],
    ['/?lastEventId=1', '/'],
    ['/?last_event_id=1', '/'],
    ['/?lastEventId=', '/'],
    ['/?lastEventId=1&a=b', '/?a=b'],
    ['/?a=b&lastEventId=1', '/?a=b'],
    ['/?a=b&lastEventId=1&c=d', '/?a=b&c=d'],
    ['/?xlastEventId=1&lastEventId=1&', '/?xlastEventId=1'],
    ['/?lastEventId=1;user=a', '/?;user=a'],
    ['/?lastEventId=1#user=a', '/#user=a'],
    ['/#?lastEventId=1', '/#?lastEventId=1'],
    ['/?x=y?lastEventId=1', '/?x=y?lastEventId=1'],
    ['/?x=y;lastEventId=1', '/?x=y;lastEventId=1'],
    ['/?lastEventId=1&lastEventId=2', '/?lastEventId=2'],
    ['/?last_event_id=1&lastEventId=2', '/?last_event_id=1'],
    ['/?lastEventIds=1', '/?lastEventIds=1'],
    ['/?a&b=c', '/?a&b=c'],
  ] as const) {
    test(`${url}: ${url === expected ? 'as it is' : expected}`, () => {
      assert.equal(withoutEventId(url), expected)
    })
  }

  test('any query: an id is cut out where it is read, and only there', () => {
    const part = fc.constantFrom('lastEventId=', 'last_event_id=', 'user=a', '1', '%31', '&', ';', '?', '#', '=', '/')
    const text = fc.array(part, { maxLength: 6 }).map((parts) => parts.join(''))

    fc.assert(
      fc.property(text, fc.constantFrom('lastEventId', 'last_event_id'), text, (before, name, after) => {
        const [one, two] = ['1', '2'].map((id) => `/?${before}${name}=${id}&${after}`) as [string, string]

        const isRead = lastEventIdOfQuery(one) !== lastEventIdOfQuery(two)

        assert.equal(withoutEventId(one) === withoutEventId(two), isRead, one)
      }),
      { seed: 20_260_711, numRuns: 5000 },
    )
  })
})

describe('encodeEventId', () => {
  for (const [id, expected] of [
    ['', ''],
    ['7', '7'],
    ['a b\tc', 'a b\tc'],
    ['é', 'Ã©'],
    ['日本', 'æ\u0097¥æ\u009c¬'],
    ['😀', 'ð\u009f\u0098\u0080'],
    ['a\n', ''],
    ['a\r', ''],
    ['a\0', ''],
    ['\u007f', ''],
    ['\u001b', ''],
  ] as const) {
    test(`${JSON.stringify(id)}: ${JSON.stringify(expected)}`, () => {
      assert.equal(encodeEventId(id), expected)
    })
  }

  test('any id: a header that Node sends and that reads as the id again, or none at all', () => {
    fc.assert(
      fc.property(anyText(), (id) => {
        const encoded: OutgoingHttpHeader = encodeEventId(id)

        http.validateHeaderValue('last-event-id', encoded)
        if (encoded === '') assert.match(id, /^$|[\0-\x08\x0a-\x1f\x7f]/)
        else assert.equal(decodeEventId(encoded), id)
      }),
      { seed: 20_260_711, numRuns: 2000 },
    )
  })
})

describe('decodeEventId', () => {
  for (const [header, expected] of [
    [undefined, ''],
    ['', ''],
    ['7', '7'],
    ['Ã©', 'é'],
    [['1', '2'], '1'],
    [[], ''],
  ] as const) {
    test(`${JSON.stringify(header) ?? 'none'}: ${JSON.stringify(expected)}`, () => {
      assert.equal(decodeEventId(typeof header === 'object' ? [...header] : header), expected)
    })
  }
})

describe('clientEventId', () => {
  for (const [what, header, url, expected] of [
    ['neither', undefined, '/', ''],
    ['the header', 'Ã©', '/', 'é'],
    ['the query', undefined, '/?lastEventId=1', '1'],
    ['both: the header', '1', '/?lastEventId=2', '1'],
  ] as const) {
    test(what, () => {
      assert.equal(clientEventId(header === undefined ? {} : { 'last-event-id': header }, url), expected)
    })
  }

  test('what the cursor begins with is what the upstream is asked for', () => {
    for (const header of [undefined, '', '1', 'Ã©']) {
      for (const url of ['/', '/?lastEventId=2', '/?lastEventId=%C3%A9', '/?lastEventId=']) {
        const incoming = header === undefined ? {} : { 'last-event-id': header }
        const facts = {
          method: 'GET',
          url,
          httpVersion: '1.1',
          remoteAddress: '',
          via: false,
          xfwd: false,
          stripped: new Set<string>(),
        } as const

        const asked = requestHeaders({ headers: incoming, rawHeaders: [] }, facts)['last-event-id']

        assert.equal(
          decodeEventId(asked as string | undefined),
          clientEventId(incoming, url),
          `${JSON.stringify(header)}, ${url}`,
        )
      }
    }
  })
})
