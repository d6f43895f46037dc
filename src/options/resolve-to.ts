// The option `to`: the format that each client gets.

import type { IncomingMessage } from 'node:http'
import { asked } from '../app-callback.ts'
import { ConfigError } from '../errors.ts'
import { callable, group, unexpectedResult } from './check.ts'
import type { Collect, StreamFormat } from './format-options.ts'
import type { SseProxyOptions } from './options.ts'

/** See the option `to`. */
export interface ResolvedTo {
  readonly format: (req: IncomingMessage) => StreamFormat
  readonly collect: Collect | undefined
}

const FORMATS: readonly StreamFormat[] = ['event-stream', 'ndjson', 'json']

export function resolveTo(to: SseProxyOptions['to'], framing: 'event' | 'bytes'): ResolvedTo | undefined {
  if (to === undefined) return undefined
  const given = group('to', to, ['format', 'collect'])
  const choose = asked('to.format', callable('to.format', given.format))
  const { collect } = given
  if (framing === 'bytes') {
    throw new ConfigError("framing: 'bytes' cannot be used with to, because other formats need whole events")
  }
  return Object.freeze({
    format: (req: IncomingMessage) => {
      const chosen: unknown = choose(req)
      const format = FORMATS.find((name) => name === chosen)
      return format ?? unexpectedResult('to.format', "'event-stream', 'ndjson' or 'json'", chosen)
    },
    collect: collect && asked('to.collect', callable('to.collect', collect)),
  })
}
