// What of an upstream's head the other clients get than the one whose request it answers. What describes the content is
// for all of them; anything else may be the leader's own: a token, a session, a cookie.

import type { IncomingMessage } from 'node:http'
import { encodeEventId } from '../events/event-id.ts'
import type { Header } from '../upstream-response.ts'

// What describes the content of a stream.
const ABOUT_THE_CONTENT = new Set([
  'cache-control',
  'content-language',
  'content-type',
  'cross-origin-resource-policy',
  'expires',
  'pragma',
  'vary',
  'x-content-type-options',
])

// What an answer that is no stream cannot be understood without.
const ABOUT_AN_ANSWER = new Set([
  ...ABOUT_THE_CONTENT,
  'allow',
  'content-disposition',
  'content-encoding',
  'content-length',
  'etag',
  'last-modified',
  'retry-after',
])

// How the names of headers begin that let pages of an origin read an answer.
const CORS = 'access-control-'

/**
 * The headers under which a follower gets a stream: a permission for a page's origin is for that page alone.
 * @param req undefined for what is for all
 */
export function shareableHeaders(headers: readonly Header[], req: IncomingMessage | undefined): readonly Header[] {
  return shareable(headers, req, ABOUT_THE_CONTENT)
}

/** The same for an answer that is no stream. */
export function shareableAnswerHeaders(headers: readonly Header[], req: IncomingMessage): readonly Header[] {
  return shareable(headers, req, ABOUT_AN_ANSWER)
}

/** The known ones, and permissions for pages where they are for all, or for the page that asks. */
function shareable(
  headers: readonly Header[],
  req: IncomingMessage | undefined,
  known: ReadonlySet<string>,
): readonly Header[] {
  const allowed = headers.find(([name]) => name.toLowerCase() === 'access-control-allow-origin')?.[1]
  const hasCors = allowed === '*' || (allowed !== undefined && allowed === req?.headers.origin)
  return headers.filter(([name]) => {
    const lower = name.toLowerCase()
    return known.has(lower) || (hasCors && lower.startsWith(CORS))
  })
}

/** Tells a client from where on it has everything, since that is not what it asked for. */
export function withGap(headers: readonly Header[], idBefore: string): readonly Header[] {
  return [
    ...headers.filter(([name]) => name.toLowerCase() !== 'last-event-id'),
    ['Last-Event-ID', encodeEventId(idBefore)],
  ]
}
