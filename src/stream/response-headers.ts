// The headers under which an event stream reaches the client: a function of what the upstream sent and of what the
// app's own middleware has already set.

import type { IncomingMessage } from 'node:http'
import { encodeEventId } from '../events/event-id.ts'
import type { Header } from '../upstream-response.ts'

// They describe bytes that are not the ones sent: comments are added, events may be changed.
const ABOUT_THE_BODY = new Set([
  'content-length',
  'content-encoding',
  'etag',
  'last-modified',
  'accept-ranges',
  'content-md5',
  'digest',
  'content-digest',
  'repr-digest',
])

// Where the app has set one of these, its word counts: it knows the page's origin, the upstream does not.
const SECURITY = new Set([
  'content-security-policy',
  'content-security-policy-report-only',
  'cross-origin-embedder-policy',
  'cross-origin-opener-policy',
  'cross-origin-resource-policy',
  'origin-agent-cluster',
  'permissions-policy',
  'referrer-policy',
  'strict-transport-security',
  'x-content-type-options',
  'x-dns-prefetch-control',
  'x-download-options',
  'x-frame-options',
  'x-permitted-cross-domain-policies',
  'x-xss-protection',
])

const CORS = 'access-control-'

const UNBUFFERED: Header = ['X-Accel-Buffering', 'no']

/** Reads a header of the app's; names are lower case. */
export type HeadersSet = Readonly<Record<string, number | string | string[] | undefined>>

export function eventStreamHeaders(upstream: readonly Header[], app: HeadersSet): Header[] {
  // A policy of two halves from two hands would allow what neither meant to.
  const appHasCors = Object.keys(app).some((name) => name.startsWith(CORS))
  const headers: Header[] = []
  let cacheControl = app['cache-control']
  for (const header of upstream) {
    const name = header[0].toLowerCase()
    if (ABOUT_THE_BODY.has(name) || name === 'x-accel-buffering') continue
    if (name.startsWith(CORS) ? appHasCors : SECURITY.has(name) && app[name] !== undefined) continue
    if (name === 'cache-control') cacheControl = header[1]
    else if (name === 'vary') headers.push([header[0], mergeVary(app.vary, header[1])])
    else if (name === 'set-cookie') headers.push([header[0], [...list(app['set-cookie']), ...list(header[1])]])
    else headers.push(header)
  }
  headers.push(['Cache-Control', streamCacheControl(cacheControl)], UNBUFFERED)
  return headers
}

interface CacheControl {
  readonly existing: HeadersSet[string]
  readonly forStream: string
}

// The latest one, since an upstream says the same with nearly every stream.
let latest: CacheControl = { existing: undefined, forStream: withStreamDirectives([]) }

/** No cache may answer with an old stream, and nothing on the way may compress or otherwise collect it. */
export function streamCacheControl(existing: HeadersSet[string]): string {
  // A list may hold something else by now.
  if (existing !== latest.existing || Array.isArray(existing)) {
    latest = { existing, forStream: withStreamDirectives(list(existing)) }
  }
  return latest.forStream
}

function withStreamDirectives(existing: readonly string[]): string {
  const directives = existing
    .flatMap((value) => value.split(','))
    .map((directive) => directive.trim())
    .filter((directive) => directive !== '')
  const has = (name: string) => directives.some((directive) => directive.toLowerCase() === name)
  if (!has('no-store') && !has('no-cache')) directives.push('no-cache')
  if (!has('no-transform')) directives.push('no-transform')
  return directives.join(', ')
}

export function mergeVary(app: HeadersSet[string], upstream: HeadersSet[string]): string {
  const names = [...list(app), ...list(upstream)].flatMap((value) => value.split(',')).map((name) => name.trim())
  if (names.includes('*')) return '*'
  return names
    .filter((name, i) => name && names.findIndex((n) => n.toLowerCase() === name.toLowerCase()) === i)
    .join(', ')
}

function list(value: HeadersSet[string]): string[] {
  if (value === undefined) return []
  return Array.isArray(value) ? value : [String(value)]
}

// Of an upstream's head, what describes the content is everybody's. All else may be its opener's: a token, a session.
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
  'location',
  'retry-after',
  'www-authenticate',
])

/** The headers under which others than its opener get a stream: a permission for a page's origin is for that page alone. */
export function shareableHeaders(headers: readonly Header[], req: IncomingMessage): readonly Header[] {
  return shareable(headers, req, ABOUT_THE_CONTENT)
}

/** The same for an answer that is no stream. */
export function shareableAnswerHeaders(headers: readonly Header[], req: IncomingMessage): readonly Header[] {
  return shareable(headers, req, ABOUT_AN_ANSWER)
}

function shareable(headers: readonly Header[], req: IncomingMessage, known: ReadonlySet<string>): readonly Header[] {
  const allowed = headers.find(([name]) => name.toLowerCase() === 'access-control-allow-origin')?.[1]
  const hasCors = allowed === '*' || (allowed !== undefined && allowed === req.headers.origin)
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
