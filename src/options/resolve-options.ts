// From the options as written to the options as used: complete, checked, frozen. Nobody looks at the former after
// this, and nobody repeats a default.

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AdmissionPolicy } from '../admission.ts'
import { asked, guardedLogger } from '../app-callback.ts'
import { clientIp, subnetOf } from '../client-address.ts'
import { ConfigError } from '../errors.ts'
import type { TransformHook } from '../events/event.ts'
import type { HpmOptions } from '../hpm.ts'
import type { ResumePolicy } from '../stream/resume.ts'
import { callable, flag, group, integer, isObject, MAX_MS, oneOf, refuseNull, text, unexpected } from './check.ts'
import { CHECKED_WITH_NULL, OWN_OPTIONS, REPLACED } from './option-names.ts'
import type { ShareOptions, SseProxyOptions, Target } from './options.ts'
import { PASSED_OPTIONS, resolvePassed } from './passed-options.ts'
import { type ResolvedUpstreams, resolveUpstreams } from './resolve-upstreams.ts'

/** The options in use. Groups have all their members; 0 and false mean off. */
export interface ResolvedOptions {
  readonly hpm: HpmOptions
  /** What http-proxy-middleware is created with; where a router chooses, also where it does not. */
  readonly fallback: Target | undefined
  readonly upstreams: ResolvedUpstreams
  readonly resume: ResumePolicy | false
  readonly keepalive: { readonly intervalMs: number; readonly bytes: Buffer; readonly openAfterMs: number } | false
  readonly framing: 'event' | 'bytes'
  readonly hooks: readonly TransformHook[]
  readonly timeouts: {
    readonly connectMs: number
    readonly responseMs: number
    readonly idleMs: number
    readonly lifetimeMs: number | ((req: IncomingMessage) => number)
    readonly writeMs: number
  }
  readonly limits: AdmissionPolicy & {
    readonly eventBytes: number
    readonly bufferBytes: number
    readonly bodyBytes: number
  }
  readonly share: ResolvedShare | false
  /** How long the upstream may go on without its client: 0 ends it at once, Infinity lets it finish. */
  readonly graceMs: number
  readonly unavailable: 'status' | 'reconnect'
  readonly clientRetryMs: readonly [min: number, max: number]
  readonly via: string | false
  readonly name: string
  readonly onOpen: SseProxyOptions['onOpen']
  readonly onEnd: SseProxyOptions['onEnd']
  readonly onClose: SseProxyOptions['onClose']
}

/** See the option `share`. */
export interface ResolvedShare {
  readonly key: ((req: IncomingMessage) => string | undefined) | undefined
  /** Whether it declares a parameter, so that what it returns may depend on the request. */
  readonly keyTakesRequest: boolean
  readonly lingerMs: number
  readonly maxBytes: number
  readonly transform: readonly TransformHook[]
  readonly replay: {
    readonly events: number
    readonly bytes: number
    readonly ageMs: number
    readonly ids: 'upstream' | 'assign'
    readonly initial: number
  }
  readonly onGap: ShareOptions['onGap']
}

const MIB = 1_048_576
const DEFAULTS = {
  keepaliveMs: 15_000,
  comment: 'keepalive',
  connectMs: 10_000,
  responseMs: 120_000,
  writeMs: 60_000,
  ipv6Subnet: 64,
  eventBytes: MIB,
  bufferBytes: MIB,
  bodyBytes: MIB,
  resume: { attempts: 10, delayMs: 100, maxDelayMs: 5000 },
  clientRetryMs: [1000, 5000],
  lingerMs: 10_000,
  maxBytes: 64 * MIB,
  replay: { events: 1000, bytes: MIB, ageMs: 300_000, initial: 0 },
  via: 'sse-proxy-middleware',
  name: 'sse-proxy',
} as const

export function resolveOptions<TReq extends IncomingMessage, TRes extends ServerResponse>(
  input: SseProxyOptions<TReq, TRes>,
): ResolvedOptions {
  if (typeof input === 'string') {
    throw new ConfigError(
      `options: expected an object; mount it with app.use(${JSON.stringify(input)}, sseProxy({ ... }))`,
    )
  }
  if (isObject(input)) refuseReplaced(input)
  const given = group('', input, [...OWN_OPTIONS, ...PASSED_OPTIONS])
  refuseNull(
    '',
    given,
    OWN_OPTIONS.filter((key) => !CHECKED_WITH_NULL.includes(key)),
  )
  const options = given as SseProxyOptions
  const framing = oneOf('framing', options.framing ?? 'event', ['event', 'bytes'])
  const hooks = resolveHooks('transform', options.transform)
  if (hooks.length > 0 && framing === 'bytes') {
    throw new ConfigError("framing: 'bytes' cannot be used with transform, because hooks need whole events")
  }
  return Object.freeze({
    hpm: guarded(resolvePassed(given)),
    fallback: fallbackTarget(options),
    upstreams: resolveUpstreams(options),
    resume: resolveResume(options.resume ?? false, framing),
    keepalive: resolveKeepalive(options.keepalive),
    framing,
    hooks,
    timeouts: resolveTimeouts(options.timeouts ?? {}),
    limits: resolveLimits(options.limits ?? {}),
    share: resolveShare(options, framing),
    graceMs: resolveGrace(options.onDisconnect ?? 'abort'),
    unavailable: oneOf('unavailable', options.unavailable ?? 'status', ['status', 'reconnect']),
    clientRetryMs: resolveRange('clientRetryMs', options.clientRetryMs ?? DEFAULTS.clientRetryMs),
    via: resolveVia(options.via ?? DEFAULTS.via),
    name: text(
      'name',
      options.name ?? DEFAULTS.name,
      /^[^\p{Cc}]{1,100}$/u,
      'a label of 1 to 100 printable characters',
    ),
    onOpen: optionalFunction('onOpen', options.onOpen),
    onEnd: optionalFunction('onEnd', options.onEnd),
    onClose: optionalFunction('onClose', options.onClose),
  })
}

/** http-proxy-middleware's own, with the app's functions in a form that cannot do harm. */
function guarded(hpm: HpmOptions): HpmOptions {
  const { pathFilter, logger } = hpm
  return Object.freeze({
    ...hpm,
    ...(typeof pathFilter === 'function' && { pathFilter: asked('pathFilter', pathFilter) }),
    ...(logger && { logger: guardedLogger(logger) }),
  })
}

function refuseReplaced(input: Record<string, unknown>): void {
  for (const [key, way] of Object.entries(REPLACED)) {
    if (input[key] !== undefined) throw new ConfigError(`${key}: this option is not available here; ${way}`)
  }
}

function resolveKeepalive(value: SseProxyOptions['keepalive']): ResolvedOptions['keepalive'] {
  if (value === false) return false
  const given = typeof value === 'number' ? { intervalMs: value } : (value ?? {})
  const orElse = ', false or an object'
  if (typeof value === 'number') integer('keepalive', value, 10, MAX_MS, orElse)
  const options = group('keepalive', given, ['intervalMs', 'comment', 'openAfterMs'], ', a number of ms or false')
  const comment = options.comment ?? DEFAULTS.comment
  return Object.freeze({
    intervalMs: integer('keepalive.intervalMs', options.intervalMs ?? DEFAULTS.keepaliveMs, 10, MAX_MS),
    bytes: Buffer.from(`: ${text('keepalive.comment', comment, /^[^\r\n]*$/, 'a text without line breaks')}\n\n`),
    openAfterMs: integer('keepalive.openAfterMs', options.openAfterMs ?? 0, 0, MAX_MS),
  })
}

function resolveHooks(path: string, value: SseProxyOptions['transform']): readonly TransformHook[] {
  const hooks = value === undefined ? [] : Array.isArray(value) ? value : [value]
  hooks.forEach((hook, i) => {
    if (Array.isArray(value)) callable(`${path}[${i}]`, hook)
    else callable(path, hook, 'a function or an array of functions')
  })
  return Object.freeze([...hooks])
}

function resolveTimeouts(value: unknown): ResolvedOptions['timeouts'] {
  const given = group('timeouts', value, ['connectMs', 'responseMs', 'idleMs', 'lifetimeMs', 'writeMs'])
  const ms = (key: string, otherwise: number) => integer(`timeouts.${key}`, given[key] ?? otherwise, 0, MAX_MS)
  const lifetime = given.lifetimeMs
  return Object.freeze({
    connectMs: ms('connectMs', DEFAULTS.connectMs),
    responseMs: ms('responseMs', DEFAULTS.responseMs),
    idleMs: ms('idleMs', 0),
    lifetimeMs:
      typeof lifetime === 'function'
        ? asked('timeouts.lifetimeMs', lifetime as (req: IncomingMessage) => number)
        : integer('timeouts.lifetimeMs', lifetime ?? 0, 0, MAX_MS, ' or a function of the request'),
    writeMs: ms('writeMs', DEFAULTS.writeMs),
  })
}

function resolveLimits(value: unknown): ResolvedOptions['limits'] {
  const given = group('limits', value, [
    'streams',
    'streamsPerClient',
    'clientKey',
    'ipv6Subnet',
    'eventBytes',
    'bufferBytes',
    'bodyBytes',
  ])
  const bytes = (key: 'eventBytes' | 'bufferBytes' | 'bodyBytes') =>
    integer(`limits.${key}`, given[key] ?? DEFAULTS[key], 1, Number.MAX_SAFE_INTEGER)
  const count = (key: 'streams' | 'streamsPerClient') =>
    given[key] === undefined ? 0 : integer(`limits.${key}`, given[key], 1, MAX_MS)
  return Object.freeze({
    streams: count('streams'),
    streamsPerClient: count('streamsPerClient'),
    clientKey: resolveClientKey(given.clientKey as AdmissionPolicy['clientKey'] | undefined, given.ipv6Subnet),
    eventBytes: bytes('eventBytes'),
    bufferBytes: bytes('bufferBytes'),
    bodyBytes: bytes('bodyBytes'),
  })
}

function resolveClientKey(
  own: AdmissionPolicy['clientKey'] | undefined,
  ipv6Subnet: unknown,
): AdmissionPolicy['clientKey'] {
  const bits = integer('limits.ipv6Subnet', ipv6Subnet ?? DEFAULTS.ipv6Subnet, 1, 128)
  if (own === undefined) return (req) => subnetOf(clientIp(req), bits)
  if (ipv6Subnet !== undefined) {
    throw new ConfigError('limits.ipv6Subnet: cannot be used with limits.clientKey, which tells clients apart itself')
  }
  callable('limits.clientKey', own)
  return asked('limits.clientKey', own)
}

function fallbackTarget({ target }: SseProxyOptions): Target | undefined {
  const first = isList(target) ? target[0] : target
  return typeof first === 'object' && first !== null && 'url' in first ? first.url : first
}

function isList<T>(value: T | readonly T[]): value is readonly T[] {
  return Array.isArray(value)
}

function resolveResume(value: unknown, framing: 'event' | 'bytes'): ResumePolicy | false {
  if (value === false) return false
  if (framing === 'bytes') {
    throw new ConfigError("framing: 'bytes' cannot be used with resume, because what has left may end inside an event")
  }
  const options = value === true ? {} : value
  const given = group(
    'resume',
    options,
    ['attempts', 'delayMs', 'maxDelayMs', 'onEnd', 'withoutIds'],
    ', true or false',
  )
  const { resume } = DEFAULTS
  const delayMs = integer('resume.delayMs', given.delayMs ?? resume.delayMs, 0, MAX_MS)
  return Object.freeze({
    attempts: integer('resume.attempts', given.attempts ?? resume.attempts, 1, MAX_MS),
    delayMs,
    maxDelayMs: integer('resume.maxDelayMs', given.maxDelayMs ?? Math.max(resume.maxDelayMs, delayMs), delayMs, MAX_MS),
    onEnd: flag('resume.onEnd', given.onEnd ?? false),
    withoutIds: flag('resume.withoutIds', given.withoutIds ?? false),
  })
}

function resolveShare({ share = false, router, pathRewrite }: SseProxyOptions, framing: string): ResolvedShare | false {
  const value: unknown = share
  if (value === false) return false
  if (framing === 'bytes') throw new ConfigError("framing: 'bytes' cannot be used with share, which keeps whole events")
  const options = value === true ? {} : value
  const given = group(
    'share',
    options,
    ['key', 'lingerMs', 'maxBytes', 'transform', 'replay', 'onGap'],
    ', true or false',
  )
  const replay = group('share.replay', given.replay ?? {}, ['events', 'bytes', 'ageMs', 'ids', 'initial'])
  const bound = (key: keyof typeof DEFAULTS.replay, min: number, max: number) =>
    integer(`share.replay.${key}`, replay[key] ?? DEFAULTS.replay[key], min, max)
  if (given.key === undefined && (typeof router === 'function' || typeof pathRewrite === 'function')) {
    throw new ConfigError('share.key: required where router or pathRewrite is a function, which may tell clients apart')
  }
  return Object.freeze({
    key: optionalAsked('share.key', given.key as ResolvedShare['key']),
    keyTakesRequest: typeof given.key === 'function' && given.key.length > 0,
    lingerMs: integer('share.lingerMs', given.lingerMs ?? DEFAULTS.lingerMs, 0, MAX_MS),
    maxBytes: integer('share.maxBytes', given.maxBytes ?? DEFAULTS.maxBytes, 1, Number.MAX_SAFE_INTEGER),
    transform: resolveHooks('share.transform', given.transform as ShareOptions['transform']),
    replay: Object.freeze({
      events: bound('events', 1, MAX_MS),
      bytes: bound('bytes', 1, Number.MAX_SAFE_INTEGER),
      ageMs: bound('ageMs', 1, MAX_MS),
      initial: bound('initial', 0, MAX_MS),
      ids: oneOf('share.replay.ids', replay.ids ?? 'upstream', ['upstream', 'assign']),
    }),
    onGap: optionalFunction('share.onGap', given.onGap as ShareOptions['onGap']),
  })
}

function resolveGrace(value: unknown): number {
  if (value === 'abort') return 0
  if (value === 'drain') return Number.POSITIVE_INFINITY
  if (!isObject(value)) return unexpected('onDisconnect', "'abort', 'drain' or { graceMs }", value)
  return integer('onDisconnect.graceMs', group('onDisconnect', value, ['graceMs']).graceMs, 1, MAX_MS)
}

export function resolveRange(path: string, value: unknown): readonly [number, number] {
  if (typeof value === 'number') {
    const only = integer(path, value, 0, MAX_MS, ' or [min, max]')
    return Object.freeze([only, only] as const)
  }
  if (!Array.isArray(value) || value.length !== 2) return unexpected(path, 'a number of ms or [min, max]', value)
  const min = integer(`${path}[0]`, value[0], 0, MAX_MS)
  const max = integer(`${path}[1]`, value[1], min, MAX_MS)
  return Object.freeze([min, max] as const)
}

function resolveVia(value: unknown): string | false {
  if (value === false) return false
  return text('via', value, /^[\w!#$%&'*+.^`|~:-]+$/, 'a pseudonym without spaces or commas, or false')
}

function optionalFunction<T>(path: string, value: T): T {
  if (value !== undefined) callable(path, value)
  return value
}

function optionalAsked<A extends unknown[], R>(path: string, value: ((...args: A) => R) | undefined): typeof value {
  return value && asked(path, optionalFunction(path, value))
}
