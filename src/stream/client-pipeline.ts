// The pipeline that brings one client's events to its session, from an upstream of its own or from what stands for one.

import type { Cursor } from '../events/cursor.ts'
import type { EndWatch } from '../events/end-watch.ts'
import type { TransformHook } from '../events/event.ts'
import type { UpstreamBody } from '../upstream-response.ts'
import { Pipeline } from './pipeline.ts'
import type { Session } from './session.ts'

/** What a client's pipeline reads, and what it does with it. */
export interface ClientPipelineSource {
  /** In plain; an upstream's, or a shared stream that stands for one. */
  readonly body: UpstreamBody
  /** See `UpstreamResponse`. */
  readonly delimited: boolean
  /** Where the client stands; it moves with what passes. */
  readonly cursor: Cursor
  readonly hooks: readonly TransformHook[]
  readonly end?: EndWatch | undefined
  /** See `EventFlow`. */
  readonly isShared: boolean
}

/** The flow that `session.start` wants; its events go to that session. */
export function createClientPipeline(session: Session, source: ClientPipelineSource): Pipeline {
  const { writer, options } = session.context
  const { cursor, hooks, end, isShared } = source
  return new Pipeline(
    {
      wholeEvents: options.framing === 'event',
      // Other formats are made of whole events.
      failsOversize: writer.format !== 'event-stream',
      eventBytes: options.limits.eventBytes,
      hooks,
      end,
      stream: session.handle,
      cursor,
      client: writer,
      isShared,
    },
    source,
    session,
  )
}
