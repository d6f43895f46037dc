// The options about upstreams: who they are and how one is chosen. The policies are data; upstream/ makes a pool of them.

import { asked } from '../app-callback.ts'
import { ConfigError } from '../errors.ts'
import { upstreamLabel } from '../upstream-label.ts'
import { group, isObject, oneOf, unexpected } from './check.ts'
import type { SseProxyOptions } from './options.ts'
import { checkHeaders } from './resolve-headers.ts'
import { type HealthPolicy, type ProbePolicy, resolveHealth } from './resolve-health.ts'
import { type RetryPolicy, resolveRetry } from './resolve-retry.ts'
import { resolveSticky, type StickyPolicy } from './resolve-sticky.ts'
import type { BalanceFunction, Target } from './upstream-options.ts'

/** Where requests go and how failures are met. */
export interface ResolvedUpstreams {
  /** Absent where a router chooses. */
  readonly pool: PoolPolicy | undefined
  readonly retry: RetryPolicy | false
  /** As it was written: what is left open there follows from how many upstreams there are. */
  readonly retryOption: SseProxyOptions['retry']
  readonly probe: ProbePolicy | undefined
}

/** Who the upstreams are, and how one of them is chosen. */
export interface PoolPolicy {
  readonly upstreams: readonly UpstreamPolicy[]
  /** The app's function may return anything; whatever it throws is an `Error`. */
  readonly balance: BalanceName | BalanceFunction
  readonly sticky: StickyPolicy | undefined
  readonly health: HealthPolicy | false
}

type BalanceName = (typeof BALANCES)[number]

/** One upstream, as it was written and as it is called. */
export interface UpstreamPolicy {
  readonly target: Target
  /** Its name in stats and messages: without credentials. */
  readonly url: string
  /** Above 0; relative to the others. */
  readonly weight: number
  /** Of its own, over those of clients; names in lower case. */
  readonly headers: Readonly<Record<string, string>> | undefined
}

const BALANCES = ['least-streams', 'round-robin', 'random', 'failover'] as const

export function resolveUpstreams(options: SseProxyOptions): ResolvedUpstreams {
  const upstreams = resolveTargets(options)
  const { policy, probe } = resolveHealth(options.health)
  if (upstreams.length === 0) {
    for (const key of ['balance', 'sticky', 'health'] as const) {
      if (options[key] !== undefined) throw new ConfigError(`${key}: cannot be used without target: the router chooses`)
    }
    const retry = resolveRetry(options.retry, 0)
    return Object.freeze({ pool: undefined, retry, retryOption: options.retry, probe: undefined })
  }
  refuseBesideForward('target', upstreams, options.forward)
  return Object.freeze({
    pool: Object.freeze({
      upstreams,
      balance: resolveBalance(options.balance ?? 'least-streams'),
      sticky: resolveSticky(options.sticky),
      health: policy,
    }),
    retry: resolveRetry(options.retry, upstreams.length - 1),
    retryOption: options.retry,
    probe,
  })
}

/**
 * Other upstreams for a proxy that has some, and the retries that follow from their number.
 * @param targets as the option `target`
 * @throws ConfigError
 */
export function resolveNewTargets(
  { pool, retryOption }: ResolvedUpstreams,
  forward: SseProxyOptions['forward'],
  targets: unknown,
): Pick<PoolPolicy, 'upstreams'> & Pick<ResolvedUpstreams, 'retry'> {
  if (!pool) throw new ConfigError('setTargets: cannot be used where a router chooses, or without the option target')
  const upstreams = Array.isArray(targets) ? checkTargets('targets', targets) : [checkTarget('targets', targets)]
  refuseBesideForward('targets', upstreams, forward)
  return { upstreams, retry: resolveRetry(retryOption, upstreams.length - 1) }
}

function refuseBesideForward(path: string, upstreams: readonly UpstreamPolicy[], forward: unknown): void {
  if (forward === undefined || upstreams.every(({ headers }) => headers === undefined)) return
  throw new ConfigError(`${path}.headers: cannot be used with forward, which would get them too`)
}

function resolveBalance(value: BalanceName | BalanceFunction): BalanceName | BalanceFunction {
  return typeof value === 'function' ? asked('balance', value) : oneOf('balance', value, BALANCES, ' or a function')
}

function resolveTargets({ target, router, forward }: SseProxyOptions): UpstreamPolicy[] {
  if (target === undefined) {
    if (router !== undefined || forward !== undefined) return []
    return unexpected('target', "a URL such as 'http://localhost:8080/events' (or a router)", target)
  }
  if (!Array.isArray(target)) return router === undefined ? [checkTarget('target', target)] : routed(target)
  if (router !== undefined && target.length > 0)
    throw new ConfigError('target: several targets cannot be used with router, which chooses')
  return checkTargets('target', target)
}

function checkTargets(path: string, list: readonly unknown[]): UpstreamPolicy[] {
  if (list.length === 0) return unexpected(path, 'at least one upstream', list)
  const targets = list.map((item, i) => checkTarget(`${path}[${i}]`, item))
  const urls = targets.map(({ url }) => url)
  urls.forEach((url, i) => {
    if (urls.indexOf(url) !== i) unexpected(`${path}[${i}]`, 'an upstream that is not in the list yet', url)
  })
  return targets
}

/** With a router, the target is the fallback for requests that it does not place. */
function routed(target: unknown): [] {
  checkTarget('target', target)
  if (isObject(target) && 'url' in target && target.headers !== undefined) {
    throw new ConfigError('target.headers: cannot be used with router, which chooses')
  }
  return []
}

const TARGET_EXPECTED = "an http or https URL such as 'http://localhost:8080/events'"

function checkTarget(path: string, value: unknown): UpstreamPolicy {
  if (!isObject(value) || !('url' in value)) return upstream(checkUrl(path, value), 1, undefined)
  const { url, weight = 1, headers } = group(path, value, ['url', 'weight', 'headers'])
  if (typeof weight !== 'number' || !(weight > 0) || weight === Number.POSITIVE_INFINITY) {
    return unexpected(`${path}.weight`, 'a number above 0', weight)
  }
  const own = headers === undefined ? undefined : checkHeaders(`${path}.headers`, headers)
  return upstream(checkUrl(`${path}.url`, url), weight, own)
}

function upstream(target: Target, weight: number, headers: UpstreamPolicy['headers']): UpstreamPolicy {
  return { target, url: upstreamLabel(target), weight, headers }
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

/** For messages. The target is no valid URL, so that anything before an @ may be a password. */
function withoutCredentials(target: string | URL): string {
  return String(target).replace(/[^/\s]*@/, '***@')
}
