// The option `to`: which writer a client gets, by the format that the app says it wants. Absent where all get event streams.

import { AsyncLocalStorage } from 'node:async_hooks'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { ResolvedOptions } from '../options/resolve-options.ts'
import { ClientWriter } from '../stream/client-writer.ts'
import { JsonWriter } from './to-json.ts'
import { LinesWriter } from './to-lines.ts'

/**
 * @param refuse answers the request where it cannot be written
 * @throws what the app's function throws
 */
export function createClientWriter(
  req: IncomingMessage,
  res: ServerResponse,
  { to, fastLane, limits }: Pick<ResolvedOptions, 'to' | 'fastLane' | 'limits'>,
  refuse: (thrown: unknown) => void,
): ClientWriter {
  const format = to?.format(req)
  if (format === 'ndjson') return new LinesWriter(req, res, fastLane)
  if (format !== 'json') return new ClientWriter(req, res, fastLane)
  return new JsonWriter(req, res, {
    fastLane,
    collect: to?.collect && AsyncLocalStorage.bind(to.collect),
    maxBytes: limits.bufferBytes,
    refuse,
  })
}
