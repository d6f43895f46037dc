// What happens to headers on the way to the upstream and back, as functions of values.

import type { OutgoingHttpHeaders } from 'node:http'
import {
  type ClientHeaders,
  endToEndHeaders,
  type HeaderNames,
  isHopByHop,
  namedByConnection,
  overlaid,
} from '../end-to-end.ts'
import { encodeEventId, lastEventIdOfQuery } from '../events/event-id.ts'
import type { HpmOptions } from '../hpm.ts'
import type { Header } from '../upstream-response.ts'

/** What of a client's request the headers to the upstream depend on, beside its own headers. */
export interface RequestFacts {
  readonly method: string
  /** The request target as the app sees it, for the query parameters that stand in for Last-Event-ID. */
  readonly url: string
  readonly httpVersion: string
  readonly remoteAddress: string | undefined
  readonly via: string | false
  readonly xfwd: boolean
  /** Of the client's headers these do not reach the upstream. */
  readonly stripped: HeaderNames
  /** The upstream's format, see the option `from`. @defaultValue 'event-stream' */
  readonly format?: keyof typeof ACCEPT | undefined
  /** Whether the client gets a format that is made of events, whatever it accepts. */
  readonly wantsEvents?: boolean | undefined
  /** Set in place of the client's own Last-Event-ID. */
  readonly lastEventId?: string | undefined
}

// What an upstream is asked for where the client takes anything.
const ACCEPT = {
  'event-stream': 'text/event-stream, */*;q=0.9',
  ndjson: 'application/x-ndjson, text/event-stream;q=0.9, */*;q=0.8',
  json: 'application/json, */*;q=0.9',
} as const

/** The headers of the request to the upstream, less those of the body, which knows them best. */
export function requestHeaders(client: ClientHeaders, facts: RequestFacts): OutgoingHttpHeaders {
  const incoming = client.headers
  const headers: OutgoingHttpHeaders = endToEndHeaders(client)
  for (const name of facts.stripped) delete headers[name]
  // RFC 9112, section 6.3: where both came, the length is not to be believed.
  if (incoming['transfer-encoding'] !== undefined) delete headers['content-length']
  const authority = incoming[':authority']
  if (typeof authority === 'string') headers.host = authority

  headers['accept-encoding'] = 'identity'
  const { format = 'event-stream', method } = facts
  // Who takes anything would rather have events; a backend that has none still may answer with something else.
  const takesAnything = (headers.accept ?? '*/*') === '*/*'
  // An EventSource asks for events, others for what is made of them: a plain endpoint may refuse both as not acceptable.
  const asksForMade = format === 'json' && (headers.accept === 'text/event-stream' || facts.wantsEvents)
  if ((takesAnything || asksForMade) && (method === 'GET' || format === 'ndjson')) headers.accept = ACCEPT[format]
  else if (facts.wantsEvents && format === 'event-stream') headers.accept = withEvents(incoming.accept)

  const lastEventId =
    facts.lastEventId === undefined
      ? headers['last-event-id'] ||
        (facts.stripped.has('last-event-id') ? '' : encodeEventId(lastEventIdOfQuery(facts.url)))
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

/** What the client accepts is made here, of events. */
function withEvents(accept: string | undefined): string {
  if (accept === undefined) return 'text/event-stream'
  return /text\/event-stream/i.test(accept) ? accept : `text/event-stream, ${accept}`
}

function append(existing: OutgoingHttpHeaders[string], value: string): string {
  return existing ? `${String(existing)}, ${value}` : value
}

/** RFC 9110, section 7.6.3: the version received, without a minor one from HTTP/2 on. */
function viaVersion(httpVersion: string): string {
  return httpVersion === '2.0' ? '2' : httpVersion
}

/** Puts an upstream's own headers over those of the client and of the options. */
export function useOwnHeaders(options: HpmOptions, own: Readonly<Record<string, string>> | undefined): void {
  if (!own) return
  options.headers = overlaid(options.headers ?? {}, own)
  // It would be put over a host of its own.
  if (own.host !== undefined) options.changeOrigin = false
}

/** Removes what concerned the hop from the upstream only. */
export function withoutHopByHop(headers: readonly Header[], connection: unknown): readonly Header[] {
  const named = namedByConnection(connection)
  return headers.filter(([name]) => !isHopByHop(name.toLowerCase()) && !named.has(name.toLowerCase()))
}
