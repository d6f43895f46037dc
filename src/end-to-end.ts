// Which headers of a request travel on to the upstream. What is sent and what tells the callers of a shared stream apart is
// read here, so that two callers are never taken for one, or for two, by a header that the upstream does not see.

import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'

/** A request's headers as they are now, and as they came. */
export type ClientHeaders = Pick<IncomingMessage, 'headers' | 'rawHeaders'>

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

/** Names of headers, in lower case. */
export type HeaderNames = ReadonlySet<string>

export const NO_NAMES: HeaderNames = new Set()

/** Whether a header concerns one hop only, whatever Connection says. */
export function isHopByHop(name: string): boolean {
  return HOP_BY_HOP.has(name) || name.startsWith('proxy-')
}

/** The header names that a Connection header declares to be for its hop only. */
export function namedByConnection(connection: unknown): ReadonlySet<string> {
  if (typeof connection !== 'string' || connection === 'keep-alive' || connection === 'close') return NO_NAMES
  return new Set(
    connection
      .toLowerCase()
      .split(',')
      .map((name) => name.trim()),
  )
}

/** A request as if it had never had these headers, see the option `stripHeaders`. */
export function withoutHeaders(client: ClientHeaders, stripped: HeaderNames): ClientHeaders {
  if (stripped.size === 0) return client
  const { headers, rawHeaders } = client
  return {
    headers: Object.fromEntries(Object.entries(headers).filter(([name]) => !stripped.has(name))),
    rawHeaders: rawHeaders.filter((_, i) => !stripped.has((rawHeaders[i - (i % 2)] ?? '').toLowerCase())),
  }
}

/** Headers with others over them, whatever the case in which either are written. */
export function overlaid<Value>(
  headers: Readonly<Record<string, Value>>,
  over: Readonly<Record<string, Value>>,
): Record<string, Value> {
  const names = new Set(Object.keys(over).map((name) => name.toLowerCase()))
  const kept = Object.entries(headers).filter(([name]) => !names.has(name.toLowerCase()))
  return { ...Object.fromEntries(kept), ...over }
}

/** What travels on: not what concerns this hop, Expect (which this server answers), or the pseudo headers of HTTP/2. */
export function endToEndHeaders({ headers, rawHeaders }: ClientHeaders): IncomingHttpHeaders {
  const sent: IncomingHttpHeaders = {}
  const named = namedByConnection(headers.connection)
  const came = named.size > 0 ? valuesByName(rawHeaders) : undefined
  for (const name in headers) {
    const value = headers[name]
    if (name !== 'host') {
      if (isHopByHop(name) || name === 'expect' || name[0] === ':') continue
      // A client may take back what it has sent. What the app has set in front of the proxy is not the client's.
      if (named.has(name) && isAsItCame(value, came?.get(name))) continue
    }
    sent[name] = value
  }
  return sent
}

/** Every value of every header line, in the order that they came in. */
function valuesByName(rawHeaders: readonly string[]): Map<string, string[]> {
  const values = new Map<string, string[]>()
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = (rawHeaders[i] ?? '').toLowerCase()
    const value = rawHeaders[i + 1] ?? ''
    const before = values.get(name)
    if (before) before.push(value)
    else values.set(name, [value])
  }
  return values
}

/** Whether a value is what Node makes of the lines that came: of some headers it keeps the first, others it joins. */
function isAsItCame(value: string | string[] | undefined, came: readonly string[] = []): boolean {
  const now = Array.isArray(value) ? value.join(', ') : value
  return came.length > 0 && (now === came[0] || now === came.join(', ') || now === came.join('; '))
}
