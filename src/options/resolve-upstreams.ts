// The options about upstreams, checked and made into what upstream/ works with: who they are, how one is chosen, when
// it is left alone, when another attempt is made.

import { METHODS } from 'node:http'
import { asked } from '../app-callback.ts'
import { clientIp } from '../client-address.ts'
import { ConfigError } from '../errors.ts'
import { type Balance, custom, leastStreams, random, roundRobin } from '../upstream/pool/balance.ts'
import type { HealthPolicy, ProbePolicy } from '../upstream/pool/health.ts'
import { Member, Pool, type StickyPolicy } from '../upstream/pool/pool.ts'
import { type RetryPolicy, SAFE_METHODS } from '../upstream/pool/retry.ts'
import { cookieOf, KeyMemory, type ReadKey, StickyCookie } from '../upstream/pool/sticky.ts'
import { upstreamLabel } from '../upstream/target.ts'
import { callable, group, integer, isObject, MAX_MS, oneOf, text, unexpected } from './check.ts'
import type { BalanceFunction, SseProxyOptions, Target } from './options.ts'

/** Where requests go and how failures are met. */
export interface ResolvedUpstreams {
  /** Absent where a router chooses. */
  readonly pool: Pool | undefined
  readonly retry: RetryPolicy | false
  readonly probe: ProbePolicy | undefined
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
  const members = targets.map(({ target, weight }) => new Member(target, upstreamLabel(target), weight, policy))
  return Object.freeze({
    pool: new Pool(members, resolveBalance(options.balance ?? 'least-streams'), resolveSticky(options.sticky)),
    retry: resolveRetry(options.retry, members.length - 1),
    probe,
  })
}

function resolveTargets({ target, router, forward }: SseProxyOptions): { target: Target; weight: number }[] {
  if (target === undefined) {
    if (router !== undefined || forward !== undefined) return []
    return unexpected('target', "a URL such as 'http://localhost:8080/events' (or a router)", target)
  }
  if (!Array.isArray(target)) return router === undefined ? [checkTarget('target', target)] : routed(target)
  if (target.length === 0) return unexpected('target', 'at least one upstream', target)
  if (router !== undefined) throw new ConfigError('target: several targets cannot be used with router, which chooses')
  const targets = target.map((item: unknown, i) => checkTarget(`target[${i}]`, item))
  const labels = targets.map((item) => upstreamLabel(item.target))
  labels.forEach((label, i) => {
    if (labels.indexOf(label) !== i) unexpected(`target[${i}]`, 'an upstream that is not in the list yet', label)
  })
  return targets
}

/** With a router the target is only where requests go that it does not place. */
function routed(target: unknown): [] {
  checkTarget('target', target)
  return []
}

const TARGET_EXPECTED = "an http or https URL such as 'http://localhost:8080/events'"

function checkTarget(path: string, value: unknown): { target: Target; weight: number } {
  if (!isObject(value) || !('url' in value)) return { target: checkUrl(path, value), weight: 1 }
  const { url, weight = 1 } = group(path, value, ['url', 'weight'])
  if (typeof weight !== 'number' || !(weight > 0) || weight === Number.POSITIVE_INFINITY) {
    return unexpected(`${path}.weight`, 'a number above 0', weight)
  }
  return { target: checkUrl(`${path}.url`, url), weight }
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

function resolveBalance(value: unknown): Balance<Member> {
  if (typeof value === 'function') return custom(asked('balance', value as BalanceFunction))
  const name = oneOf('balance', value, ['least-streams', 'round-robin', 'random'], ' or a function')
  return { 'least-streams': leastStreams<Member>, 'round-robin': roundRobin<Member>, random: random<Member> }[name]()
}

const STICKY_EXPECTED = "'ip', { header }, { cookie }, { query }, { key } or { issueCookie, secret }"

function resolveSticky(value: unknown): StickyPolicy | undefined {
  if (value === undefined) return undefined
  const options = value === 'ip' ? { by: 'ip' } : value
  if (!isObject(options)) return unexpected('sticky', STICKY_EXPECTED, value)
  if ('issueCookie' in options) return { readKey: undefined, memory: undefined, cookie: resolveCookie(options) }
  const given = group('sticky', options, ['by', 'header', 'cookie', 'query', 'key', 'ttlMs'])
  const ttlMs = integer('sticky.ttlMs', given.ttlMs ?? 0, 0, MAX_MS)
  return {
    readKey: resolveReadKey(given, value),
    memory: ttlMs > 0 ? new KeyMemory(ttlMs) : undefined,
    cookie: undefined,
  }
}

const TOKEN = /^[\w!#$%&'*+.^`|~-]+$/

function resolveCookie(options: Record<string, unknown>): StickyCookie {
  const { issueCookie, secret, ttlMs } = group('sticky', options, ['issueCookie', 'secret', 'ttlMs'])
  return new StickyCookie(
    text('sticky.issueCookie', issueCookie, TOKEN, 'the name of a cookie'),
    checkSecret(secret),
    integer('sticky.ttlMs', ttlMs ?? DEFAULTS.cookieTtlMs, 1000, Number.MAX_SAFE_INTEGER),
  )
}

/** Not told when it is refused. */
function checkSecret(secret: unknown): string {
  if (typeof secret === 'string' && secret.length >= 16) return secret
  const got = typeof secret === 'string' ? `one of ${secret.length}` : typeof secret
  throw new ConfigError(`sticky.secret: expected a secret of 16 characters or more, got ${got}`)
}

function resolveReadKey(given: Record<string, unknown>, value: unknown): ReadKey {
  const ways = Object.keys(given).filter((name) => name !== 'ttlMs' && given[name] !== undefined)
  const [way] = ways
  if (ways.length !== 1 || way === undefined) return unexpected('sticky', `one of ${STICKY_EXPECTED}`, value)
  if (way === 'by') {
    oneOf('sticky.by', given.by, ['ip'])
    return clientIp
  }
  if (way === 'key') {
    callable('sticky.key', given.key)
    return asked('sticky.key', given.key as ReadKey)
  }
  const name = text(
    `sticky.${way}`,
    given[way],
    way === 'query' ? /./ : TOKEN,
    way === 'query' ? 'the name of a query parameter' : `the name of a ${way}`,
  )
  if (way === 'cookie') return (req) => cookieOf(req, name)
  if (way === 'query') return (req) => new URLSearchParams(req.url?.split('?')[1]).get(name) ?? undefined
  return (req) => String(req.headers[name.toLowerCase()] ?? '')
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
    methods: resolveMethods(given.methods ?? SAFE_METHODS),
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
