// From the options as written to the options as used: complete, checked, frozen, and data only. Defaults and checks are
// known here and in the other resolve-*.ts, one for each group, and nowhere else.

import type { IncomingMessage, ServerResponse } from 'node:http'
import { asked, guardedLogger } from '../app-callback.ts'
import { ConfigError } from '../errors.ts'
import type { IsEnd } from '../events/end-watch.ts'
import type { TransformHook } from '../events/event.ts'
import type { HpmOptions } from '../hpm.ts'
import {
  callable,
  callableOrNone,
  callables,
  flag,
  group,
  integer,
  isList,
  isObject,
  MAX_MS,
  oneOf,
  range,
  refuseNull,
  text,
  unexpected,
  unexpectedResult,
} from './check.ts'
import { CHECKED_WITH_NULL, OWN_OPTIONS, REPLACED } from './option-names.ts'
import type { SseProxyOptions } from './options.ts'
import { PASSED_OPTIONS, resolvePassed } from './passed-options.ts'
import { resolveFrom, type SourceFormat } from './resolve-from.ts'
import { resolveStripHeaders } from './resolve-headers.ts'
import { type ResolvedHttp2, resolveHttp2 } from './resolve-http2.ts'
import { type KeepalivePolicy, resolveKeepalive } from './resolve-keepalive.ts'
import { type ResolvedLimits, resolveLimits } from './resolve-limits.ts'
import { type ResumePolicy, resolveResume } from './resolve-resume.ts'
import { type ResolvedShare, resolveShare } from './resolve-share.ts'
import { type ResolvedTimeouts, resolveTimeouts } from './resolve-timeouts.ts'
import { type ResolvedTo, resolveTo } from './resolve-to.ts'
import { type ResolvedUpstreams, resolveUpstreams } from './resolve-upstreams.ts'
import type { Target } from './upstream-options.ts'

/** The options as used. Groups have all their members; 0 and false mean off. */
export interface ResolvedOptions {
  /** The options that are passed on. */
  readonly hpm: HpmOptions
  /** The target of requests that neither a pool nor a router places. */
  readonly fallback: Target | undefined
  readonly upstreams: ResolvedUpstreams
  /** In lower case. */
  readonly stripHeaders: readonly string[]
  readonly resume: ResumePolicy | false
  readonly keepalive: KeepalivePolicy | false
  readonly framing: 'event' | 'bytes'
  /** The option `transform` as a list. */
  readonly hooks: readonly TransformHook[]
  readonly timeouts: ResolvedTimeouts
  readonly limits: ResolvedLimits
  readonly share: ResolvedShare | false
  readonly isEnd: IsEnd | undefined
  readonly onLost: SseProxyOptions['onLost']
  /** Undefined for event streams. */
  readonly from: SourceFormat | undefined
  /** Undefined where all clients get event streams. */
  readonly to: ResolvedTo | undefined
  readonly http2: ResolvedHttp2 | false
  readonly fastLane: boolean
  /** The option `onDisconnect`: how long an upstream stream outlives its client; 0 ends it at once, Infinity lets it finish. */
  readonly graceMs: number
  /** How a request is refused that accepts an event stream. */
  readonly unavailable: 'status' | 'reconnect'
  /** The range of `retry:` values. */
  readonly clientRetryMs: readonly [min: number, max: number]
  readonly via: string | false
  readonly name: string
  readonly onOpen: SseProxyOptions['onOpen']
  readonly onEnd: SseProxyOptions['onEnd']
  readonly onClose: SseProxyOptions['onClose']
}

/** The name of a proxy that is given none. */
export const DEFAULT_NAME = 'sse-proxy'

const DEFAULTS = {
  framing: 'event',
  fastLane: true,
  onDisconnect: 'abort',
  unavailable: 'status',
  clientRetryMs: [1000, 5000],
  via: 'sse-proxy-middleware',
  name: DEFAULT_NAME,
} as const

/**
 * Checks the options and fills in the defaults. The app's request types are dropped: its functions get its own requests.
 * @throws ConfigError
 */
export function resolveOptions<TReq extends IncomingMessage, TRes extends ServerResponse>(
  input: SseProxyOptions<TReq, TRes>,
): ResolvedOptions
export function resolveOptions(input: SseProxyOptions): ResolvedOptions {
  const options = knownOptions(input)
  const framing = oneOf('framing', options.framing ?? DEFAULTS.framing, ['event', 'bytes'])
  const hooks = callables('transform', options.transform)
  if (hooks.length > 0 && framing === 'bytes') {
    throw new ConfigError("framing: 'bytes' cannot be used with transform, because hooks need whole events")
  }
  const keepalive = resolveKeepalive(options.keepalive)
  const upstreams = resolveUpstreams(options)
  const commit = upstreams.retry === false ? undefined : upstreams.retry.commit
  if (commit && keepalive && keepalive.openAfterMs > 0) {
    throw new ConfigError(
      'retry.commit: cannot be used with keepalive.openAfterMs, which opens a response before it is held',
    )
  }
  return Object.freeze({
    hpm: guarded(resolvePassed(options)),
    fallback: fallbackTarget(options),
    upstreams,
    stripHeaders: resolveStripHeaders(options.stripHeaders ?? []),
    resume: resolveResume(options.resume, framing),
    keepalive,
    framing,
    hooks,
    timeouts: resolveTimeouts(options.timeouts ?? {}),
    limits: resolveLimits(options.limits ?? {}),
    share: resolveShare(options, framing),
    isEnd: resolveIsEnd(options.isEnd, framing),
    onLost: resolveOnLost(options.onLost, framing),
    from: resolveFrom(options.from),
    to: resolveTo(options.to, framing),
    http2: resolveHttp2(options.http2),
    fastLane: flag('fastLane', options.fastLane ?? DEFAULTS.fastLane),
    graceMs: resolveGrace(options.onDisconnect ?? DEFAULTS.onDisconnect, options.from),
    unavailable: oneOf('unavailable', options.unavailable ?? DEFAULTS.unavailable, ['status', 'reconnect']),
    clientRetryMs: range('clientRetryMs', options.clientRetryMs ?? DEFAULTS.clientRetryMs),
    via: resolveVia(options.via ?? DEFAULTS.via),
    name: text('name', options.name ?? DEFAULTS.name, NAME, 'a label of 1 to 100 printable characters'),
    onOpen: callableOrNone('onOpen', options.onOpen),
    onEnd: callableOrNone('onEnd', options.onEnd),
    onClose: callableOrNone('onClose', options.onClose),
  })
}

const NAME = /^[^\p{Cc}]{1,100}$/u

/** Refuses unknown and replaced options before any value is looked at. */
function knownOptions(input: SseProxyOptions): SseProxyOptions & Record<string, unknown> {
  if (typeof input === 'string') {
    throw new ConfigError(
      `options: expected an object; mount it with app.use(${JSON.stringify(input)}, sseProxy({ ... }))`,
    )
  }
  if (isObject(input)) refuseReplaced(input)
  const options = group('', input, [...OWN_OPTIONS, ...PASSED_OPTIONS])
  refuseNull(
    '',
    options,
    OWN_OPTIONS.filter((key) => !CHECKED_WITH_NULL.includes(key)),
  )
  return options
}

function refuseReplaced(input: Record<string, unknown>): void {
  for (const [key, way] of Object.entries(REPLACED)) {
    if (input[key] !== undefined) throw new ConfigError(`${key}: this option is not available here; ${way}`)
  }
}

/** The options that are passed on, with the app's callbacks wrapped, so that none can end the process. */
function guarded(hpm: HpmOptions): HpmOptions {
  const { pathFilter, logger } = hpm
  return Object.freeze({
    ...hpm,
    ...(typeof pathFilter === 'function' && { pathFilter: asked('pathFilter', pathFilter) }),
    ...(logger && { logger: guardedLogger(logger) }),
  })
}

function fallbackTarget({ target }: SseProxyOptions): Target | undefined {
  const first = isList(target) ? target[0] : target
  return typeof first === 'object' && first !== null && 'url' in first ? first.url : first
}

function resolveGrace(value: unknown, from: SseProxyOptions['from']): number {
  if (value === 'abort') return 0
  if (value === 'drain') {
    if (isObject(from) && from.format === 'json') {
      throw new ConfigError(
        "onDisconnect: 'drain' cannot be used with from: { format: 'json' }, whose polls have no end; use { graceMs }",
      )
    }
    return Number.POSITIVE_INFINITY
  }
  if (!isObject(value)) return unexpected('onDisconnect', "'abort', 'drain' or { graceMs }", value)
  return integer('onDisconnect.graceMs', group('onDisconnect', value, ['graceMs']).graceMs, 1, MAX_MS)
}

function resolveIsEnd(isEnd: SseProxyOptions['isEnd'], framing: 'event' | 'bytes'): IsEnd | undefined {
  if (isEnd === undefined) return undefined
  const answer = asked('isEnd', callable('isEnd', isEnd))
  if (framing === 'bytes') {
    throw new ConfigError("framing: 'bytes' cannot be used with isEnd, which needs whole events")
  }
  return (event, req) => {
    const result: unknown = answer(event, req)
    return typeof result === 'boolean' ? result : unexpectedResult('isEnd', 'true or false', result)
  }
}

function resolveOnLost(onLost: SseProxyOptions['onLost'], framing: 'event' | 'bytes'): SseProxyOptions['onLost'] {
  if (onLost === undefined) return undefined
  const answer = asked('onLost', callable('onLost', onLost))
  if (framing === 'bytes') {
    throw new ConfigError("framing: 'bytes' cannot be used with onLost, because what has left may end inside an event")
  }
  return answer
}

function resolveVia(value: unknown): string | false {
  if (value === false) return false
  return text('via', value, /^[\w!#$%&'*+.^`|~:-]+$/, 'a pseudonym without spaces or commas, or false')
}
