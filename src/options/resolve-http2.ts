// The option `http2`: whether requests go to upstreams over HTTP/2, and how long its connections wait.

import { ConfigError } from '../errors.ts'
import { group, integers, isObject, MAX_MS, oneOf } from './check.ts'
import type { SseProxyOptions } from './options.ts'

/** See the option `http2`; 0 means for ever. */
export interface ResolvedHttp2 {
  readonly mode: 'auto' | 'prior-knowledge'
  readonly pingMs: number
  readonly idleMs: number
}

const DEFAULTS = { pingMs: 15_000, idleMs: 60_000 } as const

export function resolveHttp2(value: SseProxyOptions['http2'] = false): ResolvedHttp2 | false {
  if (value === false) return false
  // Its client of HTTP ends the process when a connection is none of its own.
  if ('deno' in process.versions) throw new ConfigError('http2: expected Node or Bun: leave the option out on Deno')
  const given = isObject(value) ? group('http2', value, ['mode', ...Object.keys(DEFAULTS)]) : { mode: value }
  const mode = isObject(value)
    ? oneOf('http2.mode', given.mode, ['auto', 'prior-knowledge'])
    : oneOf('http2', given.mode, ['auto', 'prior-knowledge'], ', false or an object')
  return Object.freeze({ mode, ...integers('http2', given, DEFAULTS, 0, MAX_MS) })
}
