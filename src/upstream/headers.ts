// What happens to headers on the way to the upstream and back, as functions of values.

import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http'
import { encodeEventId, lastEventIdOfQuery } from '../event-id.ts'
import type { Header } from '../open-upstream.ts'

// RFC 9110, section 7.6.1, and what has been used in their place over time.
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
])

/** Whether a header concerns this hop only and must not travel on. */
function isHopByHop(name: string, named: readonly string[]): boolean {
  return HOP_BY_HOP.has(name) || name.startsWith('proxy-') || named.includes(name)
}

/** The header names that a Connection header declares to be for this hop only. */
function namedByConnection(connection: unknown): readonly string[] {
  if (typeof connection !== 'string' || connection === 'keep-alive' || connection === 'close') return []
  return connection
    .toLowerCase()
    .split(',')
    .map((name) => name.trim())
}

/** What of a client's request the headers to the upstream depend on, beside its own headers. */
export interface RequestFacts {
  readonly method: string
  /** The request target as the app sees it, for the query parameters that stand in for Last-Event-ID. */
  readonly url: string
  readonly httpVersion: string
  readonly remoteAddress: string | undefined
  readonly via: string | false
  readonly xfwd: boolean
  /** Set in place of the client's own Last-Event-ID. */
  readonly lastEventId?: string | undefined
}

/** The headers of the request to the upstream, less those of the body, which knows them best. */
export function requestHeaders(incoming: IncomingHttpHeaders, facts: RequestFacts): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = {}
  const named = namedByConnection(incoming.connection)
  for (const name in incoming) {
    // Expect is answered by this server; pseudo headers are HTTP/2's own.
    if (name === 'host' || !(isHopByHop(name, named) || name === 'expect' || name[0] === ':'))
      headers[name] = incoming[name]
  }
  // RFC 9112, section 6.3: where both came, the length is not to be believed.
  if (incoming['transfer-encoding'] !== undefined) delete headers['content-length']
  const authority = incoming[':authority']
  if (typeof authority === 'string') headers.host = authority

  headers['accept-encoding'] = 'identity'
  if (facts.method === 'GET' && (headers.accept ?? '*/*') === '*/*') headers.accept = 'text/event-stream'

  const lastEventId =
    facts.lastEventId === undefined
      ? headers['last-event-id'] || encodeEventId(lastEventIdOfQuery(facts.url))
      : encodeEventId(facts.lastEventId)
  if (lastEventId) headers['last-event-id'] = lastEventId
  else delete headers['last-event-id']

  // Added after the stripping, so that a client cannot have them stripped.
  if (facts.via) headers.via = append(headers.via, `${viaVersion(facts.httpVersion)} ${facts.via}`)
  if (facts.xfwd && facts.remoteAddress) {
    headers['x-forwarded-for'] = append(headers['x-forwarded-for'], facts.remoteAddress)
  }
  return headers
}

function append(existing: OutgoingHttpHeaders[string], value: string): string {
  return existing ? `${String(existing)}, ${value}` : value
}

/** RFC 9110, section 7.6.3: the version received, without a minor one from HTTP/2 on. */
function viaVersion(httpVersion: string): string {
  return httpVersion === '2.0' ? '2' : httpVersion
}

/** Removes what concerned the hop from the upstream only. */
export function withoutHopByHop(headers: readonly Header[], connection: unknown): readonly Header[] {
  const named = namedByConnection(connection)
  return headers.filter((header) => !isHopByHop(header[0].toLowerCase(), named))
}
