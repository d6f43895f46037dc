// Which upstream a client belongs to: by a key the client brings, hashed alike in every process, or by a cookie of
// the package's own for clients that bring none.

import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { digestOf } from '../../digest.ts'

/** An upstream, as far as ranking goes. */
export interface Rankable {
  readonly url: string
  readonly weight: number
}

/**
 * Rendezvous hashing: every upstream draws a number from the key, and the highest wins. An upstream that goes gives up its own
 * keys only, and one that comes takes only its share from each of the others.
 */
export function rank<T extends Rankable>(key: string, members: readonly T[]): T[] {
  return members
    .map((member) => ({ member, score: -member.weight / Math.log(draw(key, member.url)) }))
    .sort((a, b) => b.score - a.score)
    .map(({ member }) => member)
}

/** A number between 0 and 1, the same wherever it is drawn. */
function draw(key: string, url: string): number {
  const digest = createHash('sha256').update(url).update('\0').update(key).digest()
  return (digest.readUIntBE(0, 6) + 1) / (2 ** 48 + 2)
}

/** The key that a client brings; undefined or empty where it brings none. */
export type ReadKey = (req: IncomingMessage) => string | undefined

/** A cookie of the request, without its quotes; the first where there are several of that name. */
export function cookieOf(req: IncomingMessage, name: string): string | undefined {
  for (const pair of (req.headers.cookie ?? '').split(';')) {
    const equals = pair.indexOf('=')
    if (equals !== -1 && pair.slice(0, equals).trim() === name)
      return pair
        .slice(equals + 1)
        .trim()
        .replace(/^"(.*)"$/, '$1')
  }
  return undefined
}

/** What a client's key was given last; it stays so for a while, whatever becomes of the others. Times are `performance.now()`. */
export class KeyMemory {
  // How long a key is remembered after its last use.
  readonly #ttlMs: number
  // By the digest of the key.
  readonly #entries = new Map<string, { url: string; expiresAt: number }>()

  constructor(ttlMs: number) {
    this.#ttlMs = ttlMs
  }

  recall(key: string, now: number): string | undefined {
    const entry = this.#entries.get(digestOf(key))
    return entry && entry.expiresAt > now ? entry.url : undefined
  }

  keep(key: string, url: string, now: number): void {
    // Keys come from clients; the ones that were not used for longest go first.
    const id = digestOf(key)
    this.#entries.delete(id)
    this.#entries.set(id, { url, expiresAt: now + this.#ttlMs })
    for (const [oldest, { expiresAt }] of this.#entries) {
      if (expiresAt > now && this.#entries.size <= MAX_KEYS) break
      this.#entries.delete(oldest)
    }
  }
}

// Bounds what a client can fill that brings a new key with every request.
const MAX_KEYS = 100_000

/** A cookie that names the upstream a client belongs to, signed, in a form that only its issuer can read. */
export class StickyCookie {
  readonly name: string
  readonly #secret: string
  readonly #ttlMs: number

  constructor(name: string, secret: string, ttlMs: number) {
    this.name = name
    this.#secret = secret
    this.#ttlMs = ttlMs
  }

  /** The member that a request's cookie names, unless the cookie is not ours, changed or too old. */
  read<T extends Rankable>(req: IncomingMessage, members: readonly T[], now: number): T | undefined {
    const [id = '', expires = '', signature = ''] = (cookieOf(req, this.name) ?? '').split('.')
    if (!isSame(signature, this.#sign(`${id}.${expires}`)) || !(Number.parseInt(expires, 36) > now)) return undefined
    return members.find((member) => this.#idOf(member) === id)
  }

  /** The Set-Cookie value that ties a client to a member. */
  issue(req: IncomingMessage, member: Rankable, now: number): string {
    const value = `${this.#idOf(member)}.${Math.round(now + this.#ttlMs).toString(36)}`
    const secure = 'encrypted' in req.socket || Reflect.get(req, 'secure') === true
    const attributes = `Path=/; Max-Age=${Math.ceil(this.#ttlMs / 1000)}; HttpOnly; SameSite=Lax${secure ? '; Secure' : ''}`
    return `${this.name}=${value}.${this.#sign(value)}; ${attributes}`
  }

  #idOf({ url }: Rankable): string {
    return this.#sign(`target ${url}`).slice(0, 16)
  }

  #sign(text: string): string {
    return createHmac('sha256', this.#secret).update(text).digest('base64url')
  }
}

function isSame(given: string, expected: string): boolean {
  const a = Buffer.from(given)
  const b = Buffer.from(expected)
  return a.length === b.length && timingSafeEqual(a, b)
}
