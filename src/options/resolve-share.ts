// The option `share`: which clients share an upstream stream, and how much of it is kept for those that reconnect.

import type { IncomingMessage } from 'node:http'
import { asked } from '../app-callback.ts'
import { ConfigError } from '../errors.ts'
import type { TransformHook } from '../events/event.ts'
import type { ShareStore } from '../share-store.ts'
import { callable, callableOrNone, callables, group, integer, MAX_MS, methodNames, oneOf, unexpected } from './check.ts'
import type { SseProxyOptions } from './options.ts'
import type { ReplayOptions, ShareOptions } from './share-options.ts'

/** See the option `share`. */
export interface ResolvedShare {
  /** Undefined for the default key; whatever it throws is an `Error`. */
  readonly key: ((req: IncomingMessage) => string | undefined) | undefined
  /** Whether the app's function declares a parameter, so that its result can depend on the request. */
  readonly keyTakesRequest: boolean
  /** Methods of requests, in upper case. */
  readonly open: readonly string[]
  readonly join: readonly string[]
  readonly stop: readonly string[]
  readonly busy: 'refuse' | 'join' | 'replace'
  /** Infinity until the upstream ends. */
  readonly lingerMs: number
  /** 0 keeps none. */
  readonly keepEndedMs: number
  /** Of all streams of the proxy together. */
  readonly maxBytes: number
  /** Run for each client. */
  readonly transform: readonly TransformHook[]
  readonly replay: ResolvedReplay
  readonly onGap: ShareOptions['onGap']
  /** Undefined where this process shares alone. */
  readonly store: ShareStore | undefined
}

/** See the option `share.replay`. */
export interface ResolvedReplay {
  readonly events: number
  readonly bytes: number
  readonly ageMs: number
  /** Whose ids the clients see. */
  readonly ids: 'upstream' | 'assign'
  /** How many events a client without a Last-Event-ID gets. */
  readonly initial: number | 'all'
}

const MIB = 1_048_576
const DEFAULTS = {
  open: ['GET'],
  stop: [],
  busy: 'refuse',
  lingerMs: 10_000,
  keepEndedMs: 0,
  maxBytes: 64 * MIB,
} as const
const REPLAY_DEFAULTS = { events: 1000, bytes: MIB, ageMs: 300_000, ids: 'upstream', initial: 0 } as const
const KEYS = ['key', 'join', ...Object.keys(DEFAULTS), 'transform', 'replay', 'onGap', 'store']

export function resolveShare(options: SseProxyOptions, framing: 'event' | 'bytes'): ResolvedShare | false {
  const { share = false, router, pathRewrite } = options
  if (share === false) return false
  if (framing === 'bytes') throw new ConfigError("framing: 'bytes' cannot be used with share, which keeps whole events")
  const given = group('share', share === true ? {} : share, KEYS, ', true or false')
  const replay = resolveReplay(given.replay ?? {})
  const { key } = given
  if (key === undefined && (typeof router === 'function' || typeof pathRewrite === 'function')) {
    throw new ConfigError('share.key: required where router or pathRewrite is a function, which may tell clients apart')
  }
  refuseHiddenIdentity(options, key)
  const methods = resolveMethods(given)
  const opensWithBody = methods.open.some((method) => method !== 'GET')
  if (key === undefined && opensWithBody) {
    throw new ConfigError(
      'share.key: required where share.open has a method with a body: what it returns must contain who the user is',
    )
  }
  return Object.freeze({
    ...methods,
    busy: oneOf('share.busy', given.busy ?? DEFAULTS.busy, ['refuse', 'join', 'replace']),
    key: key === undefined ? undefined : resolveKey(key, opensWithBody),
    keyTakesRequest: typeof key === 'function' && key.length > 0,
    lingerMs:
      given.lingerMs === Number.POSITIVE_INFINITY
        ? given.lingerMs
        : integer('share.lingerMs', given.lingerMs ?? DEFAULTS.lingerMs, 0, MAX_MS, ' or Infinity'),
    keepEndedMs: integer('share.keepEndedMs', given.keepEndedMs ?? DEFAULTS.keepEndedMs, 0, MAX_MS),
    maxBytes: integer('share.maxBytes', given.maxBytes ?? DEFAULTS.maxBytes, 1, Number.MAX_SAFE_INTEGER),
    transform: callables('share.transform', given.transform),
    replay,
    onGap: callableOrNone('share.onGap', given.onGap),
    store: given.store === undefined ? undefined : resolveStore(given.store, options),
  })
}

/** An empty key (as of `id && ...` without an id) would be that of all users where it has to contain who the user is. */
function resolveKey(key: NonNullable<ResolvedShare['key']>, containsUser: boolean): ResolvedShare['key'] {
  const ask = asked('share.key', callable('share.key', key))
  if (!containsUser) return ask
  return (req) => {
    const value = ask(req)
    if (value !== '') return value
    throw new TypeError(
      "share.key: expected the function to return who the user is, or undefined to share nothing, got ''",
    )
  }
}

const STORE_METHODS = ['watch', 'beat', 'areAlive', 'take', 'append', 'look', 'read', 'follow', 'followers'] as const

/** Other nodes know nothing of what is polled here, and which event begins the latest value. */
function resolveStore(store: ShareStore, { from }: SseProxyOptions): ShareStore {
  const isStore = typeof store === 'object' && store !== null && STORE_METHODS.every((name) => callableIn(store, name))
  if (!isStore)
    unexpected('share.store', 'a store: memoryStore(), or redisStore() of sse-proxy-middleware/redis', store)
  if (typeof from === 'object' && from.format === 'json') {
    throw new ConfigError(
      "share.store: cannot be used with from: { format: 'json' }, whose latest value each node polls",
    )
  }
  return store
}

function callableIn(store: ShareStore, name: (typeof STORE_METHODS)[number]): boolean {
  return typeof store[name] === 'function'
}

/** Which methods do what; each does one thing. */
function resolveMethods(given: ShareOptions): Pick<ResolvedShare, 'open' | 'join' | 'stop'> {
  const open = methodNames('share.open', given.open ?? DEFAULTS.open)
  const join = methodNames('share.join', given.join ?? open)
  const stop = methodNames('share.stop', given.stop ?? DEFAULTS.stop)
  if (open.length === 0) throw new ConfigError('share.open: expected at least one method, got none')
  // It has no events, and is answered by the upstream.
  if ([...open, ...join, ...stop].includes('HEAD'))
    throw new ConfigError('share: HEAD cannot open, join or stop streams')
  const both = stop.find((method) => open.includes(method) || join.includes(method))
  if (both) throw new ConfigError(`share.stop: ${both} cannot stop streams, since it opens or joins them`)
  return { open, join, stop }
}

/** What does not reach the upstream is not in the default key, and such callbacks may have read from it who the user is. */
function refuseHiddenIdentity({ stripHeaders = [], balance, on, plugins }: SseProxyOptions, key: unknown): void {
  const speaksForUser = typeof balance === 'function' || on?.proxyReq || on?.start || plugins?.length
  if (key !== undefined || stripHeaders.length === 0 || !speaksForUser) return
  throw new ConfigError(
    'share.key: required beside stripHeaders where balance is a function, or with on.proxyReq, on.start or plugins, which may tell clients apart',
  )
}

function resolveReplay(value: ReplayOptions): ResolvedReplay {
  const given = group('share.replay', value, Object.keys(REPLAY_DEFAULTS))
  const bound = (key: 'events' | 'bytes' | 'ageMs', min: number, max: number) =>
    integer(`share.replay.${key}`, given[key] ?? REPLAY_DEFAULTS[key], min, max)
  const { initial = REPLAY_DEFAULTS.initial } = given
  return Object.freeze({
    events: bound('events', 1, MAX_MS),
    bytes: bound('bytes', 1, Number.MAX_SAFE_INTEGER),
    ageMs: bound('ageMs', 1, MAX_MS),
    ids: oneOf('share.replay.ids', given.ids ?? REPLAY_DEFAULTS.ids, ['upstream', 'assign']),
    initial: initial === 'all' ? initial : integer('share.replay.initial', initial, 0, MAX_MS, " or 'all'"),
  })
}
