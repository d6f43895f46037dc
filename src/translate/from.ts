// The option `from`: where an upstream's answers are made event streams. It goes between an attempt and all that looks at
// its answer, so that what begins, shares, resumes or counts a stream sees events. Absent where upstreams send events.

import type { ResolvedOptions } from '../options/resolve-options.ts'
import type { Translate } from '../upstream-response.ts'
import { linesAsEvents } from './ndjson.ts'
import { type PollObserver, polled } from './poll.ts'

// The longest wait after failed polls, where nothing is said of retries.
const MAX_DELAY_MS = 30_000

export function createTranslate(
  { from, limits, timeouts, upstreams: { retry } }: Pick<ResolvedOptions, 'from' | 'limits' | 'timeouts' | 'upstreams'>,
  observer: PollObserver,
): Translate | undefined {
  if (!from) return undefined
  const { toEvent } = from
  if (from.format === 'ndjson') {
    const options = { toEvent, lineBytes: limits.eventBytes }
    return (response, { req }) => linesAsEvents(response, req, options)
  }
  const options = {
    everyMs: from.everyMs,
    maxDelayMs: retry ? retry.maxBackoffMs : MAX_DELAY_MS,
    bodyBytes: limits.eventBytes,
    stallMs: timeouts.idleMs || timeouts.responseMs,
    toEvent,
    observer,
  }
  return (response, asked) => polled(response, asked, options)
}
