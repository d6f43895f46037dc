// The headers under which an event stream reaches the client: a function of what the upstream sent and of what the
// app's own middleware has already set.

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

// Where the app has set any of these, the upstream's are all left out.
const CORS = 'access-control-'

// For nginx, which collects an answer otherwise until a buffer of it is full.
const UNBUFFERED: Header = ['X-Accel-Buffering', 'no']

// Streams of gRPC-Web, of Connect and of Spring WebFlux, whose messages are JSON.
const MESSAGES = /^\s*application\/(?:grpc-web|connect|stream)\+json\s*(?:;|$)/i

/** Reads a header of the app's; names are lower case. */
export type HeadersSet = Readonly<Record<string, number | string | string[] | undefined>>

/**
 * The upstream's headers as the client gets them, and those that keep caches and proxies from holding events up.
 * @param variedBy the name of a header on which the format depends
 */
export function eventStreamHeaders(upstream: readonly Header[], app: HeadersSet, variedBy?: string): Header[] {
  // A policy of two halves from two hands would allow what neither meant to.
  const appHasCors = Object.keys(app).some((name) => name.startsWith(CORS))
  const headers: Header[] = []
  let cacheControl = app['cache-control']
  let vary: Header | undefined = variedBy === undefined ? undefined : ['Vary', mergeVary(app.vary, variedBy)]
  for (const header of upstream) {
    const name = header[0].toLowerCase()
    if (ABOUT_THE_BODY.has(name) || name === 'x-accel-buffering') continue
    if (name.startsWith(CORS) ? appHasCors : SECURITY.has(name) && app[name] !== undefined) continue
    if (name === 'cache-control') cacheControl = header[1]
    else if (name === 'vary') vary = [header[0], mergeVary(vary?.[1] ?? app.vary, header[1])]
    else if (name === 'set-cookie') headers.push([header[0], [...list(app['set-cookie']), ...list(header[1])]])
    else headers.push(header)
  }
  if (vary) headers.push(vary)
  headers.push(['Cache-Control', streamCacheControl(cacheControl)], UNBUFFERED)
  return headers
}

/**
 * The headers of an answer that is no event stream: the upstream's. Where it is made of messages that arrive one by one and look
 * like JSON to `compression()`, which would hold them, they must not be transformed.
 */
export function answerHeaders(upstream: readonly Header[], app: HeadersSet): readonly Header[] {
  const isMessages = upstream.some(
    ([name, value]) => name.toLowerCase() === 'content-type' && MESSAGES.test(`${value}`),
  )
  if (!isMessages) return upstream
  const isCacheControl = ([name]: Header) => name.toLowerCase() === 'cache-control'
  const own = upstream.filter(isCacheControl).flatMap(([, value]) => list(value))
  const values = own.length > 0 ? own : list(app['cache-control'])
  if (values.some((value) => /\bno-transform\b/i.test(value))) return upstream
  return [
    ...upstream.filter((header) => !isCacheControl(header)),
    ['Cache-Control', [...values, 'no-transform'].join(', ')],
  ]
}

/** No cache may answer with an old stream, and nothing on the way may compress or otherwise collect it. */
export function streamCacheControl(existing: HeadersSet[string]): string {
  // Nearly every stream's.
  if (existing === undefined || existing === 'no-cache') return 'no-cache, no-transform'
  const directives = list(existing)
    .flatMap((value) => value.split(','))
    .map((directive) => directive.trim())
    .filter((directive) => directive !== '')
  const has = (name: string) => directives.some((directive) => directive.toLowerCase() === name)
  if (!has('no-store') && !has('no-cache')) directives.push('no-cache')
  if (!has('no-transform')) directives.push('no-transform')
  return directives.join(', ')
}

/** What the answer depends on for either of them, each name once; `*` is all there is. */
export function mergeVary(app: HeadersSet[string], upstream: HeadersSet[string]): string {
  const names = [...list(app), ...list(upstream)].flatMap((value) => value.split(',')).map((name) => name.trim())
  if (names.includes('*')) return '*'
  return names
    .filter((name, i) => name && names.findIndex((n) => n.toLowerCase() === name.toLowerCase()) === i)
    .join(', ')
}

/** A header's values, none where it is absent. */
function list(value: HeadersSet[string]): string[] {
  if (value === undefined) return []
  return Array.isArray(value) ? value : [String(value)]
}
