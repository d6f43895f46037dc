// Event ids on their way through headers and URLs.

import type { IncomingHttpHeaders } from 'node:http'

/** Clients that cannot set headers bring the id in the query. */
export function lastEventIdOfQuery(url: string): string {
  const query = url.indexOf('?')
  if (query === -1 || !/last_?event_?id=/i.test(url)) return ''
  const parameters = new URLSearchParams(url.slice(query + 1))
  return parameters.get('lastEventId') ?? parameters.get('last_event_id') ?? ''
}

/** Ids travel as UTF-8, which Node's headers take as one character a byte; an id no header can carry is not sent. */
export function encodeEventId(id: string): string {
  // ASCII is its own UTF-8.
  if (/^[\t\x20-\x7e]*$/.test(id)) return id
  const encoded = Buffer.from(id, 'utf8').toString('latin1')
  return /[^\t\x20-\x7e\x80-\xff]/.test(encoded) ? '' : encoded
}

/** The reverse of `encodeEventId`, for a header as Node gives it. */
export function decodeEventId(header: string | string[] | undefined): string {
  const first = Array.isArray(header) ? header[0] : header
  return first ? Buffer.from(first, 'latin1').toString('utf8') : ''
}

/** The id a client asks to go on from: its header, else its query. */
export function clientEventId(headers: IncomingHttpHeaders, url: string): string {
  return decodeEventId(headers['last-event-id']) || lastEventIdOfQuery(url)
}
