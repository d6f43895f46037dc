// The option `sticky`: what ties a client to an upstream.

import type { IncomingMessage } from 'node:http'
import { asked } from '../app-callback.ts'
import { ConfigError } from '../errors.ts'
import { callable, group, integer, isObject, MAX_MS, oneOf, TOKEN, text, unexpected } from './check.ts'
import type { SseProxyOptions } from './options.ts'

/** What ties a client to an upstream; a `ttlMs` of 0 remembers no key. See the option `sticky`. */
export type StickyPolicy =
  | { readonly by: 'ip'; readonly ttlMs: number }
  | { readonly by: 'header' | 'cookie' | 'query'; readonly name: string; readonly ttlMs: number }
  | { readonly by: 'key'; readonly key: StickyKey; readonly ttlMs: number }
  | { readonly by: 'issued-cookie'; readonly name: string; readonly secret: string; readonly ttlMs: number }

type StickyKey = (req: IncomingMessage) => string | undefined

/** The keys that a client can bring, as they are written; exactly one is given. */
interface KeyOptions {
  readonly by?: 'ip' | undefined
  readonly header?: string
  readonly cookie?: string
  readonly query?: string
  readonly key?: StickyKey
  readonly ttlMs?: number | undefined
}

const KEYS = ['by', 'header', 'cookie', 'query', 'key'] as const
const EXPECTED = "true, 'ip', { header }, { cookie }, { query }, { key } or { issueCookie, secret }"
const COOKIE_TTL_MS = 86_400_000
// What has less can be guessed.
const SECRET_LENGTH = 16

export function resolveSticky(value: SseProxyOptions['sticky']): StickyPolicy | undefined {
  if (value === undefined) return undefined
  const options = value === true || value === 'ip' ? { by: 'ip' as const } : value
  if (!isObject(options)) return unexpected('sticky', EXPECTED, value)
  if ('issueCookie' in options) return resolveCookie(options)
  const given: KeyOptions = group('sticky', options, [...KEYS, 'ttlMs'])
  if (KEYS.filter((name) => given[name] !== undefined).length !== 1) {
    return unexpected('sticky', `one of ${EXPECTED}`, value)
  }
  return resolveKey(given, integer('sticky.ttlMs', given.ttlMs ?? 0, 0, MAX_MS))
}

function resolveKey({ by, header, cookie, query, key }: KeyOptions, ttlMs: number): StickyPolicy {
  if (key !== undefined) return { by: 'key', key: asked('sticky.key', callable('sticky.key', key)), ttlMs }
  if (header !== undefined) {
    return { by: 'header', name: text('sticky.header', header, TOKEN, 'the name of a header'), ttlMs }
  }
  if (cookie !== undefined) {
    return { by: 'cookie', name: text('sticky.cookie', cookie, TOKEN, 'the name of a cookie'), ttlMs }
  }
  if (query !== undefined) {
    return { by: 'query', name: text('sticky.query', query, /./, 'the name of a query parameter'), ttlMs }
  }
  return { by: oneOf('sticky.by', by, ['ip']), ttlMs }
}

function resolveCookie(options: Record<string, unknown>): StickyPolicy {
  const { issueCookie, secret, ttlMs } = group('sticky', options, ['issueCookie', 'secret', 'ttlMs'])
  return {
    by: 'issued-cookie',
    name: text('sticky.issueCookie', issueCookie, TOKEN, 'the name of a cookie'),
    secret: checkSecret(secret),
    ttlMs: integer('sticky.ttlMs', ttlMs ?? COOKIE_TTL_MS, 1000, Number.MAX_SAFE_INTEGER),
  }
}

/** No message shows the secret itself. */
function checkSecret(secret: unknown): string {
  if (typeof secret === 'string' && secret.length >= SECRET_LENGTH) return secret
  const got = typeof secret === 'string' ? `one of ${secret.length}` : typeof secret
  throw new ConfigError(`sticky.secret: expected a secret of ${SECRET_LENGTH} characters or more, got ${got}`)
}
