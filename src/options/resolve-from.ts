// The option `from`: the format that the upstream answers with.

import { ConfigError } from '../errors.ts'
import { callableOrNone, group, integer, isObject, MAX_MS, oneOf, unexpected } from './check.ts'
import type { JsonSource, NdjsonSource } from './format-options.ts'
import type { SseProxyOptions } from './options.ts'

/** See the option `from`. */
export type SourceFormat = Readonly<Required<NdjsonSource> | Required<JsonSource>>

const KEYS = ['format', 'everyMs', 'toEvent']
// The wait between two polls, with its jitter, is one timer.
const MAX_EVERY_MS = Math.floor(MAX_MS / 2)

export function resolveFrom(from: SseProxyOptions['from']): SourceFormat | undefined {
  if (from === undefined) return undefined
  if (!isObject(from) && from !== 'ndjson') return unexpected('from', "'ndjson' or an object with a format", from)
  const given = group('from', from === 'ndjson' ? { format: from } : from, KEYS)
  const format = oneOf('from.format', given.format, ['ndjson', 'json'])
  const toEvent = callableOrNone('from.toEvent', given.toEvent)
  if (format === 'json') {
    return Object.freeze({ format, everyMs: integer('from.everyMs', given.everyMs, 1, MAX_EVERY_MS), toEvent })
  }
  if (given.everyMs !== undefined) throw new ConfigError("from.everyMs: only for format 'json', which is polled")
  return Object.freeze({ format, toEvent })
}
