// The option `keepalive`: the comments that are sent while a stream is silent.

import { flag, group, integer, MAX_MS, text } from './check.ts'
import type { SseProxyOptions } from './options.ts'

/** See the option `keepalive`. */
export interface KeepalivePolicy {
  readonly intervalMs: number
  /** The comment as it is written, with its blank line where it has one. */
  readonly bytes: Buffer
  /** How long to wait for the upstream before the response is opened without it; 0 means for ever. */
  readonly openAfterMs: number
}

const DEFAULTS = { intervalMs: 15_000, comment: 'keepalive', openAfterMs: 0, blankLine: true } as const

export function resolveKeepalive(value: SseProxyOptions['keepalive']): KeepalivePolicy | false {
  if (value === false) return false
  if (typeof value === 'number') integer('keepalive', value, 10, MAX_MS, ', false or an object')
  const given = typeof value === 'number' ? { intervalMs: value } : (value ?? {})
  const options = group('keepalive', given, Object.keys(DEFAULTS), ', a number of ms or false')
  const comment = text(
    'keepalive.comment',
    options.comment ?? DEFAULTS.comment,
    /^[^\r\n]*$/,
    'a text without line breaks',
  )
  const blankLine = flag('keepalive.blankLine', options.blankLine ?? DEFAULTS.blankLine)
  return Object.freeze({
    intervalMs: integer('keepalive.intervalMs', options.intervalMs ?? DEFAULTS.intervalMs, 10, MAX_MS),
    bytes: Buffer.from(`: ${comment}\n${blankLine ? '\n' : ''}`),
    openAfterMs: integer('keepalive.openAfterMs', options.openAfterMs ?? DEFAULTS.openAfterMs, 0, MAX_MS),
  })
}
