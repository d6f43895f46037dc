// The pipeline of an upstream stream that several clients share: whole events, through the hooks that all have in common,
// resumed where that is on. Who takes what leaves it is the sink's affair.

import type { IncomingMessage } from 'node:http'
import type { Cursor } from '../events/cursor.ts'
import { EndWatch } from '../events/end-watch.ts'
import type { SseStream } from '../events/event.ts'
import type { ResolvedOptions } from '../options/resolve-options.ts'
import { eventWatched } from '../stream/event-watch.ts'
import { Pipeline, type PipelineSink } from '../stream/pipeline.ts'
import { type ResumeContext, resumable } from '../stream/resume.ts'
import type { UpstreamBody, UpstreamResponse } from '../upstream-response.ts'

/** Whose upstream it is. */
export interface SharedPipelineContext extends ResumeContext {
  readonly options: ResolvedOptions
  /** The leader's request. */
  readonly req: IncomingMessage
}

/** What moves with it, and what hooks see of it. */
export interface SharedSource {
  readonly cursor: Cursor
  readonly stream: SseStream
}

export function createSharedPipeline(
  context: SharedPipelineContext,
  { upstream, delimited, eventWait }: UpstreamResponse,
  plain: UpstreamBody,
  { cursor, stream }: SharedSource,
  sink: PipelineSink,
): Pipeline {
  const { hooks, limits, isEnd, timeouts } = context.options
  return new Pipeline(
    {
      wholeEvents: true,
      // A client that comes late gets an event whole or not at all.
      failsOversize: true,
      hooks,
      end: isEnd && new EndWatch(isEnd, context.req),
      eventBytes: limits.eventBytes,
      stream,
      cursor,
      // A client that comes late is in the middle of the stream.
      client: { wroteBody: true, takesChunks: false },
      isShared: true,
    },
    {
      body: resumable(context, { body: eventWatched(plain, timeouts, cursor, eventWait), upstream, cursor, stream }),
      delimited,
    },
    sink,
  )
}
