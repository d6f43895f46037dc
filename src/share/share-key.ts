// What tells shared streams apart: a key out of the request, or the app's own, and what answers have been seen to
// depend on. Clients make keys up, so that all that is remembered of them is bounded, in number and in bytes.

import type { IncomingMessage } from 'node:http'
import { inspect } from 'node:util'
import { digestOf } from '../digest.ts'
import { type ClientHeaders, endToEndHeaders, type HeaderNames, NO_NAMES, withoutHeaders } from '../end-to-end.ts'
import { UpstreamError } from '../errors.ts'
import { withoutEventId } from '../events/event-id.ts'
import { headerOf, type UpstreamResponse } from '../upstream-response.ts'
import { carriesCredentials, namesCaller, tellingHeaders } from './share-caller.ts'

// How many keys are remembered of either kind; the oldest goes.
const MAX_REMEMBERED = 10_000
// How long the names of varied headers of one key may be together. An upstream that depends on more is not shared.
const MAX_VARY_LENGTH = 1024
// Longer keys are kept as their digest.
const MAX_KEY_LENGTH = 256
// Long enough that a crowd does not wait for a leader again and again, short enough that a mistake mends itself.
const PRIVATE_MS = 60_000

// See the option `share.key`.
type KeyFunction = (req: IncomingMessage) => string | undefined
type Warn = (text: string) => void

/** Makes the keys of one proxy, and remembers what its upstreams' answers have said of who may share them. */
export class ShareKeys {
  // The app's key function; undefined where the key is made out of what may tell callers apart.
  readonly #ownKey: KeyFunction | undefined
  // Headers that do not reach the upstream, and tell no caller from another.
  readonly #stripped: HeaderNames
  // Undefined when the app has been told once, and where its key function cannot be at fault.
  #warn: Warn | undefined
  // By key without varied headers: the names of the headers that the upstream's answer depends on, sorted.
  readonly #varies = new Map<string, string>()
  // By whole key: until when its answers are taken for answers to one client, as `performance.now()`.
  readonly #private = new Map<string, number>()

  /**
   * @param warn absent where the key function takes no request, which says that all get the same
   * @param stripped the names of headers that do not reach the upstream
   */
  constructor(ownKey: KeyFunction | undefined, warn: Warn | undefined, stripped: HeaderNames = NO_NAMES) {
    this.#stripped = stripped
    this.#ownKey = ownKey
    this.#warn = warn
  }

  /** The key without varied headers; undefined where nothing is to be shared. */
  baseOf(req: IncomingMessage): string | undefined {
    const key = this.#ownKey ? this.#ask(this.#ownKey, req) : defaultKey(req, withoutHeaders(req, this.#stripped))
    return key === undefined ? undefined : compactKey(key)
  }

  /** The names of the headers that answers are known to depend on, as `remember` joins them. */
  variesOf(base: string): string {
    return this.#varies.get(base) ?? ''
  }

  /** An answer has said what it depends on; false where that is more than is kept. */
  remember(base: string, names: readonly string[]): boolean {
    if (names.length === 0) return true
    // Another answer of the same URL may depend on something else: all of it tells clients apart from now on.
    const all = joinNames([...names, ...splitNames(this.variesOf(base))])
    if (all.length > MAX_VARY_LENGTH) return false
    remember(this.#varies, base, all)
    return true
  }

  /**
   * Whether an answer is for the one who asked, unless the app has said who shares; what it depends on is remembered for
   * requests to come.
   */
  isPersonal(base: string, response: UpstreamResponse): boolean {
    if (this.#ownKey) return false
    const isKept = this.remember(base, variedHeaders(response))
    return isPersonal(response) || !isKept
  }

  /** The headers that an answer depends on, unless the app has said who shares. */
  variedBy(response: UpstreamResponse): readonly string[] {
    return this.#ownKey ? [] : variedHeaders(response)
  }

  /** The key of a request whose answer depends on more than its URL, as far as is known. */
  full(base: string, req: IncomingMessage): string {
    const names = splitNames(this.variesOf(base))
    if (names.length === 0) return base
    const sent = endToEndHeaders(withoutHeaders(req, this.#stripped))
    // The upstream is sent the same for none as for any type.
    if (sent.accept === '*/*') delete sent.accept
    return compactKey(JSON.stringify([base, names.map((name) => [name, sent[name] ?? null])]))
  }

  /** An answer was for the one who asked; for a while no client waits for another one of its key. */
  rememberPrivate(key: string, now: number): void {
    remember(this.#private, key, now + PRIVATE_MS)
  }

  /** Whether requests with this key are not to wait for each other. */
  isPrivate(key: string, now: number): boolean {
    const until = this.#private.get(key)
    if (until === undefined || now < until) return until !== undefined
    this.#private.delete(key)
    return false
  }

  #carriesCredentials(req: IncomingMessage): boolean {
    return carriesCredentials(withoutHeaders(req, this.#stripped), req)
  }

  #ask(ownKey: KeyFunction, req: IncomingMessage): string | undefined {
    const key = checkKey(ownKey(req))
    if (this.#warn && key && isOfUrlAlone(key, req) && this.#carriesCredentials(req)) {
      this.#warn(
        'share.key returned the URL alone for a request that carries credentials: all who ask for that URL get one stream, ' +
          'whoever they are. Return who the user is as well, or a constant where all users are to get the same.',
      )
      this.#warn = undefined
    }
    return key
  }
}

/** What stands for a key where it is kept: the key itself, or, where clients have made it long, its digest. */
export function compactKey(key: string): string {
  return key.length <= MAX_KEY_LENGTH ? `=${key}` : `#${digestOf(key)}`
}

/** The key of those who share a key and stand at this id. No function of an app's returns it. */
export function variantKey(key: string, lastEventId: string): string {
  return `~${compactKey(JSON.stringify([key, lastEventId]))}`
}

/** A key for requests whose app has none: where two differ in it, they may be two users'. */
function defaultKey(req: IncomingMessage, sent: ClientHeaders): string | undefined {
  if (namesCaller(sent, req)) return undefined
  // Where a client stands is no reason to keep it apart.
  const urls = urlsOf(req).map(withoutEventId)
  const { host, ':authority': authority } = req.headers
  return JSON.stringify([urls, host ?? authority ?? null, tellingHeaders(sent)])
}

/** As it is now, and as it was before the app mounted the proxy or rewrote it. */
function urlsOf(req: IncomingMessage): string[] {
  return [req.url, Reflect.get(req, 'originalUrl')].filter((url) => typeof url === 'string')
}

/** Whether the app's key is the URL, its path or its query. */
function isOfUrlAlone(key: string, req: IncomingMessage): boolean {
  return urlsOf(req).some((url) => {
    const path = url.replace(/\?.*/s, '')
    return [url, path, url.slice(path.length), url.slice(path.length + 1)].includes(key)
  })
}

/** What asks for a part, under a condition, with a body, or for something else, gets an answer of its own. */
export function asksForStream({ headers }: IncomingMessage, whateverItAccepts = false): boolean {
  if (headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined) return false
  if (headers.range !== undefined || Object.keys(headers).some((name) => name.startsWith('if-'))) return false
  return whateverItAccepts || /text\/event-stream|text\/\*|\*\/\*/i.test(headers.accept ?? '*/*')
}

// Those that are in every key, or in which no two answers differ: codings are the proxy's, and so is where to begin.
const IN_EVERY_KEY = ['accept-encoding', 'authorization', 'cookie', 'host', 'last-event-id']

/** What an answer depends on beside the key. */
export function variedHeaders(response: UpstreamResponse): string[] {
  return varyOf(response).filter((name) => name !== '*' && !IN_EVERY_KEY.includes(name))
}

/**
 * Whether an answer is for the one who asked: it opens a session, says so, or depends on everything. `no-store` says
 * no such thing; most servers send it with every stream, so that no cache answers with an old one.
 */
export function isPersonal(response: UpstreamResponse): boolean {
  if (headerOf(response, 'set-cookie') !== undefined || varyOf(response).includes('*')) return true
  return /(?:^|[,\s])private(?:$|[,;=\s])/i.test(allOf(response, 'cache-control'))
}

/** The names in all of an answer's Vary headers, lower case. */
function varyOf(response: UpstreamResponse): string[] {
  return splitNames(allOf(response, 'vary').toLowerCase())
}

/** A header's value, joined where there are several. */
function allOf({ headers }: UpstreamResponse, lowerCaseName: string): string {
  return headers.flatMap(([name, value]) => (name.toLowerCase() === lowerCaseName ? value : [])).join()
}

function splitNames(names: string): string[] {
  return names
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '')
}

/** The reverse; each name once, in one order. */
function joinNames(names: readonly string[]): string {
  return [...new Set(names)].sort().join()
}

/** Keeps the latest; the oldest goes. */
function remember<Value>(map: Map<string, Value>, key: string, value: Value): void {
  map.delete(key)
  map.set(key, value)
  const [oldest] = map.keys()
  if (map.size > MAX_REMEMBERED && oldest !== undefined) map.delete(oldest)
}

/** An app's mistake is an error, since all who get the same wrong value would share a stream. */
function checkKey(key: unknown): string | undefined {
  if (typeof key === 'string' || key === undefined) return key
  const got = `${inspect(key, { depth: 0 })} (${typeof key})`
  throw new UpstreamError(
    'ERR_SSE_PROXY_APP',
    undefined,
    new TypeError(`share.key: expected the function to return a string, or undefined to share nothing, got ${got}`),
  )
}
