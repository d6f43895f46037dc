// The option `from`: where an upstream's answers are made event streams. It goes between an attempt and all that looks at
// its answer, so that what begins, shares, resumes or counts a stream sees events. Absent where upstreams send events.

import type { ResolvedOptions } from '../options/resolve-options.ts'
import type { Translate } from '../upstream-response.ts'
import { linesAsEvents } from './ndjson.ts'

export function createTranslate({ from, limits }: Pick<ResolvedOptions, 'from' | 'limits'>): Translate | undefined {
  if (!from) return undefined
  const options = { toEvent: from.toEvent, lineBytes: limits.eventBytes }
  return (response, { req }) => linesAsEvents(response, req, options)
}
