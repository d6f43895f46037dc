// Event ids on their way through headers and URLs.

import type { IncomingHttpHeaders } from 'node:http'

// Some servers take a semicolon for a separator too: what follows it may name a user, and is no part of the id.
const ID_PARAMETERS = [/(?<=^\?|&)lastEventId=([^&;]*)&?/, /(?<=^\?|&)last_event_id=([^&;]*)&?/]

/** Clients that cannot set headers bring the id in the query. */
export function lastEventIdOfQuery(url: string): string {
  const query = queryOf(url)
  const value = idParameter(query)?.exec(query)?.[1]
  return value ? (new URLSearchParams(`id=${value}`).get('id') ?? '') : ''
}

/** The URL without what `lastEventIdOfQuery` reads of it, whole otherwise. */
export function withoutEventId(url: string): string {
  const query = queryOf(url)
  const parameter = idParameter(query)
  if (!parameter) return url
  const start = url.indexOf(query)
  return url.slice(0, start) + query.replace(parameter, '').replace(/[?&]$/, '') + url.slice(start + query.length)
}

/** Empty where there is no id in it, which a plain search shows for next to nothing. */
function queryOf(url: string): string {
  if (!url.includes('lastEventId=') && !url.includes('last_event_id=')) return ''
  return /^[^?#]*(\?[^#]*)/.exec(url)?.[1] ?? ''
}

function idParameter(query: string): RegExp | undefined {
  return query === '' ? undefined : ID_PARAMETERS.find((pattern) => pattern.test(query))
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
