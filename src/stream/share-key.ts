// What tells shared streams apart: a key out of the request, or the app's own, and the headers that answers have been
// seen to depend on.

import type { IncomingMessage } from 'node:http'
import { inspect } from 'node:util'
import { UpstreamError } from '../errors.ts'
import { withoutEventId } from '../event-id.ts'
import { headerOf, type UpstreamResponse } from '../open-upstream.ts'

// The Vary of an answer is remembered for this many keys, which clients make up.
const MAX_VARIES = 10_000

type KeyFunction = (req: IncomingMessage) => string | undefined

export class ShareKeys {
  readonly #ownKey: KeyFunction | undefined
  // By key without varied headers: the names of the headers that the upstream's answer depends on.
  readonly #varies = new Map<string, readonly string[]>()

  constructor(ownKey: KeyFunction | undefined) {
    this.#ownKey = ownKey
  }

  /** The key without varied headers; undefined where the app wants nothing shared. */
  baseOf(req: IncomingMessage): string | undefined {
    return this.#ownKey ? checkKey(this.#ownKey(req)) : defaultKey(req)
  }

  /** An answer has said what it depends on. */
  remember(base: string, names: readonly string[]): void {
    // Another answer of the same URL may depend on something else: all of it tells clients apart from now on.
    const all = new Set([...(this.#varies.get(base) ?? []), ...names])
    this.#varies.delete(base)
    this.#varies.set(base, [...all].sort())
    const [oldest] = this.#varies.keys()
    if (this.#varies.size > MAX_VARIES && oldest !== undefined) this.#varies.delete(oldest)
  }

  /** The key of a request whose answer depends on more than its URL, as far as is known. */
  full(base: string, { headers }: IncomingMessage): string {
    const names = this.#varies.get(base)
    return names ? JSON.stringify([base, names.map((name) => [name, headers[name] ?? null])]) : base
  }
}

/** Where two requests differ in this, they may be two users'. */
function defaultKey(req: IncomingMessage): string {
  const { host, ':authority': authority } = req.headers
  const original: unknown = Reflect.get(req, 'originalUrl') ?? null
  // Where a client stands is no reason to keep it apart.
  const urls = [req.url ?? '', original].map((url) => (typeof url === 'string' ? withoutEventId(url) : null))
  return JSON.stringify([urls, host ?? authority ?? null, credentialsOf(req)])
}

/** As they are now and as they came: a middleware may have checked and removed them. */
function credentialsOf({ headers, rawHeaders }: IncomingMessage): unknown[] {
  const raw = rawHeaders.filter((_, i) => /^(authorization|cookie)$/i.test(rawHeaders[i - (i % 2)] ?? ''))
  return [headers.authorization ?? null, headers.cookie ?? null, raw]
}

/** What asks for a part, under a condition, with a body, or for something else, gets an answer of its own. */
export function asksForStream({ headers }: IncomingMessage): boolean {
  if (headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined) return false
  if (headers.range !== undefined || Object.keys(headers).some((name) => name.startsWith('if-'))) return false
  return /text\/event-stream|text\/\*|\*\/\*/i.test(headers.accept ?? '*/*')
}

/** What an answer depends on beside the key. Codings never differ, and who may read an answer is the app's to say. */
export function variedHeaders(response: UpstreamResponse): string[] {
  const names = (headerOf(response, 'vary') ?? '').toLowerCase().split(',')
  const known = ['', 'accept-encoding', 'authorization', 'cookie', 'host', 'last-event-id', 'accept', 'cache-control']
  return names.map((name) => name.trim()).filter((name) => !known.includes(name))
}

export function dependsOnEverything(response: UpstreamResponse): boolean {
  return variedHeaders(response).includes('*')
}

function checkKey(key: unknown): string | undefined {
  if (typeof key === 'string' || key === undefined) return key
  const got = `${inspect(key, { depth: 0 })} (${typeof key})`
  throw new UpstreamError(
    'ERR_SSE_PROXY_APP',
    undefined,
    new TypeError(`share.key: expected the function to return a string, or undefined to share nothing, got ${got}`),
  )
}
