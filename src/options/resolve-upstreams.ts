// The options about upstreams, checked and made into what upstream/ works with: who they are, how one is chosen, when
// it is left alone, when another attempt is made.

import { type IncomingMessage, METHODS } from 'node:http'
import { asked } from '../app-callback.ts'
import { ConfigError } from '../errors.ts'
import { upstreamLabel } from '../upstream-label.ts'
import { callable, group, integer, isObject, MAX_MS, oneOf, text, unexpected } from './check.ts'
import type { BalanceFunction, SseProxyOptions, Target } from './options.ts'

/** Where requests go and how failures are met. */
export interface ResolvedUpstreams {
  /** Absent where a router chooses. */
  readonly pool: PoolPolicy | undefined
  readonly retry: RetryPolicy | false
  readonly probe: ProbePolicy | undefined
}

/** Who the upstreams are, and how one of them is chosen. */
export interface PoolPolicy {
  readonly upstreams: readonly UpstreamPolicy[]
  readonly balance: BalanceName | BalanceFunction
  readonly sticky: StickyPolicy | undefined
  readonly health: HealthPolicy | false
}

type BalanceName = 'least-streams' | 'round-robin' | 'random'

export interface UpstreamPolicy {
  readonly target: Target
  /** Its name in stats and messages: without credentials. */
  readonly url: string
  readonly weight: number
}

/** What ties a client to an upstream; a `ttlMs` of 0 remembers no key. See the option `sticky`. */
export type StickyPolicy =
  | { readonly by: 'ip'; readonly ttlMs: number }
  | { readonly by: 'header' | 'cookie' | 'query'; readonly name: string; readonly ttlMs: number }
  | { readonly by: 'key'; readonly key: StickyKey; readonly ttlMs: number }
  | { readonly by: 'issued-cookie'; readonly name: string; readonly secret: string; readonly ttlMs: number }

type StickyKey = (req: IncomingMessage) => string | undefined

/** Bounds and times of passive health; see the option `health`. */
export interface HealthPolicy {
  readonly failures: number
  readonly ejectMs: number
  readonly maxEjectMs: number
}

/** See the option `health.probe`. */
export interface ProbePolicy {
  readonly path: string
  readonly intervalMs: number
  readonly timeoutMs: number
  /** Probes in a row that bring an upstream back. */
  readonly rise: number
  /** Probes in a row that put it out. */
  readonly fall: number
}

/** See the option `retry`. */
export interface RetryPolicy {
  /** Attempts after the first. */
  readonly attempts: number
  readonly backoffMs: number
  readonly maxBackoffMs: number
  readonly statuses: readonly number[]
  /** Methods of requests that may be sent again although they have reached an upstream. */
  readonly methods: readonly string[]
}

const DEFAULTS = {
  failures: 3,
  ejectMs: 10_000,
  maxEjectMs: 300_000,
  probe: { intervalMs: 10_000, timeoutMs: 2000, rise: 2, fall: 3 },
  maxAttempts: 3,
  backoffMs: 100,
  maxBackoffMs: 2000,
  statuses: [502, 503, 504],
  methods: ['GET', 'HEAD'],
  cookieTtlMs: 86_400_000,
} as const

export function resolveUpstreams(options: SseProxyOptions): ResolvedUpstreams {
  const targets = resolveTargets(options)
  const { policy, probe } = resolveHealth(options.health ?? {})
  if (targets.length === 0) {
    for (const key of ['balance', 'sticky', 'health'] as const) {
      if (options[key] !== undefined) throw new ConfigError(`${key}: cannot be used without target: the router chooses`)
    }
    return Object.freeze({ pool: undefined, retry: resolveRetry(options.retry, 0), probe: undefined })
  }
  return Object.freeze({
    pool: Object.freeze({
      upstreams: targets,
      balance: resolveBalance(options.balance ?? 'least-streams'),
      sticky: resolveSticky(options.sticky),
      health: policy,
    }),
    retry: resolveRetry(options.retry, targets.length - 1),
    probe,
  })
}

function resolveTargets({ target, router, forward }: SseProxyOptions): UpstreamPolicy[] {
  if (target === undefined) {
    if (router !== undefined || forward !== undefined) return []
    return unexpected('target', "a URL such as 'http://localhost:8080/events' (or a router)", target)
  }
  if (!Array.isArray(target)) return router === undefined ? [checkTarget('target', target)] : routed(target)
  if (target.length === 0) return unexpected('target', 'at least one upstream', target)
  if (router !== undefined) throw new ConfigError('target: several targets cannot be used with router, which chooses')
  const targets = target.map((item: unknown, i) => checkTarget(`target[${i}]`, item))
  const urls = targets.map(({ url }) => url)
  urls.forEach((url, i) => {
    if (urls.indexOf(url) !== i) unexpected(`target[${i}]`, 'an upstream that is not in the list yet', url)
  })
  return targets
}

/** With a router the target is only where requests go that it does not place. */
function routed(target: unknown): [] {
  checkTarget('target', target)
  return []
}

const TARGET_EXPECTED = "an http or https URL such as 'http://localhost:8080/events'"

function checkTarget(path: string, value: unknown): UpstreamPolicy {
  if (!isObject(value) || !('url' in value)) return upstream(checkUrl(path, value), 1)
  const { url, weight = 1 } = group(path, value, ['url', 'weight'])
  if (typeof weight !== 'number' || !(weight > 0) || weight === Number.POSITIVE_INFINITY) {
    return unexpected(`${path}.weight`, 'a number above 0', weight)
  }
  return upstream(checkUrl(`${path}.url`, url), weight)
}

function upstream(target: Target, weight: number): UpstreamPolicy {
  return { target, url: upstreamLabel(target), weight }
}

function checkUrl(path: string, target: unknown): Target {
  if (typeof target === 'string' || target instanceof URL) {
    const url = URL.canParse(String(target)) ? new URL(target) : undefined
    if (url && /^https?:$/.test(url.protocol) && url.hostname !== '') return target
    if (url && /^wss?:$/.test(url.protocol)) {
      const scheme = url.protocol.replace('ws', 'http')
      return unexpected(path, `${TARGET_EXPECTED}: ${scheme} serves WebSockets too`, withoutCredentials(target))
    }
    const schemeless = typeof target === 'string' && /^[\w.-]+(:\d+)?(\/|$)/.test(target)
    const shown = withoutCredentials(target)
    return unexpected(path, schemeless ? `a URL with its scheme, 'http://${shown}'` : TARGET_EXPECTED, shown)
  }
  if (isObject(target) && (target.socketPath || target.host || target.hostname || target.port)) return target
  return unexpected(path, `${TARGET_EXPECTED} or an object with host and port or socketPath`, target)
}

function withoutCredentials(target: string | URL): string {
  return String(target).replace(/[^/\s]*@/, '***@')
}

function resolveBalance(value: unknown): PoolPolicy['balance'] {
  if (typeof value === 'function') return asked('balance', value as BalanceFunction)
  return oneOf<BalanceName>('balance', value, ['least-streams', 'round-robin', 'random'], ' or a function')
}

const STICKY_EXPECTED = "'ip', { header }, { cookie }, { query }, { key } or { issueCookie, secret }"

function resolveSticky(value: unknown): StickyPolicy | undefined {
  if (value === undefined) return undefined
  const options = value === 'ip' ? { by: 'ip' } : value
  if (!isObject(options)) return unexpected('sticky', STICKY_EXPECTED, value)
  if ('issueCookie' in options) return resolveCookie(options)
  const given = group('sticky', options, ['by', 'header', 'cookie', 'query', 'key', 'ttlMs'])
  const ttlMs = integer('sticky.ttlMs', given.ttlMs ?? 0, 0, MAX_MS)
  return resolveKey(given, ttlMs, value)
}

const TOKEN = /^[\w!#$%&'*+.^`|~-]+$/

function resolveCookie(options: Record<string, unknown>): StickyPolicy {
  const { issueCookie, secret, ttlMs } = group('sticky', options, ['issueCookie', 'secret', 'ttlMs'])
  return {
    by: 'issued-cookie',
    name: text('sticky.issueCookie', issueCookie, TOKEN, 'the name of a cookie'),
    secret: checkSecret(secret),
    ttlMs: integer('sticky.ttlMs', ttlMs ?? DEFAULTS.cookieTtlMs, 1000, Number.MAX_SAFE_INTEGER),
  }
}

/** Not told when it is refused. */
function checkSecret(secret: unknown): string {
  if (typeof secret === 'string' && secret.length >= 16) return secret
  const got = typeof secret === 'string' ? `one of ${secret.length}` : typeof secret
  throw new ConfigError(`sticky.secret: expected a secret of 16 characters or more, got ${got}`)
}

function resolveKey(given: Record<string, unknown>, ttlMs: number, value: unknown): StickyPolicy {
  const ways = Object.keys(given).filter((name) => name !== 'ttlMs' && given[name] !== undefined)
  const [way] = ways
  if (ways.length !== 1 || way === undefined) return unexpected('sticky', `one of ${STICKY_EXPECTED}`, value)
  switch (way) {
    case 'by':
      return { by: oneOf('sticky.by', given.by, ['ip']), ttlMs }
    case 'key':
      callable('sticky.key', given.key)
      return { by: 'key', key: asked('sticky.key', given.key as StickyKey), ttlMs }
    case 'query':
      return { by: 'query', name: text('sticky.query', given.query, /./, 'the name of a query parameter'), ttlMs }
    case 'cookie':
      return { by: 'cookie', name: text('sticky.cookie', given.cookie, TOKEN, 'the name of a cookie'), ttlMs }
    default:
      return { by: 'header', name: text('sticky.header', given.header, TOKEN, 'the name of a header'), ttlMs }
  }
}

function resolveHealth(value: unknown): { policy: HealthPolicy | false; probe: ProbePolicy | undefined } {
  if (value === false) return { policy: false, probe: undefined }
  const given = group('health', value, ['failures', 'ejectMs', 'maxEjectMs', 'probe'], ' or false')
  const ejectMs = integer('health.ejectMs', given.ejectMs ?? DEFAULTS.ejectMs, 1, MAX_MS)
  return {
    policy: Object.freeze({
      failures: integer('health.failures', given.failures ?? DEFAULTS.failures, 1, MAX_MS),
      ejectMs,
      maxEjectMs: integer(
        'health.maxEjectMs',
        given.maxEjectMs ?? Math.max(DEFAULTS.maxEjectMs, ejectMs),
        ejectMs,
        MAX_MS,
      ),
    }),
    probe: given.probe === undefined ? undefined : resolveProbe(given.probe),
  }
}

function resolveProbe(value: unknown): ProbePolicy {
  const given = group('health.probe', value, ['path', 'intervalMs', 'timeoutMs', 'rise', 'fall'])
  const whole = (key: keyof typeof DEFAULTS.probe) =>
    integer(`health.probe.${key}`, given[key] ?? DEFAULTS.probe[key], 1, MAX_MS)
  return Object.freeze({
    path: text('health.probe.path', given.path, /^\/[!-~]*$/, "a path such as '/health'"),
    intervalMs: whole('intervalMs'),
    timeoutMs: whole('timeoutMs'),
    rise: whole('rise'),
    fall: whole('fall'),
  })
}

function resolveRetry(value: unknown, others: number): RetryPolicy | false {
  if (value === false || (value === undefined && others === 0)) return false
  const given = group(
    'retry',
    value ?? {},
    ['attempts', 'backoffMs', 'maxBackoffMs', 'statuses', 'methods'],
    ' or false',
  )
  const backoffMs = integer('retry.backoffMs', given.backoffMs ?? DEFAULTS.backoffMs, 0, MAX_MS)
  const attempts = Math.min(Math.max(others, 1), DEFAULTS.maxAttempts)
  return Object.freeze({
    attempts: integer('retry.attempts', given.attempts ?? attempts, 0, 100),
    backoffMs,
    maxBackoffMs: integer(
      'retry.maxBackoffMs',
      given.maxBackoffMs ?? Math.max(DEFAULTS.maxBackoffMs, backoffMs),
      backoffMs,
      MAX_MS,
    ),
    statuses: resolveStatuses(given.statuses ?? DEFAULTS.statuses),
    methods: resolveMethods(given.methods ?? DEFAULTS.methods),
  })
}

function resolveStatuses(value: unknown): readonly number[] {
  if (!Array.isArray(value)) return unexpected('retry.statuses', 'an array of HTTP statuses', value)
  return Object.freeze(value.map((status: unknown, i) => integer(`retry.statuses[${i}]`, status, 300, 599)))
}

function resolveMethods(value: unknown): readonly string[] {
  const expected = "the name of an HTTP method such as 'POST'"
  if (!Array.isArray(value)) return unexpected('retry.methods', 'an array of HTTP methods', value)
  return Object.freeze(
    value.map((given: unknown, i) => {
      const method = typeof given === 'string' ? given.toUpperCase() : ''
      return METHODS.includes(method) ? method : unexpected(`retry.methods[${i}]`, expected, given)
    }),
  )
}
