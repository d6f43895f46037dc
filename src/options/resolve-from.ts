// The option `from`: the format that the upstream answers with.

import { callableOrNone, group, isObject, oneOf, unexpected } from './check.ts'
import type { NdjsonSource, SseProxyOptions } from './options.ts'

/** See the option `from`. */
export type SourceFormat = Required<NdjsonSource>

const KEYS = ['format', 'toEvent']

export function resolveFrom(from: SseProxyOptions['from']): SourceFormat | undefined {
  if (from === undefined) return undefined
  if (!isObject(from) && from !== 'ndjson') return unexpected('from', "'ndjson' or an object with a format", from)
  const given = group('from', from === 'ndjson' ? { format: from } : from, KEYS)
  return Object.freeze({
    format: oneOf('from.format', given.format, ['ndjson']),
    toEvent: callableOrNone('from.toEvent', given.toEvent),
  })
}
