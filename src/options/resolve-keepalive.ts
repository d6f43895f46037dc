// The option `keepalive`: when an open stream is written to although its upstream is silent, and what.

import { group, integer, MAX_MS, text } from './check.ts'
import type { SseProxyOptions } from './options.ts'

/** See the option `keepalive`. */
export interface KeepalivePolicy {
  readonly intervalMs: number
  /** The comment as it is sent. */
  readonly bytes: Buffer
  /** 0 where no response is opened before the upstream has answered. */
  readonly openAfterMs: number
}

const DEFAULTS = { intervalMs: 15_000, comment: 'keepalive', openAfterMs: 0 } as const

export function resolveKeepalive(value: SseProxyOptions['keepalive']): KeepalivePolicy | false {
  if (value === false) return false
  if (typeof value === 'number') integer('keepalive', value, 10, MAX_MS, ', false or an object')
  const given = typeof value === 'number' ? { intervalMs: value } : (value ?? {})
  const options = group('keepalive', given, ['intervalMs', 'comment', 'openAfterMs'], ', a number of ms or false')
  const comment = text(
    'keepalive.comment',
    options.comment ?? DEFAULTS.comment,
    /^[^\r\n]*$/,
    'a text without line breaks',
  )
  return Object.freeze({
    intervalMs: integer('keepalive.intervalMs', options.intervalMs ?? DEFAULTS.intervalMs, 10, MAX_MS),
    bytes: Buffer.from(`: ${comment}\n\n`),
    openAfterMs: integer('keepalive.openAfterMs', options.openAfterMs ?? DEFAULTS.openAfterMs, 0, MAX_MS),
  })
}
